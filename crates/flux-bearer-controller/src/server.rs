//! `/metrics` for Prometheus, `/healthz` and `/readyz` for the kubelet.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Answers scrapes of `registry`, as OpenMetrics.
pub fn metrics(registry: Arc<Registry>) -> Router {
    Router::new().route("/metrics", get(scrape)).with_state(registry)
}

/// Answers the kubelet. Ready means that the caches are filled, on a follower too: a second replica must become available.
pub fn health(ready: watch::Receiver<bool>) -> Router {
    Router::new().route("/healthz", get(|| async { "ok" })).route("/readyz", get(readiness)).with_state(ready)
}

/// Serves `router` until `stop` is done.
pub async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()> + Send + 'static) {
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
        tracing::error!(%error, "a server ended");
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
    use std::time::Duration;

    use axum::body::Body;
    use axum::http::Request;
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
}
