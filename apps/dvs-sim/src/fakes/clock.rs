//! Virtual time.

use crate::world::Sim;
use dvs_domain::ports::Clock;
use dvs_domain::time::Timestamp;

pub(crate) struct FakeClock(pub(crate) Sim);

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        self.0.with(|world| world.timestamp())
    }
}
