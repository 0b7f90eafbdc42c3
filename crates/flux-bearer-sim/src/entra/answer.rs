//! The answers of Entra with the headers that all of them carry.

use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::refusal::Refusal;
use crate::random;
use crate::state::ErrorLines;

/// Headers that every answer of the token endpoint was recorded with.
const HEADERS: [(&str, &str); 8] = [
    ("cache-control", "no-store, no-cache"),
    ("pragma", "no-cache"),
    ("content-type", "application/json; charset=utf-8"),
    ("expires", "-1"),
    ("strict-transport-security", "max-age=31536000; includeSubDomains"),
    ("x-content-type-options", "nosniff"),
    ("p3p", r#"CP="DSP CUR OTPi IND OTRi ONL FIN""#),
    ("x-ms-ests-server", "2.1.11419.13 - NCUS ProdSlices"),
];

const COOKIES: [&str; 2] = [
    "x-ms-gateway-slice=estsfd; path=/; secure; samesite=none; httponly",
    "stsservicecookie=estsfd; path=/; secure; samesite=none; httponly",
];

/// The ids of one exchange.
pub(super) struct Ids {
    /// `trace_id`, and the header `x-ms-request-id`.
    trace: String,
    /// `correlation_id`: the client's `client-request-id`, or a random one.
    correlation: String,
}

impl Ids {
    /// Ids for a request that brought this `client-request-id`.
    pub(super) fn new(client_request_id: Option<&str>) -> Self {
        let correlation = client_request_id.filter(|id| crate::state::is_guid(id));
        Self { trace: random::uuid(), correlation: correlation.map_or_else(random::uuid, ToOwned::to_owned) }
    }
}

/// 200 with this body.
pub(super) fn success(body: &Value, ids: &Ids) -> Response<Body> {
    answer(StatusCode::OK, body, ids)
}

/// A refusal, worded as Entra words it at `now`.
pub(super) fn refused(refusal: &Refusal, ids: &Ids, now: Timestamp, lines: ErrorLines) -> Response<Body> {
    let timestamp = now.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
    let join = match lines {
        ErrorLines::Space => " ",
        ErrorLines::CrLf => "\r\n",
    };
    let mut body = json!({
        "error": refusal.error,
        "error_description": format!(
            "AADSTS{}: {}{join}Trace ID: {}{join}Correlation ID: {}{join}Timestamp: {timestamp}",
            refusal.code, refusal.message, ids.trace, ids.correlation,
        ),
        "error_codes": [refusal.code],
        "timestamp": timestamp,
        "trace_id": ids.trace,
        "correlation_id": ids.correlation,
        "error_uri": format!("https://login.microsoftonline.com/error?code={}", refusal.code),
    });
    if let (Some(suberror), Some(body)) = (refusal.suberror, body.as_object_mut()) {
        body.insert("suberror".to_owned(), json!(suberror));
    }
    answer(refusal.status, &body, ids)
}

/// 404 for a path that Entra does not have.
pub(super) fn not_found() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

fn answer(status: StatusCode, body: &Value, ids: &Ids) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    add_headers(response.headers_mut(), ids);
    response
}

fn add_headers(headers: &mut HeaderMap, ids: &Ids) {
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    for (name, value) in [("x-ms-request-id", &ids.trace), ("client-request-id", &ids.correlation)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    let own = format!("fpc={}; path=/; secure; HttpOnly; SameSite=None", random::opaque());
    let own = HeaderValue::from_str(&own).ok();
    for cookie in own.into_iter().chain(COOKIES.map(HeaderValue::from_static)) {
        headers.append(header::SET_COOKIE, cookie);
    }
}
