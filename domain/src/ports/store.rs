//! The port of stores, and of what nodes that share one tell each other.

use crate::failure::Failure;
use crate::names::{NodeId, VolumeName};
use crate::volume::{Entry, FileSystem, StoreDescription, Usage, Volume};
use async_trait::async_trait;
use std::any::Any;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Where volumes live. Every implementation passes the `store-contract` suite. Idempotent; one volume, one
/// operation at a time, different volumes side by side; what it reports is on disk before it reports it.
#[async_trait]
pub trait VolumeStore: Send + Sync {
    /// The store's name, its abilities, and its defaults. Contacts nothing.
    fn describe(&self) -> StoreDescription;

    /// Makes `volume` exist, whole and durable, or leaves nothing behind and says why not. Something that has the
    /// name is not touched: [`Created::AlreadyThere`] gives it, and the caller compares.
    ///
    /// # Errors
    /// `no-space`, `damaged` (something broken has that name), `store-unavailable`, `unsupported`, or
    /// `internal` with the step that failed; also what could not be undone.
    async fn create(&self, volume: &Volume) -> Result<Created, Failure>;

    /// Makes sure that nothing is called `name`, and that its room is free. The caller has detached it. Given the
    /// `source` that it was attached by, the store needs not read again what it read for that.
    ///
    /// # Errors
    /// [`DestroyError`] tells whether the volume is still what it was.
    async fn destroy(&self, name: &VolumeName, source: Option<&Source>) -> Result<Destroyed, DestroyError>;

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

    /// What the store needs of this host, and its free space: for showing. Makes nothing and changes nothing, also where
    /// the store is still to be made.
    async fn probe(&self) -> Probe;

    /// The claims of nodes on its volumes, exactly where [`StoreDescription::is_shared`].
    fn shared(&self) -> Option<&dyn SharedStore>;
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
#[derive(Debug)]
pub enum Created {
    /// The volume was made. Its source comes with it where the store has that at hand.
    New(Option<Source>),
    /// It, or something of its name, was there, and is untouched.
    AlreadyThere(Box<Volume>),
}

impl Created {
    /// Whether the volume was made by this call.
    #[must_use]
    pub fn is_new(&self) -> bool {
        matches!(self, Self::New(_))
    }
}

/// What destroying found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destroyed {
    /// The volume was there, and is gone.
    Gone,
    /// Nothing of that name was there.
    NothingThere,
}

/// Why a volume was not destroyed, or not to the end.
#[derive(Debug, thiserror::Error)]
pub enum DestroyError {
    /// Nothing has changed: `in-use` when something still holds it, `damaged`, `store-unavailable`, or `internal`
    /// with the step.
    #[error(transparent)]
    Refused(Failure),
    /// Its end was decided, or may have been, and is finished at the next start or contact: what is left is not
    /// the volume any more.
    #[error(transparent)]
    Decided(Failure),
}

impl DestroyError {
    /// The failure alone.
    #[must_use]
    pub fn into_failure(self) -> Failure {
        match self {
            Self::Refused(failure) | Self::Decided(failure) => failure,
        }
    }
}

impl AsRef<Failure> for DestroyError {
    fn as_ref(&self) -> &Failure {
        match self {
            Self::Refused(failure) | Self::Decided(failure) => failure,
        }
    }
}

/// A failure by itself is one before any decision.
impl From<Failure> for DestroyError {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

/// What a store needs and what room it has.
#[derive(Debug)]
pub struct Probe {
    /// Programs, devices and rights of this host.
    pub needs: Vec<Need>,
    /// The room at its place, or why that cannot be reached or used: `store-unavailable`.
    pub space: Result<Space, Failure>,
}

/// Something that a store needs of this host.
#[derive(Debug)]
pub struct Need {
    /// What it is called, such as `mkfs.ext4`.
    pub what: &'static str,
    /// Where it was found, or why it cannot be used.
    pub found: Result<String, Failure>,
    /// Whether no volume can be used without it.
    pub is_vital: bool,
}

/// Room in the file system below a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What is free.
    pub free_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
}

/// What to attach, and what keeps it there until it is attached.
#[derive(Clone)]
pub struct Source {
    /// What it is.
    pub kind: SourceKind,
    kept: Option<Arc<dyn Any + Send + Sync>>,
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
        Self { kind, kept: None }
    }

    /// A source that stays as long as `kept` does, such as an open loop device. Its store may also keep there what it
    /// has read of the volume.
    #[must_use]
    pub fn kept_by<T: Any + Send + Sync>(kind: SourceKind, kept: Arc<T>) -> Self {
        Self { kind, kept: Some(kept) }
    }

    /// What the store keeps with the source, if it is of this type.
    #[must_use]
    pub fn kept<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        Arc::clone(self.kept.as_ref()?).downcast().ok()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(formatter)
    }
}
