//! What is attached, held open: so that it stays the same while a call runs, and can be recognised at a mount point.

use crate::dir_entry::{FileId, MountRoot, file_id_of};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::ports::SourceKind;
use dvs_domain::volume::FileSystem;
use dvs_mountinfo::Mount;
use rustix::fs::{FileType, Mode, OFlags, fstat, major, minor, open, stat};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A source, held open.
#[derive(Debug)]
pub(crate) enum OpenSource {
    /// A block device.
    Device {
        path: PathBuf,
        file_system: FileSystem,
        /// Major and minor number.
        number: (u32, u32),
        /// A loop device with automatic detach stays as long as this.
        device: OwnedFd,
    },
    Directory {
        path: PathBuf,
        directory: OwnedFd,
        file: FileId,
    },
}

impl OpenSource {
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

    /// Whether the mount with this root is this source, and all of it. `mount` is `None` where it is not known.
    pub(crate) fn is_mounted_as(&self, root: MountRoot, mount: Option<&Mount>) -> bool {
        match self {
            Self::Directory { file, .. } => root.file == *file,
            Self::Device { number, file_system, .. } => match mount {
                // A btrfs has a device number of its own, and its default subvolume may be any directory.
                Some(mount) if *file_system == FileSystem::Btrfs => device_of(mount) == Some(*number),
                Some(mount) => mount.device == *number && mount.root == Path::new("/"),
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
    Ok(OpenSource::Device { path: path.to_owned(), file_system, number, device: held })
}

fn open_directory(path: &Path) -> Result<OpenSource, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let failed = |errno| not_opened("source directory", path, errno);
    let directory = open(path, flags, Mode::empty()).map_err(failed)?;
    let file = file_id_of(directory.as_fd()).map_err(failed)?;
    Ok(OpenSource::Directory { path: path.to_owned(), directory, file })
}

fn not_opened(what: &str, path: &Path, errno: Errno) -> Failure {
    Failure::internal(format!("cannot open {what} `{}`", path.display()), errno)
}

/// The number of the block device from which `mount` was made, by its path in this mount namespace.
pub(crate) fn device_of(mount: &Mount) -> Option<(u32, u32)> {
    let state = stat(&mount.source).ok()?;
    (FileType::from_raw_mode(state.st_mode) == FileType::BlockDevice)
        .then(|| (major(state.st_rdev), minor(state.st_rdev)))
}
