//! Polling with a deadline: an end-to-end test waits for other programs, and says for what when it waits in vain.

use std::time::Duration;

use anyhow::anyhow;
use tokio::time::{Instant, sleep};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Looks until `look` succeeds, at most for `limit`; the error names `what` was waited for and what was seen last.
pub(crate) async fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() >= deadline => {
                return Err(anyhow!("waited {} s for {what}: {error:#}", limit.as_secs()));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}
