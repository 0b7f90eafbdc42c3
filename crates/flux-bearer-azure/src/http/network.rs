//! How requests reach the real network: names, proxies and trust.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::TryFutureExt;
use futures::future::BoxFuture;
use http::Uri;
use http::uri::Scheme;
use hyper::rt::{Read, Write};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::client::legacy::{Builder, Client};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use rustls_platform_verifier::Verifier;
use tower::Service;

use super::{BoxError, Http};

/// How long a TCP connection may take. A route that works needs well under a second.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The same for IMDS, which is in the machine itself (Azure's own libraries wait as long), and for what is in the cluster.
const PLAIN_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an unused connection is kept: enough for a burst of refreshes, short of the minutes after which load
/// balancers forget connections without a word.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How many unused connections are kept to one host.
const MAX_IDLE: usize = 4;

/// Room for an answer's head and what is read ahead of its body, in bytes. hyper's own limit is 400 KiB.
const MAX_BUFFER: usize = 64 * 1024;

/// Longest file of extra CA certificates, in bytes: a slow parse of a huge one must not stop the start.
pub const MAX_CA_BYTES: usize = 256 * 1024;

/// What the operator says about the network. It may hold a proxy's password, so it has no `Debug`.
#[derive(Clone, Default)]
pub struct Network {
    /// The proxy for every request, as in `HTTPS_PROXY`: `http://[user:password@]host:port`.
    pub https_proxy: Option<String>,
    /// Hosts that are reached without it, as in `NO_PROXY`.
    pub no_proxy: Option<String>,
    /// CA certificates in PEM that are trusted beside the system's.
    pub extra_ca_pem: Option<Vec<u8>>,
}

/// How one server is reached that has a certificate of its own kind: straight there, whatever proxy is set.
#[derive(Clone, Debug, Default)]
pub struct Direct {
    /// The name that TLS asks for (SNI) and that the certificate has to bear; without it, the host of the URL.
    pub server_name: Option<ServerName<'static>>,
    /// CA certificates in PEM that are trusted and no other; without them, the system's.
    pub only_ca_pem: Option<Vec<u8>>,
}

/// Why the network can't be used as it is set. Neither a proxy's password nor a file's content is in it.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The proxy is no URL of an HTTP proxy.
    #[error("HTTPS_PROXY is not http://[user:password@]host:port")]
    Proxy,
    /// The CA certificates are none, or too many bytes.
    #[error("what should be CA certificates is not a list of certificates in PEM of at most 256 KiB")]
    Ca,
    /// One of its entries, counted from 1, can't be read.
    #[error("entry {0} of the CA certificates is no certificate that can be read: remove or replace it")]
    CaEntry(usize),
    /// No root is trusted, or an extra one can't be.
    #[error("no TLS without trusted roots: mount a CA bundle, or check the CA certificates")]
    Roots(#[source] rustls::Error),
}

pub(super) fn client(settings: &Network) -> Result<Http, NetworkError> {
    let route = Route { connector: tcp(CONNECT_TIMEOUT), proxies: Arc::new(proxies(settings)?) };
    let https: HttpsConnector<_> =
        HttpsConnectorBuilder::new().with_tls_config(tls(settings)?).https_only().enable_http1().wrap_connector(route);
    Ok(pooled(https))
}

pub(super) fn direct(settings: &Direct) -> Result<Http, NetworkError> {
    Ok(pooled(straight(settings, tcp(CONNECT_TIMEOUT))?))
}

/// TLS as `settings` say, on the connections of `connector`.
fn straight<C>(settings: &Direct, connector: C) -> Result<HttpsConnector<C>, NetworkError> {
    let tls = match &settings.only_ca_pem {
        Some(pem) => trusting_only(pem)?,
        None => tls(&Network::default())?,
    };
    let mut builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_only();
    if let Some(name) = &settings.server_name {
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name.clone()));
    }
    Ok(builder.enable_http1().wrap_connector(connector))
}

pub(super) fn plain() -> Http {
    pooled(tcp(PLAIN_CONNECT_TIMEOUT))
}

fn pooled<C>(connector: C) -> Http
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let builder: Builder = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE)
        .http1_max_buf_size(MAX_BUFFER)
        .to_owned();
    Http::new(builder.build(connector))
}

fn tcp(timeout: Duration) -> HttpConnector {
    let mut connector = HttpConnector::new();
    // TLS is put around the connection, so https is not this connector's to refuse.
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(timeout));
    connector.set_nodelay(true);
    connector
}

/// TLS 1.2 or 1.3, trusting the system's roots and the extra ones.
///
/// What the system's roots are is the platform verifier's affair: on Linux it looks at `SSL_CERT_FILE` and `SSL_CERT_DIR`
/// by itself, which replace them. Certificates are dated, so TLS alone looks at the real time.
fn tls(settings: &Network) -> Result<ClientConfig, NetworkError> {
    let extra = settings.extra_ca_pem.as_deref().map(certificates).transpose()?.unwrap_or_default();
    let verifier = Verifier::new_with_extra_roots(extra, provider()).map_err(NetworkError::Roots)?;
    // "dangerous" names the door, not what goes through it: the verifier is the platform's own.
    Ok(versions()?.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// The same, trusting these CA certificates and no other.
fn trusting_only(pem: &[u8]) -> Result<ClientConfig, NetworkError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(NetworkError::Roots)?;
    }
    Ok(versions()?.with_root_certificates(roots).with_no_client_auth())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn versions() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, NetworkError> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(NetworkError::Roots)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, NetworkError> {
    if pem.len() > MAX_CA_BYTES {
        return Err(NetworkError::Ca);
    }
    let mut certificates = Vec::new();
    for (number, entry) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let certificate = entry.ok().filter(|entry| RootCertStore::empty().add(entry.clone()).is_ok());
        certificates.push(certificate.ok_or(NetworkError::CaEntry(number + 1))?);
    }
    if certificates.is_empty() { Err(NetworkError::Ca) } else { Ok(certificates) }
}

/// The proxies as set. A value that can't be read is an error: the matcher would silently go past the proxy.
fn proxies(settings: &Network) -> Result<Matcher, NetworkError> {
    let Some(proxy) = settings.https_proxy.as_deref().filter(|proxy| !proxy.is_empty()) else {
        return Ok(Matcher::builder().build());
    };
    let anywhere = Matcher::builder().https(proxy).build().intercept(&Uri::from_static("https://dev.azure.com"));
    if anywhere.is_none_or(|proxy| proxy.uri().scheme() != Some(&Scheme::HTTP)) {
        return Err(NetworkError::Proxy);
    }
    Ok(Matcher::builder().https(proxy).no(settings.no_proxy.clone().unwrap_or_default()).build())
}

/// A connector that goes through the proxy that `proxies` names for the host, or straight there.
#[derive(Clone)]
struct Route<C> {
    connector: C,
    proxies: Arc<Matcher>,
}

impl<C> Service<Uri> for Route<C>
where
    C: Service<Uri> + Clone,
    C::Response: Read + Write + Unpin + Send + 'static,
    C::Error: Into<BoxError> + 'static,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<C::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, destination: Uri) -> Self::Future {
        let Some(proxy) = self.proxies.intercept(&destination) else {
            return Box::pin(self.connector.call(destination).map_err(Into::into));
        };
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.connector.clone());
        if let Some(password) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(password.clone());
        }
        Box::pin(tunnel.call(destination).map_err(|error| NoTunnel(error.into()).into()))
    }
}

/// That the proxy opened no way. What it answered instead (a 407, for instance) hyper-util tells in words alone.
#[derive(Debug, thiserror::Error)]
#[error("no tunnel through the proxy")]
pub(super) struct NoTunnel(#[source] BoxError);

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::sync::Mutex;

    use flux_bearer::failure::Unreachable;
    use hyper::rt::ReadBufCursor;
    use hyper_util::client::legacy::connect::{Connected, Connection};
    use hyper_util::rt::TokioIo;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ClientConnection, ServerConfig, ServerConnection};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tower::{ServiceExt, service_fn};

    use super::*;

    const ENTRA: &str = "https://login.microsoftonline.com/t/oauth2/v2.0/token";

    /// Where a connection for `uri` goes under `settings`, and what is said on it before it is handed over.
    async fn connect(settings: Network, uri: &'static str) -> (String, String) {
        let asked = Arc::new(Mutex::new(None::<(Uri, DuplexStream)>));
        let seen = asked.clone();
        let connector = service_fn(move |uri: Uri| {
            let (ours, mut theirs) = tokio::io::duplex(4096);
            let seen = seen.clone();
            async move {
                theirs.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await?;
                *seen.lock().unwrap() = Some((uri, theirs));
                Ok::<_, std::io::Error>(TokioIo::new(ours))
            }
        });
        let route = Route { connector, proxies: Arc::new(proxies(&settings).unwrap()) };
        drop(route.oneshot(Uri::from_static(uri)).await.unwrap());
        let (uri, mut theirs) = asked.lock().unwrap().take().unwrap();
        let mut said = String::new();
        theirs.read_to_string(&mut said).await.unwrap();
        (uri.to_string(), said)
    }

    fn behind(proxy: &str, no_proxy: &str) -> Network {
        Network { https_proxy: Some(proxy.into()), no_proxy: Some(no_proxy.into()), extra_ca_pem: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_proxy_is_asked_for_a_tunnel_with_its_password() {
        let (destination, said) = connect(behind("http://user:p%40ss@proxy.example:3128", ""), ENTRA).await;
        assert_eq!(destination, "http://proxy.example:3128/");
        let host = "login.microsoftonline.com:443";
        let password = "Proxy-Authorization: Basic dXNlcjpwQHNz";
        assert_eq!(said, format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n{password}\r\n\r\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn row_42_without_a_proxy_or_past_it_the_way_is_straight() {
        for settings in [
            Network::default(),
            behind("", ""),
            behind("http://proxy.example:3128", "example.org, .microsoftonline.com"),
            behind("http://proxy.example:3128", "*"),
        ] {
            assert_eq!(connect(settings, ENTRA).await, (ENTRA.to_owned(), String::new()));
        }
        let other = behind("proxy.example:3128", "example.org");
        assert_eq!(connect(other, ENTRA).await.0, "http://proxy.example:3128/", "a proxy without a scheme is HTTP");
    }

    /// What becomes of a request whose proxy answers this, or nothing where it can't be reached, and then ends.
    async fn behind_a_proxy_that_says(answer: Option<&'static [u8]>) -> Unreachable {
        let connector = service_fn(move |_: Uri| async move {
            let answer = answer.ok_or(std::io::ErrorKind::ConnectionRefused)?;
            let (ours, mut theirs) = tokio::io::duplex(4096);
            tokio::spawn(async move {
                let mut asked = [0; 1024];
                // What was asked is looked at elsewhere.
                let read = theirs.read(&mut asked).await;
                theirs.write_all(answer).await.and(read)
            });
            Ok::<_, std::io::Error>(TokioIo::new(ours))
        });
        let proxies = Arc::new(proxies(&behind("http://user:canary@proxy.example:3128", "")).unwrap());
        let Err(error) = (Route { connector, proxies }).oneshot(Uri::from_static(ENTRA)).await else {
            panic!("a tunnel was opened")
        };
        assert!(!format!("{error} {error:?}").contains("canary"));
        crate::http::unreachable(&*error)
    }

    #[tokio::test(start_paused = true)]
    async fn row_42_a_proxy_that_refuses_cuts_or_is_not_there_is_told_as_the_proxy() {
        let refusal: &[u8] = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 6\r\n\r\ncanary";
        let forbidden: &[u8] = b"HTTP/1.1 403 Forbidden\r\n\r\n";
        for answer in [Some(refusal), Some(forbidden), Some(&b"HTTP/1.1 200 Conn"[..]), Some(&b""[..]), None] {
            assert_eq!(behind_a_proxy_that_says(answer).await, Unreachable::Proxy, "{answer:?}");
        }
        let told = Unreachable::Proxy.failure("EntraUnavailable", "Entra ID");
        assert!(told.fix.contains("HTTPS_PROXY") && told.fix.contains("407"), "{told}");
    }

    #[test]
    fn no_proxy_knows_domains_addresses_and_networks_of_either_family() {
        let proxies = proxies(&behind("http://[2001:db8::1]:3128", "example.org,10.0.0.0/8,2001:db8::/32,192.0.2.7"));
        let proxies = proxies.unwrap();
        let direct = |uri: &'static str| proxies.intercept(&Uri::from_static(uri)).is_none();
        for uri in ["https://git.example.org/", "https://10.1.2.3/", "https://[2001:db8::7]/", "https://192.0.2.7/"] {
            assert!(direct(uri), "{uri}");
        }
        for uri in ["https://dev.azure.com/", "https://notexample.org/", "https://[2001:db9::7]/", "https://192.0.2.8/"]
        {
            assert!(!direct(uri), "{uri}");
        }
        let proxy = proxies.intercept(&Uri::from_static(ENTRA)).unwrap();
        assert_eq!(proxy.uri().authority().unwrap(), "[2001:db8::1]:3128");
    }

    /// A CA in PEM, and a server that it vouches for.
    fn authority() -> (String, Arc<ServerConfig>) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["dev.azure.com".into()]).unwrap().signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        (pem, Arc::new(server))
    }

    /// Shakes hands in memory; an error is what the client has against the server.
    fn shake_hands(extra_ca_pem: Option<&str>, server: &Arc<ServerConfig>) -> Result<(), rustls::Error> {
        let settings = Network { extra_ca_pem: extra_ca_pem.map(|pem| pem.as_bytes().to_vec()), ..Network::default() };
        let name = "dev.azure.com".try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(tls(&settings).unwrap()), name).unwrap();
        let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
        while client.is_handshaking() {
            let (mut asked, mut answered) = (Vec::new(), Vec::new());
            client.write_tls(&mut asked).unwrap();
            server.read_tls(&mut &*asked).unwrap();
            server.process_new_packets().unwrap();
            while server.wants_write() {
                server.write_tls(&mut answered).unwrap();
            }
            let mut rest = &*answered;
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                client.process_new_packets()?;
            }
        }
        Ok(())
    }

    #[test]
    fn row_42_43_what_a_ca_file_holds_is_trusted_and_no_other_ca() {
        let ((one, server), (other, _)) = (authority(), authority());
        assert_eq!(shake_hands(Some(&one), &server), Ok(()));
        assert_eq!(shake_hands(Some(&format!("{other}{one}")), &server), Ok(()));
        for foreign in [None, Some(&*other)] {
            assert!(matches!(shake_hands(foreign, &server), Err(rustls::Error::InvalidCertificate(_))), "{foreign:?}");
        }
    }

    /// A connection that TLS can be put around.
    struct InMemory(TokioIo<DuplexStream>);

    impl Connection for InMemory {
        fn connected(&self) -> Connected {
            Connected::new()
        }
    }

    impl Read for InMemory {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(context, bytes)
        }
    }

    impl Write for InMemory {
        fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(context)
        }
    }

    /// Shakes hands with `server` in memory, on the way to a server at `uri`: where the connection led, the name that TLS
    /// asked for, and what the client has against the server.
    async fn go_straight(
        settings: Direct,
        uri: &'static str,
        server: &Arc<ServerConfig>,
    ) -> (String, Option<String>, Result<(), Unreachable>) {
        let (led, theirs) = (Arc::new(Mutex::new(String::new())), Arc::new(Mutex::new(None)));
        let (noted, handed) = (led.clone(), theirs.clone());
        let connector = service_fn(move |uri: Uri| {
            let (ours, theirs) = tokio::io::duplex(4096);
            *noted.lock().unwrap() = uri.to_string();
            *handed.lock().unwrap() = Some(theirs);
            std::future::ready(Ok::<_, std::io::Error>(InMemory(TokioIo::new(ours))))
        });
        let client = straight(&settings, connector).unwrap().oneshot(Uri::from_static(uri));
        let serve = async {
            // The connection is handed over when the client is first polled.
            tokio::task::yield_now().await;
            let stream = theirs.lock().unwrap().take().unwrap();
            greet(stream, server).await
        };
        let (connected, asked) = tokio::join!(client, serve);
        let led = led.lock().unwrap().clone();
        (led, asked, connected.map(drop).map_err(|error| crate::http::unreachable(&*error)))
    }

    /// Shakes hands as `config` says until that is done or the client has gone, and tells the name that it asked for.
    async fn greet(mut stream: DuplexStream, config: &Arc<ServerConfig>) -> Option<String> {
        let mut server = ServerConnection::new(Arc::clone(config)).unwrap();
        let mut bytes = [0; 4096];
        while server.is_handshaking() {
            let read = stream.read(&mut bytes).await.unwrap();
            server.read_tls(&mut &bytes[..read]).unwrap();
            if read == 0 || server.process_new_packets().is_err() {
                break;
            }
            let mut answer = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut answer).unwrap();
            }
            stream.write_all(&answer).await.unwrap();
        }
        server.server_name().map(str::to_owned)
    }

    #[tokio::test]
    async fn a_server_of_its_own_kind_is_known_by_its_ca_alone_and_by_the_name_that_was_set() {
        let ((ca, server), (other, _)) = (authority(), authority());
        let uri = "https://10.0.0.1:8443/t/oauth2/v2.0/token";
        let settings = |pem: Option<&str>, name: Option<&'static str>| Direct {
            server_name: name.map(|name| name.try_into().unwrap()),
            only_ca_pem: pem.map(|pem| pem.as_bytes().to_vec()),
        };
        let name = "dev.azure.com";
        let cases = [
            (settings(Some(&ca), Some(name)), Some(name), Ok(())),
            (settings(Some(&format!("{other}{ca}")), Some(name)), Some(name), Ok(())),
            (settings(Some(&other), Some(name)), Some(name), Err(Unreachable::Tls)),
            (settings(None, Some(name)), Some(name), Err(Unreachable::Tls)),
            (settings(Some(&ca), Some("other.example")), Some("other.example"), Err(Unreachable::Tls)),
            // An address is no name to ask for, and not in the certificate.
            (settings(Some(&ca), None), None, Err(Unreachable::Tls)),
        ];
        for (settings, asked, expected) in cases {
            let told = format!("{settings:?}");
            let (led, name, end) = go_straight(settings, uri, &server).await;
            assert_eq!((&*led, name.as_deref(), end), (uri, asked, expected), "{told}");
        }
    }

    #[test]
    fn nothing_of_a_proxy_is_in_the_error() {
        let Err(error) = proxies(&behind("socks5://user:canary@proxy", "")) else { panic!("no HTTP proxy") };
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}
