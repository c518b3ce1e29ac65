//! Jobs whose time ran out while the agent was down: what a cut-off attempt left is brought to a clean end.

use super::create::damaged;
use super::delete::Found;
use super::{Attempts, Completed, WorkError, Worker};
use crate::job_control::JobControl;
use dvs_domain::attachment::Holder;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::{CreateRequest, DeleteRequest};
use dvs_domain::volume::{Entry, VolumeId};

impl Worker {
    pub(super) async fn undo_overdue_create(
        &self,
        request: &CreateRequest,
        attempts: &Attempts,
        control: &JobControl,
    ) -> Result<Completed, WorkError> {
        let stop = overdue(control);
        Err(match self.undo(request, attempts).await {
            Ok(()) => stop,
            Err(undo) => stop.not_undone(undo, self.intended_volume(request)),
        })
    }

    /// Undoes what attempts of a create have left: only what that very job has made.
    pub(super) async fn undo(&self, request: &CreateRequest, attempts: &Attempts) -> Result<(), Failure> {
        let target = &request.target;
        let attachment =
            target.mount_point().and_then(|there| self.attachments.book(|book| book.at(there).cloned()));
        let attachment =
            attachment.filter(|found| found.holders.contains(&Holder::Job(attempts.maker.job.clone())));
        let store_name = target.store.as_ref().unwrap_or(self.stores.default_name());
        let store = self.stores.get(store_name)?.as_ref();
        let made = match store.look_up(&target.name()).await? {
            Some(Entry::Sound(volume)) if attempts.bears_name_of(&volume) && !attempts.made(&volume) => {
                // An earlier job of this key has made it, and attached it: that stays as it was.
                return match &attachment {
                    Some(attachment) => self.attach_again(attachment).await,
                    None => Ok(()),
                };
            }
            Some(Entry::Sound(volume)) => Some(volume).filter(|volume| attempts.made(volume)),
            // Who has made it cannot be read any more.
            Some(Entry::Damaged { name, reason }) => {
                return Err(damaged(&VolumeId { store: store_name.clone(), name }, &reason));
            }
            None => None,
        };
        let failures = self.roll_back(store, made.as_deref(), attachment.as_ref()).await;
        failures.into_iter().reduce(Failure::undo_failed).map_or(Ok(()), Err)
    }

    /// A delete that was decided is finished; one that was not leaves the volume attached, as it was.
    pub(super) async fn recover_overdue_delete(
        &self,
        request: &DeleteRequest,
        control: &JobControl,
    ) -> Result<Completed, WorkError> {
        let (volume, finished) = match self.find(&request.target).await {
            Ok(Some(found)) => (Some(found.volume.clone()), self.recover_delete(&found).await),
            Ok(None) => (None, Ok(true)), // Nothing is there: that is what a delete is for.
            // It would be refused, and was: it has begun nothing.
            Err(failure) if failure.code() == FailureCode::Conflict => (None, Ok(false)),
            Err(failure) => (None, Err(failure)),
        };
        match finished {
            Ok(false) => Err(overdue(control)),
            Ok(true) if control.try_end() => Ok(Completed { volume, changed: true, released: None }),
            Ok(true) => Err(WorkError::ABANDONED),
            Err(failure) => Err(overdue(control).not_undone(failure, volume)),
        }
    }

    /// Returns whether the delete had been decided, and is finished now.
    async fn recover_delete(&self, found: &Found) -> Result<bool, Failure> {
        let store = self.stores.get(&found.volume.store)?.as_ref();
        let is_there = store.look_up(&found.volume.name).await?.is_some();
        let Some(attachment) = &found.attachment else { return Ok(false) };
        if !is_there {
            return self.clear_away(attachment).await.map(|()| true);
        }
        if let Err(failure) = self.attach_again(attachment).await
            && !self.is_something_at(&attachment.mount_point).await?
        {
            self.guard_and_note(attachment, failure).await;
        }
        Ok(false)
    }
}

fn overdue(control: &JobControl) -> WorkError {
    if control.is_abandoned() {
        return WorkError::ABANDONED;
    }
    WorkError::Failed(Failure::new(FailureCode::Timeout, "its time ran out while the agent was down"))
}
