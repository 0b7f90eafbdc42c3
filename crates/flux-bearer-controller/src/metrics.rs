//! What is counted: one struct, registered once, named `flux_bearer_*` as OpenMetrics wants it.

use std::fmt;
use std::sync::{Arc, Mutex, Weak};

use flux_bearer::failure::Failure;
use jiff::SignedDuration;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::index::{Entry, Index, Key};
use crate::lock;

/// Whose clock.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Peer {
    peer: &'static str,
}

/// How the post of an event to notification-controller ended.
#[derive(Clone, Copy, Debug)]
pub enum Notified {
    /// It was taken.
    Delivered,
    /// The same was taken shortly before.
    Duplicate,
    /// It was not taken, however often it was tried.
    Failed,
    /// Too many were waiting.
    Dropped,
}

impl Notified {
    fn label(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Duplicate => "duplicate",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

/// The same as a label.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Delivery {
    result: &'static str,
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
    objects: Objects,
    mints: Family<Outcome, Counter>,
    writes: Family<Outcome, Counter>,
    probes: Family<Outcome, Counter>,
    notifications: Family<Delivery, Counter>,
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
        registry.register_collector(Box::new(metrics.objects.clone()));
        registry.register("mints", "Tokens asked for, by how it ended", metrics.mints.clone());
        registry.register("secret_writes", "Secrets written, by how it ended", metrics.writes.clone());
        registry.register("probes", "Repositories probed, by how it ended", metrics.probes.clone());
        let help = "Events for notification-controller, by what became of them";
        registry.register("notifications", help, metrics.notifications.clone());
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

    /// An event was to be posted to notification-controller.
    pub fn notified(&self, notified: Notified) {
        self.notifications.get_or_create(&Delivery { result: notified.label() }).inc();
    }

    /// A Secret was written.
    pub fn written(&self) {
        self.writes.get_or_create(&outcome(Ok(()))).inc();
    }

    /// A Secret was not written.
    pub fn write_failed(&self, failure: &Failure) {
        self.writes.get_or_create(&outcome(Err(failure))).inc();
    }

    /// From now on a scrape tells of the BearerTokens in `index`.
    pub fn tell_of(&self, index: &Arc<Mutex<Index>>) {
        *lock(&self.objects.index) = Arc::downgrade(index);
    }

    /// What is only counted now and then.
    pub fn tidy(&self, due: usize, expired: usize) {
        self.due.set(i64::try_from(due).unwrap_or(i64::MAX));
        self.expired.set(i64::try_from(expired).unwrap_or(i64::MAX));
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

/// The series of each BearerToken that this process has reported on, worked out at each scrape: kept, they would hold every
/// name once more.
#[derive(Clone, Debug, Default)]
struct Objects {
    index: Arc<Mutex<Weak<Mutex<Index>>>>,
}

/// What a scrape tells of one BearerToken.
struct Row {
    key: Key,
    ready: bool,
    /// When its token expires, in seconds since 1970.
    expiry: Option<i64>,
}

impl Row {
    fn of((key, entry): (&Key, &Entry)) -> Option<Self> {
        let expiry = entry.held.record().map(|record| record.expires_at.as_second());
        Some(Self { key: key.clone(), ready: entry.ready?, expiry })
    }
}

impl Objects {
    /// The lock is not held any longer than this: what is written for a scrape is megabytes.
    fn rows(&self) -> Vec<Row> {
        let index = lock(&self.index).upgrade();
        index.map(|index| lock(&index).iter().filter_map(Row::of).collect()).unwrap_or_default()
    }
}

impl Collector for Objects {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let rows = self.rows();
        let expiries = rows.iter().filter_map(|row| Some((&row.key, row.expiry?)));
        let help = "When the token in the Secret expires";
        family(&mut encoder, "token_expiry_timestamp_seconds", help, expiries)?;
        let ready = rows.iter().map(|row| (&row.key, i64::from(row.ready)));
        family(&mut encoder, "ready", "Whether the Secret holds a token that has not expired", ready)
    }
}

/// Writes a gauge of each BearerToken; nothing at all where there is none.
fn family<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (&'a Key, i64)>,
) -> Result<(), fmt::Error> {
    let mut values = values.peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    let mut encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (key, value) in values {
        let labels = [("exported_namespace", &*key.namespace), ("name", &*key.name)];
        ConstGauge::new(value).encode(encoder.encode_family(&labels)?)?;
    }
    Ok(())
}

fn outcome(result: Result<(), &Failure>) -> Outcome {
    match result {
        Ok(()) => Outcome { result: "success", reason: "Succeeded", class: "none" },
        Err(failure) => Outcome { result: "failure", reason: failure.reason, class: failure.class.label() },
    }
}

#[cfg(test)]
mod tests {
    use flux_bearer::identity::Pod;
    use flux_bearer::resource::{BearerTokenSpec, BearerTokenStatus};
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::index::Seen;

    #[test]
    fn a_bearer_token_has_series_from_its_first_report_until_it_is_gone() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let index = Arc::new(Mutex::new(Index::new(Pod::default())));
        metrics.tell_of(&index);
        let scrape = || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            text
        };
        let key = Key::new("team-a", "fleet");
        let content = Ok((BearerTokenSpec::default(), BearerTokenStatus::default()));
        let seen = Seen { metadata: ObjectMeta::default(), content };
        lock(&index).bearer_token(&key, seen, Timestamp::UNIX_EPOCH);
        assert!(!scrape().contains("flux_bearer_ready"));
        lock(&index).get_mut(&key).unwrap().ready = Some(true);
        let line = "flux_bearer_ready{exported_namespace=\"team-a\",name=\"fleet\"} 1\n";
        assert!(scrape().contains(line), "{}", scrape());
        assert!(!scrape().contains("expiry"), "no token is there");
        lock(&index).bearer_token_gone(&key);
        assert!(!scrape().contains("flux_bearer_ready"));
    }
}
