//! A journal in memory.

use async_trait::async_trait;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::ledger::{Change, Remembered};
use dvs_domain::ports::Journal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Tells a kind of change.
pub(crate) type Kind = fn(&Change) -> bool;

/// A journal that forgets nothing but with the process, and fails on demand.
#[derive(Default)]
pub(crate) struct MemoryJournal {
    remembered: Mutex<Remembered>,
    /// Commits that hold a change of this kind fail: set by tests.
    pub(crate) fails_for: Mutex<Option<Kind>>,
    /// How often that happened.
    pub(crate) refusals: AtomicU64,
    /// Commits wait while this is so: set by tests.
    pub(crate) gate_is_closed: AtomicBool,
    pub(crate) gate: Notify,
    /// How many wait.
    pub(crate) waiting: AtomicU64,
    /// How long a commit takes: set by tests whose time stands still while anybody works.
    pub(crate) takes_milliseconds: AtomicU64,
    /// What was committed together.
    committed: Mutex<Vec<Vec<Change>>>,
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn load(&self) -> Result<Remembered, Failure> {
        Ok(self.remembered.lock().unwrap().clone())
    }

    async fn commit(&self, changes: &[Change]) -> Result<(), Failure> {
        if self.fails_for.lock().unwrap().is_some_and(|fails| changes.iter().any(fails)) {
            self.refusals.fetch_add(1, Ordering::SeqCst);
            return Err(Failure::new(FailureCode::NoSpace, "the journal is full"));
        }
        while self.gate_is_closed.load(Ordering::SeqCst) {
            let opened = self.gate.notified();
            self.waiting.fetch_add(1, Ordering::SeqCst);
            opened.await;
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        match self.takes_milliseconds.load(Ordering::SeqCst) {
            0 => self.committed.lock().unwrap().push(changes.to_vec()),
            milliseconds => tokio::time::sleep(Duration::from_millis(milliseconds)).await,
        }
        let mut remembered = self.remembered.lock().unwrap();
        for change in changes.iter().cloned() {
            match change {
                Change::PutJob(record) => {
                    remembered.jobs.retain(|other| other.key() != record.key());
                    remembered.jobs.push(*record);
                }
                Change::DropJob(key) => remembered.jobs.retain(|other| other.key() != key),
                Change::PutRefusal(number, refusal) => remembered.refusals.push((number, refusal)),
                Change::DropRefusal(number) => remembered.refusals.retain(|(other, _)| *other != number),
                Change::PutAttachment(attachment) => {
                    remembered.attachments.retain(|other| other.mount_point != attachment.mount_point);
                    remembered.attachments.push(attachment);
                }
                Change::DropAttachment(there) => {
                    remembered.attachments.retain(|other| other.mount_point != there);
                }
            }
        }
        Ok(())
    }
}

impl MemoryJournal {
    /// What losing the state folder does.
    pub(crate) fn forget_everything(&self) {
        *self.remembered.lock().unwrap() = Remembered::default();
    }

    pub(crate) fn open_gate(&self) {
        self.gate_is_closed.store(false, Ordering::SeqCst);
        self.gate.notify_waiters();
    }

    /// Whether the first commit with a change of the kind `first` had one of the kind `second` too.
    pub(crate) fn has_together(
        &self,
        first: impl Fn(&Change) -> bool,
        second: impl Fn(&Change) -> bool,
    ) -> bool {
        let committed = self.committed.lock().unwrap();
        let commit = committed.iter().find(|changes| changes.iter().any(&first));
        commit.is_some_and(|changes| changes.iter().any(second))
    }

    pub(crate) fn contents(&self) -> Remembered {
        self.remembered.lock().unwrap().clone()
    }
}
