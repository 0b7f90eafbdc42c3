//! What to do next about one BearerToken: the whole policy, as one pure function over what has been observed.
//!
//! **When a token is replaced.** At a point between 40 and 45 % of the lifetime that the issuer gave ([`schedule`]), at the
//! issuer's own `refresh_in` if that is earlier, and after an hour at the latest. Sooner only when there is no token, when
//! somebody changed the Secret, when the wanted keys differ, or when a refresh is requested.
//!
//! **When Entra ID is away.** The token in the Secret stays where it is and stays Ready until the second it expires.
//! Meanwhile `RefreshFailing` says why, and attempts go on with pauses of at most a minute (a sixtieth of the lifetime, if
//! that is shorter). The first success fills every waiting Secret of that identity.
//!
//! **When a repository wants a newer token** (a challenge of continuous access evaluation). One is minted at once, at most
//! [`REMINTS`] before the next refresh; after that the refusal is one as any other.
//!
//! **When the spec turns bad.** A commit must never lock Flux out of the repository that would bring the fix. So the
//! identity that filled the Secret goes on renewing it, until the new one has minted and its token opens every repository
//! that the old one opened. Only `suspend` and deletion end it.
//!
//! **Where a ServiceAccount signs in.** Its annotations say whose token is wanted. So it is read before anything is wanted
//! at all, and again before each mint of the wanted identity.

mod access;
mod ownership;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

pub(crate) use self::access::covers;
use self::access::{compare, is_refused_as_outdated, try_out};
pub(crate) use self::ownership::CONTESTED;
pub use self::ownership::CORRECTIONS;
use self::ownership::{adopt, clean, contested, pause, refuse, refuse_keys};
use crate::failure::Failure;
use crate::identity::Identity;
use crate::report::{Report, Standing};
use crate::repository::Repository;
use crate::resource::{DeletionPolicy, Format};
use crate::schedule::{self, Failing, PERMANENT_RETRY, between, is_usable, needs_refresh};
use crate::secret::{Drift, Held, Record};
use crate::token::Token;

/// Everything that the decision may look at.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// The uid of the BearerToken: spreads the refreshes.
    pub uid: &'a str,
    /// Name of the Secret.
    pub secret: &'a str,
    /// The Secret that the spec names since, where that one waits until nobody reads this one any more.
    pub named: Option<&'a str>,
    /// Whether the spec says to pause.
    pub suspend: bool,
    /// What the spec asks for, or why that can't be done.
    pub wanted: Result<&'a Wanted, &'a Failure>,
    /// What is known of the ServiceAccount that the spec names, if it names one.
    pub account: Option<&'a Account>,
    /// An older BearerToken that names the same Secret.
    pub rival: Option<&'a str>,
    /// What the Secret's metadata says, or said when it was last seen.
    pub held: &'a Held,
    /// What the Secret that was named before remembered, until this one is filled.
    pub former: Option<&'a Record>,
    /// Whether the Secret has to be looked at again before anything is decided on `held`.
    pub unsure: bool,
    /// The wanted identity's tokens.
    pub mint: Mint<'a>,
    /// The tokens of the identity that filled the Secret, or the one that was named before.
    pub last_working: Mint<'a>,
    /// What the repositories said to our tokens.
    pub probes: &'a [Probe],
    /// Whether they are being asked at this moment.
    pub probing: bool,
    /// Why the identity that filled the Secret may no longer be used.
    pub revoked: Option<&'a Failure>,
    /// A run of failed writes.
    pub writing: Option<&'a Failing>,
    /// Other keys than the Secret has, which it can't have.
    pub refused: Option<&'a Refused>,
    /// The latest changes of somebody else that were taken back, oldest first, at most [`CORRECTIONS`] of them.
    pub corrections: &'a [Correction],
    /// A refresh that was asked for and not yet answered.
    pub request: Option<&'a Request>,
    /// GitRepositories that use the Secret and fail for an authentication reason, while they deserve a nudge.
    pub nudge: &'a [String],
    /// Longest time between two refreshes.
    pub longest: Duration,
}

/// What a valid spec asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The identity.
    pub identity: Arc<Identity>,
    /// The keys, sorted.
    pub formats: &'static [Format],
    /// The repositories that the token should open.
    pub repositories: Vec<Repository>,
    /// What is wrong with a repository of a GitRepository that uses the Secret. It keeps the Secret from being filled the
    /// first time; later it only shows, or whoever may make a GitRepository could stop the renewal.
    pub unsafe_repository: Option<Failure>,
    /// Whether a Secret of somebody else may be taken over.
    pub adopt: bool,
    /// What becomes of the Secret once nobody keeps it.
    pub deletion_policy: DeletionPolicy,
}

/// How far the ServiceAccount that a spec names was read. What it says is part of what is wanted.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Whether it was read for the work in hand, that is since the last decision to rest.
    pub fresh: bool,
    /// A run of looks that failed, or that found nothing to sign in with.
    pub failing: Option<Failing>,
}

/// Keys that were refused where there are others: because of the Secret's type, or by a policy. The API server knows more of
/// a Secret than its metadata says.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The keys.
    pub formats: &'static [Format],
    /// The run of attempts.
    pub failing: Failing,
}

/// That a change of somebody else was taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    /// When.
    pub at: Timestamp,
    /// Whose change, in words.
    pub who: Box<str>,
}

/// What is known of one identity's tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mint<'a> {
    /// The newest token.
    pub token: Option<&'a Arc<Token>>,
    /// The run of failures since.
    pub failing: Option<&'a Failing>,
    /// Whether one is being minted at this moment.
    pub in_flight: bool,
    /// Whether a repository wants a newer one than that, and [`REMINTS`] are not used up.
    pub outdated: bool,
}

/// What the repositories said to one token.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Which token.
    pub fingerprint: Box<str>,
    /// Whose.
    pub identity: Arc<Identity>,
    /// When they were asked.
    pub at: Timestamp,
    /// What each said.
    pub answers: Vec<(Repository, Result<(), Box<Failure>>)>,
}

/// A refresh that was asked for by annotation.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The annotation's value.
    pub value: Box<str>,
    /// When it was first seen.
    pub seen_at: Timestamp,
}

/// What to do now.
#[derive(Clone, Debug)]
pub enum Action {
    /// Nothing, until the wake-up time or an event.
    Rest,
    /// Read the Secret's metadata.
    Look,
    /// Read the ServiceAccount's annotations.
    Introduce,
    /// Sign in as this identity, unless that is under way already.
    Mint(Arc<Identity>),
    /// Put this token into the Secret.
    Write(Write),
    /// Remove the credentials of others from the Secret, which holds a token of ours in these formats.
    Clean(&'static [Format]),
    /// Ask the repositories whether this token opens them, beside everything else.
    Probe(Arc<Identity>, Arc<Token>),
    /// Ask source-controller to look at these GitRepositories now.
    Nudge,
}

/// A token on its way into the Secret.
#[derive(Clone, Debug)]
pub struct Write {
    /// The token.
    pub token: Arc<Token>,
    /// What the Secret is to remember of it; its generation is filled in by whoever knows it.
    pub identity: Arc<Identity>,
    /// The keys.
    pub formats: &'static [Format],
    /// When the token is to be replaced.
    pub refresh_at: Timestamp,
    /// Whether fields that others own are taken: only to take back what was ours, and to adopt.
    pub force: bool,
    /// What it takes from somebody.
    pub takes: Takes,
    /// Whether the Secret is of our making.
    pub made: bool,
    /// What becomes of the Secret once nobody keeps it.
    pub deletion_policy: DeletionPolicy,
    /// Whether the Secret had no usable token until now.
    pub revives: bool,
}

/// What a write takes from somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing.
    Nothing,
    /// What was ours, back from whoever has changed it.
    Back(Box<str>),
    /// The Secret, over from its owner.
    Over,
}

/// What to do now, what to say about it, and when to look again.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What to do now.
    pub action: Action,
    /// What to say; only a decision to rest is final enough to be reported.
    pub report: Report,
    /// When to decide again, if nothing happens before.
    pub wake: Option<Timestamp>,
}

/// How many tokens are minted before their time, between two that are due, because a repository wants a newer one.
///
/// The first mends a token from before the change that it is about. The second is for a server of Entra ID that had not heard
/// of the change when it issued the first. What refuses that one, too, refuses the identity and not the token's age: a third
/// would be refused as well, and be counted by Entra ID's throttling. The refreshes go on, and one of them ends it.
pub const REMINTS: u32 = 2;

/// How far two expiries of one token may differ, for issuers tell it in whole seconds of a clock of their own.
const SAME_EXPIRY: Duration = Duration::from_secs(60);

/// Decides what to do next about one BearerToken.
pub fn decide(observed: &Observed<'_>, now: Timestamp) -> Decision {
    if observed.unsure || matches!(observed.held, Held::Unknown) {
        return look(observed, now);
    }
    if observed.suspend {
        return settle(observed, Step::wait(None), Step::wait(None), now);
    }
    if let Some(refusal) = refuse(observed) {
        let step = Step::refused(refusal, now);
        return settle(observed, step, Step::wait(None), now);
    }
    if is_unread(observed, now) {
        return Decision { action: Action::Introduce, report: Report::default(), wake: None };
    }
    let keep = contested(observed, keep(observed, now), now);
    let change = change(observed, now);
    settle(observed, keep, change, now)
}

/// Looks at the Secret, unless the last failure's pause is not over. What can't be seen is not written: an apply can't be
/// pinned to absence, and would put our keys into a Secret of somebody else.
fn look(observed: &Observed<'_>, now: Timestamp) -> Decision {
    match observed.writing.filter(|failing| failing.retry_at > now) {
        Some(failing) => settle(observed, Step::failed(failing), Step::wait(None), now),
        None => Decision { action: Action::Look, report: Report::default(), wake: None },
    }
}

/// Whether nothing is known of the ServiceAccount, or the pause after a failed look is over.
fn is_unread(observed: &Observed<'_>, now: Timestamp) -> bool {
    observed.account.is_some_and(|account| match &account.failing {
        Some(failing) => !pauses(observed, failing, now),
        None => observed.wanted.is_err() && !account.fresh,
    })
}

/// Whether the pause after a failure goes on. A request cuts it short, a `Retry-After` doesn't.
fn pauses(observed: &Observed<'_>, failing: &Failing, now: Timestamp) -> bool {
    let asked = observed.request.is_some_and(|request| failing.at < request.seen_at);
    failing.retry_at > now && !(asked && failing.failure.retry_after.is_none())
}

/// What a spec is refused for, until something changes; or its ServiceAccount, until that is looked at again.
fn unwanted(observed: &Observed<'_>, failure: &Failure, now: Timestamp) -> Step {
    let account = observed.account.and_then(|account| account.failing.as_ref());
    account.map_or_else(|| Step::refused(failure.clone(), now), Step::failed)
}

/// One line of work, up to its next action or its next wait.
#[derive(Debug)]
struct Step {
    action: Option<Action>,
    until: Option<Timestamp>,
    failing: Option<Failing>,
}

impl Step {
    fn act(action: Action) -> Self {
        Self { action: Some(action), until: None, failing: None }
    }

    fn wait(until: Option<Timestamp>) -> Self {
        Self { action: None, until, failing: None }
    }

    fn failed(failing: &Failing) -> Self {
        Self { action: None, until: Some(failing.retry_at), failing: Some(failing.clone()) }
    }

    /// Refused before anything was tried: looked at again when something changes, and now and then all the same.
    fn refused(failure: Failure, now: Timestamp) -> Self {
        let failing = Failing { failure, since: now, at: now, attempts: 1, retry_at: now + PERMANENT_RETRY };
        Self { action: None, until: Some(failing.retry_at), failing: Some(failing) }
    }
}

/// Keeps the Secret filled: by the identity that filled it, or by the wanted one where there is none or it is the same.
fn keep(observed: &Observed<'_>, now: Timestamp) -> Step {
    let record = observed.held.record().or_else(|| stand_in(observed, now));
    match (record, observed.wanted) {
        (Some(record), Ok(wanted)) if record.identity == wanted.identity => {
            renew(observed, &wanted.identity, formats(observed, wanted, record, now), observed.mint, now)
        }
        (Some(record), _) => match observed.revoked {
            Some(failure) => Step::refused(failure.clone(), now),
            None => renew(observed, &record.identity, record.formats, observed.last_working, now),
        },
        (None, Err(failure)) => unwanted(observed, failure, now),
        (None, Ok(Wanted { unsafe_repository: Some(failure), .. })) => Step::refused(failure.clone(), now),
        (None, Ok(wanted)) if matches!(observed.held, Held::Foreign { .. }) => adopt(observed, wanted, now),
        (None, Ok(wanted)) => renew(observed, &wanted.identity, wanted.formats, observed.mint, now),
    }
}

/// The keys to write. They stay as they are
/// - while a GitRepository could not use the wanted ones: a bearer token beside a user in its URL (`org@`) would be the last
///   that Flux has pulled;
/// - until all of them are ours alone: what somebody else has a hand in would stay, and its token expire, once we no longer
///   write it;
/// - while the wanted ones are refused.
fn formats(observed: &Observed<'_>, wanted: &Wanted, record: &Record, now: Timestamp) -> &'static [Format] {
    let unsettled = matches!(observed.held, Held::Ours { drift, shared, .. } if drift.is_some() || *shared);
    let refused = refuse_keys(observed, wanted, record, now).is_some();
    if wanted.unsafe_repository.is_some() || unsettled || refused { record.formats } else { wanted.formats }
}

/// The record that a new Secret is filled by, when one commit has renamed the Secret and broken the identity: that of the
/// Secret before. Otherwise nobody would renew either of them.
fn stand_in<'a>(observed: &Observed<'a>, now: Timestamp) -> Option<&'a Record> {
    let absent = matches!(observed.held, Held::Absent);
    let safe = observed.wanted.is_ok_and(|wanted| wanted.unsafe_repository.is_none());
    let fails = observed.mint.failing.is_some() && fresh(observed, observed.mint, now).is_none();
    observed.former.filter(|_| absent && safe && fails)
}

/// Replaces the token when it is due, from a fresh one or by minting.
fn renew(
    observed: &Observed<'_>,
    identity: &Arc<Identity>,
    formats: &'static [Format],
    mint: Mint<'_>,
    now: Timestamp,
) -> Step {
    let fresh = fresh(observed, mint, now);
    match due(observed, formats, fresh, mint, now) {
        Due::At(when) => clean(observed, formats, when, now),
        Due::Now => match fresh {
            Some(token) => write(observed, identity, formats, token, now),
            None => attempt(observed, identity, mint, now),
        },
    }
}

/// Whether the token in the Secret is to be replaced.
enum Due {
    Now,
    At(Timestamp),
}

fn due(observed: &Observed<'_>, formats: &[Format], fresh: Option<&Arc<Token>>, mint: Mint<'_>, now: Timestamp) -> Due {
    let Held::Ours { record: Some(record), drift, .. } = observed.held else { return Due::Now };
    // The issuer may hand out the same token again (IMDS does, for hours): that is no reason to write, or to ask at once.
    let same = fresh.filter(|token| token.fingerprint == record.fingerprint);
    let (issued_at, refresh_at) = match same {
        Some(token) => (token.issued_at, refresh_at(observed, token)),
        None => (record.issued_at, record.refresh_at),
    };
    let requested = observed.request.is_some_and(|request| issued_at < request.seen_at);
    // Since it was written the clock was set, or the issuer has prolonged it.
    let dated = same.is_some_and(|token| {
        let (earlier, later) = (token.expires_at.min(record.expires_at), token.expires_at.max(record.expires_at));
        between(earlier, later) > SAME_EXPIRY
    });
    // The same token was had with another certificate.
    let recertified = same.is_some_and(|token| token.credential_expires_at != record.credential_expires_at);
    // A newer one is there, or can be had.
    let newer = mint.outdated || mint.token.is_some_and(|token| token.fingerprint != record.fingerprint);
    let outdated = newer && is_refused_as_outdated(observed, &record.fingerprint);
    let changed = recertified || record.formats != formats || record.deletion_policy != policy(observed);
    if changed || requested || dated || outdated || drift.is_some() || needs_refresh(issued_at, refresh_at, now) {
        return Due::Now;
    }
    Due::At(refresh_at)
}

/// What becomes of the Secret once nobody keeps it: what a spec that can be read says, or else what it said last.
fn policy(observed: &Observed<'_>) -> DeletionPolicy {
    let record = || observed.held.record().map(|record| record.deletion_policy);
    observed.wanted.ok().map(|wanted| wanted.deletion_policy).or_else(record).unwrap_or_default()
}

/// The identity's newest token, if it is fresh enough to be written now.
fn fresh<'a>(observed: &Observed<'_>, mint: Mint<'a>, now: Timestamp) -> Option<&'a Arc<Token>> {
    let token = mint.token?;
    let stale = needs_refresh(token.issued_at, refresh_at(observed, token), now) || !is_usable(token.expires_at, now);
    let too_old = observed.request.is_some_and(|request| token.issued_at < request.seen_at);
    (!stale && !too_old && !mint.outdated).then_some(token)
}

fn refresh_at(observed: &Observed<'_>, token: &Token) -> Timestamp {
    schedule::refresh_at(token.issued_at, token.expires_at, token.refresh_hint, observed.longest, observed.uid)
}

/// Signs in, unless that is under way or its pause is not over. As the wanted identity only after a look at the
/// ServiceAccount that says so: by now it may say something else.
fn attempt(observed: &Observed<'_>, identity: &Arc<Identity>, mint: Mint<'_>, now: Timestamp) -> Step {
    let wanted = observed.wanted.is_ok_and(|wanted| wanted.identity == *identity);
    match (mint.failing, observed.account.filter(|_| wanted)) {
        _ if mint.in_flight => Step { action: None, until: None, failing: mint.failing.cloned() },
        (Some(failing), _) if pauses(observed, failing, now) => Step::failed(failing),
        (_, Some(Account { failing: Some(failing), .. })) => Step::failed(failing),
        (_, Some(Account { fresh: false, .. })) => Step::act(Action::Introduce),
        _ => Step::act(Action::Mint(Arc::clone(identity))),
    }
}

/// Puts a token into the Secret, unless the last attempt's pause is not over.
fn write(
    observed: &Observed<'_>,
    identity: &Arc<Identity>,
    formats: &'static [Format],
    token: &Arc<Token>,
    now: Timestamp,
) -> Step {
    let record = observed.held.record();
    let (takes, force) = match observed.held {
        Held::Foreign { .. } => (Takes::Over, true),
        Held::Ours { drift: Some(Drift::By(who)), .. } => (Takes::Back(who.clone()), true),
        // Other keys than before are written only where nobody minds, see `formats`.
        Held::Ours { drift, shared, .. } => {
            let others = record.is_some_and(|record| record.formats != formats);
            (Takes::Nothing, drift.is_some() || *shared || others)
        }
        Held::Unknown | Held::Absent => (Takes::Nothing, false),
    };
    if let Some(pause) = pause(observed, matches!(takes, Takes::Back(_)), now) {
        return pause;
    }
    Step::act(Action::Write(Write {
        token: Arc::clone(token),
        identity: Arc::clone(identity),
        formats,
        refresh_at: refresh_at(observed, token),
        force,
        takes,
        made: matches!(observed.held, Held::Absent) || record.is_some_and(|record| record.made),
        deletion_policy: policy(observed),
        revives: record.is_none_or(|record| !is_usable(record.expires_at, now)),
    }))
}

/// Changes the identity of a filled Secret: mints as the new one, tries its token on the repositories, and only then writes.
fn change(observed: &Observed<'_>, now: Timestamp) -> Step {
    let Some(record) = observed.held.record() else { return Step::wait(None) };
    let wanted = match observed.wanted {
        Ok(wanted) if wanted.identity == record.identity => {
            return refuse_keys(observed, wanted, record, now).unwrap_or_else(|| Step::wait(None));
        }
        Ok(wanted) => wanted,
        Err(failure) => return unwanted(observed, failure, now),
    };
    let Some(token) = fresh(observed, observed.mint, now) else {
        return attempt(observed, &wanted.identity, observed.mint, now);
    };
    let lost = !is_usable(record.expires_at, now);
    match compare(observed, wanted, record, token, now) {
        Ok(()) => write(observed, &wanted.identity, formats(observed, wanted, record, now), token, now),
        // With the old token dead there is nothing left to protect.
        Err(_) if lost => write(observed, &wanted.identity, formats(observed, wanted, record, now), token, now),
        Err(step) => step,
    }
}

/// The first action of the lines of work, or rest with a report on all of them.
fn settle(observed: &Observed<'_>, keep: Step, change: Step, now: Timestamp) -> Decision {
    let beside = beside(observed, now);
    let report = Report::of(&Standing { observed, keep: keep.failing.as_ref(), change: change.failing.as_ref(), now });
    let expiry = observed.held.record().map(|record| record.expires_at).filter(|expiry| *expiry > now);
    let wake = [keep.until, change.until, beside.until, expiry].into_iter().flatten().min();
    let action = keep.action.or(change.action).or(beside.action).unwrap_or(Action::Rest);
    Decision { action, report, wake }
}

/// What goes on beside the work once a token is in the Secret: it is tried out, and whoever failed without it is told.
fn beside(observed: &Observed<'_>, now: Timestamp) -> Step {
    if observed.suspend || observed.held.record().is_none() {
        return Step::wait(None);
    }
    let trial = try_out(observed, now);
    let nudge = (!observed.nudge.is_empty()).then_some(Action::Nudge);
    Step { action: trial.action.or(nudge), ..trial }
}

/// How long the token in the Secret lives in all: what a pause between two attempts is measured by.
pub fn lifetime(held: &Held) -> Option<Duration> {
    held.record().map(|record| between(record.issued_at, record.expires_at))
}

#[cfg(test)]
mod tests;
