//! The controller's one wall clock.

use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::lock;

/// Smallest difference between wall and monotonic clock that counts as a step. Time synchronisation slews smaller ones.
const STEP: SignedDuration = SignedDuration::from_secs(2);

/// Wall time that follows the monotonic clock, and is set by the machine's wall clock only when it is re-checked.
///
/// Guarantees: between two re-checks it never jumps and never runs backwards, so nothing that waits is woken too early or
/// too late by somebody who sets the machine's clock.
#[derive(Clone)]
pub struct Clock {
    wall: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    anchor: Arc<Mutex<(Timestamp, Instant)>>,
}

impl Clock {
    /// The machine's clock.
    #[allow(clippy::disallowed_methods, reason = "this is the one place where the wall clock is read")]
    pub fn system() -> Self {
        Self::new(Timestamp::now)
    }

    /// A clock that reads its wall time from `wall`.
    pub fn new(wall: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let anchor = (wall(), Instant::now());
        Self { wall: Arc::new(wall), anchor: Arc::new(Mutex::new(anchor)) }
    }

    /// The wall time.
    pub fn now(&self) -> Timestamp {
        let (wall, instant) = *lock(&self.anchor);
        wall + instant.elapsed()
    }

    /// The instant of the monotonic clock at which it will be `time`; now, if that has passed.
    pub fn instant(&self, time: Timestamp) -> Instant {
        let wait = time.duration_since(self.now());
        Instant::now() + wait.try_into().unwrap_or_default()
    }

    /// Compares with the machine's wall clock and follows it if it was set, or if the machine slept; returns by how much.
    pub fn recheck(&self) -> Option<SignedDuration> {
        let wall = (self.wall)();
        let step = wall.duration_since(self.now());
        if step.abs() < STEP {
            return None;
        }
        *lock(&self.anchor) = (wall, Instant::now());
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn row_17_a_step_of_the_machines_clock_counts_only_when_it_is_rechecked() {
        let seconds = Arc::new(AtomicI64::new(1_800_000_000));
        let read = Arc::clone(&seconds);
        let clock = Clock::new(move || Timestamp::from_second(read.load(Ordering::Relaxed)).unwrap());
        let start = clock.now();
        tokio::time::advance(Duration::from_secs(60)).await;
        seconds.fetch_add(60, Ordering::Relaxed);
        assert_eq!(clock.recheck(), None);
        seconds.fetch_sub(3600, Ordering::Relaxed);
        assert_eq!(clock.now(), start + Duration::from_secs(60));
        assert_eq!(clock.recheck(), Some(SignedDuration::from_secs(-3600)));
        assert_eq!(clock.now(), start - Duration::from_secs(3540));
    }
}
