//! Detached mounts: made with all their attributes before anybody can see them. One that is dropped before it is moved to
//! a mount point is gone.

use crate::dir_entry::{EntryState, MountRoot, retry_while_busy, state_of_open};
use crate::mount_attributes;
use crate::path::ResolveErrorKind;
use crate::source::OpenSource;
use crate::step::Step;
use dvs_domain::failure::{BoxError, Failure, FailureCode};
use dvs_domain::volume::FileSystem;
use dvs_mountinfo::Mount;
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::{Errno, pread};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Of every mount (contract.md section 3).
const ATTRIBUTES: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);

/// Of a guard: no process writes below a volume that is not mounted (contract.md section 5).
const GUARD_ATTRIBUTES: MountAttrFlags =
    ATTRIBUTES.union(MountAttrFlags::MOUNT_ATTR_RDONLY).union(MountAttrFlags::MOUNT_ATTR_NOEXEC);
const GUARD_FILE_SYSTEM: &str = "tmpfs";
/// The source of a guard in the mount table. Guards of earlier versions of DVS are recognised by it: never changed.
const GUARD_SOURCE: &str = "dvs-guard";
/// The least that the kernel takes: a guard has no file but its root directory.
const GUARD_OPTIONS: [(&str, &str); 4] =
    [("source", GUARD_SOURCE), ("size", "4k"), ("nr_inodes", "1"), ("mode", "0")];

/// How many messages of the kernel are kept with a failure.
const MESSAGES_MAX: usize = 8;
const MESSAGE_BYTES_MAX: usize = 1024;

pub(crate) fn is_guard(mount: &Mount) -> bool {
    mount.file_system == GUARD_FILE_SYSTEM
        && mount.source == Path::new(GUARD_SOURCE)
        && mount.root == Path::new("/")
}

/// A mount that may still be detached. While this lives, the mount is busy.
#[derive(Debug)]
pub(crate) struct NewMount {
    directory: OwnedFd,
    root: MountRoot,
}

impl NewMount {
    /// Mounts `source`, detached.
    pub(crate) fn of(source: &OpenSource) -> Result<Self, Failure> {
        Step::Mount.begin()?;
        let mounted = match source {
            OpenSource::Device { path, file_system, .. } => mount_device(path, *file_system),
            OpenSource::Directory { path, directory, .. } => clone_directory(path, directory.as_fd()),
        };
        mounted.and_then(Self::inspected).map_err(|failure| failure.at_step(Step::Mount.name()))
    }

    /// Makes a guard, detached.
    pub(crate) fn guard() -> Result<Self, Failure> {
        Step::Guard.begin()?;
        mount_guard()
            .map_err(not_guarded)
            .and_then(Self::inspected)
            .map_err(|failure| failure.at_step(Step::Guard.name()))
    }

    pub(crate) fn root(&self) -> MountRoot {
        self.root
    }

    /// Removes `lost+found` from an ext file system with a journal, if it is an empty directory: files in it were saved by
    /// a check, and belong to the user. Without a journal it stays: a loss of power can leave the removal there in part,
    /// and then no check repairs the file system without asking.
    pub(crate) fn remove_lost_and_found(&self, source: &OpenSource) -> Result<(), Failure> {
        let OpenSource::Device { path, file_system, device, .. } = source else { return Ok(()) };
        if !matches!(file_system, FileSystem::Ext2 | FileSystem::Ext3 | FileSystem::Ext4) {
            return Ok(());
        }
        Step::RemoveLostAndFound.begin()?;
        let removed = has_journal(device.as_fd()).and_then(|has_journal| match has_journal {
            true => unlinkat(&self.directory, "lost+found", AtFlags::REMOVEDIR),
            false => Ok(()),
        });
        match removed {
            Ok(()) => Ok(()),
            Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::ROFS) => Ok(()),
            Err(errno) => Err(Failure::new(
                code_of(errno),
                format!("cannot remove `lost+found` from the {file_system} on `{}`", path.display()),
            )
            .caused_by(errno)
            .at_step(Step::RemoveLostAndFound.name())),
        }
    }

    /// Moves the mount onto the directory `target`.
    pub(crate) fn move_to(&self, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&self.directory, "", target, "", flags)
    }

    fn inspected(directory: OwnedFd) -> Result<Self, Failure> {
        match state_of_open(directory.as_fd()) {
            Ok(EntryState::MountRoot(root)) => Ok(Self { directory, root }),
            Err(ResolveErrorKind::Other(errno)) => {
                Err(Failure::internal("cannot inspect the new mount", errno))
            }
            _ => Err(Failure::new(FailureCode::Internal, "the new mount has no root directory")),
        }
    }
}

/// Whether the ext file system on `device` has a journal: an ext4 that is too small for one has none.
fn has_journal(device: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    /// `s_feature_compat` of the superblock, and its bit `has_journal` (the kernel's ext4 documentation).
    const FEATURE_COMPAT_AT: u64 = 1024 + 0x5c;
    const HAS_JOURNAL: u8 = 0x4;
    let mut lowest = [0; 1];
    match pread(device, &mut lowest, FEATURE_COMPAT_AT)? {
        0 => Err(Errno::IO),
        _ => Ok(lowest[0] & HAS_JOURNAL != 0),
    }
}

fn mount_device(device: &Path, file_system: FileSystem) -> Result<OwnedFd, Failure> {
    let mut messages = Vec::new();
    // A context that has failed once stays so: each try has one of its own.
    retry_while_busy(|| {
        messages.clear();
        let context = fsopen(file_system.as_str(), FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, "source", device)
            .and_then(|()| fsconfig_create(&context))
            .and_then(|()| fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, ATTRIBUTES))
            .inspect_err(|_| messages = messages_of(context.as_fd()))
    })
    .map_err(|errno| match errno {
        Errno::NODEV if messages.is_empty() => {
            Failure::new(FailureCode::Unsupported, format!("this kernel has no file system `{file_system}`"))
                .with_hint(format!("load it with `modprobe {file_system}`, or choose another file system"))
        }
        _ => not_mounted(device, file_system, errno, &messages),
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
    let mount = open_tree(directory, "", flags).map_err(failed)?;
    mount_attributes::set(mount.as_fd(), ATTRIBUTES).map_err(failed)?;
    Ok(mount)
}

fn not_mounted(device: &Path, file_system: FileSystem, errno: Errno, messages: &[String]) -> Failure {
    let detail = format!("cannot mount the {file_system} on `{}`", device.display());
    let cause: BoxError = if messages.is_empty() {
        errno.into()
    } else {
        format!("{errno}; the kernel says: {}", messages.join("; ")).into()
    };
    hinted(Failure::new(code_of(errno), detail), errno).caused_by(cause)
}

/// A guard has no content that could be damaged: what the kernel refuses, it does not support.
fn not_guarded(errno: Errno) -> Failure {
    let code = match errno {
        Errno::PERM | Errno::INVAL => FailureCode::Unsupported,
        _ => code_of(errno),
    };
    hinted(Failure::new(code, "cannot make a guard"), errno).caused_by(errno)
}

/// What an error of the kernel means for a file system that DVS itself has made.
fn code_of(errno: Errno) -> FailureCode {
    match errno {
        // EUCLEAN and EBADMSG mean a damaged structure and a wrong checksum.
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

/// The kernel's messages in the context of a mount that failed. Some file systems write none.
fn messages_of(context: BorrowedFd<'_>) -> Vec<String> {
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
    use dvs_mountinfo::MountTable;

    #[test]
    fn a_guard_is_known_by_its_type_its_source_and_its_root() {
        let table = MountTable::parse(
            b"1 0 0:5 / /mnt/a ro - tmpfs dvs-guard ro\n2 0 0:6 / /mnt/b ro - tmpfs dvs-guard2 ro\n\
              3 0 0:7 / /mnt/c ro - ramfs dvs-guard ro\n4 0 0:8 /x /mnt/d ro - tmpfs dvs-guard ro\n",
        );
        let guards: Vec<bool> = table.mounts().iter().map(is_guard).collect();
        assert_eq!(guards, [true, false, false, false]);
    }

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
