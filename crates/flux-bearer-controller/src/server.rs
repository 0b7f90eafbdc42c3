//! `/metrics` for Prometheus, `/healthz` and `/readyz` for the kubelet.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// Answers scrapes of `registry`, as OpenMetrics.
pub fn metrics(registry: Arc<Registry>) -> Router {
    Router::new().route("/metrics", get(scrape)).with_state(registry)
}

/// Answers the kubelet. Ready means that the caches are filled, on a follower too: a second replica must become available.
pub fn health(ready: watch::Receiver<bool>) -> Router {
    Router::new().route("/healthz", get(|| async { "ok" })).route("/readyz", get(readiness)).with_state(ready)
}

/// Connections at a time. Prometheus needs one; what comes beyond waits in the kernel.
const CONNECTIONS: usize = 16;

/// How long a connection lasts at most: a scrape takes milliseconds, and scrapers open another one.
const LONGEST: Duration = Duration::from_secs(60);

/// Serves `router` until `stop` is done: sixteen connections at a time, and a minute each, so that peers that hang or flood
/// cost a little memory and nothing else.
pub async fn serve<L>(mut listener: L, router: Router, stop: impl Future<Output = ()>)
where
    L: Listener<Io: 'static>,
{
    let http = http1::Builder::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    tokio::pin!(stop);
    loop {
        let admitted = async { (Arc::clone(&places).acquire_owned().await, listener.accept().await.0) };
        let (place, io) = tokio::select! {
            () = &mut stop => return,
            admitted = admitted => admitted,
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = http.serve_connection(TokioIo::new(io), service);
        tokio::spawn(async move {
            // What a peer does to its connection is its own affair.
            drop(timeout(LONGEST, connection).await);
            drop(place);
        });
    }
}

async fn scrape(State(registry): State<Arc<Registry>>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
            .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn readiness(State(ready): State<watch::Receiver<bool>>) -> Response {
    if *ready.borrow() {
        "ok".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the watches have not been listed yet").into_response()
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::mpsc;
    use tower::ServiceExt;

    use super::*;
    use crate::metrics::Metrics;

    async fn ask(router: Router, path: &str) -> (StatusCode, String) {
        let response = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_follower_is_ready_once_its_watches_are_listed() {
        let (sender, receiver) = watch::channel(false);
        let router = health(receiver);
        assert_eq!(ask(router.clone(), "/healthz").await.0, StatusCode::OK);
        assert_eq!(ask(router.clone(), "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
        sender.send_replace(true);
        assert_eq!(ask(router, "/readyz").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn metrics_are_named_as_openmetrics_wants() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.minted(Ok(()), Duration::from_secs(1));
        let (status, text) = ask(super::metrics(Arc::new(registry)), "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("flux_bearer_mints_total{result=\"success\""), "{text}");
        assert!(text.contains("flux_bearer_build_info{version="), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    /// Connections without a network.
    struct Pipes(mpsc::UnboundedReceiver<DuplexStream>);

    impl Listener for Pipes {
        type Io = DuplexStream;
        type Addr = ();

        async fn accept(&mut self) -> (DuplexStream, ()) {
            match self.0.recv().await {
                Some(pipe) => (pipe, ()),
                None => std::future::pending().await,
            }
        }

        fn local_addr(&self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn row_49_scrapers_that_hang_take_few_places_and_give_them_back_after_a_minute() {
        let (connect, pipes) = mpsc::unbounded_channel();
        let (_ready, receiver) = watch::channel(true);
        tokio::spawn(serve(Pipes(pipes), health(receiver), std::future::pending()));
        let open = || {
            let (ours, theirs) = duplex(1 << 10);
            connect.send(theirs).unwrap();
            ours
        };
        let mut hanging: Vec<DuplexStream> = (0..10_000).map(|_| open()).collect();
        for pipe in hanging.iter_mut().take(CONNECTIONS) {
            pipe.write_all(b"GET /readyz HTTP/1.1\r\n").await.unwrap();
        }
        hanging.truncate(CONNECTIONS);
        let mut last = open();
        last.write_all(b"GET /readyz HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        let early = timeout(LONGEST * 9 / 10, last.read_to_string(&mut answer)).await;
        assert!(early.is_err(), "every place is taken: {answer}");
        let read = timeout(LONGEST, last.read_to_string(&mut answer)).await;
        read.expect("no place is given back").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}
