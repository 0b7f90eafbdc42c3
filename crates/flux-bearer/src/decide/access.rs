//! What the repositories say to a token: when they are asked, and what their answers allow.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Action, Observed, Probe, Step, Wanted, attempt};
use crate::failure::devops::OUTDATED;
use crate::failure::{Class, Failure};
use crate::identity::Identity;
use crate::repository::Repository;
use crate::schedule::{Failing, is_usable};
use crate::secret::Record;
use crate::token::Token;

/// Pause between two probes of a repository that did not open.
const PROBE_AGAIN: Duration = Duration::from_secs(300);

/// Pause between two probes of a repository that is busy or away.
const PROBE_AGAIN_SOON: Duration = Duration::from_secs(60);

/// Whether the new identity's token opens every repository that the last working one opened.
pub(super) fn compare(
    observed: &Observed<'_>,
    wanted: &Wanted,
    record: &Record,
    token: &Arc<Token>,
    now: Timestamp,
) -> Result<(), Step> {
    let (probe, refusals) = refusals(observed, wanted, token)?;
    if refusals.is_empty() {
        return Ok(());
    }
    let current =
        |probe: &&Probe| covers(probe, &wanted.repositories) && probe_again(probe).is_none_or(|again| again > now);
    let old = probe_of(observed, &record.identity).filter(current);
    let old = old.ok_or_else(|| probe_last_working(observed, record, now))?;
    let may_open =
        |repository: &Repository| old.answers.iter().any(|(url, answer)| url == repository && may_open(answer));
    match refusals.into_iter().find(|(repository, _)| may_open(repository)) {
        None => Ok(()),
        Some(refused) => Err(closed(observed, wanted, token, probe, refused, now)),
    }
}

/// Whether an answer leaves open that the identity has the right: it was let in, the repository was away, or the token too old.
fn may_open(answer: &Result<(), Box<Failure>>) -> bool {
    answer.as_ref().map_or_else(|failure| failure.class == Class::Transient || failure.reason == OUTDATED, |()| true)
}

/// A repository that refuses a token, and why.
type Refusal<'a> = (&'a Repository, &'a Failure);

/// The repositories that refuse the wanted identity's token, and the probe that found out; or the step that finds out.
pub(super) fn refusals<'a>(
    observed: &Observed<'a>,
    wanted: &Wanted,
    token: &Arc<Token>,
) -> Result<(&'a Probe, Vec<Refusal<'a>>), Step> {
    let probe = probe_of(observed, &wanted.identity).filter(|probe| covers(probe, &wanted.repositories));
    let probe = probe.ok_or_else(|| ask(observed, &wanted.identity, token))?;
    let refused = |(repository, answer): &'a (Repository, Result<(), Box<Failure>>)| {
        Some((repository, &**answer.as_ref().err()?))
    };
    Ok((probe, probe.answers.iter().filter_map(refused).collect()))
}

/// Waits for a repository that refused the token, or asks it again.
pub(super) fn closed(
    observed: &Observed<'_>,
    wanted: &Wanted,
    token: &Arc<Token>,
    probe: &Probe,
    (repository, failure): Refusal<'_>,
    now: Timestamp,
) -> Step {
    let Some(retry_at) = probe_again(probe).filter(|at| *at > now) else {
        return ask(observed, &wanted.identity, token);
    };
    let failure = Failure { cause: format!("{repository}: {}", failure.cause).into(), ..failure.clone() };
    Step::failed(&Failing { failure, since: probe.at, at: probe.at, attempts: 1, retry_at })
}

/// Finds out what the last working identity opens, which nobody remembers after a restart.
fn probe_last_working(observed: &Observed<'_>, record: &Record, now: Timestamp) -> Step {
    let token = observed.last_working.token.filter(|token| is_usable(token.expires_at, now));
    match token {
        Some(token) => ask(observed, &record.identity, token),
        None => attempt(observed, &record.identity, observed.last_working, now),
    }
}

fn probe_of<'a>(observed: &Observed<'a>, identity: &Identity) -> Option<&'a Probe> {
    observed.probes.iter().find(|probe| *probe.identity == *identity)
}

/// Whether a repository has refused the token with this fingerprint for want of a newer one.
pub(super) fn is_refused_as_outdated(observed: &Observed<'_>, fingerprint: &str) -> bool {
    let probe = observed.probes.iter().find(|probe| *probe.fingerprint == *fingerprint);
    probe.is_some_and(Probe::wants_newer)
}

impl Probe {
    /// Whether a repository wants a newer token than the one that was tried.
    pub fn wants_newer(&self) -> bool {
        self.answers.iter().any(|(_, answer)| answer.as_ref().is_err_and(|failure| failure.reason == OUTDATED))
    }
}

/// Whether a probe has asked all of these.
pub(crate) fn covers(probe: &Probe, repositories: &[Repository]) -> bool {
    repositories.iter().all(|wanted| probe.answers.iter().any(|(asked, _)| asked == wanted))
}

/// When a probe is worth repeating: never while everything opens.
fn probe_again(probe: &Probe) -> Option<Timestamp> {
    let failures = || probe.answers.iter().filter_map(|(_, answer)| answer.as_ref().err());
    let transient = failures().any(|failure| failure.class == Class::Transient);
    let pause = if transient { PROBE_AGAIN_SOON } else { PROBE_AGAIN };
    let asked = failures().filter_map(|failure| failure.retry_after).max().unwrap_or_default();
    failures().next().map(|_| probe.at + pause.max(asked))
}

/// Tries the token in the Secret on the repositories: once a token, and again while one doesn't open.
pub(super) fn try_out(observed: &Observed<'_>, now: Timestamp) -> Step {
    let (Some(record), Ok(wanted)) = (observed.held.record(), observed.wanted) else { return Step::wait(None) };
    let mint = if record.identity == wanted.identity { observed.mint } else { observed.last_working };
    let held = |token: &&Arc<Token>| token.fingerprint == record.fingerprint && is_usable(token.expires_at, now);
    let Some(token) = mint.token.filter(held) else { return Step::wait(None) };
    if wanted.repositories.is_empty() {
        return Step::wait(None);
    }
    let current = probe_of(observed, &record.identity)
        .filter(|probe| probe.fingerprint == record.fingerprint && covers(probe, &wanted.repositories));
    match current.map(probe_again) {
        Some(again) if again.is_none_or(|again| again > now) => Step::wait(again),
        _ => ask(observed, &record.identity, token),
    }
}

/// Asks the repositories, unless they are being asked already.
fn ask(observed: &Observed<'_>, identity: &Arc<Identity>, token: &Arc<Token>) -> Step {
    if observed.probing { Step::wait(None) } else { Step::act(Action::Probe(Arc::clone(identity), Arc::clone(token))) }
}
