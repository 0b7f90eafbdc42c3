//! The answers of Azure Resource Manager, and the headers that all of them carry.

use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::journal::TokenVerdict;
use crate::random;
use crate::state::StateError;

/// What is left of the hour's requests, whatever was asked: nothing here is throttled by it.
const REMAINING: &str = "11999";

/// A refusal.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// Entries of `additionalInfo`.
    additional: Vec<Value>,
    /// A header beside the usual ones.
    header: Option<(HeaderName, String)>,
    /// What it says of the token.
    pub(super) verdict: TokenVerdict,
}

impl Refused {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let (additional, header) = (Vec::new(), None);
        Self { status, code, message: message.into(), additional, header, verdict: TokenVerdict::Valid }
    }

    pub(super) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(super) fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    pub(super) fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// 401, with the challenge that names the tenant to sign in to.
    ///
    /// That the challenge also comes to requests without a token is long-standing, but could not be confirmed.
    pub(super) fn unauthorized(
        verdict: TokenVerdict,
        code: &'static str,
        message: impl Into<String>,
        tenant: &str,
    ) -> Self {
        let message = message.into();
        let challenge = format!(
            "Bearer authorization_uri=\"https://login.windows.net/{tenant}\", error=\"invalid_token\", \
             error_description=\"{}\"",
            message.replace('"', "'")
        );
        let header = Some((header::WWW_AUTHENTICATE, challenge));
        Self { header, verdict, ..Self::new(StatusCode::UNAUTHORIZED, code, message) }
    }

    /// 403 `AuthorizationFailed`.
    pub(super) fn no_right(object_id: &str, action: &str, scope: &str) -> Self {
        let message = format!(
            "The client '{object_id}' with object id '{object_id}' does not have authorization to perform action \
             '{action}' over scope '{scope}' or the scope is invalid. If access was recently granted, please refresh \
             your credentials."
        );
        let refused = Self::new(StatusCode::FORBIDDEN, "AuthorizationFailed", message);
        Self { verdict: TokenVerdict::NoRight, ..refused }
    }

    /// 403 `RequestDisallowedByPolicy` (wording unconfirmed).
    pub(super) fn denied_by_policy(resource: &str) -> Self {
        let message = format!("Resource '{resource}' was disallowed by policy.");
        let information = json!({"type": "PolicyViolation", "info": {"policyDefinitionEffect": "Deny"}});
        let refused = Self::new(StatusCode::FORBIDDEN, "RequestDisallowedByPolicy", message);
        Self { additional: vec![information], ..refused }
    }

    /// 429, to be asked again after so many seconds.
    pub(super) fn too_many(seconds: u64, message: impl Into<String>) -> Self {
        let refused = Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message);
        Self { header: Some((header::RETRY_AFTER, seconds.to_string())), ..refused }
    }

    pub(super) fn response(&self) -> Response<Body> {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(error) = error.as_object_mut().filter(|_| !self.additional.is_empty()) {
            error.insert("additionalInfo".to_owned(), json!(self.additional));
        }
        let mut response = answer(self.status, &json!({"error": error}));
        if let Some((name, value)) = &self.header {
            response.headers_mut().extend(HeaderValue::from_str(value).ok().map(|value| (name.clone(), value)));
        }
        response
    }
}

impl From<StateError> for Refused {
    /// What a request brings that no state may hold.
    fn from(error: StateError) -> Self {
        Self::bad_request("BadRequest", error.to_string())
    }
}

/// An answer in JSON.
pub(super) fn answer(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// 200 with this body.
pub(super) fn ok(body: &Value) -> Response<Body> {
    answer(StatusCode::OK, body)
}

/// 201 for what is new, 200 for what was there.
pub(super) fn put(is_new: bool, body: &Value) -> Response<Body> {
    answer(if is_new { StatusCode::CREATED } else { StatusCode::OK }, body)
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// The headers that every answer has.
pub(super) fn finish(response: &mut Response<Body>, asked: &HeaderMap, method: &Method, now: Timestamp) {
    let headers = response.headers_mut();
    let correlation = asked.get("x-ms-correlation-request-id").and_then(|value| value.to_str().ok());
    let correlation = correlation.map_or_else(random::uuid, ToOwned::to_owned);
    let request = random::uuid();
    let routing = format!("WESTEUROPE:{}:{}", now.strftime("%Y%m%dT%H%M%SZ"), random::uuid());
    let remaining = match *method {
        Method::GET | Method::HEAD => "x-ms-ratelimit-remaining-subscription-reads",
        Method::DELETE => "x-ms-ratelimit-remaining-subscription-deletes",
        _ => "x-ms-ratelimit-remaining-subscription-writes",
    };
    let pairs = [
        ("x-ms-request-id", request.as_str()),
        ("x-ms-correlation-request-id", &correlation),
        ("x-ms-routing-request-id", &routing),
        (remaining, REMAINING),
        ("cache-control", "no-cache"),
        ("pragma", "no-cache"),
        ("expires", "-1"),
        ("strict-transport-security", "max-age=31536000; includeSubDomains"),
        ("x-content-type-options", "nosniff"),
    ];
    for (name, value) in pairs {
        headers.extend(HeaderValue::from_str(value).ok().map(|value| (HeaderName::from_static(name), value)));
    }
    let wanted = asked.get("x-ms-return-client-request-id").is_some_and(|value| value.as_bytes() == b"true");
    if let Some(id) = asked.get("x-ms-client-request-id").filter(|_| wanted) {
        headers.insert("x-ms-client-request-id", id.clone());
    }
}
