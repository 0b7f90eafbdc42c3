//! What every part of the world is: a tower service from request to answer, with the faults in front.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, header};
use http_body_util::BodyExt;
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
                Verdict::Refuse => Err(BoxError::from("connection refused by a fault")),
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
