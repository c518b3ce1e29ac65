//! Jobs whose time ran out while the agent was down: what a cut-off attempt left is brought to a clean end.

use super::create::report;
use super::{Achieved, Stop, Worker};
use crate::core::control::JobControl;
use dvs_domain::attachment::Holder;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::{CreateRequest, DeleteRequest, JobKey};
use dvs_domain::volume::Entry;

impl Worker {
    /// Undoes what a cut-off create left: only what that very job has made.
    pub(super) async fn undo_overdue_create(
        &self,
        request: &CreateRequest,
        key: &JobKey,
        control: &JobControl,
    ) -> Result<Achieved, Stop> {
        let target = &request.target;
        let attachment =
            target.mount_point().and_then(|there| self.node.book(|book| book.at(there).cloned()));
        let attachment = attachment.filter(|found| found.holders.contains(&Holder::Job(key.clone())));
        let store_name = target.store.as_ref().unwrap_or(self.stores.default_name());
        let store = self.stores.get(store_name)?.as_ref();
        let made = match store.look_up(&target.name()).await? {
            Some(Entry::Sound(volume)) => volume.made_by.as_ref() == Some(key),
            _ => false,
        };
        if let Some(attachment) = &attachment
            && store.look_up(&attachment.volume.name).await?.is_some()
        {
            self.hide(store, attachment).await?;
        }
        if made {
            store.destroy(&target.name()).await?;
        }
        if let Some(attachment) = &attachment {
            self.clear_away(attachment).await?;
        }
        Err(overdue(control))
    }

    /// A delete that was decided is finished; one that was not leaves the volume attached, as it was.
    pub(super) async fn settle_overdue_delete(
        &self,
        request: &DeleteRequest,
        control: &JobControl,
    ) -> Result<Achieved, Stop> {
        let Some(found) = self.find(&request.target).await? else { return Err(overdue(control)) };
        let store = self.stores.get(&found.volume.store)?.as_ref();
        match (store.look_up(&found.volume.name).await?, &found.attachment) {
            (None, Some(attachment)) => {
                self.clear_away(attachment).await?;
                if control.try_end() {
                    Ok(Achieved { volume: Some(found.volume), changed: true })
                } else {
                    Err(Stop::Abandoned)
                }
            }
            (Some(_), Some(attachment)) => {
                report(self.attach_again(attachment).await);
                Err(overdue(control))
            }
            (_, None) => Err(overdue(control)),
        }
    }
}

fn overdue(control: &JobControl) -> Stop {
    if control.is_abandoned() {
        return Stop::Abandoned;
    }
    Stop::Failed(Failure::new(FailureCode::Timeout, "its time ran out while the agent was down"))
}
