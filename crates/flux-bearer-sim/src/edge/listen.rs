//! HTTP/1.1 on real sockets, plain and over TLS, for a [`Service`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::flushed::Flushed;
use crate::service::Service;

/// Connections served at a time on one listener; more wait in the kernel's backlog. Half of the usual limit of 1024 open files.
const CONNECTIONS: usize = 512;

/// Time for a client to send a request's head, and so also how long an idle connection is kept. hyper's and Go's clients
/// drop theirs after 90 seconds: they shall be first, or a request meets a connection that is just being closed.
const HEAD: Duration = Duration::from_mins(2);

/// Time for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Time to let files be closed after the process ran out of them.
const OUT_OF_FILES: Duration = Duration::from_millis(100);

/// Serves `service` on `listener`, without TLS, for ever.
pub async fn plain(listener: TcpListener, service: Service) {
    each(listener, |stream| connection(stream, service.clone())).await;
}

/// Serves `service` on `listener` over TLS, for ever.
pub async fn tls(listener: TcpListener, config: Arc<ServerConfig>, service: Service) {
    each(listener, |stream| tls_connection(stream, config.clone(), service.clone())).await;
}

/// Accepts connections and hands each to a task that runs what `serve` makes of it.
pub(super) async fn each<Serving>(listener: TcpListener, serve: impl Fn(TcpStream) -> Serving)
where
    Serving: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let serving = serve(stream);
                tokio::spawn(async move {
                    serving.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "can't accept a connection");
                tokio::time::sleep(OUT_OF_FILES).await;
            }
        }
    }
}

/// Shakes hands on `io`, then serves `service` on it.
pub async fn tls_connection<Io>(io: Io, config: Arc<ServerConfig>, service: Service)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(config).accept(io)).await {
        Ok(Ok(stream)) => connection(stream, service).await,
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake took too long"),
    }
}

/// Serves `service` on `io` until either side ends the connection.
///
/// Bodies stream both ways. An `Err` of the service closes the connection without an answer; a body that fails cuts its
/// answer off, so that no client takes it for complete.
pub async fn connection<Io>(io: Io, service: Service)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| answer(service.clone(), request));
    let served = server().serve_connection(TokioIo::new(io), service).await;
    if let Err(error) = served {
        tracing::debug!(error = &error as &dyn std::error::Error, "connection ended early");
    }
}

/// The service's answer. Boxed, with a plain error: inferred, the compiler takes their lifetimes for too special to spawn
/// (rust-lang/rust#100013).
fn answer(service: Service, request: Request<Incoming>) -> BoxFuture<'static, io::Result<Response<Flushed>>> {
    Box::pin(async move {
        let response = service.oneshot(request.map(Body::new)).await.map_err(io::Error::other)?;
        Ok(response.map(Flushed::new))
    })
}

/// How HTTP is served everywhere here.
pub(super) fn server() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    builder
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use futures::StreamExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tower::BoxError;

    use super::*;

    /// What a client receives that sends `request` and reads until the connection ends.
    async fn exchange(service: Service, request: &str) -> String {
        let (mut near, far): (DuplexStream, DuplexStream) = tokio::io::duplex(1024);
        let server = tokio::spawn(connection(far, service));
        near.write_all(request.as_bytes()).await.unwrap();
        let mut received = Vec::new();
        near.read_to_end(&mut received).await.unwrap();
        server.await.unwrap();
        String::from_utf8(received).unwrap()
    }

    fn always(answer: impl Fn() -> Result<Response<Body>, BoxError> + Clone + Send + Sync + 'static) -> Service {
        Service::new(tower::service_fn(move |_: Request<Body>| std::future::ready(answer())))
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_arrives_whole() {
        let service = always(|| Ok(Response::new(Body::from("hello"))));
        let received = exchange(service, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert!(received.starts_with("HTTP/1.1 200 OK\r\n") && received.ends_with("\r\n\r\nhello"), "{received}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_of_the_service_closes_without_a_byte() {
        let service = always(|| Err(BoxError::from("refused")));
        assert_eq!(exchange(service, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await, "");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_body_is_cut_before_its_announced_end() {
        let service = always(|| {
            let frames = [Ok(Bytes::from("half")), Err(std::io::Error::other("cut"))];
            let body = Body::from_stream(futures::stream::iter(frames));
            Ok(Response::builder().header("content-length", 8).body(body)?)
        });
        let received = exchange(service, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(received.contains("content-length: 8") && received.ends_with("\r\n\r\nhalf"), "{received}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_body_streams_through() {
        let echo = tower::service_fn(|request: Request<Body>| async move {
            let upper = request.into_body().into_data_stream().map(|chunk| chunk.map(|it| it.to_ascii_uppercase()));
            Ok::<_, Infallible>(Response::new(Body::from_stream(upper)))
        });
        let service = Service::new(echo.map_err(BoxError::from));
        let request = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n\
                       3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        let received = exchange(service, request).await;
        assert!(received.ends_with("3\r\nABC\r\n2\r\nDE\r\n0\r\n\r\n"), "{received}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_finishes_its_head_is_dropped() {
        let service = always(|| Ok(Response::new(Body::empty())));
        assert_eq!(exchange(service, "GET / HTTP/1.1\r\nhos").await, "");
    }
}
