//! The ports: what the core asks of the world. Each doc comment is the contract that every adapter keeps,
//! also after an error. All are usable as `dyn`; a blocking system call runs on a thread for blocking work
//! inside the adapter that makes it, and has its own time limit where it can be given one.

use crate::attachment::Attachment;
use crate::failure::Failure;
use crate::job::{Answer, Job, JobKey, Refusal};
use crate::ledger::{AnswerId, JobRecord, RefusalNumber};
use crate::mount_point::MountPoint;
use crate::names::{NodeId, VolumeName};
use crate::time::Moment;
use crate::user::User;
use crate::volume::{Entry, FileSystem, StoreDescription, Usage, Volume, VolumeId};
use async_trait::async_trait;
use std::any::Any;
use std::fmt;
use std::path::PathBuf;

/// Where volumes live. Every implementation passes the `store-contract` suite. Idempotent; one volume, one
/// operation at a time, different volumes side by side; what it says is on disk before it says it.
#[async_trait]
pub trait VolumeStore: Send + Sync {
    /// What the store is called, what it can do, and what it fills in.
    fn describe(&self) -> StoreDescription;

    /// Makes `volume` exist, whole and durable, or leaves nothing behind and says why not. When something of
    /// that name is there it is not touched: [`Created::AlreadyThere`] gives what is there, and the caller
    /// compares.
    ///
    /// # Errors
    /// `no-space`, `damaged` (something broken has that name), `store-unavailable`, `unsupported`, or
    /// `internal` with the step that failed; also what could not be undone.
    async fn create(&self, volume: &Volume) -> Result<Created, Failure>;

    /// [`VolumeStore::create`], and [`VolumeStore::source`] of what is new, where the store can give it at once: it is
    /// to be attached. Like the former in everything else.
    ///
    /// # Errors
    /// As [`VolumeStore::create`].
    async fn create_to_attach(&self, volume: &Volume) -> Result<(Created, Option<Source>), Failure> {
        self.create(volume).await.map(|created| (created, None))
    }

    /// Makes sure that nothing is called `name`, and that its room is free. The caller has detached it.
    ///
    /// # Errors
    /// `in-use` when something still holds it: then nothing has changed. `damaged`, `store-unavailable`. One that is
    /// not undone ([`Failure::is_undone`]) came when the end was decided: what is left is not the volume any more.
    async fn destroy(&self, name: &VolumeName) -> Result<Destroyed, Failure>;

    /// Destroys `volume`, which an attempt on this node that failed has made, unless another may use it by now: another
    /// node has made it for the same job, or has said that it is there. Where no other node can reach it this is
    /// [`VolumeStore::destroy`].
    ///
    /// # Errors
    /// As [`VolumeStore::destroy`].
    async fn take_back(&self, volume: &Volume) -> Result<TakenBack, Failure>;

    /// What is called `name`, read anew from the store.
    ///
    /// # Errors
    /// `store-unavailable`.
    async fn look_up(&self, name: &VolumeName) -> Result<Option<Entry>, Failure>;

    /// Every entry in order of its name, a damaged one with its reason: one never hides the others.
    ///
    /// # Errors
    /// `store-unavailable`.
    async fn list(&self) -> Result<Vec<Entry>, Failure>;

    /// How much room `name` takes.
    ///
    /// # Errors
    /// `not-found`, `store-unavailable`.
    async fn usage(&self, name: &VolumeName) -> Result<Usage, Failure>;

    /// What to attach for `name`. Asking again gives the same device or directory: one image never has two
    /// loop devices. The device stays while the source, or an attachment made from it, is there.
    ///
    /// # Errors
    /// `not-found`, `damaged`, `store-unavailable`, `internal` with the step.
    async fn source(&self, name: &VolumeName) -> Result<Source, Failure>;

    /// Who else may use its volumes, where several nodes can share the store.
    fn shared(&self) -> Option<&dyn SharedStore> {
        None
    }
}

/// A store whose volumes several nodes can have attached. Each node that attaches says so first, and a volume that
/// a node has attached is not destroyed. What a dead node left is never taken away by an agent itself.
#[async_trait]
pub trait SharedStore: Send + Sync {
    /// Says that this node has `name` attached, or is about to. Before it is attached; saying it again is no error.
    ///
    /// # Errors
    /// `busy` while it is being destroyed: then nothing has changed. `not-found`, `unsupported`,
    /// `store-unavailable`.
    async fn enter(&self, name: &VolumeName) -> Result<(), Failure>;

    /// Says that this node has `name` attached no more. After it was detached; saying it again is no error.
    ///
    /// # Errors
    /// `unsupported`, `store-unavailable`.
    async fn leave(&self, name: &VolumeName) -> Result<(), Failure>;

    /// What nodes have said about `name`, this one too.
    ///
    /// # Errors
    /// `store-unavailable`.
    async fn claims(&self, name: &VolumeName) -> Result<Vec<Claim>, Failure>;

    /// Takes away all that `node` has said about `name`: for an operator who knows that the node is dead. Gives
    /// what was taken away.
    ///
    /// # Errors
    /// `unsupported`, `store-unavailable`.
    async fn release(&self, name: &VolumeName, node: &NodeId) -> Result<Vec<Claim>, Failure>;
}

/// What a node has said about a volume that it shares with others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// The node.
    pub node: NodeId,
    /// What it is called, if it has said that.
    pub node_name: Option<String>,
    /// What it does.
    pub kind: ClaimKind,
}

/// What a node does with a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClaimKind {
    /// It has it attached.
    Attached,
    /// It is destroying it, or was when it died.
    Deleting,
}

/// What creating found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// The volume was made.
    New,
    /// It, or something of its name, was there, and is untouched.
    AlreadyThere(Box<Volume>),
}

/// What destroying found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destroyed {
    /// The volume was there, and is gone.
    Gone,
    /// Nothing of that name was there.
    NothingThere,
}

/// What taking back found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakenBack {
    /// Nothing is left of it.
    Gone,
    /// It is another's by now, and whole.
    Left,
}

/// What to attach, and what keeps it there until it is attached.
pub struct Source {
    /// What it is.
    pub kind: SourceKind,
    _keep: Option<Box<dyn Any + Send + Sync>>,
}

/// The kinds of things that can be attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A block device with a file system on it.
    Device {
        /// The device's node, such as `/dev/loop3`.
        path: PathBuf,
        /// What is on it.
        file_system: FileSystem,
    },
    /// A directory of this host.
    Directory(PathBuf),
    /// A directory on an NFS server.
    NfsExport {
        /// The server's name or address.
        server: String,
        /// The port of its NFS service, where it is not the one that the server's portmapper tells.
        port: Option<u16>,
        /// The directory, as the server calls it.
        path: String,
        /// Whether it may only be read.
        read_only: bool,
    },
}

impl Source {
    /// A source that stays by itself.
    #[must_use]
    pub fn new(kind: SourceKind) -> Self {
        Self { kind, _keep: None }
    }

    /// A source that stays as long as `keep` does, such as an open loop device.
    #[must_use]
    pub fn kept_by(kind: SourceKind, keep: impl Any + Send + Sync) -> Self {
        Self { kind, _keep: Some(Box::new(keep)) }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(formatter)
    }
}

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

    /// Makes `source` visible at `mount_point`, `nosuid,nodev` and without `lost+found`, after making the
    /// directories `missing` (outermost first). Already so → nothing is touched. After an error nothing is
    /// mounted, and the directories that this call made are gone.
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
