//! What is attached on this node: the book in memory, and the same in the journal, which is the truth.

use dvs_domain::attachment::{Attachment, AttachmentTable};
use dvs_domain::failure::{Failure, FailureReport};
use dvs_domain::ledger::Change;
use dvs_domain::mount_point::MountPoint;
use dvs_domain::ports::{Journal, Mounter};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The attachments of this node. Lanes keep two jobs from changing the same place at once.
pub struct AttachmentRegistry {
    journal: Arc<dyn Journal>,
    book: Mutex<AttachmentTable>,
    directories: tokio::sync::RwLock<()>,
    /// Where a volume should be attached and is not, and why.
    troubles: Mutex<BTreeMap<MountPoint, FailureReport>>,
}

impl AttachmentRegistry {
    /// The attachments as the journal has them.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, remembered: impl IntoIterator<Item = Attachment>) -> Self {
        let mut book = AttachmentTable::default();
        remembered.into_iter().for_each(|attachment| book.put(attachment));
        Self {
            journal,
            book: Mutex::new(book),
            directories: tokio::sync::RwLock::default(),
            troubles: Mutex::default(),
        }
    }

    /// Asks the book.
    pub fn book<T>(&self, ask: impl FnOnce(&AttachmentTable) -> T) -> T {
        ask(&self.locked())
    }

    /// Remembers `attachment`. It is on disk when this returns. Where this is cut off, nobody knows whether it is: then
    /// it is remembered here, so that it is taken back.
    ///
    /// # Errors
    /// As [`Journal::commit`]; then nothing has changed.
    pub async fn remember(&self, attachment: Attachment) -> Result<(), Failure> {
        let there = &attachment.mount_point;
        let before = self.book(|book| book.at(there).cloned());
        self.locked().put(attachment.clone());
        let recorded = self.journal.commit(&[Change::PutAttachment(attachment.clone())]).await;
        match (&recorded, before) {
            (Ok(()), _) => self.note(there, None),
            (Err(_), Some(before)) => self.locked().put(before),
            (Err(_), None) => self.locked().remove(there),
        }
        recorded.map_err(|failure| failure.at_step("remember the attachment"))
    }

    /// Keeps the directories that mount points share as they are: between looking at them and remembering who made
    /// them, nobody removes one. Many may hold them at once.
    pub async fn hold_directories(&self) -> tokio::sync::RwLockReadGuard<'_, ()> {
        self.directories.read().await
    }

    /// Lets the attachment at `mount_point` go: removes its directories, hands those that others still need to
    /// them, and forgets it. The directories go first: a crash in between forgets none.
    ///
    /// # Errors
    /// As [`Mounter::remove_directories`] and [`Journal::commit`]; then it is still remembered.
    pub async fn release(&self, mount_point: &MountPoint, mounter: &dyn Mounter) -> Result<(), Failure> {
        let _alone = self.directories.write().await;
        let release = self.book(|book| book.release(mount_point));
        mounter.remove_directories(&release.remove).await?;
        let heirs = release.heirs.iter().cloned().map(Change::PutAttachment);
        let changes: Vec<Change> = heirs.chain([Change::DropAttachment(mount_point.clone())]).collect();
        self.journal.commit(&changes).await.map_err(|failure| failure.at_step("forget the attachment"))?;
        release.heirs.into_iter().for_each(|heir| self.locked().put(heir));
        self.forget(mount_point);
        Ok(())
    }

    /// Likewise, if the directories are nobody else's, but leaves the journal to the caller, who works alone on this
    /// mount point until then: [`Change::DropAttachment`]. Says whether they were; else nothing was done.
    ///
    /// # Errors
    /// As [`Mounter::remove_directories`]; then it is still remembered.
    pub async fn release_alone(
        &self,
        mount_point: &MountPoint,
        mounter: &dyn Mounter,
    ) -> Result<bool, Failure> {
        let _held = self.hold_directories().await;
        let release = self.book(|book| book.release(mount_point));
        // No other mount point is inside of this one: its own directory is nobody else's.
        if !release.heirs.is_empty() || release.remove.iter().any(|directory| directory != mount_point) {
            return Ok(false);
        }
        mounter.remove_directories(&release.remove).await?;
        // Nobody may leave it a directory any more: what is written of it now would outlast it.
        self.forget(mount_point);
        Ok(true)
    }

    fn forget(&self, mount_point: &MountPoint) {
        self.note(mount_point, None);
        self.locked().remove(mount_point);
    }

    /// Why the volume that should be attached at `mount_point` is not.
    pub fn trouble_at(&self, mount_point: &MountPoint) -> Option<FailureReport> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).get(mount_point).cloned()
    }

    /// Notes that the volume at `mount_point` could not be attached, or is now.
    pub fn note(&self, mount_point: &MountPoint, trouble: Option<FailureReport>) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        match trouble {
            Some(trouble) => troubles.insert(mount_point.clone(), trouble),
            None => troubles.remove(mount_point),
        };
    }

    fn locked(&self) -> MutexGuard<'_, AttachmentTable> {
        // Every change of the book is one insert or one remove, so a panic elsewhere cannot leave it half-done.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use dvs_domain::attachment::Holder;
    use dvs_domain::failure::FailureCode;
    use dvs_domain::ledger::Remembered;
    use dvs_domain::names::{StoreName, VolumeName};
    use dvs_domain::volume::VolumeId;
    use futures::FutureExt;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A journal that never says that it has written, or says that it cannot.
    #[derive(Default)]
    struct StuckJournal {
        fails: AtomicBool,
    }

    #[async_trait]
    impl Journal for StuckJournal {
        async fn load(&self) -> Result<Remembered, Failure> {
            Ok(Remembered::default())
        }

        async fn commit(&self, _: &[Change]) -> Result<(), Failure> {
            if self.fails.load(Ordering::SeqCst) {
                return Err(Failure::new(FailureCode::NoSpace, "the journal is full"));
            }
            std::future::pending().await
        }
    }

    fn attachment(holders: Vec<Holder>) -> Attachment {
        let volume = VolumeId { store: StoreName::new("x").unwrap(), name: VolumeName::new("v").unwrap() };
        let mount_point = MountPoint::new("/mnt/a").unwrap();
        Attachment { volume, mount_point, made_directories: Vec::new(), holders }
    }

    #[test]
    fn what_may_be_on_disk_is_in_the_book_and_what_is_not_is_not() {
        let journal = Arc::new(StuckJournal::default());
        let node = AttachmentRegistry::new(journal.clone(), []);
        let (first, second) = (attachment(Vec::new()), attachment([Holder::Docker("id".to_owned())].into()));
        let in_book = || node.book(|book| book.at(&first.mount_point).cloned());
        journal.fails.store(true, Ordering::SeqCst);
        assert!(node.remember(first.clone()).now_or_never().unwrap().is_err());
        assert_eq!(in_book(), None);
        journal.fails.store(false, Ordering::SeqCst);
        assert!(node.remember(first.clone()).now_or_never().is_none(), "cut off");
        assert_eq!(in_book(), Some(first.clone()));
        journal.fails.store(true, Ordering::SeqCst);
        assert!(node.remember(second).now_or_never().unwrap().is_err());
        assert_eq!(in_book(), Some(first.clone()), "as it was before");
    }
}
