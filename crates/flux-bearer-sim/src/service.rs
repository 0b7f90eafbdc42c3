//! What every part of the world is: a tower service from request to answer, with the faults in front.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use tower::{BoxError, ServiceExt, service_fn};

use crate::faults::{Faults, Verdict};

/// A part of the world. An `Err` is a connection that ended without an answer.
pub type Service = tower::util::BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// `inner` with the fault switch in front of it.
pub fn guarded<S>(faults: Faults, inner: S) -> Service
where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    Service::new(service_fn(move |request: Request<Body>| {
        let (faults, inner) = (faults.clone(), inner.clone());
        async move {
            let host = host(&request);
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
            let verdict = faults.meet(&host, request.method(), &path).await;
            match verdict {
                Verdict::Refuse => Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into()),
                Verdict::Instead(response) => Ok(response),
                Verdict::Serve => Ok(inner.oneshot(request).await?),
                Verdict::Cut(after) => Ok(cut(inner.oneshot(request).await?, after).await),
                Verdict::Lose => {
                    inner.oneshot(request).await?;
                    Err(BoxError::from("answer lost by a fault"))
                }
            }
        }
    }))
}

/// Dates an answer that has no `Date` yet: servers do, and clients read their clock from it. hyper would date it by the
/// machine's clock, which a step of the world's does not move.
pub fn date<B>(response: &mut Response<B>, now: Timestamp) {
    let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&now).ok();
    if let Some(date) = text.and_then(|text| HeaderValue::from_str(&text).ok()) {
        response.headers_mut().entry(header::DATE).or_insert(date);
    }
}

/// The host a request is for, without a port and in lower case: from its absolute URI, else from its `Host` header.
pub fn host<B>(request: &Request<B>) -> String {
    let named = request.uri().host().or_else(|| request.headers().get(header::HOST)?.to_str().ok());
    let named = named.unwrap_or_default();
    named.split(':').next().unwrap_or_default().to_ascii_lowercase()
}

/// The answer with its announced length but only the first `after` bytes of its body, then a broken connection.
async fn cut(response: Response<Body>, after: usize) -> Response<Body> {
    /// How long an endless body (a watch) is listened to before what has come of it is cut.
    const LISTEN: Duration = Duration::from_secs(1);
    let (parts, mut body) = response.into_parts();
    let mut arrived: Vec<u8> = Vec::new();
    while arrived.len() < after {
        match tokio::time::timeout(LISTEN, body.frame()).await {
            Ok(Some(Ok(frame))) => arrived.extend(frame.into_data().unwrap_or_default()),
            _ => break,
        }
    }
    arrived.truncate(after);
    let broken = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "cut by a fault");
    let frames = futures::stream::iter([Ok(Bytes::from(arrived)), Err(broken)]);
    Response::from_parts(parts, Body::from_stream(frames.boxed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_dated_once() {
        let mut response = Response::new(());
        date(&mut response, "2026-11-23T02:45:31Z".parse().unwrap());
        date(&mut response, "2027-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(response.headers()["date"], "Mon, 23 Nov 2026 02:45:31 GMT");
    }
}
