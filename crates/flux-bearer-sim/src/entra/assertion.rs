//! Whether an assertion signs an application in: the checks of workload identity federation, in Entra's order.

use jiff::{SignedDuration, Timestamp};

use super::refusal::{Presented, Refusal};
use crate::jwt::Jwt;
use crate::state::{Application, FederatedCredential, Mismatch, State};
use crate::world::World;

/// Longest lifetime of an external token: `1.01:00:00`, which is 25 hours.
const LONGEST_LIFE: SignedDuration = SignedDuration::from_hours(25);

/// Checks an external assertion as `application`'s: issuer, subject, audience, lifetime, validity, signature.
pub(super) async fn check(
    world: &World,
    state: &State,
    application: &Application,
    assertion: &Jwt,
    now: Timestamp,
) -> Result<(), Refusal> {
    if application.federated_credentials.is_empty() {
        return Err(Refusal::no_credentials(&application.client_id, &application.name));
    }
    let credential = matching(application, assertion).map_err(|refusal| refuse(state, assertion, refusal))?;
    if !world.propagation().knows(&application.client_id, credential, &state.defaults, now) {
        return Err(refuse(state, assertion, Miss::Subject));
    }
    check_lifetime(state, assertion)?;
    check_validity(assertion, now)?;
    world.issuer_keys().verify(state, assertion.text("iss"), assertion).await
}

/// What of an assertion matches no credential.
#[derive(Clone, Copy)]
enum Miss {
    Issuer,
    Subject,
    SubjectCase,
    Audience,
}

fn matching<'a>(application: &'a Application, assertion: &Jwt) -> Result<&'a FederatedCredential, Miss> {
    let (issuer, subject) = (assertion.text("iss"), assertion.text("sub"));
    let of_issuer = || application.federated_credentials.iter().filter(|one| one.issuer == issuer);
    if of_issuer().next().is_none() {
        return Err(Miss::Issuer);
    }
    let mut of_subject = of_issuer().filter(|one| one.subject == subject).peekable();
    if of_subject.peek().is_none() {
        let differs_in_case = of_issuer().any(|one| one.subject.eq_ignore_ascii_case(subject));
        return Err(if differs_in_case { Miss::SubjectCase } else { Miss::Subject });
    }
    let audiences = assertion.audiences();
    of_subject.find(|one| audiences.contains(&one.audience.as_str())).ok_or(Miss::Audience)
}

/// The refusal of a miss, as this state words it.
fn refuse(state: &State, assertion: &Jwt, miss: Miss) -> Refusal {
    let as_seen = state.defaults.assertion_refusal;
    let audience = assertion.audiences().join(", ");
    let (issuer, subject) = (assertion.text("iss"), assertion.text("sub"));
    match (state.defaults.mismatch, miss) {
        (Mismatch::Generic, _) => Refusal::no_match(&Presented { issuer, subject, audience: &audience }, as_seen),
        (Mismatch::Precise, Miss::Issuer) => Refusal::wrong_issuer(issuer),
        (Mismatch::Precise, Miss::Subject) => Refusal::wrong_subject(subject),
        (Mismatch::Precise, Miss::SubjectCase) => Refusal::wrong_subject_case(subject),
        (Mismatch::Precise, Miss::Audience) => Refusal::wrong_audience(&audience, as_seen),
    }
}

fn check_lifetime(state: &State, assertion: &Jwt) -> Result<(), Refusal> {
    let (issued, expires) = (time(assertion, "iat"), time(assertion, "exp"));
    if expires.duration_since(issued) <= LONGEST_LIFE {
        return Ok(());
    }
    Err(Refusal::lives_too_long(&net_time(issued), &net_time(expires), state.defaults.assertion_refusal))
}

/// Checks that `now` is within `nbf` and `exp`. MSAL for JavaScript rounds `nbf` to the nearest second, which is half a second
/// ahead at most, and signs in; how much more Entra tolerates is unknown.
pub(crate) fn check_validity(assertion: &Jwt, now: Timestamp) -> Result<(), Refusal> {
    let (from, until) = (time(assertion, "nbf"), time(assertion, "exp"));
    if from <= now.saturating_add(ROUNDED).unwrap_or(now) && now < until {
        return Ok(());
    }
    Err(Refusal::outside_validity(&net_time(now), &net_time(from), &net_time(until)))
}

/// How far ahead a time may be that was rounded.
const ROUNDED: SignedDuration = SignedDuration::from_millis(500);

/// A time claim; 1970 when it is absent, as Entra writes it then.
fn time(assertion: &Jwt, claim: &str) -> Timestamp {
    let seconds = assertion.seconds(claim).unwrap_or_default();
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

/// A time as .NET writes it in round-trip form: seven digits of fraction.
fn net_time(time: Timestamp) -> String {
    let ticks = time.subsec_nanosecond().unsigned_abs() / 100;
    format!("{}.{ticks:07}Z", time.strftime("%Y-%m-%dT%H:%M:%S"))
}
