//! A flood: jobs arrive faster than they can be recorded, and one job hangs beside them.

use super::faults::CLOCK_STEPS_MILLISECONDS;
use super::{Maker, Planned, Rates, Scenario, What};
use crate::world::LIMITS;
use crate::world::faults::{Armed, Call, Fault};

/// Longer than the deadline of the job that hangs, and its slack.
const FLOOD_MILLISECONDS: u64 = LIMITS.job_milliseconds + 8_000;
/// Time between two messages.
const INTERVAL_MILLISECONDS: usize = 15;
/// Lower bound of the time that a commit takes: longer than doors need to hand in the next messages.
const COMMIT_MILLISECONDS: u64 = 20;
/// So many that some hand in messages while others wait for a commit.
const DOORS: usize = 8;

impl Maker {
    pub(super) fn flood(mut self, seed: u64) -> Scenario {
        let fault = Fault::Hang { milliseconds: FLOOD_MILLISECONDS + 10_000 };
        let on = Some(self.random.pick(&[Call::Create, Call::Destroy, Call::Attach, Call::Detach]));
        self.step(0, What::Arm(Armed { fault, on, countdown: 0 }));
        for at in (0..FLOOD_MILLISECONDS).step_by(INTERVAL_MILLISECONDS) {
            let number = self.messages.len();
            let body = self.job(number as u64);
            self.messages.push(Planned { body, patience_milliseconds: None });
            self.step(at, What::Publish { message: number });
        }
        if self.random.chance(50) {
            let milliseconds = self.random.pick(&CLOCK_STEPS_MILLISECONDS);
            self.step(FLOOD_MILLISECONDS / 2, What::ClockStepped { milliseconds });
        }
        self.steps.sort_by_key(|step| step.at);
        Scenario {
            seed,
            delay_milliseconds: 20,
            commit_milliseconds: COMMIT_MILLISECONDS,
            rates: Rates::default(),
            doors: DOORS,
            messages: self.messages,
            steps: self.steps,
            ends_with_reboot: self.random.chance(50),
        }
    }
}
