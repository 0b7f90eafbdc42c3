//! What Azure Resource Manager remembers of requests, beside the state: writes in flight, rates, refusals to repeat.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use http::{Method, Request};
use tokio::time::Instant;

use super::target::Target;

/// Refusals that are kept for repetition.
const KEPT: usize = 1000;

/// What is remembered. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    inner: Arc<Mutex<Notes>>,
}

#[derive(Default)]
struct Notes {
    /// Identities of which a federated credential is being written.
    writes: HashSet<String>,
    arrivals: HashMap<(Operation, String), VecDeque<Instant>>,
    /// Requests, by method, path and client request id, that were told that a provider is not registered.
    unregistered: VecDeque<String>,
}

/// What is limited in its rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    Write,
    Get,
    List,
    Delete,
}

/// So many requests in so many seconds.
struct Rate {
    most: usize,
    seconds: u64,
}

impl Operation {
    /// The published rates, an identity, a subscription and a tenant.
    fn rates(self) -> [Rate; 3] {
        let rate = |most, seconds| Rate { most, seconds };
        match self {
            Self::Write | Self::Delete => [rate(1, 4), rate(2, 1), rate(10, 1)],
            Self::Get => [rate(1, 2), rate(10, 1), rate(30, 1)],
            Self::List => [rate(1, 4), rate(5, 1), rate(15, 1)],
        }
    }
}

/// A write of a federated credential, from its arrival until this is dropped.
pub(super) struct InFlight {
    memory: Memory,
    identity: String,
    is_alone: bool,
}

impl InFlight {
    /// Whether no other write of the same identity was in flight when this one arrived.
    pub(super) fn is_alone(&self) -> bool {
        self.is_alone
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.is_alone {
            self.memory.lock().writes.remove(&self.identity);
        }
    }
}

impl Memory {
    /// Counts a write of a federated credential from now on, until the request has been served. A fault that delays it
    /// makes it a slow write.
    pub(crate) fn announce(&self, request: &mut Request<Body>) {
        if !matches!(*request.method(), Method::PUT | Method::DELETE) {
            return;
        }
        let Some(identity) = Target::identity_of_credential(request.uri().path()) else { return };
        let is_alone = self.lock().writes.insert(identity.clone());
        request.extensions_mut().insert(Arc::new(InFlight { memory: self.clone(), identity, is_alone }));
    }

    /// Counts an operation on these, which are an identity, its subscription and its tenant. `Err` has the seconds to
    /// wait, and then it is not counted.
    pub(super) fn arrive(&self, operation: Operation, scopes: [&str; 3]) -> Result<(), u64> {
        let now = Instant::now();
        let mut notes = self.lock();
        for (rate, scope) in operation.rates().iter().zip(scopes) {
            let seen = notes.arrivals.entry((operation, scope.to_lowercase())).or_default();
            seen.retain(|arrival| now.duration_since(*arrival) < Duration::from_secs(rate.seconds));
            if seen.len() >= rate.most {
                return Err(rate.seconds);
            }
        }
        for scope in scopes {
            notes.arrivals.entry((operation, scope.to_lowercase())).or_default().push_back(now);
        }
        Ok(())
    }

    /// Keeps a request whose refusal is repeated.
    pub(super) fn refuse_again(&self, request: String) {
        let mut notes = self.lock();
        notes.unregistered.push_back(request);
        if notes.unregistered.len() > KEPT {
            notes.unregistered.pop_front();
        }
    }

    /// Whether the refusal of this request is repeated.
    pub(super) fn is_refused_again(&self, request: &str) -> bool {
        self.lock().unregistered.iter().any(|other| other == request)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
