//! Volumes: what was settled about one, how a store lists it, and what a store is.

pub use crate::volume_options::{FileSystem, Mode, Provision};

use crate::failure::{Failure, FailureCode};
use crate::job_key::Maker;
use crate::names::{StoreName, VolumeName};
use crate::size::VolumeSize;
use crate::time::Timestamp;
use std::fmt;

/// A volume's identity: store + name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeId {
    /// Where it lives.
    pub store: StoreName,
    /// What it is called there.
    pub name: VolumeName,
}

impl fmt::Display for VolumeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.store, self.name)
    }
}

/// Everything that is settled about a volume: what was asked, with the store's defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeSpec {
    /// Store and name.
    pub id: VolumeId,
    /// Its size. Enforced where the store can.
    pub size: VolumeSize,
    /// The file system, for stores that format one.
    pub file_system: Option<FileSystem>,
    /// The owner of its top directory.
    pub uid: u32,
    /// The group of its top directory.
    pub gid: u32,
    /// The permissions of its top directory.
    pub mode: Mode,
    /// Whether room is taken at once, for stores that take room.
    pub provision: Option<Provision>,
}

/// The outcome of comparing a volume with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Nothing asked contradicts the volume.
    Same,
    /// Each field that does.
    Differs(Vec<Difference>),
}

/// One field in which a request contradicts a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What it is about, such as "size".
    pub field: &'static str,
    /// What the volume has.
    pub is: String,
    /// What was asked.
    pub asked: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} is {}, the request asks for {}", self.field, self.is, self.asked)
    }
}

impl Comparison {
    /// Turns a difference into the conflict that the sender is told.
    ///
    /// # Errors
    /// [`FailureCode::Conflict`], naming each difference.
    pub fn into_result(self, volume: &VolumeId) -> Result<(), Failure> {
        match self {
            Self::Same => Ok(()),
            Self::Differs(differences) => {
                let each: Vec<String> = differences.iter().map(ToString::to_string).collect();
                Err(Failure::new(
                    FailureCode::Conflict,
                    format!("volume `{volume}` is there with other content: {}", each.join("; ")),
                ))
            }
        }
    }
}

/// What a store fills in where a request leaves something open, and what it can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreDescription {
    /// Its name on this node.
    pub name: StoreName,
    /// Its kind: `loop`, `nfs` or `fake`.
    pub kind: &'static str,
    /// The file system of volumes that ask for none; `None` for a store that formats nothing.
    pub file_system: Option<FileSystem>,
    /// How room is taken for volumes that do not say; `None` for a store that takes none.
    pub provision: Option<Provision>,
    /// The owner of volumes that ask for none.
    pub uid: u32,
    /// The group of volumes that ask for none.
    pub gid: u32,
    /// The permissions of volumes that ask for none.
    pub mode: Mode,
    /// Whether this program can make its volumes visible at a mount point.
    pub attachable: bool,
    /// Whether other nodes can have its volumes too.
    pub is_shared: bool,
}

impl StoreDescription {
    /// Whether volumes of this store can be made visible at a mount point.
    ///
    /// # Errors
    /// [`FailureCode::Unsupported`] where they cannot.
    pub fn admit_mount_point(&self) -> Result<(), Failure> {
        let hint = "leave the mount point out and give the volume a `name`, or name another store";
        let what = format!("volumes of store `{}` ({}) cannot be attached yet", self.name, self.kind);
        let refused = || Failure::new(FailureCode::Unsupported, what).with_hint(hint);
        self.attachable.then_some(()).ok_or_else(refused)
    }
}

/// A volume as its store records it: what was settled, by whom, when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// What was settled.
    pub spec: VolumeSpec,
    /// The job that made it; `None` when no job did.
    pub made_by: Option<Maker>,
    /// When.
    pub made_at: Timestamp,
}

/// One line of what a store lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A volume in order.
    Sound(Box<Volume>),
    /// Something of that name is there, and broken.
    Damaged {
        /// What it is called.
        name: VolumeName,
        /// What is wrong with it.
        reason: String,
    },
}

impl Entry {
    /// What the entry is called.
    #[must_use]
    pub fn name(&self) -> &VolumeName {
        match self {
            Self::Sound(volume) => &volume.spec.id.name,
            Self::Damaged { name, .. } => name,
        }
    }
}

/// How much room a volume takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes taken in the store: what `du` shows.
    pub allocated_bytes: u64,
}
