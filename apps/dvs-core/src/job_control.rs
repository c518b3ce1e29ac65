//! What the engine and the work of one job share. The line between the work and its time limit: exactly one of "it
//! has ended" and "it is abandoned" becomes true, whoever is first. And what the work leaves to its end.

use dvs_domain::mount_point::MountPoint;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

const RUNNING: u8 = 0;
const ENDED: u8 = 1;
const ABANDONED: u8 = 2;

/// Shared between the engine and the work of one job.
#[derive(Debug, Default)]
pub(super) struct JobControl {
    state: AtomicU8,
    to_forget: Mutex<Option<MountPoint>>,
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

    /// The attachment at `mount_point` is gone, and is forgotten in one commit with the end of the job.
    pub(super) fn forget_at_end(&self, mount_point: MountPoint) {
        *self.to_forget.lock().unwrap_or_else(PoisonError::into_inner) = Some(mount_point);
    }

    /// Which attachment is to be forgotten, now that the work has ended.
    pub(super) fn take_to_forget(&self) -> Option<MountPoint> {
        self.to_forget.lock().unwrap_or_else(PoisonError::into_inner).take()
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
