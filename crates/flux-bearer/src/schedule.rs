//! When a token is replaced, when it is still good, and when to try again.
//!
//! Two predicates and never one: [`needs_refresh`] says to start trying, [`is_usable`] says that what is there still works.

use std::time::Duration;

use aws_lc_rs::digest;
use jiff::{SignedDuration, Timestamp};

use crate::failure::{Class, Failure};

/// The window, in thousandths of the lifetime that the issuer gave, in which a token is replaced.
///
/// 45 % leaves more than half of the life to outlast an outage; the five before it spread the load. Jitter is only ever
/// early, so it never eats into that promise.
pub const REFRESH_WINDOW: std::ops::Range<u32> = 400..450;

/// Longest time between two refreshes, however long a token lives: a token of 24 hours must not hide a broken
/// federation for half a day.
pub const MAX_REFRESH_INTERVAL: Duration = Duration::from_secs(3600);

/// How far in the future an issue time may lie before it means that the clock was set back.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// How long a change in Entra ID may take to spread, and how often it is asked meanwhile. Both are what Microsoft's page
/// on federation considerations gives for a new federated credential.
pub const PROPAGATION: Duration = Duration::from_secs(600);
const PROPAGATION_RETRY: Duration = Duration::from_secs(15);

/// When a refusal is tried again, before it counts as permanent. An API server that has just started refuses what its roles
/// allow until it has read them, for a second or two.
const STARTING: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(5)];

/// Between two attempts that only a person's change can help.
pub const PERMANENT_RETRY: Duration = Duration::from_secs(300);

/// Longest pause between two attempts: what recovery after an outage takes at most.
const MAX_RETRY: Duration = Duration::from_secs(60);

/// When the token of the object with this uid is replaced.
///
/// Guarantees: never after 45 % of the lifetime, never after `refresh_hint` (the issuer's `refresh_in`), never later than
/// `longest` after the issue, and at least a second after it. It depends on nothing else, so every replica and every
/// restart finds the same instant.
pub fn refresh_at(
    issued_at: Timestamp,
    expires_at: Timestamp,
    refresh_hint: Option<Timestamp>,
    longest: Duration,
    uid: &str,
) -> Timestamp {
    let lifetime = between(issued_at, expires_at);
    let window = REFRESH_WINDOW.end - REFRESH_WINDOW.start;
    let early = window * u32::from(point(uid)) / u32::from(u16::MAX);
    let share = lifetime * (REFRESH_WINDOW.end - early) / 1000;
    // The longest interval is spread like the lifetime: many objects of one day-long token would refresh in one instant.
    let longest = longest * (1000 - early) / 1000;
    let wanted = issued_at + share.min(longest);
    let hinted = refresh_hint.map_or(wanted, |hint| hint.min(wanted));
    hinted.max(issued_at + Duration::from_secs(1))
}

/// Whether to start trying to replace a token. A token issued in the future means that the clock was set back: then
/// nothing about its times can be trusted.
pub fn needs_refresh(issued_at: Timestamp, refresh_at: Timestamp, now: Timestamp) -> bool {
    now >= refresh_at || issued_at > now + CLOCK_TOLERANCE
}

/// Whether a token still works.
pub fn is_usable(expires_at: Timestamp, now: Timestamp) -> bool {
    now < expires_at
}

/// A run of failed attempts at one thing.
#[derive(Clone, Debug)]
pub struct Failing {
    /// The latest failure.
    pub failure: Failure,
    /// When the first attempt of the run failed.
    pub since: Timestamp,
    /// When the latest attempt failed.
    pub at: Timestamp,
    /// How many attempts have failed in a row.
    pub attempts: u32,
    /// When the next attempt is made.
    pub retry_at: Timestamp,
}

impl Failing {
    /// The run of failures after one more, at `now`. `lifetime` is that of the token at stake, where one is known.
    pub fn after(previous: Option<&Self>, failure: Failure, lifetime: Option<Duration>, now: Timestamp) -> Self {
        let since = previous.map_or(now, |run| run.since);
        // A refusal after an outage is the API server's start, however long it was away: its tries are counted by themselves.
        let anew = |run: &&Self| failure.class != Class::Starting || run.failure.class == Class::Starting;
        let attempts = previous.filter(anew).map_or(0, |run| run.attempts).saturating_add(1);
        let delay = retry_delay(&failure, attempts, between(since, now), lifetime);
        Self { failure, since, at: now, attempts, retry_at: now + delay }
    }

    /// The clock that it was dated by was set by `step`.
    pub fn follow(&mut self, step: SignedDuration) {
        for time in [&mut self.since, &mut self.at, &mut self.retry_at] {
            *time = moved(*time, step);
        }
    }

    /// Whether waiting alone no longer helps.
    pub fn is_stalled(&self) -> bool {
        match self.failure.class {
            Class::Transient => false,
            Class::Propagation => between(self.since, self.at) >= PROPAGATION,
            Class::Reread => self.attempts > 1,
            Class::Starting | Class::Permanent => true,
        }
    }
}

/// The pause after the `attempts`-th failure in a row, the first of which was `run` ago.
///
/// Transient failures double from a second up to `clamp(lifetime / 60, 1 s, 60 s)`. A `Retry-After` is obeyed where it is
/// longer.
fn retry_delay(failure: &Failure, attempts: u32, run: Duration, lifetime: Option<Duration>) -> Duration {
    let cap = lifetime.map_or(MAX_RETRY, |life| (life / 60).clamp(Duration::from_secs(1), MAX_RETRY));
    let doubled = Duration::from_secs(1 << attempts.saturating_sub(1).min(6)).min(cap);
    let own = match failure.class {
        Class::Transient => doubled,
        Class::Propagation if run < PROPAGATION => doubled.min(PROPAGATION_RETRY),
        Class::Propagation => MAX_RETRY,
        Class::Starting => starting(attempts),
        Class::Reread if attempts <= 1 => Duration::ZERO,
        Class::Reread | Class::Permanent => PERMANENT_RETRY,
    };
    own.max(failure.retry_after.unwrap_or_default())
}

fn starting(attempts: u32) -> Duration {
    let at = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
    STARTING.get(at).copied().unwrap_or(PERMANENT_RETRY)
}

/// Time from `earlier` to `later`; nothing when they are the other way round.
pub fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}

/// `time` as a clock shows it that has been set by `step`; the end of time where there is no such time.
pub fn moved(time: Timestamp, step: SignedDuration) -> Timestamp {
    // An error is for units of the calendar alone.
    time.saturating_add(step).unwrap_or(time)
}

/// A point that depends on the uid alone, evenly spread over the whole range.
fn point(uid: &str) -> u16 {
    let hash = digest::digest(&digest::SHA256, uid.as_bytes());
    hash.as_ref().first_chunk().map_or(0, |first| u16::from_be_bytes(*first))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::failure::entra;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
    const HOUR: Duration = Duration::from_secs(3600);

    fn of(lifetime: Duration, uid: &str) -> Duration {
        between(NOW, refresh_at(NOW, NOW + lifetime, None, HOUR, uid))
    }

    #[test]
    fn a_refusal_after_an_outage_is_tried_as_soon_as_one_out_of_the_blue() {
        let failure = |class| Failure::new("Failed", class, "code", "cause", "fix");
        let mut run = None;
        for _ in 0..9 {
            run = Some(Failing::after(run.as_ref(), failure(Class::Transient), None, NOW));
        }
        let refused = Failing::after(run.as_ref(), failure(Class::Starting), None, NOW);
        assert_eq!((refused.attempts, between(NOW, refused.retry_at)), (1, STARTING[0]));
    }

    #[test]
    fn a_refusal_is_tried_twice_more_before_it_counts_as_permanent() {
        let refused = || Failure::new("Forbidden", Class::Starting, "HTTP 403", "refused", "allow it");
        let mut run: Option<Failing> = None;
        let mut pauses = Vec::new();
        for _ in 0..4 {
            let at = run.as_ref().map_or(NOW, |run| run.retry_at);
            let next = Failing::after(run.as_ref(), refused(), None, at);
            assert!(next.is_stalled(), "only a person can help, or an API server that is still starting");
            pauses.push(between(next.at, next.retry_at).as_secs());
            run = Some(next);
        }
        assert_eq!(pauses, [2, 5, 300, 300]);
    }

    proptest! {
        #[test]
        fn row_12_a_token_is_replaced_between_40_and_45_percent_of_its_life(secs in 10_u64..8000, uid in ".*") {
            let lifetime = Duration::from_secs(secs);
            let at = of(lifetime, &uid);
            prop_assert!(at >= lifetime * 400 / 1000 && at <= lifetime * 450 / 1000, "{at:?}");
        }

        #[test]
        fn row_13_a_day_long_token_is_replaced_within_the_hour(secs in 9000_u64..172_800, uid in ".*") {
            let at = of(Duration::from_secs(secs), &uid);
            prop_assert!(at <= HOUR && at >= HOUR * 949 / 1000, "{at:?}");
        }

        #[test]
        fn an_earlier_hint_wins_and_a_later_one_does_not(secs in 60_u64..8000, hint in 2_u64..8000) {
            let expires = NOW + Duration::from_secs(secs);
            let hinted = refresh_at(NOW, expires, Some(NOW + Duration::from_secs(hint)), HOUR, "u");
            let alone = refresh_at(NOW, expires, None, HOUR, "u");
            prop_assert_eq!(hinted, alone.min(NOW + Duration::from_secs(hint)));
        }
    }

    #[test]
    fn row_46_objects_are_spread_over_the_window() {
        let at: Vec<u64> = (0..1000).map(|n| of(Duration::from_secs(7000), &format!("uid-{n}")).as_secs()).collect();
        let thirds = [2800..2917, 2917..3033, 3033..3151].map(|third| at.iter().filter(|t| third.contains(*t)).count());
        assert!(thirds.iter().all(|count| *count > 250), "{thirds:?}");
    }

    #[test]
    fn a_token_is_never_replaced_in_the_second_of_its_issue() {
        let second = NOW + Duration::from_secs(1);
        assert_eq!(refresh_at(NOW, NOW + HOUR, Some(NOW), HOUR, "u"), second);
        assert_eq!(refresh_at(NOW, second, None, HOUR, "u"), second);
    }

    #[test]
    fn a_run_of_failures_follows_its_clock() {
        let mut run = Failing::after(None, entra::from_answer(&[90033], "", 400, None), None, NOW);
        run.follow(SignedDuration::from_hours(-1));
        let earlier = NOW - HOUR;
        assert_eq!((run.since, run.at, run.retry_at), (earlier, earlier, earlier + Duration::from_secs(1)));
        assert_eq!(moved(Timestamp::MAX, SignedDuration::from_secs(1)), Timestamp::MAX);
    }

    #[test]
    fn a_clock_that_was_set_back_makes_everything_due() {
        let refresh = NOW + HOUR;
        assert!(!needs_refresh(NOW, refresh, NOW));
        assert!(!needs_refresh(NOW, refresh, NOW - Duration::from_secs(5)));
        assert!(needs_refresh(NOW, refresh, NOW - Duration::from_secs(6)));
        assert!(needs_refresh(NOW, refresh, NOW - Duration::from_secs(60)));
        assert!(needs_refresh(NOW, refresh, refresh));
    }

    #[test]
    fn a_token_is_usable_to_its_last_second() {
        assert!(is_usable(NOW, NOW - Duration::from_nanos(1)));
        assert!(!is_usable(NOW, NOW));
    }

    fn run(code: u32, lifetime: Option<Duration>, until: Duration) -> Vec<u64> {
        let mut delays = Vec::new();
        let mut failing: Option<Failing> = None;
        let mut now = NOW;
        while between(NOW, now) <= until {
            assert!(delays.len() < 100, "no pause at all");
            let next = Failing::after(failing.as_ref(), entra::from_answer(&[code], "", 400, None), lifetime, now);
            delays.push(between(now, next.retry_at).as_secs());
            now = next.retry_at;
            failing = Some(next);
        }
        delays
    }

    #[test]
    fn transient_failures_back_off_to_a_sixtieth_of_the_life() {
        let minutes = |n: u64| Some(Duration::from_secs(60 * n));
        assert_eq!(run(90033, minutes(10), Duration::from_secs(40)), [1, 2, 4, 8, 10, 10, 10]);
        assert_eq!(run(90033, None, Duration::from_secs(150)), [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(run(90033, minutes(1440), Duration::from_secs(60)), [1, 2, 4, 8, 16, 32]);
        assert_eq!(run(90033, Some(Duration::from_secs(20)), Duration::from_secs(3)), [1, 1, 1, 1]);
    }

    #[test]
    fn row_08_09_propagation_is_asked_every_15_seconds_for_10_minutes_then_every_60() {
        let delays = run(700_213, None, Duration::from_secs(800));
        assert_eq!(delays.get(..6), Some(&[1, 2, 4, 8, 15, 15][..]));
        assert_eq!(delays.iter().filter(|delay| **delay == 15).count(), 39);
        assert_eq!(delays.last(), Some(&60));
    }

    #[test]
    fn row_08_a_permanent_failure_is_tried_every_5_minutes_and_a_stale_credential_once_at_once() {
        assert_eq!(run(90002, None, Duration::from_secs(700)), [300, 300, 300]);
        assert_eq!(run(700_024, None, Duration::from_secs(400)), [0, 300, 300]);
    }

    #[test]
    fn row_05_a_retry_after_is_obeyed() {
        let failure = entra::from_status(429, Some(Duration::from_secs(120)));
        assert_eq!(Failing::after(None, failure, None, NOW).retry_at, NOW + Duration::from_secs(120));
    }

    #[test]
    fn only_what_waiting_does_not_help_is_stalled() {
        let failing = |code, attempts, after| Failing {
            failure: entra::from_answer(&[code], "", 400, None),
            since: NOW,
            at: NOW + Duration::from_secs(after),
            attempts,
            retry_at: NOW,
        };
        assert!(!failing(90033, 99, 9999).is_stalled());
        assert!(!failing(700_213, 9, 599).is_stalled());
        assert!(failing(700_213, 50, 600).is_stalled());
        assert!(!failing(700_024, 1, 0).is_stalled());
        assert!(failing(700_024, 2, 0).is_stalled());
        assert!(failing(90002, 1, 0).is_stalled());
    }
}
