//! The world's one clock: wall time that follows tokio's monotonic clock, so that a paused tokio clock moves it too.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Wall time of the simulated world.
///
/// Guarantees: it advances exactly as [`tokio::time::Instant`] does, except for the steps that a test makes with
/// [`Clock::step`]. Clones share the clock.
#[derive(Clone, Debug)]
pub struct Clock {
    inner: Arc<Mutex<Anchor>>,
}

#[derive(Debug)]
struct Anchor {
    wall: Timestamp,
    instant: Instant,
}

impl Clock {
    /// A clock that shows `wall` now.
    pub fn starting_at(wall: Timestamp) -> Self {
        Self { inner: Arc::new(Mutex::new(Anchor { wall, instant: Instant::now() })) }
    }

    /// The wall time of this world.
    pub fn now(&self) -> Timestamp {
        let anchor = self.anchor();
        anchor.wall + anchor.instant.elapsed()
    }

    /// Moves the wall clock by `by` (either way) without any monotonic time passing.
    pub fn step(&self, by: SignedDuration) {
        let mut anchor = self.anchor();
        anchor.wall += by;
    }

    /// A second clock that shows the same time now and is stepped on its own: a machine whose clock is off.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::starting_at(self.now())
    }

    /// Lets `duration` of monotonic time pass.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    fn anchor(&self) -> std::sync::MutexGuard<'_, Anchor> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
