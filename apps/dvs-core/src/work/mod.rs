//! The work of a job: the steps that make it true, each undone when a later one fails.

mod create;
mod delete;
mod recover;

pub(super) use create::report;

use super::job_control::JobControl;
use super::{AttachmentRegistry, StoreRegistry};
use dvs_domain::attachment::Attachment;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::{Job, JobKey, JobKind, JobRequest, Maker};
use dvs_domain::ledger::{Attempt, Event, Outcome};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::names::AttemptId;
use dvs_domain::ports::{Clock, Mounter, VolumeReferences};
use dvs_domain::volume::{Volume, VolumeId};
use std::sync::Arc;

/// Makes jobs true, over the ports.
pub(crate) struct Worker {
    /// The stores of this node.
    pub(crate) stores: Arc<StoreRegistry>,
    /// What is attached on this node.
    pub(crate) attachments: Arc<AttachmentRegistry>,
    /// Mount points.
    pub(crate) mounter: Arc<dyn Mounter>,
    /// Containers that refer to volumes.
    pub(crate) references: Arc<dyn VolumeReferences>,
    /// Tells the time.
    pub(crate) clock: Arc<dyn Clock>,
}

/// All attempts of one job, over restarts. A sender may use an id again once its job is forgotten, so that the
/// key alone does not tell what this job has made.
struct Attempts {
    maker: Maker,
}

impl Attempts {
    /// Whether one of them has made `volume`. A volume or a job without an attempt id was accepted by an agent that kept
    /// none: then it cannot be told, and the volume stays.
    fn made(&self, volume: &Volume) -> bool {
        self.maker.attempt.is_some() && volume.made_by.as_ref() == Some(&self.maker)
    }

    /// Whether `volume` was made by a job of this key, now or long ago.
    fn bears_name_of(&self, volume: &Volume) -> bool {
        volume.made_by.as_ref().is_some_and(|maker| maker.job == self.maker.job)
    }
}

/// What work has come to.
#[derive(Debug)]
struct Completed {
    volume: Option<VolumeId>,
    changed: bool,
    /// The mount point whose attachment is gone, where the journal still has it: dropped in the commit of the end.
    released: Option<MountPoint>,
}

/// Work that stopped.
#[derive(Debug)]
enum WorkError {
    /// A step failed, and what was done is undone.
    Failed(Failure),
    /// A step failed, and this volume is not, or may not be, what it was before.
    FailedLate(Failure, VolumeId),
    /// A step failed, and what was done, for this volume where that is known, could not be undone.
    NotUndone(Failure, Option<VolumeId>),
    /// It was abandoned.
    Abandoned {
        /// Whether what was done is undone.
        undone: bool,
        /// As in [`Completed`].
        released: Option<MountPoint>,
    },
}

impl WorkError {
    /// It was abandoned, and nothing of it is left.
    const ABANDONED: Self = Self::Abandoned { undone: true, released: None };

    /// A create of `volume` failed. What a store says that it could not undo is owed.
    fn of_create(failure: Failure, volume: &VolumeId) -> Self {
        if failure.is_undone() {
            Self::Failed(failure)
        } else {
            Self::NotUndone(failure, Some(volume.clone()))
        }
    }

    /// Why a step failed, if one did.
    fn code(&self) -> Option<FailureCode> {
        match self {
            Self::Failed(failure) | Self::FailedLate(failure, _) | Self::NotUndone(failure, _) => {
                Some(failure.code())
            }
            Self::Abandoned { .. } => None,
        }
    }

    /// Keeps what could not be undone: with the failure, or, where nobody waits for it, in the log.
    fn undo_failed(self, undo: Failure) -> Self {
        match self {
            Self::Failed(failure) => Self::Failed(failure.undo_failed(undo)),
            Self::FailedLate(failure, volume) => Self::FailedLate(failure.undo_failed(undo), volume),
            Self::NotUndone(failure, volume) => Self::NotUndone(failure.undo_failed(undo), volume),
            Self::Abandoned { undone, released } => {
                create::report(Err::<(), _>(undo));
                Self::Abandoned { undone, released }
            }
        }
    }

    /// The same, where what was done for `volume` could not be undone: that is tried again.
    fn not_undone(self, undo: Failure, volume: impl Into<Option<VolumeId>>) -> Self {
        match self.undo_failed(undo) {
            Self::Failed(failure) | Self::FailedLate(failure, _) | Self::NotUndone(failure, _) => {
                Self::NotUndone(failure, volume.into())
            }
            Self::Abandoned { released, .. } => Self::Abandoned { undone: false, released },
        }
    }
}

impl From<Failure> for WorkError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Worker {
    /// Does the work of `job`, and gives the event that ends it.
    pub(super) async fn run(
        &self,
        job: &Job,
        attempt: Attempt,
        id: Option<AttemptId>,
        control: &JobControl,
    ) -> Event {
        let key = job.key();
        let subject = format!("cannot {} {}", key.kind, job.request.target());
        let attempts = Attempts { maker: Maker { job: key.clone(), attempt: id } };
        let result = match (&job.request, attempt) {
            (JobRequest::Create(create), Attempt::Do) => self.create(create, &attempts, control).await,
            (JobRequest::Create(create), Attempt::Redo) => {
                self.create_again(create, &attempts, control).await
            }
            (JobRequest::Create(create), Attempt::Undo) => {
                self.undo_overdue_create(create, &attempts, control).await
            }
            (JobRequest::Delete(delete), Attempt::Do | Attempt::Redo) => self.delete(delete, control).await,
            (JobRequest::Delete(delete), Attempt::Undo) => self.recover_overdue_delete(delete, control).await,
        };
        match result {
            Ok(Completed { volume, changed, released }) => {
                if let Some(volume) = &volume {
                    self.stores.saw(volume, key.kind == JobKind::Create);
                }
                Event::Ended { key, outcome: Outcome::Done, volume, changed, released, needs_undo: false }
            }
            Err(WorkError::Failed(failure)) => {
                failed(key, &failure.while_doing(subject), None, true, control)
            }
            Err(WorkError::FailedLate(failure, volume)) => {
                failed(key, &failure.while_doing(subject), Some(volume), true, control)
            }
            Err(WorkError::NotUndone(failure, volume)) => {
                failed(key, &failure.while_doing(subject), volume, false, control)
            }
            Err(WorkError::Abandoned { undone, released }) => {
                let now = if undone { "is undone" } else { "could not be undone: that is tried again" };
                tracing::warn!(job = %key, "work that took too long has returned, and {now}");
                Event::Released { key, released, undone }
            }
        }
    }

    pub(super) async fn attach_again(&self, attachment: &Attachment) -> Result<(), Failure> {
        let source = self.stores.get(&attachment.volume.store)?.source(&attachment.volume.name).await?;
        let survey = self.mounter.survey(&attachment.mount_point).await?;
        self.mounter.attach(&source, &attachment.mount_point, &survey.missing).await?;
        self.attachments.note(&attachment.mount_point, None);
        Ok(())
    }
}

/// The end of work that failed, and the volume that it has changed all the same.
fn failed(
    key: JobKey,
    failure: &Failure,
    changed: Option<VolumeId>,
    undone: bool,
    control: &JobControl,
) -> Event {
    tracing::warn!(job = %key, code = %failure.code(), "{}", failure.chain());
    if !control.try_end() {
        return Event::Released { key, released: None, undone };
    }
    Event::Ended {
        key,
        outcome: Outcome::Failed(failure.report()),
        changed: changed.is_some(),
        volume: changed,
        released: None,
        needs_undo: !undone,
    }
}
