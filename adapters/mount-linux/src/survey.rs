//! What attaching at a mount point would find.

use crate::mount_table::MountTable;
use crate::path::{Location, Obstacle};
use crate::place::Found;
use dvs_domain::failure::Failure;
use dvs_domain::ports::{Mounted, Survey};

/// Looks, and changes nothing.
pub(crate) fn survey(location: &Location<'_>) -> Result<Survey, Failure> {
    let place = match location.place() {
        Ok(place) => place,
        Err(blocked) if blocked.obstacle == Obstacle::Missing => {
            return Ok(nothing_mounted(location, blocked.depth, false));
        }
        Err(blocked) => return Err(blocked.into()),
    };
    let (way, _) = location.way_and_last();
    match place.look()? {
        Found::Nothing => Ok(nothing_mounted(location, way.len(), false)),
        Found::Directory => Ok(nothing_mounted(location, way.len() + 1, place.holds_files()?)),
        Found::Mount(top) => {
            let table = MountTable::read()?;
            let mounted = if table.is_guard(top.mount) {
                Mounted::Guard
            } else {
                Mounted::Something(table.describe(top.mount))
            };
            Ok(Survey { missing: Vec::new(), mounted: Some(mounted), hides_files: false })
        }
    }
}

fn nothing_mounted(location: &Location<'_>, first_missing: usize, hides_files: bool) -> Survey {
    Survey { missing: location.paths_from(first_missing), mounted: None, hides_files }
}
