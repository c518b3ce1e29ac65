//! The journal: a commit is durable as a whole or not at all, also when the agent is killed in it.

use super::CallGuard;
use crate::world::Sim;
use crate::world::faults::Call;
use async_trait::async_trait;
use dvs_domain::failure::Failure;
use dvs_domain::ledger::{Change, Phase, Remembered};
use dvs_domain::ports::Journal;

pub(crate) struct FakeJournal(pub(crate) Sim);

#[async_trait]
impl Journal for FakeJournal {
    async fn load(&self) -> Result<Remembered, Failure> {
        let _call = CallGuard::begin(&self.0, Call::Load, None, None).await;
        self.0.step(Call::Load).await?;
        Ok(self.0.effect(|world| world.disk.remembered()).await)
    }

    async fn commit(&self, changes: &[Change]) -> Result<(), Failure> {
        let _call = CallGuard::begin(&self.0, Call::Commit, None, None).await;
        self.0.moment(Call::Commit).await;
        let accepts_something = changes.iter().any(accepts_something);
        let committed = self.0.effect(|world| {
            if let Some(failure) = world.journal_failure(accepts_something) {
                world.log(format_args!("journal takes nothing: {failure}"));
                world.excuse_unrecorded(changes);
                return Err(failure);
            }
            changes.iter().cloned().for_each(|change| world.commit(change));
            Ok(())
        });
        committed.await?;
        self.0.moment(Call::Commit).await;
        Ok(())
    }
}

/// Whether a full journal refuses it.
fn accepts_something(change: &Change) -> bool {
    match change {
        Change::PutJob(record) => record.phase == Phase::Accepted,
        Change::PutRefusal(..) | Change::PutAttachment(_) => true,
        Change::DropJob(_) | Change::DropRefusal(_) | Change::DropAttachment(_) => false,
    }
}
