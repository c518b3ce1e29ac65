//! The ledger decides, the agent acts: [`Ledger::on`] is told what happened and says what to do. It has no
//! clock, no threads and no I/O, so that every order of events can be tried.
//!
//! What it keeps true, whatever the order of events, repeats and restarts:
//! - a job is on disk before `PENDING` is sent, and `PENDING` is sent before its work starts;
//! - the final answer is sent after the outcome is on disk, and after the broker has acknowledged `PENDING`;
//! - after a final answer never `PENDING`;
//! - a repeat causes no work;
//! - jobs about one volume, one mount point or nested mount points are one lane: one at a time, in the order
//!   in which they arrived;
//! - at most [`Limits::workers`] jobs run and at most [`Limits::queue`] wait; each has an answer within
//!   [`Limits::job_milliseconds`], and work that still hangs then keeps its lane until it has returned;
//! - no event costs more for what it is not about: jobs are found by their number, lanes and attachments by an index.
//!   Only a [`Event::Tick`] looks at all that wait.
//!
//! Durations are measured by [`Moment::milliseconds_since`]: within a boot by the uptime, so that neither a stepped wall
//! clock nor a suspended host or a stopped process prolongs a deadline, a retry or the time for which jobs are
//! remembered. The journal keeps wall time, boot and uptime of each arrival and end. After a restart in the same boot the
//! uptime decides as before; after a reboot the difference of wall time, and at least the time since the boot. So the
//! time during which the agent was down counts.
//!
//! What a restart does with a job, by what the disk says of it:
//!
//! | phase | answers | a restart |
//! |---|---|---|
//! | accepted, within its time | | sends `PENDING` again, does the work again (every step is idempotent) |
//! | accepted, overdue | | sends `PENDING` again, undoes what is half-done, then fails it with `timeout` |
//! | finished | `PENDING` unacknowledged | sends `PENDING`, then the final answer |
//! | finished | final unacknowledged | sends the final answer |
//! | finished | acknowledged | remembers it, to answer repeats |
//! | finished, needs undoing | | undoes what is half-done, besides; tells nobody; tries again when that fails |
//! | refused | unacknowledged | sends the refusal |

mod admission;
mod ending;
mod lane;
mod record;
mod restart;

pub use record::{AnswerState, Change, Finished, JobRecord, Outcome, Phase, RefusalNumber, Remembered};

use crate::attachment::AttachmentTable;
use crate::failure::FailureReport;
use crate::job::{Answer, Job, JobKey, Refusal};
use crate::mount_point::MountPoint;
use crate::names::{AttemptId, StoreName, VolumeName};
use crate::time::{Moment, Uptime};
use crate::volume::VolumeId;
use ending::End;
use lane::Lanes;
use std::collections::{BTreeMap, BTreeSet};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A well-formed job arrived.
    Requested(Job),
    /// Something arrived that is no job, or none that can be taken.
    Refused(Refusal),
    /// The journal could not take a job that had arrived: it was never accepted.
    JobNotRecorded(JobKey, FailureReport),
    /// The journal could not take a refusal.
    RefusalNotRecorded(RefusalNumber),
    /// The broker has this answer.
    Acknowledged(AnswerId),
    /// The work of a job has ended.
    Ended {
        /// Which job.
        key: JobKey,
        /// How.
        outcome: Outcome,
        /// The volume it was about, if the work got that far.
        volume: Option<VolumeId>,
        /// Whether that volume was made or destroyed.
        changed: bool,
        /// The mount point whose attachment is gone: the journal drops it in the commit that records the end.
        released: Option<MountPoint>,
        /// Whether something that it had begun could not be undone, or recovered: that is tried again.
        needs_undo: bool,
    },
    /// Work that was to be abandoned will be undone, and must not count any more.
    Abandoned(JobKey),
    /// Abandoned work has returned.
    Released {
        /// Which job's.
        key: JobKey,
        /// The mount point whose attachment is gone.
        released: Option<MountPoint>,
        /// Whether it is undone; if not, that is tried again.
        undone: bool,
    },
    /// Time has passed.
    Tick,
}

/// What to do, in this order. When a [`Effect::Record`] fails, what follows it from the same event is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make these changes durable.
    Record(Vec<Change>),
    /// Make these changes durable too, with the next [`Effect::Record`] or within a second: nothing waits for them.
    /// Losing them repeats an answer, which a sender may hear twice.
    Note(Vec<Change>),
    /// Send, and tell when it is acknowledged.
    Answer(AnswerId, Answer),
    /// Start the work of a job, as the attempts with this id; without one where the job was accepted by an agent that
    /// kept none.
    Work(Job, Attempt, Option<AttemptId>),
    /// Tell the work of a job to stop and undo itself, unless it has ended.
    Abandon(JobKey),
}

/// Which answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnswerId {
    /// `PENDING` of a job.
    Pending(JobKey),
    /// `DONE` or `FAILED` of a job.
    Final(JobKey),
    /// `FAILED` of what was refused.
    Refusal(RefusalNumber),
    /// `FAILED` of what the journal could not record: it is not sent again after a restart.
    Unrecorded(RefusalNumber),
}

/// What the work of a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Make it true.
    Do,
    /// Make it true after a restart has cut off an attempt: what that one has made counts as made by this one.
    Redo,
    /// Undo what a cut-off attempt has left, because the job is overdue or has been answered.
    Undo,
}

/// The ledger's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Jobs that run at once, at least 1.
    pub workers: usize,
    /// Jobs that wait; more are refused with `busy`.
    pub queue: usize,
    /// How long a job may take, waiting included, in milliseconds. The contract promises an answer within
    /// 110 s of `PENDING`.
    pub job_milliseconds: u64,
    /// How long undoing what a restart cut off may take before the job is answered all the same, and how long
    /// after undoing has failed it is tried again, in milliseconds.
    pub undo_milliseconds: u64,
    /// How many jobs that have ended are remembered at least.
    pub remembered_min: usize,
    /// How many jobs that have ended are remembered at most, however young; those that are still to be undone, and whose
    /// answers are not acknowledged, come on top.
    pub remembered_max: usize,
    /// How long jobs are remembered at least, in milliseconds.
    pub remembered_milliseconds: u64,
    /// Refusals that wait for their acknowledgement; more go unanswered.
    pub refusals: usize,
    /// Operations that hang past their time; with more, new jobs are refused with `busy`.
    pub stuck: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            workers: 8,
            queue: 1024,
            job_milliseconds: 100_000,
            undo_milliseconds: 10_000,
            remembered_min: 10_000,
            remembered_max: 100_000,
            remembered_milliseconds: 7 * 24 * 60 * 60 * 1000,
            refusals: 10_000,
            stuck: 64,
        }
    }
}

/// All jobs of this node that are not forgotten, and the rules between them.
#[derive(Debug)]
pub struct Ledger {
    limits: Limits,
    default_store: StoreName,
    /// Every known job by its number, in the order of arrival. Boxed: the nodes of a tree have room for more than they
    /// hold.
    jobs: BTreeMap<u64, Box<Known>>,
    numbers: BTreeMap<JobKey, u64>,
    /// The numbers of the jobs that have ended, in the order of their ends: in this order they are forgotten.
    ended: BTreeMap<u64, u64>,
    /// The lanes of all jobs in `waiting`, `to_undo`, `running` and `hanging`.
    lanes: Lanes,
    /// Accepted jobs that have no answer and do not run: [`Limits::queue`] bounds them.
    waiting: BTreeSet<u64>,
    /// Answered jobs that are still to be undone and do not run.
    to_undo: BTreeSet<u64>,
    /// Those of `waiting` and `to_undo` that are the first of their lane, and may run.
    ready: BTreeSet<u64>,
    /// Jobs whose work runs, those that are being abandoned included.
    running: BTreeSet<u64>,
    /// Answered jobs whose work runs past its time.
    hanging: BTreeSet<u64>,
    /// When this ledger was restored.
    started: Uptime,
    refusals: BTreeSet<RefusalNumber>,
    /// The order number of the last job that changed a volume, or what is at a mount point.
    last_change: BTreeMap<Subject, u64>,
    next_number: u64,
    next_order: u64,
    next_refusal: u64,
}

/// A known job, and what is not on disk of it.
#[derive(Debug)]
struct Known {
    record: JobRecord,
    /// When it must be answered.
    due: Uptime,
    pending_acknowledged: bool,
    /// Whether work of it may have been cut off by a restart: then giving up means undoing.
    may_have_run: bool,
    /// When its work is told to stop; `None` once it has been, or while none runs.
    abandon_at: Option<Uptime>,
    /// When undoing it, which has failed, is tried again: at a tick, so that it never waits for another job's record.
    retry_at: Option<Uptime>,
}

/// What an event happens in.
#[derive(Clone, Copy)]
struct Context<'a> {
    now: Moment,
    attached: &'a AttachmentTable,
}

/// What a job can change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Volume(VolumeId),
    /// A volume of that name in whichever store: what a delete by a bare name has found before it was cut off.
    Named(VolumeName),
    /// Any volume of that name, in a store that is known: what a delete by a bare name would find.
    InAnyStore(VolumeName),
    At(MountPoint),
}

impl Ledger {
    /// Decides what follows from `event`, which happened at `now`, while `attached` was attached or about to be.
    pub fn on(&mut self, event: Event, now: Moment, attached: &AttachmentTable) -> Vec<Effect> {
        let context = Context { now, attached };
        match event {
            Event::Requested(job) => self.requested(job, context),
            Event::Refused(refusal) => self.refuse(refusal),
            Event::JobNotRecorded(key, report) => self.job_not_recorded(&key, report, context),
            Event::RefusalNotRecorded(number) => {
                self.refusals.remove(&number);
                Vec::new()
            }
            Event::Acknowledged(id) => self.acknowledged(id),
            Event::Ended { key, outcome, volume, changed, released, needs_undo } => {
                let end = End { outcome, volume, changed, needs_undo };
                dropping(released, self.ended(&key, end, context))
            }
            Event::Abandoned(key) => self.abandoned(&key, context),
            Event::Released { key, released, undone } => {
                dropping(released, self.released(&key, undone, context))
            }
            Event::Tick => self.tick(context),
        }
    }

    /// Jobs that have no answer and do not run.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Starts what may start: in order of arrival, no lane twice, no more than there are workers.
    fn schedule(&mut self, now: Moment) -> Vec<Effect> {
        let mut effects = Vec::new();
        while self.running.len() < self.limits.workers.max(1)
            && let Some(number) = self.ready.pop_first()
        {
            self.waiting.remove(&number);
            self.to_undo.remove(&number);
            let Some(known) = self.jobs.get_mut(&number) else { continue };
            let (attempt, abandon_at) = match known.may_have_run {
                true if known.is_finished() || now.uptime >= known.due => {
                    let undo_by = now.uptime.after_milliseconds(self.limits.undo_milliseconds);
                    (Attempt::Undo, undo_by)
                }
                true => (Attempt::Redo, known.due),
                false => (Attempt::Do, known.due),
            };
            known.abandon_at = Some(abandon_at);
            let job = known.record.decided(&self.default_store);
            effects.push(Effect::Work(job, attempt, known.record.attempt()));
            self.running.insert(number);
        }
        effects
    }

    fn number_of(&self, key: &JobKey) -> Option<u64> {
        self.numbers.get(key).copied()
    }

    /// Lets the job run if it waits, not for a time, and is the first of its lane.
    fn queue(&mut self, number: u64) {
        let waits = self.waiting.contains(&number) || self.to_undo.contains(&number);
        let is_due = self.jobs.get(&number).is_some_and(|known| known.retry_at.is_none());
        if waits && is_due && self.lanes.is_first(number) {
            self.ready.insert(number);
        }
    }

    /// Ends the lane of a job that waits, runs or hangs no more: the next ones may run.
    fn leave_lane(&mut self, number: u64) {
        for next in self.lanes.remove(number) {
            self.queue(next);
        }
    }
}

impl Known {
    fn is_finished(&self) -> bool {
        self.record.phase != Phase::Accepted
    }
}

/// `effects`, and with what they record that nothing is attached at `mount_point` any more.
fn dropping(mount_point: Option<MountPoint>, effects: Vec<Effect>) -> Vec<Effect> {
    let dropped = mount_point.map(|mount_point| Effect::Record(vec![Change::DropAttachment(mount_point)]));
    dropped.into_iter().chain(effects).collect()
}
