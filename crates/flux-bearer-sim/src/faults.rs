//! A fault switch on every endpoint of the world.
//!
//! A [`Fault`] names the requests it meets (host, method, path) and what becomes of them (status, delay, hang, cut).
//! Every service of the world asks [`Faults::meet`] first, so whatever can be requested can fail.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, Method, StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One fault, as the state file and the admin API write it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// Names the fault, so that it can be removed. A second fault of the same name replaces the first.
    pub name: String,
    /// Host the request is for, for example `login.microsoftonline.com`; none means any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Method, for example `POST`; none means any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Text that the path and query must contain; none means any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// How many requests it meets before it is spent; none means all of them until it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Milliseconds to wait before anything else happens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// What becomes of the request after the delay; none means that it is then served as always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
}

/// What becomes of a request that meets a [`Fault`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Effect {
    /// This answer instead of the service's.
    Answer {
        /// HTTP status.
        status: u16,
        /// Seconds in a `Retry-After` header.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<u64>,
        /// `Content-Type` of the body.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content_type: Option<String>,
        /// The body, as it is.
        #[serde(default)]
        body: String,
    },
    /// No answer, ever: the connection stays open.
    Hang,
    /// No answer: the connection is closed before the first byte.
    Refuse,
    /// The service's answer (its side effects happen), cut off after this many bytes of its body.
    Cut {
        /// Bytes of the body that still arrive.
        after: usize,
    },
    /// The service's answer (its side effects happen), then nothing reaches the client: the connection closes.
    Lose,
    /// A challenge of continuous access evaluation: 401, and that the token's claims don't suffice.
    ClaimsChallenge,
}

/// What a service does with a request, once the faults have been asked.
#[derive(Debug)]
pub enum Verdict {
    /// Serve it as always.
    Serve,
    /// Send this instead.
    Instead(Response),
    /// Close the connection without an answer.
    Refuse,
    /// Serve it, then cut the body after this many bytes.
    Cut(usize),
    /// Serve it, then close the connection without an answer.
    Lose,
}

/// The faults in force. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    inner: Arc<Mutex<Vec<Fault>>>,
}

impl Faults {
    /// Puts a fault in force, in place of one with the same name.
    pub fn set(&self, fault: Fault) {
        let mut faults = self.lock();
        faults.retain(|other| other.name != fault.name);
        faults.push(fault);
    }

    /// Ends the fault with this name; `false` when there was none.
    pub fn clear(&self, name: &str) -> bool {
        let mut faults = self.lock();
        let before = faults.len();
        faults.retain(|fault| fault.name != name);
        faults.len() != before
    }

    /// Ends every fault.
    pub fn clear_all(&self) {
        self.lock().clear();
    }

    /// The faults in force.
    pub fn list(&self) -> Vec<Fault> {
        self.lock().clone()
    }

    /// Decides what becomes of a request; waits out the fault's delay, and for ever where the fault says hang.
    pub async fn meet(&self, host: &str, method: &Method, path_and_query: &str) -> Verdict {
        let Some(fault) = self.take(host, method, path_and_query) else { return Verdict::Serve };
        if let Some(delay) = fault.delay_ms {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        match fault.effect {
            None => Verdict::Serve,
            Some(Effect::Hang) => std::future::pending().await,
            Some(Effect::Refuse) => Verdict::Refuse,
            Some(Effect::Cut { after }) => Verdict::Cut(after),
            Some(Effect::Lose) => Verdict::Lose,
            Some(Effect::ClaimsChallenge) => Verdict::Instead(claims_challenge()),
            Some(Effect::Answer { status, retry_after, content_type, body }) => {
                Verdict::Instead(answer(status, retry_after, content_type.as_deref(), body))
            }
        }
    }

    /// The first fault that matches, with one of its times used up.
    fn take(&self, host: &str, method: &Method, path_and_query: &str) -> Option<Fault> {
        let mut faults = self.lock();
        let at = faults.iter().position(|fault| fault.matches(host, method, path_and_query))?;
        let fault = faults.get_mut(at)?;
        let met = fault.clone();
        match &mut fault.times {
            None => {}
            Some(times) if *times > 1 => *times -= 1,
            Some(_) => {
                faults.remove(at);
            }
        }
        Some(met)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Fault>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fault {
    fn matches(&self, host: &str, method: &Method, path_and_query: &str) -> bool {
        let host_matches = self.host.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(host));
        let method_matches = self.method.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method.as_str()));
        let path_matches = self.path.as_deref().is_none_or(|wanted| path_and_query.contains(wanted));
        host_matches && method_matches && path_matches
    }
}

/// As Microsoft documents it (<https://learn.microsoft.com/entra/identity-platform/claims-challenge>); whether Azure DevOps
/// ever sends it to an application could not be confirmed. The claims ask for a token from after 2026-01-01.
fn claims_challenge() -> Response {
    const CHALLENGE: &str = "Bearer realm=\"\", authorization_uri=\"https://login.microsoftonline.com/common/oauth2/authorize\", \
        error=\"insufficient_claims\", \
        claims=\"eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwidmFsdWUiOiIxNzY3MjI1NjAwIn19fQ==\"";
    let mut response = answer(401, None, None, String::new());
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
    response
}

fn answer(status: u16, retry_after: Option<u64>, content_type: Option<&str>, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(value) = content_type.and_then(|text| HeaderValue::from_str(text).ok()) {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
}
