//! The guard: covers the mount point of a volume that should be there and is not, so that no process writes below it.

use crate::attach::described;
use crate::dir_entry::{DirEntryRef, MountRoot};
use crate::directories::CreatedDirectories;
use crate::mount::{Decision, MountPolicy, mount_at};
use crate::new_mount::{NewMount, is_guard};
use crate::path::Location;
use crate::unmount::{cannot_be_mounted, unmount_guards};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::mount_point::MountPoint;
use dvs_mountinfo::{Mount, Mounts};

/// Mounts a guard at `location`, after making those directories that `missing` lists.
pub(crate) fn guard(location: &Location<'_>, mounts: &Mounts, missing: &[MountPoint]) -> Result<(), Failure> {
    let mut created = CreatedDirectories::default();
    let guarded = created.create(location, missing).and_then(|entry| {
        match Guard.decide_at(&entry, entry.state()?, mounts)? {
            Decision::AlreadyMounted => Ok(()),
            Decision::Mount => mount_at(location, mounts, &Guard, NewMount::guard()?),
        }
    });
    guarded.map_err(|failure| created.rollback(failure))
}

/// Unmounts the guard that is on top at `location`. A volume or something foreign on top stays, and with it a guard
/// below: no path leads to that one.
pub(crate) fn unguard(location: &Location<'_>, mounts: &Mounts) -> Result<(), Failure> {
    match DirEntryRef::resolve(location) {
        Ok(entry) => unmount_guards(&entry, mounts),
        Err(error) if cannot_be_mounted(error.kind) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

struct Guard;

impl MountPolicy for Guard {
    fn decide(&self, path: &MountPoint, _: MountRoot, mount: Option<&Mount>) -> Result<Decision, Failure> {
        if mount.is_some_and(is_guard) {
            return Ok(Decision::AlreadyMounted);
        }
        let what = described(mount);
        Err(Failure::new(FailureCode::Conflict, format!("{what} is mounted at `{path}`, and is no guard"))
            .with_hint("unmount it, or choose another path"))
    }
}
