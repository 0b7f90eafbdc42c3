//! What is said about a BearerToken: conditions, status fields and events, from one place, in one set of words.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::decide::{CONTESTED, Observed, Probe, Takes, Write, covers};
use crate::failure::Failure;
use crate::identity::Identity;
use crate::resource::{BearerTokenStatus, StatusIdentity};
use crate::schedule::{Failing, is_usable};
use crate::secret::Record;

/// Condition types.
pub const READY: &str = "Ready";
/// Present while a first or lost token is being obtained.
pub const RECONCILING: &str = "Reconciling";
/// Present while only a person's change can help.
pub const STALLED: &str = "Stalled";
/// Present while the Secret's token works and its successor can't be had.
pub const REFRESH_FAILING: &str = "RefreshFailing";
/// Present from 30 days before the end of the certificate that brought the token.
pub const CREDENTIAL_EXPIRING: &str = "CredentialExpiring";
/// Whether the token opens every repository. Never part of Ready: the token is good, the right is missing.
pub const ACCESSIBLE: &str = "Accessible";

/// How long before its end a certificate is warned of: time to get a new one from whoever has to sign it.
const CREDENTIAL_WARNING: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Longest message, in characters: enough for cause and fix, and no list grows beyond a screen.
const MAX_MESSAGE: usize = 1024;

/// What a decision has found, for the report.
#[derive(Debug)]
pub struct Standing<'a> {
    /// What was observed.
    pub observed: &'a Observed<'a>,
    /// What keeps the Secret from being filled.
    pub keep: Option<&'a Failing>,
    /// What keeps the new identity from taking over, or other keys from being written.
    pub change: Option<&'a Failing>,
    /// Now.
    pub now: Timestamp,
}

/// A reason and a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Say {
    /// CamelCase, from a fixed set.
    pub reason: &'static str,
    /// In words.
    pub message: String,
}

/// What to say about a BearerToken.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    conditions: BTreeMap<&'static str, (bool, Say)>,
    /// Conditions that are left as they are, because nothing new is known.
    keep_accessible: bool,
    expires_at: Option<Timestamp>,
    refresh_at: Option<Timestamp>,
    secret: Option<String>,
    identity: Option<Arc<StatusIdentity>>,
    handled: Option<Box<str>>,
}

/// One transition that is worth an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whether somebody should look.
    pub warning: bool,
    /// The condition's reason.
    pub reason: String,
    /// The condition's message.
    pub message: String,
}

impl Report {
    /// What to say about a decision's findings.
    pub fn of(standing: &Standing<'_>) -> Self {
        let observed = standing.observed;
        let record = observed.held.record().filter(|_| observed.rival.is_none());
        // A Secret that two fight for can't be relied on, whosever token is in it at this moment.
        let contest = standing.keep.filter(|failing| failing.failure.reason == CONTESTED);
        let usable = record.filter(|record| contest.is_none() && is_usable(record.expires_at, standing.now));
        let mut report = Self {
            expires_at: record.map(|record| record.expires_at),
            refresh_at: record.filter(|_| !observed.suspend).map(|record| record.refresh_at),
            secret: record.map(|_| observed.secret.to_owned()),
            identity: record.map(|record| Arc::clone(&record.holder)),
            handled: handled(standing, record),
            keep_accessible: true,
            ..Self::default()
        };
        report.say(READY, usable.is_some(), ready(standing, record, usable));
        report.progress(standing, usable);
        report.credential(record, standing.now);
        report.access(observed, record);
        report
    }

    fn say(&mut self, condition: &'static str, status: bool, say: Say) {
        self.conditions.insert(condition, (status, say));
    }

    /// Reconciling, Stalled and `RefreshFailing`: present only while they hold.
    fn progress(&mut self, standing: &Standing<'_>, usable: Option<&Record>) {
        let worst = standing.keep.or(standing.change);
        if let Some(failing) = worst.filter(|failing| failing.is_stalled()) {
            self.say(STALLED, true, from_failure(&failing.failure));
        } else if usable.is_none() && !standing.observed.suspend {
            let say = worst.map_or_else(
                || progressing(standing),
                |failing| Say { reason: "ProgressingWithRetry", ..from_failure(&failing.failure) },
            );
            self.say(RECONCILING, true, say);
        }
        if usable.is_none() {
            return;
        }
        let wanted = standing.observed.wanted.ok();
        let same = usable.zip(wanted).is_some_and(|(record, wanted)| record.identity == wanted.identity);
        match (standing.keep, standing.change) {
            (Some(failing), _) => self.say(REFRESH_FAILING, true, from_failure(&failing.failure)),
            (None, Some(failing)) if !same => {
                let message = format!(
                    "the last working identity keeps the Secret filled, for the new one doesn't work: {}",
                    failing.failure
                );
                self.say(REFRESH_FAILING, true, Say { reason: "NewIdentityNotWorking", message });
            }
            (None, _) => {}
        }
    }

    /// That a certificate ends soon: of the identity that fills the Secret, for that is whom Flux depends on.
    fn credential(&mut self, record: Option<&Record>, now: Timestamp) {
        if let Some((secret, until)) = record.and_then(|record| expiring(record, now)) {
            let message = format!(
                "the certificate in Secret {secret} is valid until {until}. Register its successor with the application and \
                 put it there (tls.crt, tls.key); it is read at the next refresh"
            );
            self.say(CREDENTIAL_EXPIRING, true, Say { reason: "CertificateExpires", message });
        }
    }

    fn access(&mut self, observed: &Observed<'_>, record: Option<&Record>) {
        let unsafe_repository = observed.wanted.ok().and_then(|wanted| wanted.unsafe_repository.as_ref());
        let probe = record.and_then(|record| observed.probes.iter().find(|probe| probe.identity == record.identity));
        // One from before a repository was named says nothing of it.
        let wanted = observed.wanted.map_or(&[][..], |wanted| &wanted.repositories);
        let probe = probe.filter(|probe| covers(probe, wanted));
        let say = match (unsafe_repository, probe) {
            (Some(failure), _) if record.is_some() => Some((false, from_failure(failure))),
            (_, Some(probe)) => Some(opened(probe)),
            _ => None,
        };
        if let Some((status, say)) = say {
            self.keep_accessible = false;
            self.say(ACCESSIBLE, status, say);
        }
    }

    /// The status to store, given the stored one. It [is](Stored::is) the stored one where nothing has changed.
    pub fn status(&self, stored: &Stored, generation: i64, now: Timestamp) -> BearerTokenStatus {
        let condition = |(kind, (status, say)): (&&'static str, &(bool, Say))| {
            condition(stored, kind, *status, say, generation, now)
        };
        let mut conditions: Vec<Condition> = self.conditions.iter().map(condition).collect();
        conditions.extend(stored.accessible.as_deref().filter(|_| self.keep_accessible).cloned());
        // Flux lists Ready and what qualifies it first.
        conditions.sort_by_key(|condition| match condition.type_.as_str() {
            READY => 0,
            RECONCILING | STALLED => 1,
            _ => 2,
        });
        BearerTokenStatus {
            conditions,
            expires_at: self.expires_at.map(to_seconds),
            refresh_at: self.refresh_at.map(to_seconds),
            secret: self.secret.as_deref().or(stored.secret()).map(str::to_owned),
            identity: self.identity.as_deref().cloned(),
            observed_generation: Some(generation),
            last_handled_reconcile_at: self.handled.as_deref().or(stored.handled()).map(str::to_owned),
        }
    }
}

/// As much of a stored status as the next one depends on: ten thousand of these are kept.
#[derive(Clone, Debug)]
pub struct Stored {
    conditions: Box<[Known]>,
    /// Whole, for it is written again as it is where nothing new is known.
    accessible: Option<Box<Condition>>,
    secret: Option<Arc<str>>,
    handled: Option<Box<str>>,
    /// Of the whole status.
    digest: u64,
}

/// What is kept of a condition.
#[derive(Clone, Debug)]
struct Known {
    kind: &'static str,
    /// Whether it holds; somebody else may have stored that this is not known.
    status: Option<bool>,
    /// Digest of its reason.
    reason: u64,
    since: Timestamp,
}

impl Stored {
    /// What is kept of the status of the BearerToken `name`, whose Secret mostly has the same name: that is kept once.
    pub fn of(status: &BearerTokenStatus, name: &Arc<str>) -> Self {
        let named = |secret: &str| if *secret == **name { Arc::clone(name) } else { secret.into() };
        let accessible = status.conditions.iter().find(|condition| condition.type_ == ACCESSIBLE);
        Self {
            conditions: status.conditions.iter().filter_map(Known::of).collect(),
            accessible: accessible.cloned().map(Box::new),
            secret: status.secret.as_deref().map(named),
            handled: status.last_handled_reconcile_at.as_deref().map(Box::from),
            digest: digest_of(status),
        }
    }

    /// Whether this is the stored status. Two that differ are taken for one with a chance of 2^-64.
    pub fn is(&self, status: &BearerTokenStatus) -> bool {
        self.digest == digest_of(status)
    }

    /// The Secret that was filled last.
    pub fn secret(&self) -> Option<&str> {
        self.secret.as_deref()
    }

    /// The last request that was acted on.
    pub fn handled(&self) -> Option<&str> {
        self.handled.as_deref()
    }

    fn find(&self, kind: &str) -> Option<&Known> {
        self.conditions.iter().find(|known| known.kind == kind)
    }
}

impl Known {
    fn of(condition: &Condition) -> Option<Self> {
        let kinds = [READY, RECONCILING, STALLED, REFRESH_FAILING, CREDENTIAL_EXPIRING, ACCESSIBLE];
        let kind = kinds.into_iter().find(|kind| *kind == condition.type_)?;
        let status = match condition.status.as_str() {
            "True" => Some(true),
            "False" => Some(false),
            _ => None,
        };
        Some(Self { kind, status, reason: digest(&condition.reason), since: condition.last_transition_time.0 })
    }

    /// Whether the stored condition says the same as this one, in whatever words.
    fn says(&self, condition: &Condition) -> bool {
        self.status == Some(condition.status == "True") && self.reason == digest(&condition.reason)
    }
}

fn digest_of(status: &BearerTokenStatus) -> u64 {
    // It is text all through, and always can be written as JSON.
    digest(&serde_json::to_string(status).unwrap_or_default())
}

/// The same in every run: no secret depends on it, and nobody gains by two texts of one digest.
fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// The events that lead from one status to the next: one a condition that appeared, went, or has another reason.
pub fn events(before: &Stored, after: &BearerTokenStatus) -> Vec<Event> {
    let mut events = Vec::new();
    for kind in [READY, STALLED, REFRESH_FAILING, CREDENTIAL_EXPIRING, ACCESSIBLE] {
        let (old, new) = (before.find(kind), after.conditions.iter().find(|condition| condition.type_ == kind));
        match (old, new) {
            (Some(old), Some(new)) if old.says(new) => {}
            // That nothing is there yet is no news.
            (None, Some(new)) if kind == READY && new.reason == PROGRESSING => {}
            (_, Some(new)) => events.push(Event {
                warning: (new.status == "True") == matches!(kind, STALLED | REFRESH_FAILING | CREDENTIAL_EXPIRING),
                reason: new.reason.clone(),
                message: new.message.clone(),
            }),
            // Where the token has expired meanwhile, nothing has recovered.
            (Some(_), None) if kind == REFRESH_FAILING && is_ready(after) => events.push(Event {
                warning: false,
                reason: "RefreshRecovered".into(),
                message: "the token is being replaced on time again".into(),
            }),
            _ => {}
        }
    }
    // Stalled repeats what Ready or RefreshFailing says.
    events.dedup_by(|later, earlier| later.reason == earlier.reason && later.message == earlier.message);
    events
}

/// The event that a write is worth by itself: one that took something from somebody.
pub fn of_write(secret: &str, write: &Write) -> Option<Event> {
    let event = |warning, reason: &str, message| Some(Event { warning, reason: reason.to_owned(), message });
    match &write.takes {
        Takes::Nothing => None,
        Takes::Back(who) => {
            event(true, "SecretCorrected", format!("{who} had changed Secret {secret}; the token was put back"))
        }
        Takes::Over => {
            event(false, "SecretAdopted", format!("Secret {secret} was taken over: its token opens every repository"))
        }
    }
}

/// Whether a status says that the Secret holds a token which has not expired.
pub fn is_ready(status: &BearerTokenStatus) -> bool {
    status.conditions.iter().any(|condition| condition.type_ == READY && condition.status == "True")
}

const PROGRESSING: &str = "Progressing";

fn ready(standing: &Standing<'_>, record: Option<&Record>, usable: Option<&Record>) -> Say {
    let observed = standing.observed;
    let secret = observed.secret;
    let failing = standing.keep.or(standing.change);
    match (usable, record, failing) {
        (Some(record), ..) => {
            let kept = observed
                .named
                .map(|named| format!("; a GitRepository reads it, so spec.secret.name: {named} waits until none does"));
            let expiring = expiring(record, standing.now);
            let expiring =
                expiring.map(|(_, until)| format!("; the certificate it signs in with is valid until {until}"));
            let (kept, expiring) = (kept.unwrap_or_default(), expiring.unwrap_or_default());
            let message = format!("Secret {secret} holds a token of {}{kept}{expiring}", record.identity);
            Say { reason: "Succeeded", message }
        }
        (None, Some(_), Some(contest)) if contest.failure.reason == CONTESTED => from_failure(&contest.failure),
        (None, Some(_), failing) => {
            let why = failing.map(|failing| format!(": {}", failing.failure)).unwrap_or_default();
            Say { reason: "TokenExpired", message: format!("the token in Secret {secret} has expired{why}") }
        }
        (None, None, Some(failing)) => from_failure(&failing.failure),
        (None, None, None) if observed.suspend => {
            Say { reason: "Suspended", message: format!("suspended before Secret {secret} was filled") }
        }
        (None, None, None) => progressing(standing),
    }
}

/// The Secret with the certificate that brought a token, and its end, where that is near.
fn expiring(record: &Record, now: Timestamp) -> Option<(&str, Timestamp)> {
    let Identity::ClientCertificate { secret, .. } = &*record.identity else { return None };
    let until = record.credential_expires_at.filter(|until| until.duration_since(now) <= CREDENTIAL_WARNING)?;
    Some((secret, until))
}

fn progressing(standing: &Standing<'_>) -> Say {
    Say { reason: PROGRESSING, message: format!("Secret {} is about to be filled", standing.observed.secret) }
}

fn opened(probe: &Probe) -> (bool, Say) {
    let refused = probe.answers.iter().find_map(|(repository, answer)| Some((repository, answer.as_ref().err()?)));
    match refused {
        None => {
            let message = format!("the token opens {}", count(probe.answers.len()));
            (true, Say { reason: "RepositoriesOpen", message })
        }
        Some((repository, failure)) => {
            let say = from_failure(failure);
            (false, Say { message: format!("{repository}: {}", say.message), ..say })
        }
    }
}

fn count(repositories: usize) -> String {
    match repositories {
        1 => "its repository".into(),
        many => format!("all {many} repositories"),
    }
}

fn from_failure(failure: &Failure) -> Say {
    Say { reason: failure.reason, message: failure.to_string() }
}

/// The request that has been acted on: a token received after it, or an attempt that failed after it. Like Flux, a
/// suspended object has handled its request by being looked at.
fn handled(standing: &Standing<'_>, record: Option<&Record>) -> Option<Box<str>> {
    let observed = standing.observed;
    let request = observed.request?;
    let received = [observed.mint.token, observed.last_working.token].into_iter().flatten();
    let same = record.and_then(|record| received.into_iter().find(|token| token.fingerprint == record.fingerprint));
    let issued_at = same.map(|token| token.issued_at).or(record.map(|record| record.issued_at));
    let refreshed = issued_at.is_some_and(|at| at >= request.seen_at);
    let failed = standing.keep.is_some_and(|failing| failing.at >= request.seen_at);
    (observed.suspend || refreshed || failed).then(|| request.value.clone())
}

fn condition(stored: &Stored, kind: &str, status: bool, say: &Say, generation: i64, now: Timestamp) -> Condition {
    let before = stored.find(kind).filter(|known| known.status == Some(status));
    Condition {
        type_: kind.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: say.reason.to_owned(),
        message: say.message.chars().take(MAX_MESSAGE).collect(),
        last_transition_time: before.map_or_else(|| to_seconds(now), |before| Time(before.since)),
        observed_generation: Some(generation),
    }
}

/// Kubernetes stores times in whole seconds; anything finer would differ from what is read back.
fn to_seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

#[cfg(test)]
mod tests;
