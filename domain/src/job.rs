//! Jobs: one request to create or delete a volume, and the answers it gets.

use crate::failure::{Failure, FailureCode, FailureReport};
use crate::mount_point::MountPoint;
use crate::names::{JobId, SenderId, StoreName, VolumeName};
use crate::size::VolumeSize;
use crate::volume::{FileSystem, Mode, Provision};
use std::fmt;

/// What a job asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobKind {
    /// Make a volume, and attach it.
    Create,
    /// Detach a volume, and destroy it.
    Delete,
}

impl JobKind {
    /// The word in topics, records and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
        }
    }
}

impl fmt::Display for JobKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A job's identity: sender + kind + the id that the sender chose. The specification's create and delete
/// examples share their id: they are two jobs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey {
    /// Who asked.
    pub sender: SenderId,
    /// For what.
    pub kind: JobKind,
    /// Under which id.
    pub id: JobId,
}

impl fmt::Display for JobKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} job `{}` of `{}`", self.kind, self.id, self.sender)
    }
}

/// One well-formed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Who asked.
    pub sender: SenderId,
    /// Under which id.
    pub id: JobId,
    /// For what.
    pub request: JobRequest,
}

impl Job {
    /// The job's identity.
    #[must_use]
    pub fn key(&self) -> JobKey {
        JobKey { sender: self.sender.clone(), kind: self.request.kind(), id: self.id.clone() }
    }
}

/// The content of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobRequest {
    /// Make a volume.
    Create(CreateRequest),
    /// Destroy a volume.
    Delete(DeleteRequest),
}

impl JobRequest {
    /// Create or delete.
    #[must_use]
    pub fn kind(&self) -> JobKind {
        match self {
            Self::Create(_) => JobKind::Create,
            Self::Delete(_) => JobKind::Delete,
        }
    }

    /// What the job is about.
    #[must_use]
    pub fn target(&self) -> &Target {
        match self {
            Self::Create(create) => &create.target,
            Self::Delete(delete) => &delete.target,
        }
    }
}

/// Which volume a job is about: by mount point, by name, or both; never neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    mount_point: Option<MountPoint>,
    name: Option<VolumeName>,
    /// The store, where the job names one.
    pub store: Option<StoreName>,
}

impl Target {
    /// A target by what is given.
    ///
    /// # Errors
    /// [`FailureCode::BadRequest`] when there is neither a mount point nor a name.
    pub fn new(
        store: Option<StoreName>,
        name: Option<VolumeName>,
        mount_point: Option<MountPoint>,
    ) -> Result<Self, Failure> {
        if mount_point.is_none() && name.is_none() {
            return Err(Failure::new(
                FailureCode::BadRequest,
                "the job names neither a mount point nor a volume",
            ));
        }
        Ok(Self { mount_point, name, store })
    }

    /// The mount point, if the job gave one.
    #[must_use]
    pub fn mount_point(&self) -> Option<&MountPoint> {
        self.mount_point.as_ref()
    }

    /// The name that the job gave, if any.
    #[must_use]
    pub fn given_name(&self) -> Option<&VolumeName> {
        self.name.as_ref()
    }

    /// The name that the job gave, or else the one that its mount point gives.
    #[must_use]
    pub fn name(&self) -> VolumeName {
        match (&self.name, &self.mount_point) {
            (Some(name), _) => name.clone(),
            (None, Some(mount_point)) => mount_point.derived_name(),
            (None, None) => unreachable!("the constructor refuses a target without both"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.store, &self.name) {
            (Some(store), Some(name)) => write!(formatter, "volume `{store}/{name}`")?,
            (None, Some(name)) => write!(formatter, "volume `{name}`")?,
            (_, None) => formatter.write_str("volume")?,
        }
        match &self.mount_point {
            Some(mount_point) => write!(formatter, " at `{mount_point}`"),
            None => Ok(()),
        }
    }
}

/// What a create job asks for. `None` stands for "as configured".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateRequest {
    /// Which volume.
    pub target: Target,
    /// How large.
    pub size: VolumeSize,
    /// The file system.
    pub file_system: Option<FileSystem>,
    /// The owner of its top directory.
    pub uid: Option<u32>,
    /// The group of its top directory.
    pub gid: Option<u32>,
    /// The permissions of its top directory.
    pub mode: Option<Mode>,
    /// Whether room is taken at once.
    pub provision: Option<Provision>,
}

impl CreateRequest {
    /// A request for a volume at `mount_point`, all else as configured.
    #[must_use]
    pub fn at(mount_point: MountPoint, size: VolumeSize) -> Self {
        let target = Target { mount_point: Some(mount_point), name: None, store: None };
        Self { target, size, file_system: None, uid: None, gid: None, mode: None, provision: None }
    }

    #[cfg(test)]
    pub(crate) fn of_size(size: VolumeSize) -> Self {
        Self::at(MountPoint::new("/mnt/v").expect("a normal path"), size)
    }
}

/// What a delete job asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRequest {
    /// Which volume.
    pub target: Target,
}

/// What a sender is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whose topic it goes to.
    pub sender: SenderId,
    /// The id that the sender chose; absent when the refused job had no usable one.
    pub job: Option<JobId>,
    /// What is said.
    pub status: Status,
}

/// The word of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// The job is on disk, work starts.
    Pending,
    /// The work is finished and durable.
    Done,
    /// There will be no `DONE`. Never said on `…/jobs`: deployed senders take it for success.
    Failed(FailureReport),
}

/// A message that is no job, or none that can be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whom to tell; nobody when the payload has no usable sender.
    pub sender: Option<SenderId>,
    /// The id that the sender chose, if it is usable.
    pub job: Option<JobId>,
    /// Why.
    pub report: FailureReport,
}

impl Refusal {
    /// The refusal of `job`.
    #[must_use]
    pub fn of(job: &Job, failure: &Failure) -> Self {
        Self { sender: Some(job.sender.clone()), job: Some(job.id.clone()), report: failure.report() }
    }
}
