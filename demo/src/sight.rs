//! What a person with kubectl sees: status, Secret, events and requests to source-controller, as they are written.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flux_bearer::flux::REQUESTED_AT;
use flux_bearer::report::READY;
use flux_bearer::resource::BearerTokenStatus;
use flux_bearer::secret::{RECORD, Record};
use flux_bearer_sim::kube::Kube;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::tally::Tally;
use crate::tell::Tell;

/// The counts, shared by whoever counts.
pub(crate) type Counts = Arc<Mutex<Tally>>;

/// The counts, to read or change.
pub(crate) fn lock(counts: &Counts) -> MutexGuard<'_, Tally> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The objects as they are now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sight {
    /// What the Secret remembers of its token, and since when it has this one.
    pub(crate) held: Option<(Record, Instant)>,
    /// The BearerToken's status.
    pub(crate) status: BearerTokenStatus,
    /// The reasons of all events so far.
    pub(crate) events: Vec<String>,
    /// The last request to source-controller to fetch at once.
    pub(crate) requested_at: Option<String>,
}

impl Sight {
    /// Whether the BearerToken is Ready.
    pub(crate) fn is_ready(&self) -> bool {
        self.status.conditions.iter().any(|condition| condition.type_ == READY && condition.status == "True")
    }

    /// Tells its token from another.
    pub(crate) fn fingerprint(&self) -> &str {
        self.held.as_ref().map(|(record, _)| &*record.fingerprint).unwrap_or_default()
    }
}

/// Looks at everything that is written to `kube` from now on: tells of it, counts it, and hands on what is there.
pub(crate) fn look(kube: &Kube, tell: Tell, counts: Counts) -> watch::Receiver<Sight> {
    let (sight, receiver) = watch::channel(Sight::default());
    kube.on_change(move |object| match text(object, "/kind") {
        "BearerToken" => sight.send_modify(|sight| sight.status = part(object, "/status").unwrap_or_default()),
        "Secret" => sight.send_modify(|sight| take_secret(sight, object, &tell, &counts)),
        "GitRepository" => sight.send_modify(|sight| take_source(sight, object, &tell)),
        "Event" if text(object, "/involvedObject/kind") == "BearerToken" => {
            tell_event(object, &tell);
            sight.send_modify(|sight| sight.events.push(text(object, "/reason").to_owned()));
        }
        _ => {}
    });
    receiver
}

fn take_source(sight: &mut Sight, source: &Value, tell: &Tell) {
    let requested_at = annotation(source, REQUESTED_AT).map(str::to_owned);
    if requested_at != sight.requested_at {
        tell.good("GitRepository flux-system asked to fetch now: it does not wait for its next interval");
        sight.requested_at = requested_at;
    }
}

fn take_secret(sight: &mut Sight, secret: &Value, tell: &Tell, counts: &Counts) {
    let Some(record) = annotation(secret, RECORD).and_then(|text| serde_json::from_str(text).ok()) else { return };
    let before = sight.held.replace((record, Instant::now()));
    let Some((before, _)) = before.filter(|(before, _)| *before.fingerprint != *sight.fingerprint()) else { return };
    let mut counts = lock(counts);
    counts.rotations += 1;
    let Tally { clones, failed_clones, .. } = &*counts;
    let (old, new) = (short(&before.fingerprint), short(sight.fingerprint()));
    tell.good(format_args!("token replaced: {old} → {new}; {clones} clones so far, {failed_clones} failed"));
}

/// As much of a fingerprint as tells a handful of tokens apart.
pub(crate) fn short(fingerprint: &str) -> &str {
    fingerprint.get(..8).unwrap_or(fingerprint)
}

fn tell_event(event: &Value, tell: &Tell) {
    let (reason, message) = (text(event, "/reason"), text(event, "/message"));
    if text(event, "/type") == "Warning" {
        tell.warning(format_args!("event {reason}: {message}"));
    } else {
        tell.good(format_args!("event {reason}: {message}"));
    }
}

fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.pointer("/metadata/annotations")?.get(name)?.as_str()
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn part<T: DeserializeOwned>(object: &Value, path: &str) -> Option<T> {
    serde_json::from_value(object.pointer(path)?.clone()).ok()
}
