//! The limits of IMDS for one machine: 20 requests a second and 5 at a time, for the identity category.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const A_SECOND: Duration = Duration::from_secs(1);
const MOST_A_SECOND: usize = 20;
const MOST_AT_A_TIME: usize = 5;

/// Counts requests. Clones share the count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limit {
    inner: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    in_flight: usize,
    arrivals: VecDeque<Instant>,
}

/// A request in flight, until this is dropped.
pub(crate) struct InFlight {
    limit: Limit,
    within: bool,
}

impl InFlight {
    /// Whether the request is within the limits.
    pub(crate) fn is_within(&self) -> bool {
        self.within
    }
}

impl Limit {
    /// Counts a request that arrives now.
    pub(crate) fn arrive(&self) -> InFlight {
        let now = Instant::now();
        let mut seen = self.lock();
        seen.arrivals.retain(|arrival| now.duration_since(*arrival) < A_SECOND);
        let within = seen.in_flight < MOST_AT_A_TIME && seen.arrivals.len() < MOST_A_SECOND;
        seen.arrivals.push_back(now);
        seen.in_flight += 1;
        drop(seen);
        InFlight { limit: self.clone(), within }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.limit.lock().in_flight -= 1;
    }
}
