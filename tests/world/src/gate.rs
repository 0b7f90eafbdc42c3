//! Where the requests of one machine pass on their way out: each is noted, and at any of them its process may die.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use flux_bearer_sim::service::Service;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use tokio::sync::Notify;
use tokio::time::Instant;
use tower::{BoxError, ServiceExt};
use url::form_urlencoded;

/// Whether a request has arrived where its process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// It never leaves.
    Before,
    /// It has done what it does, and nobody reads the answer.
    After,
}

/// A machine's gate. Clones are the same gate.
#[derive(Clone, Default)]
pub struct Gate {
    state: Arc<Mutex<State>>,
    died: Arc<Notify>,
}

#[derive(Default)]
struct State {
    /// How many processes have begun.
    lives: u64,
    /// How many requests still pass, and how the one after them ends.
    death: Option<(u32, Death)>,
    /// Until when a server has asked not to be asked again, by what was asked.
    closed: Vec<(String, Instant)>,
    /// The identities that ask for a token at this moment.
    minting: Vec<String>,
    /// What was done that must not be.
    faults: Vec<String>,
}

/// What a request is, as far as a server counts requests.
struct Asked {
    /// What a `Retry-After` closes, where it does.
    what: Option<String>,
    /// The identity whose token is asked for, if one is.
    mints: Option<String>,
}

impl Gate {
    /// Lets the process die at the request after the next `passing`.
    pub fn die_after(&self, passing: u32, death: Death) {
        self.state().death = Some((passing, death));
    }

    /// Waits until a process has died here.
    pub async fn died(&self) {
        self.died.notified().await;
    }

    /// A new process knows nothing of what the one before it was told.
    pub fn begin(&self) {
        let mut state = self.state();
        let lives = state.lives + 1;
        *state = State { lives, faults: std::mem::take(&mut state.faults), ..State::default() };
    }

    /// The process that has begun last. Requests of those before it no longer pass.
    pub(crate) fn life(&self) -> u64 {
        self.state().lives
    }

    /// What was done that must not be, since it was last asked.
    pub fn faults(&self) -> Vec<String> {
        std::mem::take(&mut self.state().faults)
    }

    /// Lets a request to Azure pass.
    pub(crate) async fn azure(
        &self,
        life: u64,
        to: Service,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Body>, BoxError> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let asked = Asked::of(&parts, &body);
        self.pass(life, to, asked, Request::from_parts(parts, Body::from(body))).await
    }

    /// Lets a request to Kubernetes pass.
    pub(crate) async fn kubernetes(
        &self,
        life: u64,
        to: Service,
        request: Request<Body>,
    ) -> Result<Response<Body>, BoxError> {
        // A watch backs off by itself, a lease is lost to whoever waits for longer than it lasts, and no two Events are one.
        let again = request.method() == Method::PATCH;
        let what = again.then(|| format!("{} {}", request.method(), request.uri().path()));
        self.pass(life, to, Asked { what, mints: None }, request).await
    }

    async fn pass(
        &self,
        life: u64,
        to: Service,
        asked: Asked,
        request: Request<Body>,
    ) -> Result<Response<Body>, BoxError> {
        if self.life() != life {
            // What a killed process has left on the runtime.
            return std::future::pending().await;
        }
        let death = self.arrive(&asked);
        let _minting = asked.mints.clone().map(|identity| Minting { gate: self.clone(), life, identity });
        if death == Some(Death::Before) {
            return self.die().await;
        }
        let answer = to.oneshot(request).await;
        if death == Some(Death::After) {
            return self.die().await;
        }
        let retry_after =
            |answer: &Response<Body>| answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok();
        if let (Some(what), Some(seconds)) = (asked.what, answer.as_ref().ok().and_then(retry_after)) {
            let mut state = self.state();
            // A process that is gone has told nobody what it was told.
            if state.lives == life {
                state.closed.push((what, Instant::now() + Duration::from_secs(seconds)));
            }
        }
        answer
    }

    async fn die(&self) -> Result<Response<Body>, BoxError> {
        self.died.notify_one();
        std::future::pending().await
    }

    /// Notes a request; returns how it ends, where its process dies at it.
    fn arrive(&self, asked: &Asked) -> Option<Death> {
        let (now, mut state) = (Instant::now(), self.state());
        state.closed.retain(|(_, until)| *until > now);
        let closed = state.closed.iter().find(|(what, _)| asked.what.as_ref() == Some(what));
        if let Some((what, until)) = closed.cloned() {
            let early = until.duration_since(now).as_secs();
            state.faults.push(format!("`{what}` was asked {early} s before the end of its Retry-After"));
        }
        if let Some(identity) = &asked.mints {
            if state.minting.contains(identity) {
                state.faults.push(format!("two tokens of {identity} were asked for at a time"));
            }
            state.minting.push(identity.clone());
        }
        let due = state.death.filter(|(passing, _)| *passing == 0).map(|(_, death)| death);
        state.death = state.death.and_then(|(passing, death)| Some((passing.checked_sub(1)?, death)));
        due
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked {
    fn of(parts: &http::request::Parts, body: &[u8]) -> Self {
        let query = parts.uri.query().unwrap_or_default();
        let mut fields = form_urlencoded::parse(body).chain(form_urlencoded::parse(query.as_bytes()));
        let client = fields.find_map(|(name, value)| (name == "client_id").then(|| value.into_owned()));
        let mints = client.map(|client| format!("{client} of {}", parts.uri.host().unwrap_or_default()));
        let token = parts.headers.get(header::AUTHORIZATION).map(http::HeaderValue::as_bytes).unwrap_or_default();
        // Every token is asked for by itself; of a signed one the last characters tell which it is.
        let token = String::from_utf8_lossy(token.rchunks(12).next().unwrap_or_default()).into_owned();
        let what = format!("{} {} {}{token}", parts.method, parts.uri, mints.as_deref().unwrap_or_default());
        Self { what: Some(what), mints }
    }
}

/// A token is being asked for, until this is dropped.
struct Minting {
    gate: Gate,
    life: u64,
    identity: String,
}

impl Drop for Minting {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        if state.lives != self.life {
            return;
        }
        if let Some(at) = state.minting.iter().position(|identity| *identity == self.identity) {
            state.minting.swap_remove(at);
        }
    }
}
