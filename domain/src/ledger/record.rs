//! What a node remembers: its jobs, the answers that follow from them, refusals and attachments.

use crate::attachment::Attachment;
use crate::failure::FailureReport;
use crate::job::{Answer, Job, JobKey, JobRequest, Refusal, Status};
use crate::mount_point::MountPoint;
use crate::names::{AttemptId, StoreName};
use crate::time::Moment;
use crate::volume::VolumeId;

/// The number under which a refusal waits until its answer is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefusalNumber(pub u64);

/// A job as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRecord {
    /// The job, whole: a repeat must have the same content.
    pub job: Job,
    /// Its place in the order of arrival.
    pub number: u64,
    /// When it arrived. Its time limit counts from here, also while the agent is down.
    pub received: Moment,
    /// The store in which a create that names none makes its volume: what was the default when it arrived.
    pub default_store: Option<StoreName>,
    /// How far it is.
    pub phase: Phase,
}

/// How far a job is, as far as the disk says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Accepted: `PENDING` is sent, work waits or runs. That `PENDING` was acknowledged is not on disk yet.
    Accepted,
    /// The work has ended.
    Finished(Finished),
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// With success or not.
    pub outcome: Outcome,
    /// The volume that it was about, where that is known.
    pub volume: Option<VolumeId>,
    /// Whether it changed that volume: a finished job of another id about the same volume can then not be
    /// repeated any more.
    pub changed: bool,
    /// Its place in the order in which jobs ended.
    pub order: u64,
    /// When it ended.
    pub at: Moment,
    /// How far its answers are.
    pub answers: AnswerState,
    /// Whether it was answered before what it had begun was undone: its work still hung, a defect stopped it, or undoing
    /// failed. Its lane is kept until that is done, over restarts too.
    pub needs_undo: bool,
}

/// With success or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What was asked is true, and durable.
    Done,
    /// It is not, and nothing of the attempt is left.
    Failed(FailureReport),
}

/// How far the answers of a finished job are. Each state is on disk before what it allows is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerState {
    /// The broker has not acknowledged `PENDING`: the final answer must wait.
    PendingUnacknowledged,
    /// The final answer may have been sent: `PENDING` is never sent again.
    FinalUnacknowledged,
    /// The broker has acknowledged the final answer.
    Acknowledged,
}

/// One thing to remember or to forget. Forgetting what is not there is no error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Remember a job, replacing what was remembered of it.
    PutJob(Box<JobRecord>),
    /// Forget a job.
    DropJob(JobKey),
    /// Remember a refusal until its answer is acknowledged.
    PutRefusal(RefusalNumber, Refusal),
    /// Forget a refusal.
    DropRefusal(RefusalNumber),
    /// Remember an attachment, replacing the one at its mount point.
    PutAttachment(Attachment),
    /// Forget the attachment at this mount point.
    DropAttachment(MountPoint),
}

/// What a journal held at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Jobs, in any order.
    pub jobs: Vec<JobRecord>,
    /// Refusals whose answers are not acknowledged.
    pub refusals: Vec<(RefusalNumber, Refusal)>,
    /// Attachments.
    pub attachments: Vec<Attachment>,
}

impl JobRecord {
    /// Whether work may have begun for it that has not ended, so that a restart has to do it again or undo it.
    #[must_use]
    pub fn is_unresolved(&self) -> bool {
        match &self.phase {
            Phase::Accepted => true,
            Phase::Finished(finished) => finished.needs_undo,
        }
    }

    /// What tells this acceptance of the job from one of the same key before the journal was lost, or after the job was
    /// forgotten: no two are of one number at one moment of one boot. None where the boot was not recorded.
    #[must_use]
    pub fn attempt(&self) -> Option<AttemptId> {
        let Moment { boot, uptime, .. } = self.received;
        let text = format!("{:x}-{:x}-{:x}", boot?.0, uptime.0, self.number);
        Some(AttemptId::new(text).expect("three numbers of at most 64 digits in all are an attempt id"))
    }

    /// The job's identity.
    #[must_use]
    pub fn key(&self) -> JobKey {
        self.job.key()
    }

    /// The job as it was decided: it means the store that was the default when it arrived, though `default_store` is
    /// now.
    pub(super) fn decided(&self, default_store: &StoreName) -> Job {
        let mut job = self.job.clone();
        if let JobRequest::Create(create) = &mut job.request
            && self.default_store.as_ref().is_some_and(|decided| decided != default_store)
        {
            create.target.store.clone_from(&self.default_store);
        }
        job
    }

    pub(super) fn pending_answer(&self) -> Answer {
        Answer { sender: self.job.sender.clone(), job: Some(self.job.id.clone()), status: Status::Pending }
    }

    pub(super) fn final_answer(&self, outcome: &Outcome) -> Answer {
        let status = match outcome {
            Outcome::Done => Status::Done,
            Outcome::Failed(report) => Status::Failed(report.clone()),
        };
        Answer { sender: self.job.sender.clone(), job: Some(self.job.id.clone()), status }
    }
}
