//! A mount point as an entry of its parent directory, which is pinned. Inspecting it does not hold what is mounted there.

use crate::path::{Component, Location, ResolveError, ResolveErrorKind, open_component};
use dvs_domain::failure::Failure;
use dvs_domain::mount_point::MountPoint;
use dvs_mountinfo::{Mount, MountTable, Mounts, UniqueId, unique_id_at};
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Statx, StatxAttributes, StatxFlags, fsync, mkdirat, openat, statx,
    unlinkat,
};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

/// How often a busy mount or device is tried. What holds one for an instant only is no user of it: a process that
/// inspects every mount, or a program that this process is about to start and that has not closed its inherited
/// descriptors yet.
const BUSY_TRIES_MAX: u32 = 6;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// A pinned directory, and a name in it.
#[derive(Clone, Debug)]
pub(crate) struct DirEntryRef {
    parent: Rc<OwnedFd>,
    component: Component,
}

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryState {
    Absent,
    /// A directory on which nothing is mounted.
    Directory,
    MountRoot(MountRoot),
}

/// The root of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MountRoot {
    /// The mount's id in the mount table.
    pub(crate) mount: u64,
    /// The mount's id that is never given again, where the kernel has such ids.
    unique: Option<UniqueId>,
    pub(crate) file: FileId,
}

/// Distinguishes a file from all others that exist at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    /// Major and minor number.
    pub(crate) device: (u32, u32),
    pub(crate) inode: u64,
}

impl MountRoot {
    /// What is mounted, or `None` when it is gone.
    pub(crate) fn mount(self, mounts: &Mounts) -> Result<Option<Mount>, Failure> {
        mounts.get(self.mount, self.unique).map_err(unreadable_table)
    }
}

pub(crate) fn unreadable_table(error: std::io::Error) -> Failure {
    Failure::internal(format!("cannot read the mount table `{}`", MountTable::OWN), error)
}

impl DirEntryRef {
    pub(crate) fn new(parent: Rc<OwnedFd>, component: Component) -> Self {
        Self { parent, component }
    }

    /// Resolves the path of a mount point up to its parent directory.
    pub(crate) fn resolve(location: &Location<'_>) -> Result<Self, ResolveError> {
        let (_, last) = location.parents_and_last();
        Ok(Self::new(Rc::new(location.open_parent()?), last.clone()))
    }

    /// Its path, as the mount point spells it.
    pub(crate) fn path(&self) -> &MountPoint {
        &self.component.path
    }

    /// What it is. A symbolic link, or anything else that is neither a directory nor a mount, is an error.
    pub(crate) fn state(&self) -> Result<EntryState, ResolveError> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
        match state_of(self.parent.as_fd(), &self.component.name, flags) {
            Err(ResolveErrorKind::Missing) => Ok(EntryState::Absent),
            state => state.map_err(|kind| self.component.error(kind)),
        }
    }

    /// Opens the directory, or the root of what is mounted there, and returns which of the two it is.
    pub(crate) fn open(&self) -> Result<(OwnedFd, EntryState), ResolveError> {
        let directory = open_component(self.parent.as_fd(), &self.component)?;
        let state = state_of_open(directory.as_fd()).map_err(|kind| self.component.error(kind))?;
        Ok((directory, state))
    }

    /// Whether the directory has any entry.
    pub(crate) fn holds_files(&self) -> Result<bool, ResolveError> {
        let (directory, _) = self.open()?;
        has_entries(directory.as_fd()).map_err(|errno| self.component.error(ResolveErrorKind::Other(errno)))
    }

    pub(crate) fn make_directory(&self) -> rustix::io::Result<()> {
        mkdirat(&*self.parent, &self.component.name, Mode::from_raw_mode(0o755))
    }

    /// Removes the directory, if it is empty and nothing is mounted on it.
    pub(crate) fn remove_directory(&self) -> rustix::io::Result<()> {
        unlinkat(&*self.parent, &self.component.name, AtFlags::REMOVEDIR)
    }

    /// Makes durable which entries the parent directory has, where its file system can.
    pub(crate) fn sync_parent(&self) -> rustix::io::Result<()> {
        match fsync(open_to_read(self.parent.as_fd())?) {
            // fsync(2): the file system has nothing to be synced.
            Err(Errno::INVAL) => Ok(()),
            synced => synced,
        }
    }

    /// Unmounts what is on top, by a plain unmount. The path leads through the parent: a descriptor of the mount itself
    /// would hold it.
    pub(crate) fn unmount(&self) -> rustix::io::Result<()> {
        let path =
            Path::new("/proc/self/fd").join(self.parent.as_raw_fd().to_string()).join(&self.component.name);
        retry_while_busy(|| unmount(&path, UnmountFlags::NOFOLLOW))
    }
}

/// Tries again while the mount or the device is busy, for a short while.
pub(crate) fn retry_while_busy<T>(
    mut attempt: impl FnMut() -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    let mut tries = 1;
    loop {
        match attempt() {
            Err(Errno::BUSY) if tries < BUSY_TRIES_MAX => thread::sleep(BUSY_PAUSE),
            Err(Errno::INTR) if tries < BUSY_TRIES_MAX => {}
            outcome => return outcome,
        }
        tries += 1;
    }
}

/// Of an open file itself, as its file system last knew it: no server is asked.
const OF_OPEN: AtFlags = AtFlags::EMPTY_PATH.union(AtFlags::STATX_DONT_SYNC);

/// What the open `directory` is.
pub(crate) fn state_of_open(directory: BorrowedFd<'_>) -> Result<EntryState, ResolveErrorKind> {
    state_of(directory, OsStr::new(""), OF_OPEN)
}

/// Which file `file` is.
pub(crate) fn file_id_of(file: BorrowedFd<'_>) -> rustix::io::Result<FileId> {
    Ok(file_id(&inspect(file, OsStr::new(""), OF_OPEN)?))
}

/// The id, in the mount table, of the mount that `file` is on.
pub(crate) fn mount_id_of(file: BorrowedFd<'_>) -> rustix::io::Result<u64> {
    Ok(inspect(file, OsStr::new(""), OF_OPEN)?.stx_mnt_id)
}

fn inspect(parent: BorrowedFd<'_>, name: &OsStr, flags: AtFlags) -> rustix::io::Result<Statx> {
    statx(parent, name, flags, StatxFlags::TYPE | StatxFlags::INO | StatxFlags::MNT_ID)
}

fn state_of(parent: BorrowedFd<'_>, name: &OsStr, flags: AtFlags) -> Result<EntryState, ResolveErrorKind> {
    let state = inspect(parent, name, flags).map_err(ResolveErrorKind::of)?;
    let tells_mounts = state.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
        && StatxFlags::from_bits_retain(state.stx_mask).contains(StatxFlags::MNT_ID);
    if !tells_mounts {
        return Err(ResolveErrorKind::Other(Errno::NOSYS));
    }
    if state.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        let unique = unique_id_at(parent, name, flags);
        return Ok(EntryState::MountRoot(MountRoot {
            mount: state.stx_mnt_id,
            unique,
            file: file_id(&state),
        }));
    }
    match FileType::from_raw_mode(u32::from(state.stx_mode)) {
        FileType::Directory => Ok(EntryState::Directory),
        FileType::Symlink => Err(ResolveErrorKind::SymbolicLink),
        _ => Err(ResolveErrorKind::NotADirectory),
    }
}

fn file_id(state: &Statx) -> FileId {
    FileId { device: (state.stx_dev_major, state.stx_dev_minor), inode: state.stx_ino }
}

/// The directories of this module are pinned by descriptors that can neither be read nor synced.
fn open_to_read(directory: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    openat(directory, ".", flags, Mode::empty())
}

fn has_entries(directory: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    for entry in Dir::new(open_to_read(directory)?)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_busy_for_an_instant_is_tried_again_and_nothing_else() {
        let cases: [(&[Errno], rustix::io::Result<()>, u32); 4] = [
            (&[], Ok(()), 1),
            (&[Errno::BUSY, Errno::INTR, Errno::BUSY], Ok(()), 4),
            (&[Errno::BUSY; 99], Err(Errno::BUSY), BUSY_TRIES_MAX),
            (&[Errno::INVAL; 99], Err(Errno::INVAL), 1),
        ];
        for (errors, expected, expected_tries) in cases {
            let (mut tries, mut errors) = (0, errors.iter());
            let outcome = retry_while_busy(|| {
                tries += 1;
                errors.next().map_or(Ok(()), |errno| Err(*errno))
            });
            assert_eq!((outcome, tries), (expected, expected_tries));
        }
    }
}
