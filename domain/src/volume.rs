//! Volumes: what can be asked for, what was made, and whether the two agree.

use crate::failure::{Failure, FailureCode};
use crate::job::{CreateRequest, JobKey};
use crate::names::{StoreName, VolumeName, shown};
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

/// The file system inside an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileSystem {
    /// ext2: no journal.
    Ext2,
    /// ext3.
    Ext3,
    /// ext4, the default.
    Ext4,
    /// xfs.
    Xfs,
    /// btrfs.
    Btrfs,
}

impl FileSystem {
    /// Every file system that a volume can have.
    pub const ALL: [Self; 5] = [Self::Ext2, Self::Ext3, Self::Ext4, Self::Xfs, Self::Btrfs];

    /// Its name, as `mount -t` and `mkfs.<name>` take it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// Reads a name.
    ///
    /// # Errors
    /// [`FailureCode::BadRequest`], naming the known ones.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        Self::ALL.into_iter().find(|known| known.as_str() == text).ok_or_else(|| {
            Failure::new(
                FailureCode::BadRequest,
                format!("`{}` is no file system that volumes can have", shown(text)),
            )
            .with_hint("choose ext4, ext3, ext2, xfs or btrfs")
        })
    }

    /// The least size in mebibytes: what `mkfs` accepts (xfsprogs refuses below 300 MB since 5.19,
    /// btrfs-progs below 109 MiB).
    #[must_use]
    pub const fn mebibytes_min(self) -> u64 {
        match self {
            Self::Ext2 | Self::Ext3 | Self::Ext4 => 1,
            Self::Btrfs => 109,
            Self::Xfs => 300,
        }
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Whether the room is taken when the volume is made, or when it is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Provision {
    /// A sparse image: room is taken when it is written to.
    Thin,
    /// An allocated image, and still allocated after formatting.
    Thick,
}

impl Provision {
    /// The word in payloads, URLs and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Thin => "thin",
            Self::Thick => "thick",
        }
    }

    /// Reads the word.
    ///
    /// # Errors
    /// [`FailureCode::BadRequest`] for any other word.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        match text {
            "thin" => Ok(Self::Thin),
            "thick" => Ok(Self::Thick),
            _ => Err(Failure::new(
                FailureCode::BadRequest,
                format!("provision `{}` is neither `thin` nor `thick`", shown(text)),
            )),
        }
    }
}

/// The permission bits of a volume's top directory: 1 to 0o7777.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mode(u32);

impl Mode {
    /// 0755, what `mkfs` gives.
    pub const DEFAULT: Self = Self(0o755);

    /// Reads octal digits, such as `0750`.
    ///
    /// # Errors
    /// [`FailureCode::BadRequest`] for anything but octal digits from 1 to 7777.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let digits =
            !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        match u32::from_str_radix(text, 8) {
            Ok(bits @ 1..=0o7777) if digits => Ok(Self(bits)),
            _ => Err(Failure::new(
                FailureCode::BadRequest,
                format!("mode `{}` is not octal, 1 to 7777", shown(text)),
            )
            .with_hint("write it as text, such as \"0750\"")),
        }
    }

    /// The bits.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:04o}", self.0)
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

impl VolumeSpec {
    /// Whether this volume is what `request` asks for. What the request leaves open agrees with anything:
    /// a changed default never turns a repeated job into a conflict.
    #[must_use]
    pub fn compare(&self, request: &CreateRequest) -> Comparison {
        let mut differences = Vec::new();
        let mut compare = |field: &'static str, is: String, asked: Option<String>| {
            if let Some(asked) = asked.filter(|asked| *asked != is) {
                differences.push(Difference { field, is, asked });
            }
        };
        let or_none = |value: Option<&'static str>| value.unwrap_or("none").to_owned();
        compare("size", self.size.to_string(), Some(request.size.to_string()));
        compare(
            "file system",
            or_none(self.file_system.map(FileSystem::as_str)),
            request.file_system.map(|fs| fs.as_str().to_owned()),
        );
        compare("uid", self.uid.to_string(), request.uid.map(|uid| uid.to_string()));
        compare("gid", self.gid.to_string(), request.gid.map(|gid| gid.to_string()));
        compare("mode", self.mode.to_string(), request.mode.map(|mode| mode.to_string()));
        compare(
            "provision",
            or_none(self.provision.map(Provision::as_str)),
            request.provision.map(|provision| provision.as_str().to_owned()),
        );
        if differences.is_empty() { Comparison::Same } else { Comparison::Differs(differences) }
    }
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
        write!(formatter, "its {} is {}, asked was {}", self.field, self.is, self.asked)
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

    /// Fills in what `request` leaves open, for a volume called `name`.
    ///
    /// # Errors
    /// [`FailureCode::Unsupported`] where the store cannot do what is asked, and [`FailureCode::BadRequest`]
    /// for a size below the least of the file system.
    pub fn complete(&self, request: &CreateRequest, name: VolumeName) -> Result<VolumeSpec, Failure> {
        let lacks = |what: &str| {
            Failure::new(FailureCode::Unsupported, format!("store `{}` ({}) {what}", self.name, self.kind))
                .with_hint("leave that option out, or name another store")
        };
        if request.file_system.is_some() && self.file_system.is_none() {
            return Err(lacks("makes no file system"));
        }
        if request.provision.is_some() && self.provision.is_none() {
            return Err(lacks("allocates nothing in advance"));
        }
        let file_system = request.file_system.or(self.file_system);
        if let Some(fs) = file_system.filter(|fs| request.size.mebibytes() < fs.mebibytes_min()) {
            return Err(Failure::new(
                FailureCode::BadRequest,
                format!("{} is too small for {fs}: at least {} MiB", request.size, fs.mebibytes_min()),
            ));
        }
        Ok(VolumeSpec {
            id: VolumeId { store: self.name.clone(), name },
            size: request.size,
            file_system,
            uid: request.uid.unwrap_or(self.uid),
            gid: request.gid.unwrap_or(self.gid),
            mode: request.mode.unwrap_or(self.mode),
            provision: request.provision.or(self.provision),
        })
    }
}

/// A volume as its store records it: what was settled, by whom, when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// What was settled.
    pub spec: VolumeSpec,
    /// The job that made it; `None` when no job did.
    pub made_by: Option<JobKey>,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> CreateRequest {
        CreateRequest::of_size(VolumeSize::from_mebibytes(100).unwrap())
    }

    fn description() -> StoreDescription {
        StoreDescription {
            name: StoreName::new("loop").unwrap(),
            kind: "loop",
            file_system: Some(FileSystem::Ext4),
            provision: Some(Provision::Thin),
            uid: 0,
            gid: 0,
            mode: Mode::DEFAULT,
            attachable: true,
        }
    }

    #[test]
    fn what_a_request_leaves_open_agrees_with_anything() {
        let name = VolumeName::new("v").unwrap();
        let asked = CreateRequest { file_system: Some(FileSystem::Ext2), uid: Some(5), ..request() };
        let spec = description().complete(&asked, name).unwrap();
        assert_eq!(spec.compare(&asked), Comparison::Same);
        assert_eq!(spec.compare(&request()), Comparison::Same);
    }

    #[test]
    fn a_conflict_names_each_difference() {
        let spec = description().complete(&request(), VolumeName::new("v").unwrap()).unwrap();
        let other = CreateRequest {
            size: VolumeSize::from_mebibytes(300).unwrap(),
            file_system: Some(FileSystem::Xfs),
            uid: Some(1),
            gid: Some(2),
            mode: Some(Mode::parse("0700").unwrap()),
            provision: Some(Provision::Thick),
            ..request()
        };
        let conflict = spec.compare(&other).into_result(&spec.id).unwrap_err();
        assert_eq!(conflict.code(), FailureCode::Conflict);
        assert_eq!(
            conflict.to_string(),
            "volume `loop/v` is there with other content: its size is 100 MiB, asked was 300 MiB; \
             its file system is ext4, asked was xfs; its uid is 0, asked was 1; its gid is 0, asked was 2; \
             its mode is 0755, asked was 0700; its provision is thin, asked was thick"
        );
    }

    #[test]
    fn sizes_below_the_least_of_a_file_system_are_refused() {
        for (fs, least) in [(FileSystem::Ext4, 1), (FileSystem::Btrfs, 109), (FileSystem::Xfs, 300)] {
            let of = |mebibytes| CreateRequest {
                file_system: Some(fs),
                ..CreateRequest::of_size(VolumeSize::from_mebibytes(mebibytes).unwrap())
            };
            let complete = |request| description().complete(&request, VolumeName::new("v").unwrap());
            assert!(complete(of(least)).is_ok());
            if least > 1 {
                assert_eq!(complete(of(least - 1)).unwrap_err().code(), FailureCode::BadRequest);
            }
        }
    }

    #[test]
    fn what_a_store_cannot_do_is_refused() {
        assert!(description().admit_mount_point().is_ok());
        let plain = StoreDescription { file_system: None, attachable: false, ..description() };
        assert_eq!(plain.admit_mount_point().unwrap_err().code(), FailureCode::Unsupported);
        let asked = CreateRequest { file_system: Some(FileSystem::Ext4), ..request() };
        let refused = plain.complete(&asked, VolumeName::new("v").unwrap()).unwrap_err();
        assert_eq!(refused.code(), FailureCode::Unsupported);
    }

    #[test]
    fn modes_are_octal_text() {
        assert_eq!(Mode::parse("0750").unwrap().bits(), 0o750);
        for bad in ["", "0", "8", "10000", "0x1ff", "+755", "rwx"] {
            assert!(Mode::parse(bad).is_err(), "{bad}");
        }
    }
}
