//! The ports, over the world. Each call takes time, may fail, and the agent may be killed in it: before, between and after
//! its steps.

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

/// Registers a call until it returns or the agent is killed.
struct CallGuard {
    sim: Sim,
    number: u64,
}

impl CallGuard {
    async fn begin(
        sim: &Sim,
        call: Call,
        volume: Option<&VolumeId>,
        mount_point: Option<&MountPoint>,
    ) -> Self {
        let number = sim.effect(|world| world.begin_call(call, volume, mount_point)).await;
        let active = Self { sim: sim.clone(), number };
        sim.panic_if_due(call).await;
        active
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.sim.with(|world| world.end_call(self.number));
    }
}
