//! The place of a mount point: the directory that holds it, pinned, and its name there. Looking at it holds
//! nothing that is mounted there.

use crate::path::{Blocked, Obstacle, Segment, enter};
use dvs_domain::mount_point::MountPoint;
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Statx, StatxAttributes, StatxFlags, mkdirat, openat, statx,
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
/// looks at every mount, or a program that this process is about to start and that has not shed its
/// descriptors yet.
const BUSY_TRIES_MAX: u32 = 6;
/// The pause between two tries.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// A directory, pinned, and a name in it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    parent: Rc<OwnedFd>,
    segment: Segment,
}

/// What is at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing.
    Nothing,
    /// A directory on which nothing is mounted.
    Directory,
    /// The top of a mount.
    Mount(Top),
}

/// The top of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Top {
    /// The mount's number in the mount table.
    pub(crate) mount: u64,
    /// Which file the top is.
    pub(crate) identity: Identity,
}

/// What tells one file from every other that is there at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Major and minor number of the device that the file is on.
    pub(crate) device: (u32, u32),
    /// The file's number there.
    pub(crate) inode: u64,
}

impl Place {
    /// The place that `segment` names in `parent`.
    pub(crate) fn new(parent: Rc<OwnedFd>, segment: Segment) -> Self {
        Self { parent, segment }
    }

    /// Its path, as the mount point spells it.
    pub(crate) fn path(&self) -> &MountPoint {
        &self.segment.path
    }

    /// What is there. A link, or something else that is neither a directory nor a mount, is an obstacle.
    pub(crate) fn look(&self) -> Result<Found, Blocked> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
        match state_of(self.parent.as_fd(), &self.segment.name, flags) {
            Ok(state) => found(&state).map_err(|obstacle| self.segment.blocked(obstacle)),
            Err(Errno::NOENT) => Ok(Found::Nothing),
            Err(errno) => Err(self.segment.blocked(Obstacle::of(errno))),
        }
    }

    /// Opens the directory that is there, or the top of what is mounted there, and tells which of the two.
    pub(crate) fn open(&self) -> Result<(OwnedFd, Found), Blocked> {
        let directory = enter(self.parent.as_fd(), &self.segment)?;
        let found = look_at(directory.as_fd()).map_err(|obstacle| self.segment.blocked(obstacle))?;
        Ok((directory, found))
    }

    /// Whether the directory that is there holds anything.
    pub(crate) fn holds_files(&self) -> Result<bool, Blocked> {
        let (directory, _) = self.open()?;
        has_entries(directory.as_fd()).map_err(|errno| self.segment.blocked(Obstacle::Refused(errno)))
    }

    /// Makes a directory there.
    pub(crate) fn make_directory(&self) -> rustix::io::Result<()> {
        mkdirat(&*self.parent, &self.segment.name, Mode::from_raw_mode(0o755))
    }

    /// Removes the directory that is there, if it is empty and nothing is mounted on it.
    pub(crate) fn remove_directory(&self) -> rustix::io::Result<()> {
        unlinkat(&*self.parent, &self.segment.name, AtFlags::REMOVEDIR)
    }

    /// Takes away the mount that is there, by a plain unmount. The path leads through the parent: a descriptor
    /// of the mount itself would hold it.
    pub(crate) fn unmount(&self) -> rustix::io::Result<()> {
        let path =
            Path::new("/proc/self/fd").join(self.parent.as_raw_fd().to_string()).join(&self.segment.name);
        patiently(|| unmount(&path, UnmountFlags::NOFOLLOW))
    }
}

/// Tries again while the mount or the device is busy, for a short while.
pub(crate) fn patiently<T>(mut attempt: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
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

/// Which directory `directory` is, and whether it is the top of a mount.
pub(crate) fn look_at(directory: BorrowedFd<'_>) -> Result<Found, Obstacle> {
    let state = state_of(directory, OsStr::new(""), AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC);
    found(&state.map_err(Obstacle::of)?)
}

/// Which file `file` is.
pub(crate) fn identity_of(file: BorrowedFd<'_>) -> rustix::io::Result<Identity> {
    let state = state_of(file, OsStr::new(""), AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC)?;
    Ok(identity(&state))
}

/// The number of the mount that `file` is on.
pub(crate) fn mount_of(file: BorrowedFd<'_>) -> rustix::io::Result<u64> {
    Ok(state_of(file, OsStr::new(""), AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC)?.stx_mnt_id)
}

fn state_of(parent: BorrowedFd<'_>, name: &OsStr, flags: AtFlags) -> rustix::io::Result<Statx> {
    statx(parent, name, flags, StatxFlags::TYPE | StatxFlags::INO | StatxFlags::MNT_ID)
}

fn found(state: &Statx) -> Result<Found, Obstacle> {
    let tells_mounts = state.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
        && StatxFlags::from_bits_retain(state.stx_mask).contains(StatxFlags::MNT_ID);
    if !tells_mounts {
        return Err(Obstacle::Refused(Errno::NOSYS));
    }
    if state.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(Found::Mount(Top { mount: state.stx_mnt_id, identity: identity(state) }));
    }
    match FileType::from_raw_mode(u32::from(state.stx_mode)) {
        FileType::Directory => Ok(Found::Directory),
        FileType::Symlink => Err(Obstacle::Link),
        _ => Err(Obstacle::NoDirectory),
    }
}

fn identity(state: &Statx) -> Identity {
    Identity { device: (state.stx_dev_major, state.stx_dev_minor), inode: state.stx_ino }
}

fn has_entries(directory: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let readable = openat(directory, ".", flags, Mode::empty())?;
    for entry in Dir::new(readable)? {
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
            let outcome = patiently(|| {
                tries += 1;
                errors.next().map_or(Ok(()), |errno| Err(*errno))
            });
            assert_eq!((outcome, tries), (expected, expected_tries));
        }
    }
}
