//! When to come back after a connection was lost: slower and slower, and not in step with others.

use std::time::Duration;
use uuid::Uuid;

pub const BACKOFF_MILLISECONDS_MIN: u64 = 200;
/// The longest wait, and the one after the broker has refused the client: trying faster would not help.
pub const BACKOFF_MILLISECONDS_MAX: u64 = 30_000;
/// How long a connection must have held to count as a success. More than the longest wait: two clients with
/// one id that throw each other out would otherwise do so at full speed.
pub const HELD_SECONDS_MIN: u64 = 60;

/// Doubles the wait from loss to loss.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    losses: u32,
}

impl Backoff {
    /// How long to wait after a connection that held for `held`, or was never made.
    pub(crate) fn after(&mut self, held: Option<Duration>, refused: bool) -> Duration {
        if is_success(held) {
            self.losses = 0;
        }
        let doubled = BACKOFF_MILLISECONDS_MIN.saturating_mul(1 << self.losses.min(20));
        self.losses += 1;
        let longest = if refused { BACKOFF_MILLISECONDS_MAX } else { doubled.min(BACKOFF_MILLISECONDS_MAX) };
        // Half of it is left to chance, so that a hundred agents do not return to a broker all at once.
        let chance = u64::from(Uuid::new_v4().as_fields().0);
        Duration::from_millis(longest / 2 + chance % (longest / 2 + 1))
    }
}

/// Whether a connection that held for `held` was a success.
pub(crate) fn is_success(held: Option<Duration>) -> bool {
    held.is_some_and(|held| held.as_secs() >= HELD_SECONDS_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(wait: Duration, most: u64) {
        let wait = u64::try_from(wait.as_millis()).unwrap();
        assert!((most / 2..=most).contains(&wait), "{wait} ms is not {} to {most} ms", most / 2);
    }

    #[test]
    fn waits_double_up_to_the_longest_and_start_again_after_a_success() {
        let mut backoff = Backoff::default();
        for most in [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000] {
            between(backoff.after(Some(Duration::from_secs(1)), false), most);
        }
        for _ in 0..100 {
            between(backoff.after(None, false), 30_000);
        }
        between(backoff.after(Some(Duration::from_secs(HELD_SECONDS_MIN)), false), 200);
        between(backoff.after(None, false), 400);
    }

    #[test]
    fn a_refused_client_waits_longest_at_once() {
        between(Backoff::default().after(None, true), BACKOFF_MILLISECONDS_MAX);
    }
}
