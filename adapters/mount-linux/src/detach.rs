//! Detaching: a plain unmount of what is ours, never lazy, never forced, and then of the guard that lay below.

use crate::attach::{foreign, mount};
use crate::guard::uncover;
use crate::mount_table::MountTable;
use crate::path::{Location, Obstacle};
use crate::place::{Found, Place};
use crate::source::OpenSource;
use crate::step::{Step, between};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::ports::{Detached, SourceKind};
use rustix::io::Errno;

/// Makes what `kind` names no longer visible at `location`, nor a guard.
pub(crate) fn detach(location: &Location<'_>, kind: &SourceKind) -> Result<Detached, Failure> {
    let place = match location.place() {
        Ok(place) => place,
        Err(blocked) if nothing_can_be_mounted(blocked.obstacle) => return Ok(Detached::NothingThere),
        Err(blocked) => return Err(blocked.into()),
    };
    let top = match place.look() {
        Ok(Found::Mount(top)) => top,
        Ok(Found::Nothing | Found::Directory) => return Ok(Detached::NothingThere),
        Err(blocked) if nothing_can_be_mounted(blocked.obstacle) => return Ok(Detached::NothingThere),
        Err(blocked) => return Err(blocked.into()),
    };
    let table = MountTable::read()?;
    if table.is_guard(top.mount) {
        return uncover(&place).map(|()| Detached::NothingThere);
    }
    let source = OpenSource::open(kind)?;
    if !source.is_shown_by(top, &table) {
        return Err(foreign(place.path(), &table.describe(top.mount)));
    }
    Step::Unmount.begin()?;
    match place.unmount() {
        Ok(()) => {}
        Err(Errno::BUSY) => return Err(busy(&place, top.mount)?.at_step(Step::Unmount.name())),
        // Somebody else was faster.
        Err(Errno::INVAL | Errno::NOENT) if place.look()? != Found::Mount(top) => {}
        Err(errno) => {
            return Err(Failure::internal(format!("cannot unmount `{}`", place.path()), errno)
                .at_step(Step::Unmount.name()));
        }
    }
    between(Step::Unmount, "mount.unmounted");
    match uncover(&place) {
        Ok(()) => Ok(Detached::Gone),
        // Whoever detaches is told that nothing has changed.
        Err(failure) => match mount(location, &source) {
            Ok(()) => Err(failure),
            Err(undo) => Err(failure.undo_failed(undo)),
        },
    }
}

/// A link is not among these: where it leads, something may well be mounted.
pub(crate) fn nothing_can_be_mounted(obstacle: Obstacle) -> bool {
    matches!(obstacle, Obstacle::RootMissing | Obstacle::Missing | Obstacle::NoDirectory)
}

/// The mount of that number at `place` cannot be taken away, because something holds it.
pub(crate) fn busy(place: &Place, mount: u64) -> Result<Failure, Failure> {
    let (path, table) = (place.path(), MountTable::read()?);
    let guard = if table.is_guard(mount) { "the guard at " } else { "" };
    let inside: Vec<String> =
        table.inside(mount).map(|entry| format!("{entry} at `{}`", entry.mount_point.display())).collect();
    let failure = if inside.is_empty() {
        Failure::new(FailureCode::InUse, format!("a process holds a file or a directory in {guard}`{path}`"))
            .with_hint("`fuser -vm` with this path names the processes; end them first")
    } else {
        Failure::new(FailureCode::InUse, format!("mounted inside {guard}`{path}`: {}", inside.join(", ")))
            .with_hint("unmount what is inside first")
    };
    Ok(failure.caused_by(Errno::BUSY))
}
