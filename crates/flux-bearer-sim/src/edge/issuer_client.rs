//! How simulated Entra reaches a real OIDC issuer, for example a kube-apiserver, to fetch its discovery document and keys.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{HeaderValue, Request, Response, Uri, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::{BoxError, service_fn};

use crate::service::Service;

/// Time for a whole fetch but its body. Entra gives an issuer about as long before it answers AADSTS90061.
const DEADLINE: Duration = Duration::from_secs(10);

/// A client that trusts the certificates in the files that `ca_files` names, and nothing else, over HTTPS only.
///
/// Files and their list are read at each fetch, because a cluster may make its CA after the world has started. One that
/// isn't there (yet) is skipped. Every issuer may present a certificate of every file: its keys may be on another host.
pub fn client(ca_files: impl Fn() -> Vec<PathBuf> + Clone + Send + Sync + 'static) -> Service {
    Service::new(service_fn(move |request| {
        let ca_files = ca_files();
        async move { tokio::time::timeout(DEADLINE, fetch(request, &ca_files)).await? }
    }))
}

async fn fetch(request: Request<Body>, ca_files: &[PathBuf]) -> Result<Response<Body>, BoxError> {
    let stream = connect(request.uri(), roots(ca_files).await?).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let response = sender.send_request(in_origin_form(request)?).await?;
    Ok(response.map(Body::new))
}

async fn connect(uri: &Uri, roots: RootCertStore) -> Result<TlsStream<TcpStream>, BoxError> {
    if uri.scheme_str() != Some("https") {
        return Err("an issuer is fetched over https only".into());
    }
    let host = uri.host().ok_or("the issuer's URL has no host")?.trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(443))).await?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned())?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
}

async fn roots(ca_files: &[PathBuf]) -> Result<RootCertStore, BoxError> {
    let mut roots = RootCertStore::empty();
    for file in ca_files {
        if let Some(pem) = read_if_there(file).await? {
            let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>()?;
            roots.add_parsable_certificates(certificates);
        }
    }
    Ok(roots)
}

async fn read_if_there(file: &Path) -> Result<Option<Vec<u8>>, BoxError> {
    match tokio::fs::read(file).await {
        Ok(pem) => Ok(Some(pem)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("can't read {}: {error}", file.display()).into()),
    }
}

/// The request as it goes to the server itself: path and query in its first line, the host in a header.
fn in_origin_form(mut request: Request<Body>) -> Result<Request<Body>, BoxError> {
    let authority = request.uri().authority().ok_or("the issuer's URL has no host")?.as_str();
    let host = HeaderValue::from_str(authority)?;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let path = path.parse::<Uri>()?;
    request.headers_mut().insert(header::HOST, host);
    *request.uri_mut() = path;
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_moves_to_its_header() {
        let request = Request::get("https://127.0.0.1:6443/openid/v1/jwks?x=1").body(Body::empty()).unwrap();
        let request = in_origin_form(request).unwrap();
        assert_eq!(request.uri(), "/openid/v1/jwks?x=1");
        assert_eq!(request.headers()["host"], "127.0.0.1:6443");
    }

    #[tokio::test(start_paused = true)]
    async fn plain_http_is_refused() {
        let uri = Uri::from_static("http://127.0.0.1:6443/");
        let refused = connect(&uri, RootCertStore::empty()).await;
        assert_eq!(refused.unwrap_err().to_string(), "an issuer is fetched over https only");
    }
}
