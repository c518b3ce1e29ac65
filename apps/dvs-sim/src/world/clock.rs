//! The clocks of the host. True time, which no one can set, is the world's own.

use super::World;
use dvs_domain::time::{BootId, Moment, Timestamp, Uptime};

/// Start of the simulation by the wall clock, in milliseconds since the epoch.
const EPOCH_MILLISECONDS: u64 = 1_700_000_000_000;

/// How long after the agent has read the clock a commit can put the result on disk, in milliseconds.
const COMMIT_MILLISECONDS_MAX: u64 = 60_000;

#[derive(Debug)]
pub(crate) struct HostClock {
    /// How far the wall clock is ahead of true time, in milliseconds.
    ahead: i64,
    stepped_at: Option<u64>,
    /// True time of each boot.
    boots: Vec<u64>,
}

/// A moment as the checks keep it: the agent's own records are not trusted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    pub(crate) true_time: u64,
    boot: usize,
}

impl HostClock {
    pub(super) fn new() -> Self {
        Self { ahead: 0, stepped_at: None, boots: vec![0] }
    }

    /// True time of the last boot.
    fn booted_at(&self) -> u64 {
        self.boots.last().copied().unwrap_or(0)
    }

    /// True time from which the agent can measure the time since `stamp` by now: after a reboot and a step of the wall
    /// clock that is the time of the boot.
    pub(crate) fn measured_from(&self, stamp: Stamp) -> u64 {
        if self.is_measurable(stamp) { stamp.true_time } else { self.booted_at().max(stamp.true_time) }
    }

    /// Whether the agent can measure the time since `stamp`.
    pub(crate) fn is_measurable(&self, stamp: Stamp) -> bool {
        let step = self.stepped_at.map(|at| at + COMMIT_MILLISECONDS_MAX);
        stamp.boot == self.boots.len() || step.is_none_or(|step| step < stamp.true_time)
    }
}

impl World {
    /// This moment as the host's clocks show it.
    pub(crate) fn moment_now(&self) -> Moment {
        let now = self.now();
        let boot = Some(BootId(self.clock.boots.len() as u128));
        Moment { wall: wall(now, self.clock.ahead), boot, uptime: Uptime(now - self.clock.booted_at()) }
    }

    pub(crate) fn stamp_now(&self) -> Stamp {
        Stamp { true_time: self.now(), boot: self.clock.boots.len() }
    }

    /// Sets the wall clock.
    pub(super) fn step_clock(&mut self, milliseconds: i64) {
        self.log(format_args!("wall clock is set by {milliseconds} ms"));
        self.counts.clock_steps += 1;
        self.clock.ahead += milliseconds;
        self.clock.stepped_at = Some(self.now());
    }

    pub(super) fn boot(&mut self) {
        let now = self.now();
        self.clock.boots.push(now);
    }
}

fn wall(true_time: u64, ahead: i64) -> Timestamp {
    Timestamp((EPOCH_MILLISECONDS + true_time).saturating_add_signed(ahead))
}
