//! One life of the agent: from its start to its crash or stop. Virtual time goes on between lives.

use super::World;
use super::faults::Call;
use dvs_core::AttachmentRegistry;
use dvs_domain::job::JobKey;
use dvs_domain::mount_point::MountPoint;
use dvs_domain::time::Timestamp;
use dvs_domain::volume::VolumeId;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Instant;

/// When the world began, in milliseconds since the epoch.
const EPOCH_MILLISECONDS: u64 = 1_700_000_000_000;

/// How the agent was cut off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// Whether the host went down with it.
    pub(crate) power: bool,
    pub(crate) down_milliseconds: u64,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Life {
    pub(crate) number: u64,
    /// The runtime's instant at which this life began, and the world's time then.
    began: Option<(Instant, u64)>,
    /// The time while the agent is down.
    now: u64,
    pub(crate) cut: Option<Cut>,
    /// Tells the agent to stop, and how long it then stays down.
    pub(crate) stop: Option<watch::Sender<bool>>,
    pub(crate) is_stopping: bool,
    pub(crate) stays_down_milliseconds: u64,
    /// When this life's engine began to work.
    pub(crate) working_since: Option<u64>,
    /// `PENDING` was given to the broker's client in this life.
    pub(crate) pending_sent: BTreeSet<JobKey>,
    /// Likewise the final word, and no repeat has asked for it since.
    pub(crate) final_sent: BTreeSet<JobKey>,
    /// What the agent knows to be attached, and not attached.
    pub(crate) node: Option<Arc<AttachmentRegistry>>,
    /// Mount points that could not be guarded, because a fault was put there.
    pub(crate) unguarded: BTreeSet<MountPoint>,
    /// Calls under way, with what they change.
    pub(crate) calls: Vec<CallUnderWay>,
    next_call: u64,
}

/// A call that has not returned.
#[derive(Clone, Debug)]
pub(crate) struct CallUnderWay {
    number: u64,
    pub(crate) call: Call,
    pub(crate) volume: Option<VolumeId>,
    pub(crate) mount_point: Option<MountPoint>,
}

impl Life {
    /// Whether the agent says that what should be there is not.
    pub(crate) fn reports_trouble(&self, there: &MountPoint) -> bool {
        self.node.as_ref().is_some_and(|node| node.trouble_at(there).is_some())
    }
}

impl World {
    /// Virtual milliseconds since the world began.
    pub(crate) fn now(&self) -> u64 {
        match self.life.began {
            Some((instant, base)) => base + u64::try_from(instant.elapsed().as_millis()).unwrap_or(u64::MAX),
            None => self.life.now,
        }
    }

    pub(crate) fn timestamp(&self) -> Timestamp {
        Timestamp(EPOCH_MILLISECONDS + self.now())
    }

    /// The world's time at `timestamp`.
    pub(crate) fn time_of(timestamp: Timestamp) -> u64 {
        timestamp.0.saturating_sub(EPOCH_MILLISECONDS)
    }

    /// The agent's process starts, inside the runtime that it will live in.
    pub(crate) fn begin_life(&mut self, stop: watch::Sender<bool>) {
        let (number, now) = (self.life.number + 1, self.life.now);
        self.life =
            Life { number, began: Some((Instant::now(), now)), now, stop: Some(stop), ..Life::default() };
        self.counts.lives += 1;
        self.say(format_args!("agent starts (life {number})"));
    }

    /// Time stops for the runtime of this life, which is going to be dropped.
    pub(crate) fn freeze(&mut self) {
        self.life.now = self.now();
        self.life.began = None;
        self.life.node = None; // It holds the fakes, which hold the world.
    }

    /// Time goes on while there is no agent.
    pub(crate) fn pass_until(&mut self, at: u64) {
        self.life.now = self.life.now.max(at);
    }

    /// Ends the agent at this very moment.
    pub(crate) fn cut(&mut self, cut: Cut, at: &str) {
        if self.is_halted() || self.life.began.is_none() {
            return;
        }
        let what = if cut.power { "power fails" } else { "agent is killed" };
        self.say(format_args!("{what} at `{at}`, down for {} ms", cut.down_milliseconds));
        if cut.power {
            self.counts.reboots += 1;
        } else {
            self.counts.crashes += 1;
        }
        self.life.cut = Some(cut);
    }

    /// A call begins. Lanes are to keep two from changing the same thing at once.
    pub(crate) fn begin_call(
        &mut self,
        call: Call,
        volume: Option<&VolumeId>,
        mount_point: Option<&MountPoint>,
    ) -> u64 {
        let number = self.life.next_call;
        self.life.next_call += 1;
        let begun = CallUnderWay { number, call, volume: volume.cloned(), mount_point: mount_point.cloned() };
        self.check_alone(&begun);
        self.life.calls.push(begun);
        number
    }

    pub(crate) fn end_call(&mut self, number: u64) {
        self.life.calls.retain(|call| call.number != number);
    }
}
