//! What is counted: one struct, registered once, named `flux_bearer_*` as OpenMetrics wants it. `docs/metrics.md` lists it.

use std::fmt;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use flux_bearer::failure::Failure;
use jiff::{SignedDuration, Timestamp};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::index::{Entry, Index, Key};
use crate::lock;

/// Bounds of how long a mint takes, in seconds: Entra ID answers within one, and after ten it is given up.
const MINT_BOUNDS: [f64; 7] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Bounds of how late a token is replaced, in seconds: on time is within one, and half an hour is about all that a token of an
/// hour has left.
const DELAY_BOUNDS: [f64; 8] = [1.0, 5.0, 15.0, 60.0, 300.0, 600.0, 1200.0, 1800.0];

/// Whose clock.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Peer {
    peer: &'static str,
}

/// Which file of CA certificates.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct CaFile {
    setting: &'static str,
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
#[derive(Clone, Debug)]
pub struct Metrics {
    objects: Objects,
    mints: Family<Outcome, Counter>,
    mint_duration: Histogram,
    refresh_delay: Histogram,
    writes: Family<Outcome, Counter>,
    probes: Family<Outcome, Counter>,
    notifications: Family<Delivery, Counter>,
    expired: Gauge,
    due: Gauge,
    tasks: Gauge,
    leader: Gauge,
    clock_offset: Family<Peer, Gauge>,
    ca_file_stale: Family<CaFile, Gauge>,
    log_lines_dropped: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            objects: Objects::default(),
            mints: Family::default(),
            mint_duration: Histogram::new(MINT_BOUNDS),
            refresh_delay: Histogram::new(DELAY_BOUNDS),
            writes: Family::default(),
            probes: Family::default(),
            notifications: Family::default(),
            expired: Gauge::default(),
            due: Gauge::default(),
            tasks: Gauge::default(),
            leader: Gauge::default(),
            clock_offset: Family::default(),
            ca_file_stale: Family::default(),
            log_lines_dropped: Counter::default(),
        }
    }
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
        let help = "How long it took to ask for a token, well or not";
        registry.register_with_unit("mint_duration", help, Unit::Seconds, metrics.mint_duration.clone());
        let help = "How long after its time a token was replaced";
        registry.register_with_unit("refresh_delay", help, Unit::Seconds, metrics.refresh_delay.clone());
        registry.register("secret_writes", "Secrets written, by how it ended", metrics.writes.clone());
        registry.register("probes", "Repositories probed, by how it ended", metrics.probes.clone());
        let help = "Events for notification-controller, by what became of them";
        registry.register("notifications", help, metrics.notifications.clone());
        registry.register("expired_tokens", "Secrets that hold an expired token", metrics.expired.clone());
        registry.register("queue_depth", "BearerTokens that are due and not yet worked on", metrics.due.clone());
        let help = "What runs at a time: watches, connections, refreshes, probes";
        registry.register("tasks", help, metrics.tasks.clone());
        registry.register("leader", "Whether this process holds the lease", metrics.leader.clone());
        let help = "How far the clock of the controller's node is ahead of the peer's";
        registry.register_with_unit("clock_offset", help, Unit::Seconds, metrics.clock_offset.clone());
        let help =
            "Whether a file of CA certificates can't be used as it is now, so that what it held before is trusted";
        registry.register("ca_file_stale", help, metrics.ca_file_stale.clone());
        let help = "Log lines that were dropped, because nobody read those before them";
        registry.register("log_lines_dropped", help, metrics.log_lines_dropped.clone());
        metrics
    }

    /// Counts log lines that nobody had room for.
    pub fn log_lines_dropped(&self) -> Counter {
        self.log_lines_dropped.clone()
    }

    /// A token was asked for, which took this long.
    pub fn minted(&self, result: Result<(), &Failure>, took: Duration) {
        self.mints.get_or_create(&outcome(result)).inc();
        self.mint_duration.observe(took.as_secs_f64());
    }

    /// A token was replaced, this long after its time.
    pub fn refreshed(&self, late: Duration) {
        self.refresh_delay.observe(late.as_secs_f64());
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
    pub fn tidy(&self, due: usize, expired: usize, tasks: usize) {
        for (gauge, count) in [(&self.due, due), (&self.expired, expired), (&self.tasks, tasks)] {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// How far our clock is ahead of that of `peer`.
    pub fn clock_offset(&self, peer: &'static str, offset: SignedDuration) {
        self.clock_offset.get_or_create(&Peer { peer }).set(offset.as_secs());
    }

    /// Whether the file of CA certificates that `setting` names can't be used as it is now.
    pub fn ca_file_stale(&self, setting: &'static str, stale: bool) {
        self.ca_file_stale.get_or_create(&CaFile { setting }).set(i64::from(stale));
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
    /// When the certificate expires that brought it, likewise.
    credential_expiry: Option<i64>,
}

impl Row {
    fn of((key, entry): (&Key, &Entry)) -> Option<Self> {
        let record = entry.held.record();
        Some(Self {
            key: key.clone(),
            ready: entry.ready?,
            expiry: record.map(|record| record.expires_at.as_second()),
            credential_expiry: record.and_then(|record| record.credential_expires_at).map(Timestamp::as_second),
        })
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
        family(&mut encoder, "token_expiry_timestamp", help, Some(&Unit::Seconds), expiries)?;
        let expiries = rows.iter().filter_map(|row| Some((&row.key, row.credential_expiry?)));
        let help = "When the certificate expires that brought the token in the Secret";
        family(&mut encoder, "credential_expiry_timestamp", help, Some(&Unit::Seconds), expiries)?;
        let ready = rows.iter().map(|row| (&row.key, i64::from(row.ready)));
        family(&mut encoder, "ready", "Whether the Secret holds a token that has not expired", None, ready)
    }
}

/// Writes a gauge of each BearerToken; nothing at all where there is none.
fn family<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    values: impl Iterator<Item = (&'a Key, i64)>,
) -> Result<(), fmt::Error> {
    let mut values = values.peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    let mut encoder = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
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
    #![allow(clippy::unwrap_used, reason = "a test that can't go on ends")]

    use flux_bearer::failure::Class;
    use flux_bearer::identity::{Identity, Pod};
    use flux_bearer::resource::{BearerTokenSpec, BearerTokenStatus, DeletionPolicy, Format};
    use flux_bearer::secret::{Held, Record, Version};
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::index::Seen;

    /// Metrics, and the index that they tell of, with one BearerToken that was not reported on yet.
    fn observed() -> (Registry, Metrics, Arc<Mutex<Index>>, Key) {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let index = Arc::new(Mutex::new(Index::new(Pod::default())));
        metrics.tell_of(&index);
        let key = Key::new("team-a", "fleet");
        let content = Ok((BearerTokenSpec::default(), BearerTokenStatus::default()));
        let seen = Seen { metadata: ObjectMeta::default(), content };
        lock(&index).bearer_token(&key, seen, Timestamp::UNIX_EPOCH);
        (registry, metrics, index, key)
    }

    fn scrape(registry: &Registry) -> String {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        text
    }

    fn held() -> Held {
        let record = Record {
            bearer_token: "fleet".into(),
            generation: 1,
            identity: Arc::new(Identity::WorkloadIdentity { tenant_id: "t".into(), client_id: "c".into() }),
            holder: Arc::default(),
            formats: &[Format::Bearer],
            issued_at: Timestamp::UNIX_EPOCH,
            refresh_at: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::constant(3600, 0),
            credential_expires_at: Some(Timestamp::constant(86_400, 0)),
            fingerprint: "f".into(),
            made: true,
            deletion_policy: DeletionPolicy::Retain,
        };
        let version = Version { uid: "u".into(), resource_version: "1".into() };
        let record = Some(Box::new(record));
        Held::Ours { version, record, drift: None, shared: false, leftovers: None, taken: None }
    }

    #[test]
    fn a_bearer_token_has_series_from_its_first_report_until_it_is_gone() {
        let (registry, _, index, key) = observed();
        assert!(!scrape(&registry).contains("flux_bearer_ready"));
        lock(&index).get_mut(&key).unwrap().ready = Some(true);
        let line = "flux_bearer_ready{exported_namespace=\"team-a\",name=\"fleet\"} 1\n";
        assert!(scrape(&registry).contains(line), "{}", scrape(&registry));
        assert!(!scrape(&registry).contains("expiry"), "no token is there");
        lock(&index).get_mut(&key).unwrap().held = held();
        let line = "flux_bearer_token_expiry_timestamp_seconds{exported_namespace=\"team-a\",name=\"fleet\"} 3600\n";
        assert!(scrape(&registry).contains(line), "{}", scrape(&registry));
        lock(&index).bearer_token_gone(&key);
        assert!(!scrape(&registry).contains("flux_bearer_ready"));
    }

    /// Everything that can be counted, once.
    fn count(metrics: &Metrics) {
        let failure = Failure::new("EntraUnavailable", Class::Transient, "HTTP 503", "", "");
        metrics.minted(Err(&failure), Duration::from_secs(1));
        metrics.refreshed(Duration::from_secs(1));
        metrics.probed(Ok(()));
        metrics.write_failed(&failure);
        metrics.notified(Notified::Delivered);
        metrics.tidy(1, 1, 1);
        metrics.clock_offset("issuer", SignedDuration::from_secs(1));
        metrics.leads(true);
        metrics.ca_file_stale("--ca-file", false);
    }

    /// The name by which a family is queried.
    fn queried(name: &str, kind: &str) -> String {
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        format!("{name}{suffix}")
    }

    /// The names of the labels in a sample's line.
    fn labels(sample: &str) -> Vec<String> {
        let labels = sample.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(labels, _)| labels);
        let names = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0));
        names.filter(|name| *name != "le").map(|name| format!("`{name}`")).collect()
    }

    /// A row of the table for each family of a scrape.
    fn rows(scraped: &str) -> Vec<String> {
        let about = |keyword: &str, name: &str| {
            let start = format!("# {keyword} {name} ");
            scraped.lines().find_map(|line| Some(line.strip_prefix(&start)?.trim_end_matches('.').to_owned()))
        };
        let names = scraped.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let row = |(name, kind): (&str, &str)| {
            let samples = scraped.lines().filter(|line| !line.starts_with('#') && line.starts_with(name));
            let labels = samples.map(labels).max_by_key(Vec::len).unwrap_or_default().join(", ");
            let (unit, help) = (about("UNIT", name).unwrap_or_default(), about("HELP", name).unwrap_or_default());
            format!("| `{}` | {kind} | {unit} | {labels} | {help} |", queried(name, kind))
        };
        let mut rows: Vec<String> = names.map(row).collect();
        rows.sort();
        rows
    }

    #[test]
    fn the_table_in_the_documentation_is_what_a_scrape_has() {
        let (registry, metrics, index, key) = observed();
        count(&metrics);
        {
            let mut index = lock(&index);
            let entry = index.get_mut(&key).unwrap();
            (entry.ready, entry.held) = (Some(true), held());
        }
        let documented = include_str!("../../../docs/metrics.md");
        let documented: Vec<&str> = documented.lines().filter(|line| line.starts_with("| `flux_bearer_")).collect();
        let scraped = rows(&scrape(&registry));
        assert_eq!(documented, scraped, "the table is to be:\n{}", scraped.join("\n"));
        let unit_ends_name = |row: &String| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            cells.get(3).is_some_and(|unit| cells.get(1).is_some_and(|name| name.trim_matches('`').ends_with(unit)))
        };
        assert!(scraped.iter().all(unit_ends_name));
    }
}
