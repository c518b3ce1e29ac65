//! What is attached, opened: so that it stays what it is while a call runs, and can be recognised at a mount
//! point.

use crate::mount_table::{MountEntry, MountTable};
use crate::place::{Identity, Top, identity_of};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::ports::SourceKind;
use dvs_domain::volume::FileSystem;
use rustix::fs::{FileType, Mode, OFlags, fstat, major, minor, open, stat};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A source, held open.
#[derive(Debug)]
pub(crate) enum OpenSource {
    /// A block device.
    Device {
        /// Its node.
        path: PathBuf,
        /// What is on it.
        file_system: FileSystem,
        /// Its major and minor number.
        number: (u32, u32),
        /// A loop device with automatic detach stays as long as this.
        _held: OwnedFd,
    },
    /// A directory.
    Directory {
        /// Its path.
        path: PathBuf,
        /// The directory.
        top: OwnedFd,
        /// Which one it is.
        identity: Identity,
    },
}

impl OpenSource {
    /// Opens what `kind` names.
    pub(crate) fn open(kind: &SourceKind) -> Result<Self, Failure> {
        match kind {
            SourceKind::Device { path, file_system } => open_device(path, *file_system),
            SourceKind::Directory(path) => open_directory(path),
            SourceKind::NfsExport { server, path, .. } => Err(Failure::new(
                FailureCode::Unsupported,
                format!("a directory on an NFS server (`{server}:{path}`) cannot be attached yet"),
            )),
        }
    }

    /// Whether the mount with this top shows this source, and all of it.
    pub(crate) fn is_shown_by(&self, top: Top, table: &MountTable) -> bool {
        match self {
            Self::Directory { identity, .. } => top.identity == *identity,
            Self::Device { number, file_system, .. } => match table.entry(top.mount) {
                // A btrfs has a device number of its own, and its default subvolume may be any directory.
                Some(entry) if *file_system == FileSystem::Btrfs => device_of(entry) == Some(*number),
                Some(entry) => entry.device == *number && entry.root == Path::new("/"),
                None => false,
            },
        }
    }
}

fn open_device(path: &Path, file_system: FileSystem) -> Result<OpenSource, Failure> {
    let held = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| {
        not_opened("device", path, errno).with_hint("the store that gave the device should still hold it")
    })?;
    let state = fstat(&held).map_err(|errno| not_opened("device", path, errno))?;
    if FileType::from_raw_mode(state.st_mode) != FileType::BlockDevice {
        return Err(Failure::new(FailureCode::Internal, format!("`{}` is no block device", path.display())));
    }
    let number = (major(state.st_rdev), minor(state.st_rdev));
    Ok(OpenSource::Device { path: path.to_owned(), file_system, number, _held: held })
}

fn open_directory(path: &Path) -> Result<OpenSource, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top =
        open(path, flags, Mode::empty()).map_err(|errno| not_opened("source directory", path, errno))?;
    let identity = identity_of(top.as_fd()).map_err(|errno| not_opened("source directory", path, errno))?;
    Ok(OpenSource::Directory { path: path.to_owned(), top, identity })
}

fn not_opened(what: &str, path: &Path, errno: Errno) -> Failure {
    Failure::internal(format!("cannot open {what} `{}`", path.display()), errno)
}

/// The block device that a mount says it was made from, as this process's namespace knows it.
pub(crate) fn device_of(entry: &MountEntry) -> Option<(u32, u32)> {
    let state = stat(&entry.source).ok()?;
    (FileType::from_raw_mode(state.st_mode) == FileType::BlockDevice)
        .then(|| (major(state.st_rdev), minor(state.st_rdev)))
}
