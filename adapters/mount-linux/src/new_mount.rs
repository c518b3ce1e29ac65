//! Mounts that nobody sees yet: made detached, with everything that must be true of them before they are shown.
//! One that is dropped instead of shown is gone.

use crate::mount_attributes;
use crate::mount_table::{GUARD_FILE_SYSTEM, GUARD_SOURCE};
use crate::path::Obstacle;
use crate::place::{Found, look_at, patiently};
use crate::source::OpenSource;
use crate::step::Step;
use dvs_domain::failure::{BoxError, Failure, FailureCode};
use dvs_domain::volume::FileSystem;
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What is true of every mount of DVS (contract.md section 3).
const ATTRIBUTES: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);

/// What is true of a guard besides: nobody writes below a volume that is not there (contract.md section 5).
const GUARD_ATTRIBUTES: MountAttrFlags =
    ATTRIBUTES.union(MountAttrFlags::MOUNT_ATTR_RDONLY).union(MountAttrFlags::MOUNT_ATTR_NOEXEC);
/// The least that the kernel takes: nothing is ever in a guard, and its top directory is its only inode.
const GUARD_OPTIONS: [(&str, &str); 4] =
    [("source", GUARD_SOURCE), ("size", "4k"), ("nr_inodes", "1"), ("mode", "0")];

/// How many messages of the kernel are kept with a failure.
const MESSAGES_MAX: usize = 8;
/// The longest message that is read.
const MESSAGE_BYTES_MAX: usize = 1024;

/// A mount that may still be detached. While this lives, the mount is busy.
#[derive(Debug)]
pub(crate) struct NewMount {
    top: OwnedFd,
    number: u64,
}

impl NewMount {
    /// Mounts `source`, visible to nobody.
    pub(crate) fn of(source: &OpenSource) -> Result<Self, Failure> {
        Step::Mount.begin()?;
        let top = match source {
            OpenSource::Device { path, file_system, .. } => mount_device(path, *file_system),
            OpenSource::Directory { path, top, .. } => clone_directory(path, top.as_fd()),
        };
        top.and_then(Self::numbered).map_err(|failure| failure.at_step(Step::Mount.name()))
    }

    /// Makes a guard, visible to nobody.
    pub(crate) fn guard() -> Result<Self, Failure> {
        Step::Guard.begin()?;
        mount_guard()
            .map_err(not_guarded)
            .and_then(Self::numbered)
            .map_err(|failure| failure.at_step(Step::Guard.name()))
    }

    /// The mount's number in the mount table.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Removes `lost+found` from an ext file system, if it is an empty directory: what is in it was saved by a
    /// check, and belongs to the user.
    pub(crate) fn empty(&self, source: &OpenSource) -> Result<(), Failure> {
        let OpenSource::Device { path, file_system, .. } = source else { return Ok(()) };
        if !matches!(file_system, FileSystem::Ext2 | FileSystem::Ext3 | FileSystem::Ext4) {
            return Ok(());
        }
        Step::Empty.begin()?;
        match unlinkat(&self.top, "lost+found", AtFlags::REMOVEDIR) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::ROFS) => Ok(()),
            Err(errno) => Err(Failure::new(
                code_of(errno),
                format!("cannot remove `lost+found` from the {file_system} on `{}`", path.display()),
            )
            .caused_by(errno)
            .at_step(Step::Empty.name())),
        }
    }

    /// Puts the mount onto the directory `target`.
    pub(crate) fn show_on(&self, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&self.top, "", target, "", flags)
    }

    fn numbered(top: OwnedFd) -> Result<Self, Failure> {
        match look_at(top.as_fd()) {
            Ok(Found::Mount(found)) => Ok(Self { number: found.mount, top }),
            Err(Obstacle::Refused(errno)) => Err(Failure::internal("cannot look at the new mount", errno)),
            _ => Err(Failure::new(FailureCode::Internal, "the new mount has no top directory")),
        }
    }
}

fn mount_device(device: &Path, file_system: FileSystem) -> Result<OwnedFd, Failure> {
    let mut said = Vec::new();
    // A context that has failed once stays so: each try has one of its own.
    patiently(|| {
        said.clear();
        let context = fsopen(file_system.as_str(), FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, "source", device)
            .and_then(|()| fsconfig_create(&context))
            .and_then(|()| fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, ATTRIBUTES))
            .inspect_err(|_| said = messages(context.as_fd()))
    })
    .map_err(|errno| match errno {
        Errno::NODEV if said.is_empty() => {
            Failure::new(FailureCode::Unsupported, format!("this kernel has no file system `{file_system}`"))
                .with_hint(format!("load it with `modprobe {file_system}`, or choose another file system"))
        }
        _ => not_mounted(device, file_system, errno, &said),
    })
}

/// Read-only twice: a copy of the mount may be made writable, the file system then still is not.
fn mount_guard() -> rustix::io::Result<OwnedFd> {
    let context = fsopen(GUARD_FILE_SYSTEM, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in GUARD_OPTIONS {
        fsconfig_set_string(&context, key, value)?;
    }
    fsconfig_set_flag(&context, "ro")?;
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, GUARD_ATTRIBUTES)
}

fn clone_directory(path: &Path, directory: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let failed = |errno| {
        let failure = Failure::new(
            if errno == Errno::NOSYS { FailureCode::Unsupported } else { FailureCode::Internal },
            format!("cannot mount directory `{}`", path.display()),
        );
        hinted(failure, errno).caused_by(errno)
    };
    let top = open_tree(directory, "", flags).map_err(failed)?;
    mount_attributes::set(top.as_fd(), ATTRIBUTES).map_err(failed)?;
    Ok(top)
}

fn not_mounted(device: &Path, file_system: FileSystem, errno: Errno, said: &[String]) -> Failure {
    let detail = format!("cannot mount the {file_system} on `{}`", device.display());
    let cause: BoxError = if said.is_empty() {
        errno.into()
    } else {
        format!("{errno}; the kernel says: {}", said.join("; ")).into()
    };
    hinted(Failure::new(code_of(errno), detail), errno).caused_by(cause)
}

/// There is nothing in a guard that could be damaged: what the kernel refuses, it cannot do.
fn not_guarded(errno: Errno) -> Failure {
    let code = match errno {
        Errno::PERM | Errno::INVAL => FailureCode::Unsupported,
        _ => code_of(errno),
    };
    hinted(Failure::new(code, "cannot make a guard"), errno).caused_by(errno)
}

/// What kind of failure an error of the kernel means for a file system that is made or mounted by DVS itself.
fn code_of(errno: Errno) -> FailureCode {
    match errno {
        // EUCLEAN and EBADMSG are the kernel's words for a damaged structure and a wrong checksum.
        Errno::INVAL | Errno::UCLEAN | Errno::BADMSG | Errno::IO | Errno::MEDIUMTYPE => FailureCode::Damaged,
        Errno::NODEV | Errno::NOSYS | Errno::OPNOTSUPP => FailureCode::Unsupported,
        Errno::BUSY => FailureCode::InUse,
        _ => FailureCode::Internal,
    }
}

fn hinted(failure: Failure, errno: Errno) -> Failure {
    match errno {
        Errno::PERM => failure.with_hint("the agent needs the capability CAP_SYS_ADMIN"),
        Errno::ACCESS => failure.with_hint("is the device, or what lies below it, read-only?"),
        Errno::NOSPC => failure.with_hint("this host has too many mounts: raise the setting `fs.mount-max`"),
        Errno::NOSYS => failure.with_hint("use Linux 5.12 or newer"),
        Errno::BUSY => failure.with_hint("end what has the device open, then send the job again"),
        _ => failure,
    }
}

/// What the kernel noted in the context of a mount that failed. Some file systems note nothing.
fn messages(context: BorrowedFd<'_>) -> Vec<String> {
    let mut messages = Vec::new();
    let mut buffer = [0_u8; MESSAGE_BYTES_MAX];
    while messages.len() < MESSAGES_MAX {
        let Ok(length) = rustix::io::read(context, &mut buffer) else { break };
        let text = String::from_utf8_lossy(&buffer[..length]);
        // Each message begins with its kind: `e `, `w ` or `i `.
        let text = text.trim_end();
        messages.push(text.get(2..).unwrap_or(text).to_owned());
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_kernel_have_their_codes() {
        let table = [
            (Errno::INVAL, FailureCode::Damaged),
            (Errno::UCLEAN, FailureCode::Damaged),
            (Errno::BADMSG, FailureCode::Damaged),
            (Errno::IO, FailureCode::Damaged),
            (Errno::NODEV, FailureCode::Unsupported),
            (Errno::NOSYS, FailureCode::Unsupported),
            (Errno::BUSY, FailureCode::InUse),
            (Errno::PERM, FailureCode::Internal),
            (Errno::NOSPC, FailureCode::Internal),
            (Errno::NOENT, FailureCode::Internal),
        ];
        for (errno, code) in table {
            let failure = not_mounted(Path::new("/dev/loop9"), FileSystem::Ext4, errno, &["why".to_owned()]);
            assert_eq!(failure.code(), code, "{errno}");
            assert!(failure.chain().contains("`/dev/loop9`") && failure.chain().ends_with("says: why"));
        }
    }

    #[test]
    fn a_missing_right_has_a_hint_and_no_empty_cause() {
        let failure = not_mounted(Path::new("/dev/loop9"), FileSystem::Xfs, Errno::PERM, &[]);
        assert_eq!(failure.hint(), Some("the agent needs the capability CAP_SYS_ADMIN"));
        assert!(!failure.chain().contains("kernel says"), "{}", failure.chain());
    }

    #[test]
    fn without_the_right_to_mount_there_is_no_guard() {
        for (errno, code) in [
            (Errno::PERM, FailureCode::Unsupported),
            (Errno::NOSYS, FailureCode::Unsupported),
            (Errno::NODEV, FailureCode::Unsupported),
            (Errno::INVAL, FailureCode::Unsupported),
            (Errno::NOMEM, FailureCode::Internal),
        ] {
            assert_eq!(not_guarded(errno).code(), code, "{errno}");
        }
        assert_eq!(not_guarded(Errno::PERM).hint(), Some("the agent needs the capability CAP_SYS_ADMIN"));
    }
}
