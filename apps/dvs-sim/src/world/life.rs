//! One process of the agent, from its start to its crash or stop, and the clocks, which run on between processes.

use super::World;
use super::faults::Call;
use dvs_core::AttachmentRegistry;
use dvs_domain::job::JobKey;
use dvs_domain::mount_point::MountPoint;
use dvs_domain::volume::VolumeId;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Instant;

/// How the agent was killed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// Whether the host went down with it.
    pub(crate) power: bool,
    pub(crate) down_milliseconds: u64,
}

#[derive(Default)]
pub(crate) struct Life {
    pub(crate) number: u64,
    /// The runtime's instant at which this process started, and the world's time then.
    began: Option<(Instant, u64)>,
    /// How far the world's time is ahead of the runtime's in a pause.
    paused_milliseconds: u64,
    /// The pause that begins now, in milliseconds.
    pub(super) pause: Option<u64>,
    /// When the last pause ended.
    pub(crate) resumed_at: Option<u64>,
    /// The world's time while the agent is down.
    now: u64,
    pub(crate) cut: Option<Cut>,
    /// Tells the agent to stop.
    pub(crate) stop: Option<watch::Sender<bool>>,
    pub(crate) is_stopping: bool,
    pub(crate) stays_down_milliseconds: u64,
    /// When the engine of this process started.
    pub(crate) working_since: Option<u64>,
    /// Jobs whose `PENDING` this process has handed to the MQTT client.
    pub(crate) pending_sent: BTreeSet<JobKey>,
    /// Likewise the final answer, until a repeat asks for it again.
    pub(crate) final_sent: BTreeSet<JobKey>,
    /// What the agent reports as attached, or not attached and why.
    pub(crate) node: Option<Arc<AttachmentRegistry>>,
    /// Mount points whose guard failed because of an injected fault or a foreign mount.
    pub(crate) unguarded: BTreeSet<MountPoint>,
    /// Calls that have not returned.
    pub(crate) calls: Vec<ActiveCall>,
    next_call: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct ActiveCall {
    number: u64,
    pub(crate) call: Call,
    pub(crate) volume: Option<VolumeId>,
    pub(crate) mount_point: Option<MountPoint>,
}

impl Life {
    /// Whether the agent reports that the volume of this mount point is not attached.
    pub(crate) fn reports_trouble(&self, there: &MountPoint) -> bool {
        self.node.as_ref().is_some_and(|node| node.trouble_at(there).is_some())
    }
}

impl World {
    /// True time: virtual milliseconds since the start of the simulation.
    pub(crate) fn now(&self) -> u64 {
        match self.life.began {
            Some((instant, base)) => {
                let elapsed = u64::try_from(instant.elapsed().as_millis()).unwrap_or(u64::MAX);
                base + elapsed + self.life.paused_milliseconds
            }
            None => self.life.now,
        }
    }

    /// Starts the agent's process. Called inside its runtime.
    pub(crate) fn begin_life(&mut self, stop: watch::Sender<bool>) {
        let (number, now) = (self.life.number + 1, self.life.now);
        self.life =
            Life { number, began: Some((Instant::now(), now)), now, stop: Some(stop), ..Life::default() };
        self.counts.lives += 1;
        self.log(format_args!("agent starts (life {number})"));
    }

    /// Detaches the world's time from the runtime, which is about to be dropped.
    pub(crate) fn freeze(&mut self) {
        self.life.now = self.now();
        self.life.began = None;
        self.life.node = None; // It holds the fakes, which hold the world.
    }

    /// Whether the agent's process is to stand still, in milliseconds.
    pub(crate) fn take_pause(&mut self) -> Option<u64> {
        self.life.pause.take()
    }

    /// Time goes on `milliseconds` into a pause, in which the agent does nothing.
    pub(crate) fn pass_in_pause(&mut self, milliseconds: u64) {
        self.life.paused_milliseconds = milliseconds;
    }

    /// The pause ends. The runtime's time has to be advanced as far.
    pub(crate) fn end_pause(&mut self) {
        self.log(format_args!("agent goes on"));
        self.life.resumed_at = Some(self.now());
        self.life.paused_milliseconds = 0;
    }

    /// Advances the time while the agent is down.
    pub(crate) fn pass_until(&mut self, at: u64) {
        self.life.now = self.life.now.max(at);
    }

    /// Kills the agent now.
    pub(crate) fn cut(&mut self, cut: Cut, at: &str) {
        if self.is_halted() || self.life.began.is_none() {
            return;
        }
        let what = if cut.power { "power fails" } else { "agent is killed" };
        self.log(format_args!("{what} at `{at}`, down for {} ms", cut.down_milliseconds));
        if cut.power {
            self.counts.reboots += 1;
        } else {
            self.counts.crashes += 1;
        }
        self.life.cut = Some(cut);
    }

    /// Registers a call, and checks that no other changes the same volume or path.
    pub(crate) fn begin_call(
        &mut self,
        call: Call,
        volume: Option<&VolumeId>,
        mount_point: Option<&MountPoint>,
    ) -> u64 {
        let number = self.life.next_call;
        self.life.next_call += 1;
        let begun = ActiveCall { number, call, volume: volume.cloned(), mount_point: mount_point.cloned() };
        self.check_alone(&begun);
        self.life.calls.push(begun);
        number
    }

    pub(crate) fn end_call(&mut self, number: u64) {
        self.life.calls.retain(|call| call.number != number);
    }
}
