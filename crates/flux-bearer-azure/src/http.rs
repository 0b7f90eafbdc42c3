//! The one seam to the network: every request of flux-bearer to anything but Kubernetes goes through [`Http`].

pub mod headers;
mod network;

use std::error::Error;
use std::io;
use std::time::Duration;

use aws_lc_rs::rand;
use bytes::{Bytes, BytesMut};
use flux_bearer::failure::{Class, Failure, Unreachable};
use http::{HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Error as ClientError;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt, service_fn};

use network::NoTunnel;
pub use network::{Direct, MAX_CA_BYTES, Network, NetworkError};

/// Any error of a service below the seam.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// How long one exchange may take, from the connection to the last byte. Entra ID, IMDS and Azure DevOps answer within
/// a second or two; the tenfold is a fault, and the next attempt is better than more waiting.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Longest answer of a token endpoint that is read, in bytes. A token has at most 16 KiB and an error text at most a
/// few; the rest is room.
pub const MAX_TOKEN_ANSWER: usize = 64 * 1024;

/// What flux-bearer calls itself in requests.
pub const AGENT: &str = concat!("flux-bearer/", env!("CARGO_PKG_VERSION"));

type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A way to send requests: the network, plain HTTP to what is near, or any service in process.
///
/// Clones share connections. It follows no redirect and retries nothing.
#[derive(Clone)]
pub struct Http {
    service: BoxCloneSyncService<Request<Full<Bytes>>, Response<Body>, BoxError>,
}

impl Http {
    /// Sends every request to `service`, for example a router in process.
    pub fn new<S, B>(service: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let boxed = |answer: Response<B>| answer.map(|body| body.map_err(Into::into).boxed_unsync());
        Self { service: BoxCloneSyncService::new(service.map_response(boxed).map_err(Into::into)) }
    }

    /// The network as `settings` describe it: TLS only, through the proxy where one is set.
    ///
    /// # Errors
    /// A proxy URL or CA certificates that can't be used, or a system without any trusted root.
    pub fn network(settings: &Network) -> Result<Self, NetworkError> {
        network::client(settings)
    }

    /// The network to one server that `settings` describe: TLS only, past any proxy.
    ///
    /// # Errors
    /// CA certificates that can't be used, or a system without any trusted root.
    pub fn direct(settings: &Direct) -> Result<Self, NetworkError> {
        network::direct(settings)
    }

    /// Sends each request through what `ways` holds at that moment: a network whose settings change.
    ///
    /// A request that is under way stays on the way that it took. Connections of a former way are used for nothing else.
    pub fn latest(ways: watch::Receiver<Self>) -> Self {
        let service = service_fn(move |request| {
            let way = ways.borrow().service.clone();
            way.oneshot(request)
        });
        Self { service: BoxCloneSyncService::new(service) }
    }

    /// Plain HTTP and never a proxy: for IMDS, and for neighbours in the cluster.
    ///
    /// No setting reaches it, so no proxy can: IMDS answers only what comes from the machine itself, and its answer is a
    /// token that no proxy may see.
    pub fn plain() -> Self {
        network::plain()
    }

    /// Sends `request` and reads the whole answer: at most `max_bytes` of body, within `deadline` from first to last.
    ///
    /// # Errors
    /// What kept the answer from arriving, or [`Unreachable::TooLarge`] for an answer beyond `max_bytes`.
    pub async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        deadline: Duration,
        max_bytes: usize,
    ) -> Result<Response<Bytes>, Unreachable> {
        let answer = self.opening(request, deadline, max_bytes.saturating_add(1)).await?;
        if answer.body().len() > max_bytes { Err(Unreachable::TooLarge(max_bytes)) } else { Ok(answer) }
    }

    /// Sends `request` and reads the first `bytes` of the answer's body, or all of a shorter one; the rest is never read.
    ///
    /// # Errors
    /// What kept them from arriving within `deadline`.
    pub async fn opening(
        &self,
        request: Request<Full<Bytes>>,
        deadline: Duration,
        bytes: usize,
    ) -> Result<Response<Bytes>, Unreachable> {
        let answer = tokio::time::timeout(deadline, self.send(request, bytes)).await;
        answer.map_err(|_| Unreachable::Timeout(deadline))?.map_err(|error| unreachable(&*error))
    }

    async fn send(&self, request: Request<Full<Bytes>>, bytes: usize) -> Result<Response<Bytes>, BoxError> {
        let (parts, body) = self.service.clone().oneshot(request).await?.into_parts();
        Ok(Response::from_parts(parts, first(body, bytes).await?))
    }
}

/// The header that carries `token`, hidden where headers are printed.
pub(crate) fn bearer(token: &SecretString) -> Result<HeaderValue, Failure> {
    hidden(&SecretString::from(format!("Bearer {}", token.expose_secret())))
}

/// A header of this value, hidden where headers are printed.
pub(crate) fn hidden(value: &SecretString) -> Result<HeaderValue, Failure> {
    let mut header = HeaderValue::try_from(value.expose_secret()).map_err(|_| unsendable())?;
    header.set_sensitive(true);
    Ok(header)
}

/// Whether the body is a page. A page is a page under any name: proxies and sign-in services mislabel theirs.
pub(crate) fn is_html(answer: &Response<Bytes>) -> bool {
    headers::media_type(answer.headers()) == "text/html" || answer.body().trim_ascii_start().starts_with(b"<")
}

/// The failure of a request that can't even be written down. What would go into it was checked when it was made.
pub(crate) fn unsendable() -> Failure {
    let fix = "Check the ids and names that were given, and the repository's URL";
    let cause = "the request holds characters that no request takes";
    Failure::new("RequestRejected", Class::Permanent, "RequestInvalid", cause, fix)
}

/// A random GUID (version 4) for a support case, or none when the machine has no randomness: it only helps to search.
pub(crate) fn request_id() -> Option<String> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).ok()?;
    let random = u128::from_be_bytes(bytes) & !(0xf << 76 | 0b11 << 62);
    let hex = format!("{:032x}", random | 4 << 76 | 0b10 << 62);
    let parts = [hex.get(..8)?, hex.get(8..12)?, hex.get(12..16)?, hex.get(16..20)?, hex.get(20..)?];
    Some(parts.join("-"))
}

/// The first `wanted` bytes of `body`: never holds more, however much is sent.
async fn first(mut body: Body, wanted: usize) -> Result<Bytes, BoxError> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let room = wanted - bytes.len();
        bytes.extend_from_slice(data.get(..room).unwrap_or(&data));
        if bytes.len() == wanted {
            break;
        }
    }
    Ok(bytes.freeze())
}

/// What an error below the seam means, from its types alone: its text may quote a URL or an answer.
fn unreachable(error: &(dyn Error + 'static)) -> Unreachable {
    let causes = || std::iter::successors(Some(error), |error| cause(*error));
    let refused = |error: &(dyn Error + 'static)| {
        let by_client = error.downcast_ref::<ClientError>().is_some_and(ClientError::is_connect);
        by_client || error.downcast_ref::<io::Error>().is_some_and(|error| is_refusal(error.kind()))
    };
    let garbled =
        |error: &(dyn Error + 'static)| error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse);
    if causes().any(<dyn Error>::is::<NoTunnel>) {
        return Unreachable::Proxy;
    }
    match causes().find_map(|error| error.downcast_ref::<rustls::Error>()) {
        // What comes back is no TLS at all: plain HTTP of something in between.
        Some(rustls::Error::InvalidMessage(_)) => Unreachable::Malformed,
        Some(_) => Unreachable::Tls,
        None if causes().any(refused) => Unreachable::Connect,
        None if causes().any(garbled) => Unreachable::Malformed,
        None => Unreachable::Cut,
    }
}

/// The error inside `error`. An [`io::Error`] hides the one it was made of behind that one's own source.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

fn is_refusal(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(kind, AddrNotAvailable | ConnectionRefused | HostUnreachable | NetworkUnreachable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_random_guids() {
        let (one, other) = (request_id().unwrap(), request_id().unwrap());
        assert!(flux_bearer::identity::is_guid(&one) && one != other, "{one} {other}");
        assert_eq!(&one[14..15], "4");
    }

    #[tokio::test(start_paused = true)]
    async fn each_request_takes_the_latest_way_also_from_a_clone_of_before() {
        let way = |status: u16| {
            Http::new(service_fn(
                move |_| async move { Response::builder().status(status).body(Full::<Bytes>::default()) },
            ))
        };
        let ask =
            |http: Http| async move { http.exchange(Request::default(), DEADLINE, 1).await.unwrap().status().as_u16() };
        let (ways, latest) = watch::channel(way(201));
        let http = Http::latest(latest);
        let clone = http.clone();
        assert_eq!(ask(clone.clone()).await, 201);
        ways.send_replace(way(202));
        assert_eq!((ask(clone).await, ask(http.clone()).await), (202, 202));
        drop(ways);
        assert_eq!(ask(http).await, 202, "the last way stays");
    }

    #[test]
    fn row_42_43_an_error_is_read_by_its_innermost_type() {
        let tls = |error: rustls::Error| io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
        let untrusted = rustls::CertificateError::UnknownIssuer;
        let cases = [
            (tls(rustls::Error::InvalidCertificate(untrusted)), Unreachable::Tls),
            (tls(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)), Unreachable::Malformed),
            (io::ErrorKind::ConnectionRefused.into(), Unreachable::Connect),
            (io::Error::other(io::Error::from(io::ErrorKind::HostUnreachable)), Unreachable::Connect),
            (io::ErrorKind::UnexpectedEof.into(), Unreachable::Cut),
            (io::Error::other("words"), Unreachable::Cut),
        ];
        for (error, expected) in cases {
            assert_eq!(unreachable(&error), expected, "{error:?}");
        }
    }
}
