//! Servers that record what they are asked and answer what a test says.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::{Json, Router};
use bytes::Bytes;
use flux_bearer::failure::Failure;
use flux_bearer_azure::http::Http;
use futures::stream;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;
use tokio::time::Instant;
use tower::service_fn;

/// A text that no failure may repeat, in every body and header that a hostile server sends.
pub(crate) const CANARY: &str = "eyJcanary.eyJcanary.canary";

/// A GUID as servers name their requests.
pub(crate) const TRACE: &str = "0f725dc7-2eef-470a-ba1c-a02c7a149100";

pub(crate) const TENANT: &str = "22222222-2222-2222-2222-222222222222";
pub(crate) const CLIENT: &str = "11111111-1111-1111-1111-111111111111";

/// The requests that a server has seen, and when.
pub(crate) type Log = Arc<Mutex<Vec<(Instant, http::Request<Bytes>)>>>;

/// A server that answers its n-th request (from 0) with `answer(n)`.
pub(crate) fn server(answer: impl Fn(usize) -> Response<Body> + Clone + Send + Sync + 'static) -> (Http, Log) {
    let log = Log::default();
    let seen = log.clone();
    let router = Router::new().fallback(move |request: Request| async move {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let mut seen = seen.lock().unwrap();
        seen.push((Instant::now(), http::Request::from_parts(parts, body)));
        answer(seen.len() - 1)
    });
    (Http::new(router), log)
}

/// A server that always answers `status` with `body`.
pub(crate) fn always(status: u16, body: impl Into<Bytes>) -> (Http, Log) {
    let body = body.into();
    server(move |_| plain(status, body.clone()))
}

/// A server that no connection reaches.
pub(crate) fn refusing() -> Http {
    Http::new(service_fn(|_: http::Request<Full<Bytes>>| async {
        Err::<Response<Body>, _>(io::Error::from(io::ErrorKind::ConnectionRefused))
    }))
}

/// A server that takes the request and never answers.
pub(crate) fn silent() -> Http {
    Http::new(service_fn(|_: http::Request<Full<Bytes>>| std::future::pending::<Result<Response<Body>, Infallible>>()))
}

pub(crate) fn plain(status: u16, body: impl Into<Body>) -> Response<Body> {
    Response::builder().status(status).body(body.into()).unwrap()
}

pub(crate) fn json(status: u16, body: Value) -> Response<Body> {
    let mut answer = axum::response::IntoResponse::into_response(Json(body));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}

pub(crate) fn with(mut answer: Response<Body>, headers: &[(&'static str, &str)]) -> Response<Body> {
    for (name, value) in headers {
        answer.headers_mut().insert(*name, value.parse().unwrap());
    }
    answer
}

/// A body that begins with `start` and then breaks off.
pub(crate) fn broken(start: &'static str) -> Body {
    let cut = io::Error::new(io::ErrorKind::UnexpectedEof, CANARY);
    Body::from_stream(stream::iter([Ok(Bytes::from(start)), Err(cut)]))
}

/// A body that begins with `start` and then never goes on.
pub(crate) fn stalling(start: &'static str) -> Body {
    use futures::StreamExt;
    let start = stream::iter([Ok::<_, Infallible>(Bytes::from(start))]);
    Body::from_stream(start.chain(stream::pending()))
}

/// A body that gives a byte each `pause` and has no end.
pub(crate) fn dripping(pause: Duration) -> Body {
    Body::from_stream(stream::unfold((), move |()| async move {
        tokio::time::sleep(pause).await;
        Some((Ok::<_, Infallible>(Bytes::from_static(b" ")), ()))
    }))
}

pub(crate) type Answer = fn() -> Response<Body>;

/// Answers of something that is not the server, most with the canary in them, and what each is.
pub(crate) fn hostile() -> Vec<(&'static str, Answer)> {
    vec![
        ("a page instead of a token", || with(plain(200, page()), &[("content-type", "text/html")])),
        ("no text at all", || plain(200, b"\xff\xfe\0canary".to_vec())),
        ("half an answer as a whole", || plain(200, format!(r#"{{"access_token":"{CANARY}","expires_in":35"#))),
        ("a token that is no string", || json(200, serde_json::json!({"access_token": [CANARY], "expires_in": 1}))),
        ("an answer without a token", || json(200, serde_json::json!({"token_type": CANARY}))),
        ("a deep answer", || plain(200, "[".repeat(60_000))),
        ("nothing", || plain(200, "")),
        ("no content", || plain(204, "")),
        ("a long answer", || plain(200, format!(r#"{{"access_token":"{}"}}"#, CANARY.repeat(10_000)))),
        ("an endless answer", || plain(200, dripping(Duration::from_millis(10)))),
        ("a stalling answer", || plain(200, stalling(r#"{"access_token":"canary"#))),
        ("a cut answer", || plain(200, broken(r#"{"access_token":"canary"#))),
        ("a redirect", || with(plain(302, page()), &[("location", "https://evil.example/canary")])),
        ("a permanent redirect", || with(plain(308, ""), &[("location", "https://evil.example/canary")])),
        ("a proxy that wants a password", || with(plain(407, page()), &[("proxy-authenticate", "Basic canary")])),
        ("a gateway fault", || plain(502, page())),
        ("throttling in words", || with(plain(429, format!("Too Many Requests {CANARY}")), &[("retry-after", "9999")])),
        ("a hostile error", || {
            with(json(401, hostile_error()), &[("x-ms-request-id", CANARY), ("activityid", CANARY)])
        }),
        ("a status nobody knows", || plain(799, page())),
    ]
}

fn page() -> String {
    format!("<html><title>{CANARY}</title></html>")
}

fn hostile_error() -> Value {
    serde_json::json!({
        "error": CANARY, "error_description": format!("AADSTS700213: {CANARY}"), "error_codes": CANARY,
        "trace_id": CANARY, "correlation_id": {"a": CANARY}, "error_uri": CANARY,
    })
}

/// Fails when anything of a server's text is in the failure.
pub(crate) fn assert_own_words(failure: &Failure, what: &str) {
    let shown = format!("{failure} {failure:?}");
    for foreign in ["canary", "eyJ", "evil.example", "<html"] {
        assert!(!shown.contains(foreign), "{what}: {shown}");
    }
    assert!(!failure.cause.is_empty() && !failure.fix.is_empty(), "{what}: {shown}");
}
