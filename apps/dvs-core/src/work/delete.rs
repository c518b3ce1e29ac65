//! Delete: unmounted, then destroyed. Refused, and everything as before, while something uses the volume.

use super::create::damaged;
use super::{Completed, WorkError, Worker};
use crate::job_control::JobControl;
use dvs_domain::attachment::Attachment;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::{DeleteRequest, Target};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::ports::{DestroyError, Mounted, Source, VolumeStore};
use dvs_domain::user::{User, in_use, together};
use dvs_domain::volume::{Entry, VolumeId};

/// What a delete job is about, as far as there is something.
pub(super) struct Found {
    pub(super) volume: VolumeId,
    pub(super) attachment: Option<Attachment>,
}

impl Worker {
    pub(super) async fn delete(
        &self,
        request: &DeleteRequest,
        control: &JobControl,
    ) -> Result<Completed, WorkError> {
        let Some(found) = self.find(&request.target).await? else {
            return if control.try_end() {
                Ok(Completed { volume: None, changed: false, released: None })
            } else {
                Err(WorkError::ABANDONED)
            };
        };
        if control.is_abandoned() {
            return Err(WorkError::ABANDONED);
        }
        let store = self.stores.get(&found.volume.store)?.as_ref();
        let changed = match self.there(store, &found).await? {
            Some(source) => {
                self.refuse_users(&found, source.as_ref()).await?;
                self.remove(store, &found, source, control).await?;
                true
            }
            None => false,
        };
        let released = match &found.attachment {
            Some(attachment) => match self.clear_away_at_end(attachment).await {
                Ok(released) => released,
                Err(failure) => return Err(WorkError::FailedLate(failure, found.volume)),
            },
            None => None,
        };
        let changed = changed || found.attachment.is_some();
        if control.try_end() {
            Ok(Completed { volume: Some(found.volume), changed, released })
        } else {
            Err(WorkError::Abandoned { undone: true, released })
        }
    }

    /// Whether the volume is there, in order; with its source where it is attached. That keeps the device open from
    /// before the unmount until the image is gone: automatic detach cannot hand it to somebody else, and the store can
    /// prove on it that nobody holds the file system.
    async fn there(&self, store: &dyn VolumeStore, found: &Found) -> Result<Option<Option<Source>>, Failure> {
        let id = &found.volume;
        if let Some(attachment) = &found.attachment {
            match store.source(&id.name).await {
                Ok(source) => return Ok(Some(Some(source))),
                Err(failure) if failure.code() == FailureCode::NotFound => return Ok(None),
                // A delete makes room, and needs no sound file system. What is guarded for want of either needs no source:
                // nothing shows it.
                Err(failure)
                    if matches!(failure.code(), FailureCode::NoSpace | FailureCode::Damaged)
                        && !self.is_something_at(&attachment.mount_point).await? => {}
                Err(failure) => return Err(failure),
            }
        }
        match store.look_up(&id.name).await? {
            Some(Entry::Damaged { reason, .. }) => Err(damaged(id, &reason)),
            Some(Entry::Sound(_)) => Ok(Some(None)),
            None => Ok(None),
        }
    }

    /// Finds the volume by its mount point, or by its name.
    pub(super) async fn find(&self, target: &Target) -> Result<Option<Found>, Failure> {
        let attached =
            target.mount_point().and_then(|there| self.attachments.book(|book| book.at(there).cloned()));
        if let Some(attachment) = attached {
            self.refuse_other_name(target, &attachment)?;
            return Ok(Some(Found { volume: attachment.volume.clone(), attachment: Some(attachment) }));
        }
        if let Some(mount_point) = target.mount_point()
            && let Some(Mounted::Something(mounted)) = self.mounter.survey(mount_point).await?.mounted
        {
            return Err(Failure::new(
                FailureCode::Conflict,
                format!("{mounted} is mounted there, no volume"),
            )
            .with_hint("DVS deletes only what it has made"));
        }
        let Some((volume, _)) = self.stores.find(target.store.as_ref(), &target.name()).await? else {
            return Ok(self.left_of_deleted(target));
        };
        let attachment = self.attachments.book(|book| book.of(&volume).cloned());
        match (target.mount_point(), &attachment) {
            (Some(asked), Some(attachment)) => Err(Failure::new(
                FailureCode::Conflict,
                format!("volume `{volume}` is attached at `{}`, not at `{asked}`", attachment.mount_point),
            )),
            _ => Ok(Some(Found { volume, attachment })),
        }
    }

    /// What a delete by name has left when it was cut off after its decision: the attachment of a volume that is
    /// gone.
    fn left_of_deleted(&self, target: &Target) -> Option<Found> {
        let name = target.given_name().filter(|_| target.mount_point().is_none())?;
        let is_meant = |volume: &VolumeId| target.store.as_ref().is_none_or(|store| *store == volume.store);
        let attachment =
            self.attachments.book(|book| book.named(name).find(|found| is_meant(&found.volume)).cloned())?;
        Some(Found { volume: attachment.volume.clone(), attachment: Some(attachment) })
    }

    /// Removes the directories that DVS made, and the attachment: from the journal too, unless it gives the mount point,
    /// which the end of the job drops.
    async fn clear_away_at_end(&self, attachment: &Attachment) -> Result<Option<MountPoint>, Failure> {
        let mount_point = &attachment.mount_point;
        self.uncover(mount_point).await?;
        if self.attachments.release_alone(mount_point, self.mounter.as_ref()).await? {
            return Ok(Some(mount_point.clone()));
        }
        self.attachments.release(mount_point, self.mounter.as_ref()).await.map(|()| None)
    }

    /// Removes the directories that DVS made, and forgets the attachment.
    pub(crate) async fn clear_away(&self, attachment: &Attachment) -> Result<(), Failure> {
        self.uncover(&attachment.mount_point).await?;
        self.attachments.release(&attachment.mount_point, self.mounter.as_ref()).await
    }

    /// Takes away the guard of a volume that is gone.
    async fn uncover(&self, mount_point: &MountPoint) -> Result<(), Failure> {
        match self.mounter.survey(mount_point).await?.mounted {
            Some(Mounted::Something(mounted)) => Err(Failure::new(
                FailureCode::Conflict,
                format!("the volume is gone, and {mounted} is mounted in its place"),
            )),
            Some(Mounted::Guard) => self.mounter.unguard(mount_point).await,
            None => Ok(()),
        }
    }

    fn refuse_other_name(&self, target: &Target, attachment: &Attachment) -> Result<(), Failure> {
        let there = &attachment.volume;
        let other_name = target.given_name().is_some_and(|name| *name != there.name);
        let other_store = target.store.as_ref().is_some_and(|store| *store != there.store);
        if other_name || other_store {
            return Err(Failure::new(
                FailureCode::Conflict,
                format!("volume `{there}` is attached at `{}`", attachment.mount_point),
            ));
        }
        Ok(())
    }

    /// Containers refer to a volume also while nothing in the kernel holds it.
    async fn refuse_users(&self, found: &Found, source: Option<&Source>) -> Result<(), Failure> {
        let mount_point = found.attachment.as_ref().map(|attachment| &attachment.mount_point);
        let users = self
            .references
            .users_of(&found.volume, mount_point)
            .await
            .map_err(|failure| failure.at_step("ask for containers"))?;
        if users.is_empty() {
            return Ok(());
        }
        Err(in_use(&together(users, self.holders(found, source).await)))
    }

    /// Who holds it besides: the operator must find them all.
    async fn holders(&self, found: &Found, source: Option<&Source>) -> Vec<User> {
        match (&found.attachment, source) {
            (Some(attachment), Some(source)) => {
                self.mounter.holders_of(source, &attachment.mount_point).await
            }
            _ => Vec::new(), // The containers are reason enough.
        }
    }

    async fn remove(
        &self,
        store: &dyn VolumeStore,
        found: &Found,
        source: Option<Source>,
        control: &JobControl,
    ) -> Result<(), WorkError> {
        let id = &found.volume;
        let (Some(attachment), Some(source)) = (&found.attachment, source) else {
            return destroy(store, id, None, control).await.map_err(|not_destroyed| match not_destroyed {
                NotDestroyed::Untouched(stop) => stop,
                NotDestroyed::Decided(failure) => WorkError::FailedLate(failure, id.clone()),
            });
        };
        let mount_point = &attachment.mount_point;
        if let Err(failure) = self.mounter.detach(&source, mount_point).await {
            return Err(self.naming_holders(failure, &source, mount_point).await.into());
        }
        let Err(not_destroyed) = destroy(store, id, Some(&source), control).await else { return Ok(()) };
        match not_destroyed {
            NotDestroyed::Decided(failure) => {
                Err(WorkError::FailedLate(self.guard_and_note(attachment, failure).await, id.clone()))
            }
            NotDestroyed::Untouched(stop) => {
                // At once: nobody may write below meanwhile. Only then there is time to look for who holds it.
                let mounted = self.mount_again(&source, attachment).await;
                let stop = match stop {
                    WorkError::Failed(failure) => {
                        WorkError::Failed(self.naming_holders(failure, &source, mount_point).await)
                    }
                    stop => stop,
                };
                Err(match mounted {
                    Ok(()) => stop,
                    Err(undo) => stop.undo_failed(undo),
                })
            }
        }
    }

    pub(super) async fn is_something_at(&self, mount_point: &MountPoint) -> Result<bool, Failure> {
        let survey = self.mounter.survey(mount_point).await?;
        Ok(matches!(survey.mounted, Some(Mounted::Something(_))))
    }

    /// A volume that cannot be mounted again is guarded and reported, as after a start.
    async fn mount_again(&self, source: &Source, attachment: &Attachment) -> Result<(), Failure> {
        match self.mounter.attach(source, &attachment.mount_point, &[]).await {
            Ok(()) => Ok(()),
            Err(failure) => Err(self.guard_and_note(attachment, failure).await),
        }
    }

    /// The kernel only says that somebody holds the volume: whoever can be found is named.
    async fn naming_holders(&self, failure: Failure, source: &Source, mount_point: &MountPoint) -> Failure {
        if failure.code() != FailureCode::InUse {
            return failure;
        }
        let holders = self.mounter.holders_of(source, mount_point).await;
        if holders.is_empty() { failure } else { in_use(&holders) }
    }
}

/// Why a volume is not destroyed.
enum NotDestroyed {
    /// It is as it was.
    Untouched(WorkError),
    /// Its end was decided, or may have been.
    Decided(Failure),
}

/// The last moment at which a delete can be given up: what is decided is never undone.
async fn destroy(
    store: &dyn VolumeStore,
    id: &VolumeId,
    source: Option<&Source>,
    control: &JobControl,
) -> Result<(), NotDestroyed> {
    if control.is_abandoned() {
        return Err(NotDestroyed::Untouched(WorkError::ABANDONED));
    }
    store.destroy(&id.name, source).await.map(drop).map_err(|error| match error {
        DestroyError::Refused(failure) => NotDestroyed::Untouched(failure.into()),
        DestroyError::Decided(failure) => NotDestroyed::Decided(failure),
    })
}
