//! The ports: what the core asks of the world. Each doc comment is the contract that every adapter keeps,
//! also after an error. All are usable as `dyn`; a blocking system call runs on a thread for blocking work
//! inside the adapter that makes it, and has its own time limit where it can be given one.

mod store;

pub use store::{
    Claim, ClaimKind, Created, DestroyError, Destroyed, Need, Probe, SharedStore, Source, SourceKind, Space,
    VolumeStore,
};

use crate::failure::Failure;
use crate::job::{Answer, Job, Refusal};
use crate::ledger::{AnswerId, Change, Remembered};
use crate::mount_point::MountPoint;
use crate::time::Moment;
use crate::user::User;
use crate::volume::VolumeId;
use async_trait::async_trait;

/// Mount points: the only port that touches them. Paths are resolved below their allowed root so that no
/// component is a link, also not one that is swapped in while a call runs.
#[async_trait]
pub trait Mounter: Send + Sync {
    /// What attaching at `mount_point` would find. Changes nothing.
    ///
    /// # Errors
    /// `forbidden-path` for a path with a link, or outside every root; `conflict` for something that is no
    /// directory on the way or at the end.
    async fn survey(&self, mount_point: &MountPoint) -> Result<Survey, Failure>;

    /// Makes `source` visible at `mount_point`, `nosuid,nodev`, after making the directories `missing` (outermost
    /// first). An empty `lost+found` is removed where the file system has a journal. Already so → nothing is touched.
    /// After an error nothing is mounted, and the directories that this call made are gone.
    ///
    /// # Errors
    /// As [`Mounter::survey`]; `conflict` for a foreign mount; `damaged` when the file system cannot be
    /// mounted; `internal` with the step.
    async fn attach(
        &self,
        source: &Source,
        mount_point: &MountPoint,
        missing: &[MountPoint],
    ) -> Result<(), Failure>;

    /// Makes `source` no longer visible at `mount_point`, by a plain unmount: never lazy, never forced.
    ///
    /// # Errors
    /// `in-use` when something in this mount namespace holds it: then nothing has changed. `conflict` for a
    /// foreign mount.
    async fn detach(&self, source: &Source, mount_point: &MountPoint) -> Result<Detached, Failure>;

    /// Removes those of `directories` (outermost first) that are empty directories and no mount points,
    /// innermost first; stops at the first that stays.
    ///
    /// # Errors
    /// `internal` when an empty one cannot be removed.
    async fn remove_directories(&self, directories: &[MountPoint]) -> Result<(), Failure>;

    /// Lays the guard over `mount_point`, where a volume should be and is not: an empty, read-only tmpfs of mode
    /// 0, so that nobody can write below. Makes the directories `missing` first. A guard that is there stays.
    /// [`Mounter::attach`] mounts on top of a guard, so that there is no moment without either.
    ///
    /// # Errors
    /// As [`Mounter::survey`]; `conflict` for a foreign mount; `unsupported` without the right to mount.
    async fn guard(&self, mount_point: &MountPoint, missing: &[MountPoint]) -> Result<(), Failure>;

    /// Makes sure that no guard is at `mount_point`. [`Mounter::detach`] does this too.
    ///
    /// # Errors
    /// `in-use` when something holds it.
    async fn unguard(&self, mount_point: &MountPoint) -> Result<(), Failure>;

    /// Who holds the file system of `source`, as far as this can be seen: processes with open files, mounts
    /// inside `mount_point`, other mount namespaces. Serves to name them; it never decides.
    async fn holders_of(&self, source: &Source, mount_point: &MountPoint) -> Vec<User>;
}

/// What attaching at a mount point would find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The directories that would have to be made, outermost first; the last is the mount point.
    pub missing: Vec<MountPoint>,
    /// What is mounted exactly there, on top, if anything.
    pub mounted: Option<Mounted>,
    /// Whether files that are there would be hidden.
    pub hides_files: bool,
}

/// What is mounted at a mount point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mounted {
    /// The guard: a volume should be there, and is not.
    Guard,
    /// A volume, or something foreign, such as "/dev/loop3 (ext4)".
    Something(String),
}

/// What detaching found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detached {
    /// It was there, and is not any more.
    Gone,
    /// Nothing was mounted there.
    NothingThere,
}

/// Who refers to a volume though nothing in the kernel may hold it: containers, also stopped ones.
#[async_trait]
pub trait VolumeReferences: Send + Sync {
    /// Every container that refers to `volume` by name, or to `mount_point` or anything below it by path,
    /// running or stopped; each once.
    ///
    /// # Errors
    /// `store-unavailable` when an engine that is configured does not answer within the limit: it is never
    /// guessed that nobody uses a volume.
    async fn users_of(
        &self,
        volume: &VolumeId,
        mount_point: Option<&MountPoint>,
    ) -> Result<Vec<User>, Failure>;

    /// Every running container that has `mount_point` bound, exactly that path and no folder above or below it,
    /// and would not see what is mounted there from now on.
    ///
    /// # Errors
    /// As [`VolumeReferences::users_of`].
    async fn bound_at(&self, mount_point: &MountPoint) -> Result<Vec<User>, Failure>;
}

/// What the node must remember: jobs, answers to send, attachments.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Everything that was committed, whole. Called once, at start.
    ///
    /// # Errors
    /// `damaged` when what is there cannot be read.
    async fn load(&self) -> Result<Remembered, Failure>;

    /// Makes all of `changes` durable, or none of them. What forgets or finishes something succeeds on a full
    /// disk too: the journal keeps room for it.
    ///
    /// # Errors
    /// `no-space`, or `internal` with the step; then nothing has changed.
    async fn commit(&self, changes: &[Change]) -> Result<(), Failure>;
}

/// The way back to senders.
#[async_trait]
pub trait Answers: Send + Sync {
    /// Hands `answer` to the client of the broker; the order of the calls is the order of the answers. Does not wait
    /// for the broker, which may be away for as long as it takes: [`JobIntake::acknowledged`] tells when it has `id`.
    async fn send(&self, id: AnswerId, answer: &Answer);
}

/// The way into the core: where front doors hand in what arrives, and tell which answers the broker has.
pub trait JobIntake: Send + Sync {
    /// Queues `arrival` behind the others without waiting. `recorded` is called once it, or its refusal, is on disk: only
    /// then is the sender's message acknowledged.
    ///
    /// # Errors
    /// When there is no room, or the agent is stopping: `recorded` is dropped, and the message has to come again.
    fn offer(&self, arrival: Arrival, recorded: Recorded) -> Result<(), NotQueued>;

    /// The broker has acknowledged the answer `id`.
    fn acknowledged(&self, id: AnswerId);
}

/// Tells a front door that an arrival is on disk.
pub type Recorded = Box<dyn FnOnce() + Send>;

/// Why an arrival was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotQueued {
    /// More arrive than can be recorded.
    #[error("the queue of arrivals is full")]
    Full,
    /// Nothing is accepted any more.
    #[error("the agent is stopping and accepts no more jobs")]
    Stopping,
}

/// What a front door made of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A well-formed job.
    Job(Job),
    /// Something else, and why.
    Refused(Refusal),
}

/// The clocks of this host.
pub trait Clock: Send + Sync {
    /// The wall time and the uptime of this moment. Both run on while the process is stopped or the host suspended; the
    /// boot is always known, and the same for as long as this process runs.
    fn now(&self) -> Moment;
}
