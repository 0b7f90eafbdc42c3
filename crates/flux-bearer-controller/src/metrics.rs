//! What is counted: one struct, registered once, named `flux_bearer_*` as OpenMetrics wants it.

use std::sync::atomic::AtomicU64;

use flux_bearer::failure::Failure;
use flux_bearer::report::READY;
use flux_bearer::resource::BearerTokenStatus;
use jiff::{SignedDuration, Timestamp};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::index::Key;

/// Which BearerToken.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Object {
    exported_namespace: String,
    name: String,
}

/// Whose clock.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Peer {
    peer: &'static str,
}

/// How something ended: `reason` and `class` come from fixed sets.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Outcome {
    result: &'static str,
    reason: &'static str,
    class: &'static str,
}

/// The handles of everything that is counted. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    expiry: Family<Object, Gauge<f64, AtomicU64>>,
    ready: Family<Object, Gauge>,
    mints: Family<Outcome, Counter>,
    writes: Family<Outcome, Counter>,
    probes: Family<Outcome, Counter>,
    expired: Gauge,
    due: Gauge,
    leader: Gauge,
    clock_offset: Family<Peer, Gauge>,
}

impl Metrics {
    /// Registers every metric in `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("flux_bearer");
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The version of the controller", Info::new(version));
        registry.register(
            "token_expiry_timestamp_seconds",
            "When the token in the Secret expires",
            metrics.expiry.clone(),
        );
        registry.register("ready", "Whether the Secret holds a token that has not expired", metrics.ready.clone());
        registry.register("mints", "Tokens asked for, by how it ended", metrics.mints.clone());
        registry.register("secret_writes", "Secrets written, by how it ended", metrics.writes.clone());
        registry.register("probes", "Repositories probed, by how it ended", metrics.probes.clone());
        registry.register("expired_tokens", "Secrets that hold an expired token", metrics.expired.clone());
        registry.register("queue_depth", "BearerTokens that are due and not yet worked on", metrics.due.clone());
        registry.register("leader", "Whether this process holds the lease", metrics.leader.clone());
        registry.register(
            "clock_offset_seconds",
            "How far the clock of the controller's node is ahead of the peer's",
            metrics.clock_offset.clone(),
        );
        metrics
    }

    /// A token was asked for.
    pub fn minted(&self, result: Result<(), &Failure>) {
        self.mints.get_or_create(&outcome(result)).inc();
    }

    /// A repository was probed.
    pub fn probed(&self, result: Result<(), &Failure>) {
        self.probes.get_or_create(&outcome(result)).inc();
    }

    /// A Secret was written.
    pub fn written(&self, key: &Key, expires_at: Timestamp) {
        self.writes.get_or_create(&outcome(Ok(()))).inc();
        self.expiry.get_or_create(&object(key)).set(expires_at.as_duration().as_secs_f64());
    }

    /// A Secret was not written.
    pub fn write_failed(&self, failure: &Failure) {
        self.writes.get_or_create(&outcome(Err(failure))).inc();
    }

    /// A status was reported.
    pub fn observe(&self, key: &Key, status: &BearerTokenStatus) {
        let ready = status.conditions.iter().any(|condition| condition.type_ == READY && condition.status == "True");
        self.ready.get_or_create(&object(key)).set(i64::from(ready));
        if let Some(expires_at) = &status.expires_at {
            self.expiry.get_or_create(&object(key)).set(expires_at.0.as_duration().as_secs_f64());
        }
    }

    /// A BearerToken is gone: so are its series.
    pub fn forget(&self, key: &Key) {
        self.expiry.remove(&object(key));
        self.ready.remove(&object(key));
    }

    /// What is only counted now and then.
    pub fn tidy(&self, due: usize, expired: &[Key]) {
        self.due.set(i64::try_from(due).unwrap_or(i64::MAX));
        self.expired.set(i64::try_from(expired.len()).unwrap_or(i64::MAX));
    }

    /// How far our clock is ahead of that of `peer`.
    pub fn clock_offset(&self, peer: &'static str, offset: SignedDuration) {
        self.clock_offset.get_or_create(&Peer { peer }).set(offset.as_secs());
    }

    /// Whether this process holds the lease.
    pub fn leads(&self, leader: bool) {
        self.leader.set(i64::from(leader));
    }
}

fn object(key: &Key) -> Object {
    Object { exported_namespace: key.namespace.to_string(), name: key.name.to_string() }
}

fn outcome(result: Result<(), &Failure>) -> Outcome {
    match result {
        Ok(()) => Outcome { result: "success", reason: "Succeeded", class: "none" },
        Err(failure) => Outcome { result: "failure", reason: failure.reason, class: failure.class.label() },
    }
}
