//! The monotonic clock, which is the same for all processes of the host.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the host was started.
#[must_use]
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Neither is ever negative.
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
