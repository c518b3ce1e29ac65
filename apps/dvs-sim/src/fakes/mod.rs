//! The ports, over the world. Every call takes time, may fail and may be where the agent is cut off: before what it
//! does, after it, and between its steps.

mod answers;
mod clock;
mod journal;
mod mounts;
mod store;
mod users;

pub(crate) use answers::FakeAnswers;
pub(crate) use clock::FakeClock;
pub(crate) use journal::FakeJournal;
pub(crate) use mounts::FakeMounts;
pub(crate) use store::FakeStore;
pub(crate) use users::FakeUsers;

use crate::world::Sim;
use crate::world::faults::Call;
use dvs_domain::mount_point::MountPoint;
use dvs_domain::volume::VolumeId;

/// A call under way. Dropped when it returns, or with the agent.
struct Under {
    sim: Sim,
    number: u64,
}

impl Under {
    async fn way(sim: &Sim, call: Call, volume: Option<&VolumeId>, mount_point: Option<&MountPoint>) -> Self {
        let number = sim.effect(|world| world.begin_call(call, volume, mount_point)).await;
        let under_way = Self { sim: sim.clone(), number };
        sim.break_if_due(call).await;
        under_way
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        self.sim.with(|world| world.end_call(self.number));
    }
}
