//! Waiting for what nothing announces: looked at again and again, with a limit.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// How often a condition is looked at that nothing announces.
const POLL: Duration = Duration::from_millis(5);

/// Waits until `condition` gives something, and looks again and again meanwhile.
///
/// # Errors
/// When it has not within `limit`; `what` names what was awaited.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = condition()? {
            return Ok(found);
        }
        if end <= Instant::now() {
            bail!("{what}: not within {} s", limit.as_secs());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Tries `attempt` again and again until it succeeds, and gives its last error when it has not within `limit`.
///
/// # Errors
/// See above.
pub async fn success<T>(limit: Duration, mut attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        match attempt().await {
            Err(_) if Instant::now() < end => tokio::time::sleep(POLL).await,
            outcome => return outcome,
        }
    }
}
