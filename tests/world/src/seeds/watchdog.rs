//! What must never happen, looked at every simulated second.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flux_bearer::secret::RECORD;
use flux_bearer_sim::clock::Clock;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::plan::Plan;
use crate::gate::Gate;
use crate::holding::Holding;
use crate::stage::{NAMESPACE, Stage};

/// A Secret of somebody else, with a name that no BearerToken has.
pub(super) const FOREIGN: &str = "foreign";

/// A Secret of somebody else that a BearerToken is told to adopt.
pub(super) const ADOPTED: &str = "adopted";

/// The key of somebody else in each of our Secrets.
pub(super) const EXTRA: &str = "somebody-elses";

/// How long after its last renewal a write of the leader may still leave.
const DEADLINE: SignedDuration = SignedDuration::from_secs(30);

/// How long after its token's end a status may still say Ready: an expiry is told in whole seconds, by an answer that may
/// have been late, and writing takes a while.
const PROMPT: SignedDuration = SignedDuration::from_secs(10);

/// Renewals of the lease that are remembered: more than a second has.
const LEASES: usize = 16;

/// Watches a stage. Clones are the same watchdog.
#[derive(Clone)]
pub(super) struct Watchdog {
    clock: Clock,
    began: Timestamp,
    /// How long a token lives.
    lifetime: SignedDuration,
    /// How long a request may be on its way.
    on_the_way: SignedDuration,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// The Secrets that BearerTokens fill, by name.
    secrets: BTreeMap<String, Secret>,
    /// The times in which something was wrong, each with how long it may take to be well again.
    excuses: Vec<(Timestamp, Timestamp)>,
    /// Until when a status may be old.
    blind_until: Timestamp,
    /// Who took or renewed the lease, and when; the latest last.
    leases: VecDeque<(String, Timestamp)>,
    /// What was done that must not be.
    broken: Vec<String>,
    story: Vec<(Timestamp, String)>,
}

/// What a Secret holds.
#[derive(Default)]
struct Secret {
    /// The clients whose token may be in it.
    clients: BTreeSet<String>,
    token: Option<Holding>,
    /// Since when there is no token in it, once there was one.
    empty_since: Option<Timestamp>,
    /// Whether the key of somebody else has been put into it.
    extra: bool,
}

impl Watchdog {
    /// Watches `stage` from now on.
    pub(super) fn new(stage: &Stage, plan: &Plan) -> Self {
        let clock = stage.world.clock().clone();
        let lifetime = SignedDuration::from_secs(i64::from(plan.lifetime));
        let watchdog =
            Self { began: clock.now(), clock, lifetime, on_the_way: plan.on_the_way(), seen: Arc::default() };
        let listener = watchdog.clone();
        stage.kube.on_change(move |object| listener.changed(object));
        watchdog
    }

    /// Lets the Secret of this name hold tokens of `client`.
    pub(super) fn allow(&self, secret: &str, client: &str) {
        self.seen().secrets.entry(secret.to_owned()).or_default().clients.insert(client.to_owned());
    }

    /// The key of somebody else is in this Secret from now on.
    pub(super) fn put_extra(&self, secret: &str) {
        self.seen().secrets.entry(secret.to_owned()).or_default().extra = true;
    }

    /// Nobody fills this Secret any more: what is in it may expire.
    pub(super) fn let_go(&self, secret: &str) {
        self.seen().secrets.remove(secret);
    }

    /// This Secret was deleted, and what was in it.
    pub(super) fn gone(&self, secret: &str) {
        let now = self.clock.now();
        if let Some(secret) = self.seen().secrets.get_mut(secret) {
            (secret.token, secret.extra, secret.empty_since) = (None, false, Some(now));
        }
    }

    /// Something is wrong from now on, for this long, until all has to be well again.
    pub(super) fn excuse(&self, lasting: Duration) {
        let now = self.clock.now();
        self.seen().excuses.push((now, now + lasting));
    }

    /// Nobody can write a status from now on, for this long, until they all have to be right again.
    pub(super) fn blind(&self, lasting: Duration) {
        let until = self.clock.now() + lasting;
        let mut seen = self.seen();
        seen.blind_until = seen.blind_until.max(until);
    }

    /// A machine's clock was set: what was dated by it before, a status can't be right about until it is replaced.
    pub(super) fn clock_was_set(&self) {
        self.seen().blind_until = Timestamp::MAX;
    }

    /// Goes on with the story.
    pub(super) fn tell(&self, what: String) {
        let now = self.clock.now();
        self.seen().story.push((now, what));
    }

    /// What must not be was done.
    pub(super) fn bark(&self, what: String) {
        self.seen().broken.push(what);
    }

    /// The first thing that must not be and was, once there is one.
    pub(super) fn broken(&self) -> Option<String> {
        self.seen().broken.first().cloned()
    }

    /// What has happened, a line each.
    pub(super) fn story(&self) -> Vec<String> {
        let line =
            |(at, what): &(Timestamp, String)| format!("{:>7} s  {what}", at.duration_since(self.began).as_secs());
        self.seen().story.iter().map(line).collect()
    }

    fn changed(&self, object: &Value) {
        let now = self.clock.now();
        let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        match kind {
            "Secret" => self.seen().secret(name, object, now),
            "Lease" => {
                let holder = object.pointer("/spec/holderIdentity").and_then(Value::as_str).unwrap_or_default();
                self.seen().leads(holder, now);
            }
            _ => {}
        }
    }

    /// Looks at everything.
    pub(super) fn look(&self, stage: &Stage, gates: &[Gate]) {
        let now = self.clock.now();
        let mut seen = self.seen();
        seen.expired(now, self.lifetime);
        seen.statuses(stage, now);
        seen.writers(stage, self.on_the_way);
        seen.broken.extend(gates.iter().flat_map(Gate::faults));
        if stage.is_jammed() {
            seen.broken.push("a controller goes round in a circle: it asks without end in one instant".into());
        }
        if stage.world.journal().counts().imds_violations > 0 {
            seen.broken.push("the metadata service was asked more than it allows".into());
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn leads(&mut self, holder: &str, now: Timestamp) {
        if self.leases.back().is_none_or(|(before, _)| before != holder) {
            self.story.push((now, format!("the lease is held by `{holder}`")));
        }
        self.leases.push_back((holder.to_owned(), now));
        if self.leases.len() > LEASES {
            self.leases.pop_front();
        }
    }

    /// Takes in what a Secret holds now.
    fn secret(&mut self, name: &str, object: &Value, now: Timestamp) {
        if name == FOREIGN {
            self.broken.push("a Secret of somebody else was written".into());
        }
        let Some(secret) = self.secrets.get_mut(name) else { return };
        if secret.extra && object.pointer("/data").and_then(|data| data.get(EXTRA)).is_none() {
            self.broken.push(format!("the key of somebody else was taken from Secret {name}"));
        }
        let Some(token) = Holding::of(object) else {
            secret.token = None;
            secret.empty_since = secret.empty_since.or(Some(now));
            return;
        };
        secret.empty_since = None;
        if !secret.clients.contains(&token.client) {
            self.broken.push(format!("Secret {name} was filled with a token of {}", token.client));
        }
        if recorded(object).is_some_and(|client| client != token.client) {
            self.broken
                .push(format!("Secret {name} remembers another identity than {}, whose token it holds", token.client));
        }
        if secret.token.as_ref().is_none_or(|before| before.expires != token.expires) {
            let left = token.expires.duration_since(now).as_secs();
            self.story.push((now, format!("Secret {name} is filled with a token that lives for {left} s more")));
        }
        secret.token = Some(token);
    }

    /// No Secret holds an expired token, or none: unless there was trouble for half of the token's life, or there is still.
    fn expired(&mut self, now: Timestamp, lifetime: SignedDuration) {
        let trouble = self.excuses.iter().any(|(from, until)| *from <= now && now <= *until);
        for (name, secret) in &self.secrets {
            if let Some(token) = secret.token.as_ref().filter(|token| token.expires <= now) {
                let life = lifetime.as_secs();
                let excused = seconds_within(&self.excuses, token.expires - lifetime, token.expires);
                if excused < life / 2 {
                    self.broken.push(format!(
                        "Secret {name} holds a token that has expired, with trouble in {excused} s of its {life} s"
                    ));
                }
                if !trouble {
                    self.broken.push(format!("Secret {name} holds a token that has expired, and nothing is wrong"));
                }
            }
            if secret.empty_since.is_some() && !trouble {
                self.broken.push(format!("Secret {name} holds no token, and nothing is wrong"));
            }
        }
    }

    /// No status says Ready of a token that has expired, unless nobody could write it.
    fn statuses(&mut self, stage: &Stage, now: Timestamp) {
        if now <= self.blind_until {
            return;
        }
        let dead = |secret: &Secret| secret.token.as_ref().is_some_and(|token| token.expires + PROMPT < now);
        for (name, _) in self.secrets.iter().filter(|(_, secret)| dead(secret)) {
            if stage.says(name, "Ready").starts_with("True") {
                self.broken.push(format!("BearerToken {name} says Ready, and its token has expired"));
            }
        }
    }

    /// Whoever wrote held the lease.
    fn writers(&mut self, stage: &Stage, on_the_way: SignedDuration) {
        let entries = stage.kube.journal().entries();
        stage.kube.journal().clear();
        for entry in entries {
            let request = entry.request;
            let writes = ["create", "patch", "update", "delete"].contains(&request.verb.rbac());
            if !writes || request.resource == "leases" || request.namespace != NAMESPACE {
                continue;
            }
            // Of a write and a change of the lease in one instant nothing tells the order: both holders may have written.
            let earlier = self.leases.iter().rev().find(|(_, at)| *at < request.time);
            let same_instant = self.leases.iter().filter(|(_, at)| *at == request.time);
            let renewed = same_instant.chain(earlier).find(|(holder, _)| *holder == request.user);
            let age = renewed.map(|(_, at)| request.time.duration_since(*at));
            if age.is_none_or(|age| age > DEADLINE + on_the_way) {
                self.broken.push(format!("`{}` wrote {} without the lease", request.user, request.resource));
            }
        }
    }
}

/// The client that a Secret remembers as the one whose token it holds.
fn recorded(object: &Value) -> Option<String> {
    let record = object.get("metadata")?.get("annotations")?.get(RECORD)?.as_str()?;
    let record: Value = serde_json::from_str(record).ok()?;
    let identity = record.get("identity")?;
    let client = identity.get("clientId").or_else(|| identity.get("selector")?.get("clientId"))?;
    client.as_str().map(str::to_owned)
}

/// How many of the seconds between two times lie in one of these spans.
fn seconds_within(spans: &[(Timestamp, Timestamp)], from: Timestamp, to: Timestamp) -> i64 {
    let mut spans: Vec<_> = spans.iter().map(|(begin, end)| (*begin.max(&from), *end.min(&to))).collect();
    spans.retain(|(begin, end)| begin < end);
    spans.sort();
    let mut covered = from;
    let mut seconds = 0;
    for (begin, end) in spans {
        let begin = begin.max(covered);
        if begin < end {
            seconds += end.duration_since(begin).as_secs();
            covered = end;
        }
    }
    seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_that_several_spans_share_count_once() {
        let at = |second: i64| Timestamp::constant(second, 0);
        let spans = [(at(10), at(20)), (at(15), at(30)), (at(40), at(50)), (at(0), at(5)), (at(90), at(200))];
        assert_eq!(seconds_within(&spans, at(3), at(100)), 2 + 20 + 10 + 10);
    }
}
