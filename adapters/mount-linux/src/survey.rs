//! What attaching at a mount point would find.

use crate::attach::described;
use crate::dir_entry::{DirEntryRef, EntryState};
use crate::new_mount::is_guard;
use crate::path::{Location, ResolveErrorKind};
use dvs_domain::failure::Failure;
use dvs_domain::ports::{Mounted, Survey};
use dvs_mountinfo::Mounts;

/// Changes nothing.
pub(crate) fn survey(location: &Location<'_>, mounts: &Mounts) -> Result<Survey, Failure> {
    let entry = match DirEntryRef::resolve(location) {
        Ok(entry) => entry,
        Err(error) if error.kind == ResolveErrorKind::Missing => {
            return Ok(nothing_mounted(location, error.depth, false));
        }
        Err(error) => return Err(error.into()),
    };
    let (parents, _) = location.parents_and_last();
    match entry.state()? {
        EntryState::Absent => Ok(nothing_mounted(location, parents.len(), false)),
        EntryState::Directory => Ok(nothing_mounted(location, parents.len() + 1, entry.holds_files()?)),
        EntryState::MountRoot(root) => {
            let mounted = match root.mount(mounts)? {
                Some(mount) if is_guard(&mount) => Mounted::Guard,
                mount => Mounted::Something(described(mount.as_ref())),
            };
            Ok(Survey { missing: Vec::new(), mounted: Some(mounted), hides_files: false })
        }
    }
}

fn nothing_mounted(location: &Location<'_>, first_missing: usize, hides_files: bool) -> Survey {
    Survey { missing: location.paths_from(first_missing), mounted: None, hides_files }
}
