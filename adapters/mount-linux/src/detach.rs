//! Detaching: a plain unmount of the volume, never lazy, never forced, and then of the guard below it.

use crate::attach::{foreign, mount};
use crate::dir_entry::{DirEntryRef, EntryState};
use crate::new_mount::is_guard;
use crate::path::Location;
use crate::source::OpenSource;
use crate::step::{Step, between};
use crate::unmount::{busy, cannot_be_mounted, unmount_guards};
use dvs_domain::failure::Failure;
use dvs_domain::ports::{Detached, SourceKind};
use dvs_mountinfo::Mounts;
use rustix::io::Errno;

/// Unmounts what `kind` names from `location`, and guards.
pub(crate) fn detach(
    location: &Location<'_>,
    mounts: &Mounts,
    kind: &SourceKind,
) -> Result<Detached, Failure> {
    let found = DirEntryRef::resolve(location).and_then(|entry| entry.state().map(|state| (entry, state)));
    let (entry, root) = match found {
        Ok((entry, EntryState::MountRoot(root))) => (entry, root),
        Ok((_, EntryState::Absent | EntryState::Directory)) => return Ok(Detached::NothingThere),
        Err(error) if cannot_be_mounted(error.kind) => return Ok(Detached::NothingThere),
        Err(error) => return Err(error.into()),
    };
    let mounted = root.mount(mounts)?;
    if mounted.as_ref().is_some_and(is_guard) {
        return unmount_guards(&entry, mounts).map(|()| Detached::NothingThere);
    }
    let source = OpenSource::open(kind)?;
    if !source.is_mounted_as(root, mounted.as_ref()) {
        return Err(foreign(entry.path(), mounted.as_ref()));
    }
    Step::Unmount.begin()?;
    match entry.unmount() {
        Ok(()) => {}
        Err(Errno::BUSY) => return Err(busy(&entry, root, mounts)?.at_step(Step::Unmount.name())),
        // Another process has unmounted it meanwhile.
        Err(Errno::INVAL | Errno::NOENT) if entry.state()? != EntryState::MountRoot(root) => {}
        Err(errno) => {
            return Err(Failure::internal(format!("cannot unmount `{}`", entry.path()), errno)
                .at_step(Step::Unmount.name()));
        }
    }
    between(Step::Unmount, "mount.unmounted");
    match unmount_guards(&entry, mounts) {
        Ok(()) => Ok(Detached::Gone),
        // An error means to the caller that nothing has changed.
        Err(failure) => match mount(location, mounts, &source) {
            Ok(()) => Err(failure),
            Err(undo) => Err(failure.undo_failed(undo)),
        },
    }
}
