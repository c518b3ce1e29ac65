//! Decides the race between the end of a job's work and its time limit: whichever comes first counts, exactly one.

use std::sync::atomic::{AtomicU8, Ordering};

const RUNNING: u8 = 0;
const ENDED: u8 = 1;
const ABANDONED: u8 = 2;

/// Shared between the engine and the work of one job.
#[derive(Debug, Default)]
pub(super) struct JobControl {
    state: AtomicU8,
}

impl JobControl {
    /// Whether the work has been told to stop. Asked between steps.
    pub(super) fn is_abandoned(&self) -> bool {
        self.state.load(Ordering::Acquire) == ABANDONED
    }

    /// The work has ended; false when it was abandoned before: then it is undone.
    pub(super) fn try_end(&self) -> bool {
        self.become_first(ENDED)
    }

    /// The time is over; false when the work had ended before: then its outcome counts.
    pub(super) fn try_abandon(&self) -> bool {
        self.become_first(ABANDONED)
    }

    fn become_first(&self, state: u8) -> bool {
        self.state.compare_exchange(RUNNING, state, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_of_end_and_abandonment_counts() {
        let ended = JobControl::default();
        assert!(ended.try_end() && !ended.try_abandon() && !ended.is_abandoned());
        let abandoned = JobControl::default();
        assert!(abandoned.try_abandon() && !abandoned.try_end() && abandoned.is_abandoned());
    }
}
