//! Create: a record of what is intended, the volume, the mount.

use super::{Attempts, Completed, WorkError, Worker};
use crate::job_control::JobControl;
use dvs_domain::attachment::{Attachment, Holder};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::{CreateRequest, JobKey};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::ports::{Created, DestroyError, Mounted, Source, VolumeStore};
use dvs_domain::user::in_use;
use dvs_domain::volume::{Entry, Volume, VolumeId};
use tokio::sync::RwLockReadGuard;

/// What a create is about to remember.
struct Intent<'a> {
    attachment: Attachment,
    /// The directories that mount points share, held as they are.
    _directories: RwLockReadGuard<'a, ()>,
}

impl Worker {
    /// Creates after a restart has cut off an attempt. When this one fails too, what that one has made is undone
    /// with it, however early this one failed.
    pub(super) async fn create_again(
        &self,
        request: &CreateRequest,
        attempts: &Attempts,
        control: &JobControl,
    ) -> Result<Completed, WorkError> {
        // What an attempt before the restart has changed is changed by this job.
        let as_changed = |completed| Completed { changed: true, ..completed };
        let stop = match self.create(request, attempts, control).await {
            Ok(completed) => return Ok(as_changed(completed)),
            Err(stop) => stop,
        };
        match self.undo(request, attempts).await {
            // A loss of power can break a file system that was just made. Nobody has been told of it: it is made anew.
            Ok(()) if stop.code() == Some(FailureCode::Damaged) => {
                self.create(request, attempts, control).await.map(as_changed)
            }
            Ok(()) => Err(stop),
            Err(undo) => Err(stop.not_undone(undo, self.intended_volume(request))),
        }
    }

    pub(super) async fn create(
        &self,
        request: &CreateRequest,
        attempts: &Attempts,
        control: &JobControl,
    ) -> Result<Completed, WorkError> {
        let key = &attempts.maker.job;
        let id = loop {
            let id = self.intended_volume(request);
            if !self.finish_delete_of(&id, key).await? {
                break id;
            }
        };
        let store = self.stores.get(&id.store)?.as_ref();
        let mount_point = request.target.mount_point();
        if let Some(mount_point) = mount_point {
            store.describe().admit_mount_point()?;
            self.attachments.book(|book| book.admit(&id, mount_point))?;
        }
        self.refuse_ambiguous_name(request, &id).await?;
        match store.look_up(&id.name).await? {
            Some(Entry::Sound(volume)) => request.compare(&volume.spec).into_result(&id)?,
            Some(Entry::Damaged { reason, .. }) => return Err(damaged(&id, &reason).into()),
            None => {}
        }
        let spec = request.complete(&store.describe(), id.name.clone())?;
        let volume = Volume { spec, made_by: Some(attempts.maker.clone()), made_at: self.clock.now().wall };
        let Some(mount_point) = mount_point else {
            return self.make_unattached(store, &volume, request, control).await;
        };

        let known = self.attachments.book(|book| book.at(mount_point).cloned());
        let is_new = known.is_none();
        let intent = self.intended_attachment(&id, mount_point, key, known.as_ref()).await?;
        if control.is_abandoned() {
            return Err(WorkError::ABANDONED);
        }
        // None needs the others: whatever a crash leaves of them, the job has it undone or finished.
        let (remembered, seeing, created) = futures::join!(
            self.remember_intent(intent, known.as_ref()),
            async { if is_new { self.refuse_blind_containers(mount_point).await } else { Ok(()) } },
            self.make(store, &volume, request),
        );
        let made = created.as_ref().is_ok_and(Created::is_new).then_some(&volume);
        let held = remembered.as_ref().ok().filter(|_| is_new);
        let source = match created.and_then(|created| seeing.map(|()| given_with(created))) {
            Ok(source) => source,
            Err(failure) => return Err(self.undo_create(failure, &id, made, held).await),
        };
        let attachment = match remembered {
            Ok(attachment) => attachment,
            Err(failure) => return Err(self.undo_create(failure, &id, made, None).await),
        };
        let held = is_new.then_some(&attachment);
        if let Err(failure) = self.mount(store, &attachment, source).await {
            return Err(self.undo_create(failure, &id, made, held).await);
        }
        if !control.try_end() {
            let left = self.roll_back(store, made, held).await;
            return Err(left
                .into_iter()
                .fold(WorkError::ABANDONED, |stop, undo| stop.not_undone(undo, id.clone())));
        }
        Ok(Completed { changed: made.is_some() || held.is_some(), volume: Some(id), released: None })
    }

    /// The volume that a create job is about: as named, or what is attached at its mount point, or a name that the
    /// mount point gives.
    pub(super) fn intended_volume(&self, request: &CreateRequest) -> VolumeId {
        let target = &request.target;
        let attached =
            target.mount_point().and_then(|there| self.attachments.book(|book| book.at(there).cloned()));
        match (target.given_name(), attached) {
            (None, Some(attached))
                if target.store.as_ref().is_none_or(|store| *store == attached.volume.store) =>
            {
                attached.volume
            }
            _ => {
                let store = target.store.as_ref().unwrap_or(self.stores.default_name());
                VolumeId { store: store.clone(), name: target.name() }
            }
        }
    }

    /// Finishes a delete that failed after its decision and has left the attachment of a volume that is gone. Returns
    /// whether there was one.
    async fn finish_delete_of(&self, id: &VolumeId, key: &JobKey) -> Result<bool, Failure> {
        let left = self.attachments.book(|book| book.of(id).cloned());
        let Some(left) = left.filter(|left| !left.holders.contains(&Holder::Job(key.clone()))) else {
            return Ok(false);
        };
        if self.stores.get(&id.store)?.look_up(&id.name).await?.is_some() {
            return Ok(false);
        }
        self.clear_away(&left).await?;
        Ok(true)
    }

    /// A bare name that another store has would fit two stores from then on. Stores that do not answer and never had it
    /// do not count.
    async fn refuse_ambiguous_name(&self, request: &CreateRequest, id: &VolumeId) -> Result<(), Failure> {
        if request.target.store.is_some() || request.target.given_name().is_none() {
            return Ok(());
        }
        match self.stores.find_named(&id.name).await?.0 {
            Some((other, _)) if other != *id => Err(Failure::new(
                FailureCode::Conflict,
                format!("the name `{}` is taken by `{other}`", id.name),
            )
            .with_hint("name the store too")),
            _ => Ok(()),
        }
    }

    async fn make_unattached(
        &self,
        store: &dyn VolumeStore,
        volume: &Volume,
        request: &CreateRequest,
        control: &JobControl,
    ) -> Result<Completed, WorkError> {
        let id = &volume.spec.id;
        let created =
            self.make(store, volume, request).await.map_err(|failure| WorkError::of_create(failure, id))?;
        if !control.try_end() {
            let made = created.is_new().then_some(volume);
            let left = self.roll_back(store, made, None).await;
            return Err(left
                .into_iter()
                .fold(WorkError::ABANDONED, |stop, undo| stop.not_undone(undo, id.clone())));
        }
        Ok(Completed { volume: Some(id.clone()), changed: created.is_new(), released: None })
    }

    async fn make(
        &self,
        store: &dyn VolumeStore,
        volume: &Volume,
        request: &CreateRequest,
    ) -> Result<Created, Failure> {
        let created = store.create(volume).await?;
        refuse_other(&created, volume, request)?;
        Ok(created)
    }

    /// Remembers the attachment before anything is made for it.
    async fn remember_intent(
        &self,
        intent: Intent<'_>,
        known: Option<&Attachment>,
    ) -> Result<Attachment, Failure> {
        if known != Some(&intent.attachment) {
            self.attachments.remember(intent.attachment.clone()).await?;
        }
        Ok(intent.attachment)
    }

    /// What is to be attached, as far as it may be. Nobody else removes a directory until it is remembered.
    async fn intended_attachment(
        &self,
        id: &VolumeId,
        mount_point: &MountPoint,
        key: &JobKey,
        known: Option<&Attachment>,
    ) -> Result<Intent<'_>, Failure> {
        let directories = self.attachments.hold_directories().await;
        let survey = self.mounter.survey(mount_point).await?;
        if let Some(known) = known {
            // A repeat, or an attempt that a restart cut off: the directories that are still missing are ours
            // as well.
            let mut attachment = known.clone();
            attachment.made_directories.extend(survey.missing);
            attachment.made_directories.sort();
            attachment.made_directories.dedup();
            return Ok(Intent { attachment, _directories: directories });
        }
        if let Some(Mounted::Something(mounted)) = survey.mounted {
            return Err(Failure::new(FailureCode::Conflict, format!("{mounted} is mounted there"))
                .with_hint("unmount it first, or choose another mount point"));
        }
        if survey.hides_files {
            tracing::warn!(volume = %id, %mount_point, "the directory is not empty: its files are hidden while the volume is attached");
        }
        let attachment = Attachment {
            volume: id.clone(),
            mount_point: mount_point.clone(),
            made_directories: survey.missing,
            holders: vec![Holder::Job(key.clone())],
        };
        Ok(Intent { attachment, _directories: directories })
    }

    /// A running container that has the path bound would go on writing below the volume. Whether there is one is
    /// a courtesy to ask: an engine that does not answer prevents no volume, because no data is at stake.
    async fn refuse_blind_containers(&self, mount_point: &MountPoint) -> Result<(), Failure> {
        match self.references.bound_at(mount_point).await {
            Ok(users) if users.is_empty() => Ok(()),
            Ok(users) => {
                Err(in_use(&users).with_hint("stop the container first: it would not see the volume"))
            }
            Err(failure) => {
                tracing::warn!(%mount_point, "cannot ask for containers: {}", failure.chain());
                Ok(())
            }
        }
    }

    async fn mount(
        &self,
        store: &dyn VolumeStore,
        attachment: &Attachment,
        source: Option<Source>,
    ) -> Result<(), Failure> {
        let source = match source {
            Some(source) => source,
            None => store.source(&attachment.volume.name).await?,
        };
        let directories = self.attachments.book(|book| book.directories_for(&attachment.mount_point));
        self.mounter.attach(&source, &attachment.mount_point, &directories).await?;
        self.attachments.note(&attachment.mount_point, None);
        Ok(())
    }

    /// Rolls back what a failed attempt has made, keeping `failure` and what could not be undone.
    async fn undo_create(
        &self,
        failure: Failure,
        id: &VolumeId,
        made: Option<&Volume>,
        held: Option<&Attachment>,
    ) -> WorkError {
        let undone = match self.stores.get(&id.store) {
            Ok(store) => self.roll_back(store.as_ref(), made, held).await,
            Err(failure) => vec![failure],
        };
        undone
            .into_iter()
            .fold(WorkError::of_create(failure, id), |stop, undo| stop.not_undone(undo, id.clone()))
    }

    /// Undoes what attempts of a create have made, and gives what could not be undone. What stays mounted also stays
    /// whole, and remembered.
    pub(super) async fn roll_back(
        &self,
        store: &dyn VolumeStore,
        made: Option<&Volume>,
        held: Option<&Attachment>,
    ) -> Vec<Failure> {
        if let Some(attachment) = held
            && let Err(failure) = self.unmount(store, attachment).await
        {
            return vec![failure];
        }
        let destroyed = match made {
            Some(volume) => destroy_made(store, volume).await,
            None => Ok(()),
        };
        let cleared = match held {
            Some(attachment) => self.clear_away(attachment).await,
            None => Ok(()),
        };
        [destroyed, cleared].into_iter().filter_map(Result::err).collect()
    }

    /// Needs no source, which may be what failed, where nothing is mounted.
    async fn unmount(&self, store: &dyn VolumeStore, attachment: &Attachment) -> Result<(), Failure> {
        let there = &attachment.mount_point;
        if !matches!(self.mounter.survey(there).await?.mounted, Some(Mounted::Something(_))) {
            return Ok(());
        }
        let source = store.source(&attachment.volume.name).await?;
        self.mounter.detach(&source, there).await.map(drop)
    }
}

/// Another node may have found a volume of a shared store since it was published: it stays, whole.
async fn destroy_made(store: &dyn VolumeStore, volume: &Volume) -> Result<(), Failure> {
    if store.describe().is_shared {
        tracing::warn!(
            volume = %volume.spec.id,
            "the create failed after the volume was made: other nodes may use it, so it stays, and the same create finds it"
        );
        return Ok(());
    }
    store.destroy(&volume.spec.id.name, None).await.map(drop).map_err(DestroyError::into_failure)
}

/// The source of a volume that is new, where its store had it at hand.
fn given_with(created: Created) -> Option<Source> {
    match created {
        Created::New(source) => source,
        Created::AlreadyThere(_) => None,
    }
}

/// What was there already is no volume of this job if it was asked for otherwise.
fn refuse_other(created: &Created, volume: &Volume, request: &CreateRequest) -> Result<(), Failure> {
    match created {
        Created::AlreadyThere(there) => request.compare(&there.spec).into_result(&volume.spec.id),
        Created::New(_) => Ok(()),
    }
}

pub(super) fn damaged(id: &VolumeId, reason: &str) -> Failure {
    Failure::new(FailureCode::Damaged, format!("volume `{id}` is damaged: {reason}"))
}

/// Nobody waits for this any more: what could not be undone is told in the log.
pub(crate) fn report<T>(undone: Result<T, Failure>) {
    if let Err(failure) = undone {
        tracing::error!(code = %failure.code(), "undoing failed: {}", failure.chain());
    }
}
