//! `flux-bearer-sim serve`: the world behind a proxy on a loopback port, for machines without namespaces.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use axum::body::Body;
use http::{Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::cli::ServeArguments;
use super::folder::Folder;
use super::listen;
use super::tls::Authority;
use super::trust;
use super::wiring::Simulation;
use crate::service::Service;

/// Serves until SIGTERM or SIGINT. The exports go to stdout once every port is open.
pub async fn serve(arguments: &ServeArguments) -> anyhow::Result<()> {
    let mut end = End::listen()?;
    let simulation = Simulation::load(arguments.state.as_deref())?;
    let authority = Arc::new(Authority::generate()?);
    let folder = Folder::create().context("can't make a temporary folder")?;
    let bundle = trust::bundle(&authority.pem(), &arguments.ca_file, &simulation.issuer_ca_files)?;
    let bundle = folder.write("ca.pem", &bundle).context("can't write the trust bundle")?;
    let (proxy, admin) = (bind(arguments.listen).await?, bind(arguments.admin).await?);
    let exports = exports(proxy.local_addr()?, admin.local_addr()?, &bundle);
    let tls = authority.server_config(arguments.listen.ip())?;
    let tunnels = Tunnels { hosts: simulation.hosts.into(), tls, service: simulation.service };
    tokio::spawn(listen::each(proxy, move |stream| tunnels.clone().proxy(stream)));
    tokio::spawn(listen::plain(admin, simulation.admin));
    std::io::stdout().write_all(exports.as_bytes()).context("can't print the exports")?;
    end.wait().await;
    Ok(())
}

pub(super) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("can't listen on {address}"))
}

/// The shell commands that lead a client here. Loopback stays outside the proxy: a local API server, the admin API.
fn exports(proxy: SocketAddr, admin: SocketAddr, bundle: &Path) -> String {
    /// Both spellings, because a client that knows both may prefer either.
    const PROXY: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];
    const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];
    let mut lines: Vec<_> = PROXY.iter().map(|name| format!("export {name}=http://{proxy}\n")).collect();
    lines.extend(NO_PROXY.iter().map(|name| format!("export {name}=127.0.0.1,localhost\n")));
    let bundle = quoted(&bundle.to_string_lossy());
    lines.extend(trust::CA_VARIABLES.iter().map(|name| format!("export {name}={bundle}\n")));
    lines.push(format!("export {}=http://{admin}\n", trust::ADMIN_VARIABLE));
    lines.concat()
}

/// A word as a POSIX shell reads it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The proxy: it ends every tunnel itself and forwards nothing.
#[derive(Clone)]
struct Tunnels {
    hosts: Arc<[String]>,
    tls: Arc<ServerConfig>,
    service: Service,
}

impl Tunnels {
    async fn proxy<Io>(self, stream: Io)
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |request| std::future::ready(self.answer(request)));
        let served = listen::server().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
        if let Err(error) = served {
            tracing::debug!(error = &error as &dyn std::error::Error, "proxy connection ended early");
        }
    }

    fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, http::Error> {
        if let Some((status, text)) = refusal(&self.hosts, request.method(), request.uri()) {
            return Response::builder().status(status).body(Body::from(text));
        }
        tokio::spawn(self.clone().tunnel(request));
        Ok(Response::new(Body::empty()))
    }

    async fn tunnel(self, request: Request<Incoming>) {
        match hyper::upgrade::on(request).await {
            Ok(tunnel) => listen::tls_connection(TokioIo::new(tunnel), self.tls, self.service).await,
            Err(error) => tracing::debug!(%error, "no tunnel"),
        }
    }
}

/// Why a request gets no tunnel; none when it does.
fn refusal(hosts: &[String], method: &Method, target: &Uri) -> Option<(StatusCode, String)> {
    if method != Method::CONNECT {
        let text = "only CONNECT is answered here: ask for an https URL of Azure\n";
        return Some((StatusCode::METHOD_NOT_ALLOWED, text.to_owned()));
    }
    let host = target.host().unwrap_or_default();
    let simulated = hosts.iter().any(|other| other.eq_ignore_ascii_case(host));
    if simulated && target.port_u16() == Some(443) {
        return None;
    }
    Some((StatusCode::BAD_GATEWAY, format!("{target} is not simulated, and nothing is forwarded\n")))
}

/// The signals that end the simulator.
#[derive(Debug)]
pub(super) struct End {
    pub(super) terminate: Signal,
    pub(super) interrupt: Signal,
}

impl End {
    /// Takes both signals from now on, in place of their default of ending the process at once.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let take = |kind| signal(kind).context("can't wait for signals");
        Ok(Self { terminate: take(SignalKind::terminate())?, interrupt: take(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::edge::tls::tests::client;

    /// The proxy of the example state, and the client that its exports make: it trusts one file.
    fn proxy() -> (Tunnels, tokio_rustls::TlsConnector) {
        let simulation = Simulation::load(None).unwrap();
        let authority = Arc::new(Authority::generate().unwrap());
        let tls = authority.server_config([127, 0, 0, 1].into()).unwrap();
        let trusted = trust::bundle(&authority.pem(), &[], &simulation.issuer_ca_files).unwrap();
        (Tunnels { hosts: simulation.hosts.into(), tls, service: simulation.service }, client(&trusted))
    }

    /// What `host` answers to a GET of `path`, asked through the proxy; what the proxy says where it opens no tunnel.
    async fn get(host: &'static str, path: &str) -> String {
        let (tunnels, client) = proxy();
        let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
        tokio::spawn(tunnels.proxy(theirs));
        let connect = format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n");
        ours.write_all(connect.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"\r\n\r\n") {
            said.push(ours.read_u8().await.unwrap());
        }
        let said = String::from_utf8(said).unwrap();
        if !said.starts_with("HTTP/1.1 200 ") {
            return said;
        }
        let mut tunnel = client.connect(ServerName::try_from(host).unwrap(), ours).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        tunnel.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        tunnel.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn a_client_that_trusts_the_file_reaches_azure_through_the_proxy_and_nothing_else() {
        let answer = get("login.microsoftonline.com", "/contoso.onmicrosoft.com/v2.0/.well-known/openid-configuration");
        let answer = answer.await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"token_endpoint\""), "{answer}");
        let answer = get("dev.azure.com", "/contoso/platform/_git/fleet/info/refs?service=git-upload-pack").await;
        assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("TF400813"), "{answer}");
        let answer = get("example.com", "/").await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    }

    #[test]
    fn the_exports_are_what_a_shell_evaluates() {
        let text =
            exports(([127, 0, 0, 1], 4711).into(), ([127, 0, 0, 1], 4712).into(), Path::new("/tmp/o'neill/ca.pem"));
        assert_eq!(
            text,
            r"export HTTPS_PROXY=http://127.0.0.1:4711
export https_proxy=http://127.0.0.1:4711
export NO_PROXY=127.0.0.1,localhost
export no_proxy=127.0.0.1,localhost
export SSL_CERT_FILE='/tmp/o'\''neill/ca.pem'
export REQUESTS_CA_BUNDLE='/tmp/o'\''neill/ca.pem'
export NODE_EXTRA_CA_CERTS='/tmp/o'\''neill/ca.pem'
export GIT_SSL_CAINFO='/tmp/o'\''neill/ca.pem'
export CURL_CA_BUNDLE='/tmp/o'\''neill/ca.pem'
export FLUX_BEARER_SIM_ADMIN=http://127.0.0.1:4712
"
        );
    }

    #[test]
    fn only_simulated_hosts_get_a_tunnel() {
        let hosts = ["dev.azure.com".to_owned()];
        let status = |method, target: &'static str| {
            refusal(&hosts, &method, &Uri::from_static(target)).map(|(status, _)| status.as_u16())
        };
        assert_eq!(status(Method::CONNECT, "dev.azure.com:443"), None);
        assert_eq!(status(Method::CONNECT, "Dev.Azure.com:443"), None);
        assert_eq!(status(Method::CONNECT, "dev.azure.com:80"), Some(502));
        assert_eq!(status(Method::CONNECT, "example.com:443"), Some(502));
        assert_eq!(status(Method::GET, "http://dev.azure.com/"), Some(405));
    }
}
