//! Attaching: missing directories, a detached mount without `lost+found`, moved to the mount point, on top of a guard if
//! there is one. After an error nothing of it is left.

use crate::dir_entry::MountRoot;
use crate::directories::CreatedDirectories;
use crate::mount::{Decision, MountPolicy, mount_at};
use crate::new_mount::{NewMount, is_guard};
use crate::path::Location;
use crate::source::OpenSource;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::ports::SourceKind;
use dvs_mountinfo::{Mount, Mounts};

/// Mounts what `kind` names at `location`, after making those directories that `missing` lists.
pub(crate) fn attach(
    location: &Location<'_>,
    mounts: &Mounts,
    kind: &SourceKind,
    missing: &[MountPoint],
) -> Result<(), Failure> {
    let source = OpenSource::open(kind)?;
    let mut created = CreatedDirectories::default();
    let attached = created.create(location, missing).and_then(|entry| {
        match source.decide_at(&entry, entry.state()?, mounts)? {
            Decision::AlreadyMounted => Ok(()),
            Decision::Mount => mount(location, mounts, &source),
        }
    });
    attached.map_err(|failure| created.rollback(failure))
}

/// Mounts `source` at `location`, where a directory is.
pub(crate) fn mount(location: &Location<'_>, mounts: &Mounts, source: &OpenSource) -> Result<(), Failure> {
    let mount = NewMount::of(source)?;
    mount.remove_lost_and_found(source)?;
    mount_at(location, mounts, source, mount)
}

impl MountPolicy for OpenSource {
    fn decide(&self, path: &MountPoint, root: MountRoot, mount: Option<&Mount>) -> Result<Decision, Failure> {
        if mount.is_some_and(is_guard) {
            return Ok(Decision::Mount);
        }
        if self.is_mounted_as(root, mount) {
            return Ok(Decision::AlreadyMounted);
        }
        Err(foreign(path, mount))
    }
}

/// What is mounted at `path` is neither this volume nor a guard.
pub(crate) fn foreign(path: &MountPoint, mount: Option<&Mount>) -> Failure {
    let what = described(mount);
    Failure::new(FailureCode::Conflict, format!("{what} is mounted at `{path}`, and is not this volume"))
        .with_hint("unmount it, or choose another path")
}

/// The mount, as an operator sees it in the mount table.
pub(crate) fn described(mount: Option<&Mount>) -> String {
    mount.map_or_else(|| "something that the mount table does not show".to_owned(), Mount::to_string)
}
