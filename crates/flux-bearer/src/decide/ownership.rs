//! Whose the Secret is: when one of somebody else is left alone or adopted, and what becomes of a fight for ours.

use std::time::Duration;

use jiff::Timestamp;

use super::access::{closed, refusals};
use super::{Action, Observed, Refused, Step, Wanted, attempt, fresh, write};
use crate::failure::{Class, Failure};
use crate::resource::Format;
use crate::schedule::Failing;
use crate::secret::{Held, Record, keys};

/// How many changes of somebody else are taken back in a minute; more means that two fight, and neither gives way.
pub const CORRECTIONS: usize = 5;

/// See [`CORRECTIONS`].
const CONTEST: Duration = Duration::from_secs(60);

/// The reason that says so.
pub(crate) const CONTESTED: &str = "SecretContested";

/// The reason that says that something is somebody else's.
const NOT_OWNED: &str = "SecretNotOwned";

/// Why the Secret may not be written at all.
pub(super) fn refuse(observed: &Observed<'_>) -> Option<Failure> {
    let secret = observed.secret;
    let refusal = |reason, cause: String, fix: String| Some(Failure::new(reason, Class::Permanent, reason, cause, fix));
    match (observed.rival, observed.held) {
        (Some(rival), _) => refusal(
            "SecretConflict",
            format!("Secret {secret} is already kept by BearerToken {rival}, which is older"),
            "Delete one of the two, or give this one another spec.secret.name".into(),
        ),
        (None, Held::Foreign { version: Some(_), .. }) if adopts(observed) => None,
        (None, Held::Foreign { owner, version }) => refusal(
            NOT_OWNED,
            format!("Secret {secret} exists and belongs to {owner}; it was not touched"),
            match version {
                Some(_) => format!(
                    "Set spec.secret.adopt: true to take it over, give another spec.secret.name, or kubectl delete secret \
                     {secret} and it is made anew"
                ),
                None => "Give another spec.secret.name, or delete that BearerToken".into(),
            },
        ),
        _ => None,
    }
}

/// Why other keys than before are not written, while those of before are: a commit may ask for any, and Flux pulls the next
/// one with those that there are.
pub(super) fn refuse_keys(observed: &Observed<'_>, wanted: &Wanted, record: &Record, now: Timestamp) -> Option<Step> {
    if wanted.formats == record.formats {
        return None;
    }
    let refused = observed.refused.filter(|refused| refused.formats == wanted.formats);
    if let Some(Refused { failing, .. }) = refused.filter(|refused| refused.failing.retry_at > now) {
        return Some(Step::failed(failing));
    }
    let Held::Ours { taken: Some(taken), .. } = observed.held else { return None };
    let theirs: Vec<Format> = wanted.formats.iter().filter(|format| taken.formats.contains(format)).copied().collect();
    if wanted.adopt || theirs.is_empty() {
        return None;
    }
    let (by, secret, keys) = (&taken.by, observed.secret, keys(&theirs).join(", "));
    let cause = format!("{by} has written {keys} into Secret {secret}, which spec.secret.formats asks for");
    let fix = "Set spec.secret.adopt: true to take that over, or remove it from the Secret";
    Some(Step::refused(Failure::new(NOT_OWNED, Class::Permanent, NOT_OWNED, cause, fix), now))
}

/// Whether a Secret of somebody else may be taken over; what it takes beyond that is asked by [`adopt`]. A spec that can't
/// be read or done is refused for that.
pub(super) fn adopts(observed: &Observed<'_>) -> bool {
    observed.wanted.is_ok_and(|wanted| wanted.adopt)
}

/// Takes over a Secret of somebody else, once the token opens every repository. Until then it stays as it is, byte by
/// byte: what works must not be given up for what may not.
pub(super) fn adopt(observed: &Observed<'_>, wanted: &Wanted, now: Timestamp) -> Step {
    let Some(token) = fresh(observed, observed.mint, now) else {
        return attempt(observed, &wanted.identity, observed.mint, now);
    };
    if wanted.repositories.is_empty() {
        let cause = format!("no repository is known to try the token on before Secret {} is adopted", observed.secret);
        let fix = "Name it in spec.repositories, or in a GitRepository that uses the Secret";
        let reason = "AdoptionUnproven";
        return Step::refused(Failure::new(reason, Class::Permanent, reason, cause, fix), now);
    }
    match refusals(observed, wanted, token) {
        Err(ask) => ask,
        Ok((probe, refusals)) => match refusals.first() {
            None => write(observed, &wanted.identity, wanted.formats, token, now),
            Some(refused) => closed(observed, wanted, token, probe, *refused, now),
        },
    }
}

/// Waits for the refresh; meanwhile an adopted Secret is rid of the credentials of others.
pub(super) fn clean(
    observed: &Observed<'_>,
    formats: &'static [Format],
    refresh_at: Timestamp,
    now: Timestamp,
) -> Step {
    let left = matches!(observed.held, Held::Ours { leftovers: Some(_), .. });
    if !left || !adopts(observed) {
        return Step::wait(Some(refresh_at));
    }
    pause(observed, true, now).unwrap_or_else(|| Step::act(Action::Clean(formats)))
}

/// Says who fights for the Secret, from the last correction that may be made until two minutes without one.
pub(super) fn contested(observed: &Observed<'_>, keep: Step, now: Timestamp) -> Step {
    match contest(observed) {
        Some(contest) if keep.action.is_none() && keep.failing.is_none() && contest.retry_at + CONTEST > now => {
            let until = [keep.until, Some(contest.retry_at + CONTEST)].into_iter().flatten().min();
            Step { action: None, until, failing: Some(contest) }
        }
        _ => keep,
    }
}

/// The fight for the Secret, once as many changes of others were taken back as may be: the next one is when the first of
/// them is [`CONTEST`] ago.
fn contest(observed: &Observed<'_>) -> Option<Failing> {
    let (first, last) = (observed.corrections.first()?, observed.corrections.last()?);
    if observed.corrections.len() < CORRECTIONS {
        return None;
    }
    let (who, secret) = (&last.who, observed.secret);
    let cause = format!("{who} keeps changing Secret {secret}; {CORRECTIONS} changes were taken back");
    let fix = format!(
        "Take Secret {secret} out of what {who} writes; for kustomize-controller, annotate it in Git with \
         kustomize.toolkit.fluxcd.io/ssa: Ignore"
    );
    let failure = Failure::new(CONTESTED, Class::Permanent, CONTESTED, cause, fix);
    let attempts = u32::try_from(CORRECTIONS).unwrap_or(u32::MAX);
    Some(Failing { failure, since: first.at, at: last.at, attempts, retry_at: first.at + CONTEST })
}

/// The pause before the next write: after one that failed, or after too many that took back what others did.
pub(super) fn pause(observed: &Observed<'_>, corrects: bool, now: Timestamp) -> Option<Step> {
    let contest = contest(observed).filter(|_| corrects);
    let failing = observed.writing.into_iter().chain(contest.as_ref()).find(|failing| failing.retry_at > now)?;
    Some(Step::failed(failing))
}
