//! The guard: what lies over the mount point of a volume that should be there and is not, so that nobody writes
//! below it.

use crate::detach::{busy, nothing_can_be_mounted};
use crate::directories::Made;
use crate::mount_table::MountTable;
use crate::new_mount::NewMount;
use crate::path::{Blocked, Location};
use crate::place::{Found, Place, Top};
use crate::show::{Judge, Verdict, show};
use crate::step::Step;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::mount_point::MountPoint;
use rustix::io::Errno;

/// Lays a guard over `location`, after making those directories that `missing` lists.
pub(crate) fn guard(location: &Location<'_>, missing: &[MountPoint]) -> Result<(), Failure> {
    let mut made = Made::default();
    let guarded =
        made.make(location, missing).and_then(|place| match Guard.judge_found(&place, place.look()?)? {
            Verdict::Already => Ok(()),
            Verdict::Over => show(location, &Guard, NewMount::guard()?),
        });
    guarded.map_err(|failure| made.undo(failure))
}

/// Takes away the guard that shows at `location`. A volume or something foreign that shows there stays, and with
/// it a guard below: nobody gets through to that one.
pub(crate) fn unguard(location: &Location<'_>) -> Result<(), Failure> {
    match location.place() {
        Ok(place) => uncover(&place),
        Err(blocked) if nothing_can_be_mounted(blocked.obstacle) => Ok(()),
        Err(blocked) => Err(blocked.into()),
    }
}

/// Takes away the guard that shows at `place`, if one does.
pub(crate) fn uncover(place: &Place) -> Result<(), Failure> {
    while let Some(top) = showing(place)? {
        Step::Unguard.begin()?;
        match place.unmount() {
            Ok(()) => {}
            Err(Errno::BUSY) => return Err(busy(place, top.mount)?.at_step(Step::Unguard.name())),
            // Somebody else was faster.
            Err(Errno::INVAL | Errno::NOENT) if showing(place)? != Some(top) => {}
            Err(errno) => {
                return Err(Failure::internal(
                    format!("cannot take away the guard at `{}`", place.path()),
                    errno,
                )
                .at_step(Step::Unguard.name()));
            }
        }
    }
    Ok(())
}

/// The top of the guard that shows at `place`, if one does.
fn showing(place: &Place) -> Result<Option<Top>, Failure> {
    match place.look() {
        Ok(Found::Mount(top)) => Ok(MountTable::read()?.is_guard(top.mount).then_some(top)),
        Ok(Found::Nothing | Found::Directory) => Ok(None),
        Err(Blocked { obstacle, .. }) if nothing_can_be_mounted(obstacle) => Ok(None),
        Err(blocked) => Err(blocked.into()),
    }
}

/// Judges where a guard is to be.
struct Guard;

impl Judge for Guard {
    fn judge(&self, path: &MountPoint, top: Top, table: &MountTable) -> Result<Verdict, Failure> {
        if table.is_guard(top.mount) {
            return Ok(Verdict::Already);
        }
        let what = table.describe(top.mount);
        Err(Failure::new(FailureCode::Conflict, format!("{what} is mounted at `{path}`, and is no guard"))
            .with_hint("unmount it, or choose another path"))
    }
}
