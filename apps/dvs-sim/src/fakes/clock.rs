//! The clocks of the host.

use crate::world::Sim;
use dvs_domain::ports::Clock;
use dvs_domain::time::Moment;

pub(crate) struct FakeClock(pub(crate) Sim);

impl Clock for FakeClock {
    fn now(&self) -> Moment {
        self.0.with(|world| world.moment_now())
    }
}
