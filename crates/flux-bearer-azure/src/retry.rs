//! Trying again what passes by itself.

use std::time::Duration;

use flux_bearer::failure::Failure;
use tokio::time::sleep;

/// Waits between the attempts of a set-up, in seconds: a person looks on, and Azure's own clients wait about as long.
pub(crate) const WAITS: [u64; 3] = [1, 2, 4];

/// Longest `Retry-After` that is waited for within one call. A longer one goes to the caller, which has others to
/// serve.
pub(crate) const MAX_WAIT: Duration = Duration::from_mins(1);

/// One attempt that came to nothing, and whether another may be made.
pub(crate) struct Setback {
    pub(crate) failure: Failure,
    pub(crate) passing: bool,
}

impl Setback {
    /// A failure that the next attempt would meet again.
    pub(crate) fn last(failure: Failure) -> Self {
        Self { failure, passing: false }
    }
}

/// Makes attempts until one succeeds, with a wait of so many seconds before each but the first, or as many as the last
/// answer asked for. Gives up at a setback that doesn't pass, at a longer wait than [`MAX_WAIT`], and after the last
/// attempt.
pub(crate) async fn retry<T, F>(waits: &[u64], attempt: impl Fn() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Setback>>,
{
    for wait in waits.iter().copied().map(Duration::from_secs) {
        let setback = match attempt().await {
            Ok(success) => return Ok(success),
            Err(setback) => setback,
        };
        let wait = wait.max(setback.failure.retry_after.unwrap_or_default());
        if !setback.passing || wait > MAX_WAIT {
            return Err(setback.failure);
        }
        sleep(wait).await;
    }
    attempt().await.map_err(|setback| setback.failure)
}
