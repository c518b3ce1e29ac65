//! Time that passes only while every task waits, for tests with `start_paused`.

use super::HandClock;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a test may take by the host's clock, in seconds.
const WAIT_SECONDS_MAX: u64 = 60;

/// Lets `clock` follow the test's time.
pub(crate) async fn run_clock(clock: Arc<HandClock>, step_milliseconds: u64) {
    loop {
        tokio::time::sleep(Duration::from_millis(step_milliseconds)).await;
        clock.0.fetch_add(step_milliseconds, Ordering::SeqCst);
    }
}

/// Waits for a condition, and gives how many milliseconds of the test's time that took.
pub(crate) async fn passed_until(clock: &HandClock, is_true: impl Fn() -> bool) -> u64 {
    let now = || clock.0.load(Ordering::SeqCst);
    let (began, end) = (now(), Instant::now() + Duration::from_secs(WAIT_SECONDS_MAX));
    while !is_true() {
        assert!(Instant::now() < end, "not within {} ms of the test's time", now() - began);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    now() - began
}
