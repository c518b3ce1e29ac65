//! Unmounting guards, and why something cannot be unmounted.

use crate::dir_entry::{DirEntryRef, EntryState, MountRoot};
use crate::new_mount::is_guard;
use crate::path::{ResolveError, ResolveErrorKind};
use crate::step::Step;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_mountinfo::Mounts;
use rustix::io::Errno;

/// Unmounts each guard that is on top at `entry`.
pub(crate) fn unmount_guards(entry: &DirEntryRef, mounts: &Mounts) -> Result<(), Failure> {
    while let Some(root) = guard_at(entry, mounts)? {
        Step::Unguard.begin()?;
        match entry.unmount() {
            Ok(()) => {}
            Err(Errno::BUSY) => return Err(busy(entry, root, mounts)?.at_step(Step::Unguard.name())),
            // Another process has unmounted it meanwhile.
            Err(Errno::INVAL | Errno::NOENT) if guard_at(entry, mounts)? != Some(root) => {}
            Err(errno) => {
                return Err(Failure::internal(
                    format!("cannot unmount the guard at `{}`", entry.path()),
                    errno,
                )
                .at_step(Step::Unguard.name()));
            }
        }
    }
    Ok(())
}

fn guard_at(entry: &DirEntryRef, mounts: &Mounts) -> Result<Option<MountRoot>, Failure> {
    match entry.state() {
        Ok(EntryState::MountRoot(root)) => {
            Ok(root.mount(mounts)?.as_ref().is_some_and(is_guard).then_some(root))
        }
        Ok(EntryState::Absent | EntryState::Directory) => Ok(None),
        Err(ResolveError { kind, .. }) if cannot_be_mounted(kind) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a path that cannot be resolved for this reason has nothing mounted at it. Behind a symbolic link something
/// may well be mounted.
pub(crate) fn cannot_be_mounted(kind: ResolveErrorKind) -> bool {
    matches!(
        kind,
        ResolveErrorKind::RootMissing | ResolveErrorKind::Missing | ResolveErrorKind::NotADirectory
    )
}

/// The mount `root` at `entry` is held by something.
pub(crate) fn busy(entry: &DirEntryRef, root: MountRoot, mounts: &Mounts) -> Result<Failure, Failure> {
    let (path, table) = (entry.path(), mounts.table().map_err(crate::dir_entry::unreadable_table)?);
    let guard = if table.get(root.mount).is_some_and(is_guard) { "the guard at " } else { "" };
    let inside: Vec<String> = table
        .children(root.mount)
        .map(|mount| format!("{mount} at `{}`", mount.mount_point.display()))
        .collect();
    let failure = if inside.is_empty() {
        Failure::new(FailureCode::InUse, format!("a process holds a file or a directory in {guard}`{path}`"))
            .with_hint("`fuser -vm` with this path names the processes; end them first")
    } else {
        Failure::new(FailureCode::InUse, format!("mounted inside {guard}`{path}`: {}", inside.join(", ")))
            .with_hint("unmount what is inside first")
    };
    Ok(failure.caused_by(Errno::BUSY))
}
