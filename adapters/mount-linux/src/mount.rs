//! Moving a new mount to its mount point, where it has to lie at the requested path afterwards.

use crate::dir_entry::{DirEntryRef, EntryState, MountRoot};
use crate::new_mount::NewMount;
use crate::path::Location;
use crate::step::{Step, between};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::mount_point::MountPoint;
use dvs_mountinfo::{Mount, Mounts};
use rustix::io::Errno;
use std::os::fd::AsFd;

/// What to do at a mount point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// What was to be mounted is there.
    AlreadyMounted,
    /// Mount, on top of what is there, if anything.
    Mount,
}

/// What may be mounted over.
pub(crate) trait MountPolicy {
    /// Decides on the mount that is on top at `path`: its root, and what it is where that is known. A mount that
    /// must not be covered is a failure.
    fn decide(&self, path: &MountPoint, root: MountRoot, mount: Option<&Mount>) -> Result<Decision, Failure>;

    /// Decides on what was found at `entry`.
    fn decide_at(
        &self,
        entry: &DirEntryRef,
        state: EntryState,
        mounts: &Mounts,
    ) -> Result<Decision, Failure> {
        match state {
            EntryState::Absent | EntryState::Directory => Ok(Decision::Mount),
            EntryState::MountRoot(root) => self.decide(entry.path(), root, root.mount(mounts)?.as_ref()),
        }
    }
}

/// Moves `mount` to `location`. Making it may have taken a while: the path is resolved again, and `policy` decides again
/// on what is there now.
pub(crate) fn mount_at(
    location: &Location<'_>,
    mounts: &Mounts,
    policy: &impl MountPolicy,
    mount: NewMount,
) -> Result<(), Failure> {
    move_to(location, mounts, policy, mount).map_err(|failure| failure.at_step(Step::MoveMount.name()))
}

fn move_to(
    location: &Location<'_>,
    mounts: &Mounts,
    policy: &impl MountPolicy,
    mount: NewMount,
) -> Result<(), Failure> {
    let entry = DirEntryRef::resolve(location)?;
    let (target, state) = entry.open()?;
    if policy.decide_at(&entry, state, mounts)? == Decision::AlreadyMounted {
        return Ok(());
    }
    Step::MoveMount.begin()?;
    mount.move_to(target.as_fd()).map_err(|errno| not_moved(entry.path(), errno))?;
    between(Step::MoveMount, "mount.moved");
    let root = mount.root();
    // Both would hold the mount that may have to be unmounted again.
    drop(target);
    drop(mount);
    confirm(location, root).map_err(|failure| unmount_again(&entry, root, failure))
}

/// A directory on the path may have been moved elsewhere, with the new mount in it, or another process may have mounted
/// there at the same time: the requested path has to lead to the new mount.
fn confirm(location: &Location<'_>, root: MountRoot) -> Result<(), Failure> {
    if DirEntryRef::resolve(location)?.state()? == EntryState::MountRoot(root) {
        return Ok(());
    }
    Err(Failure::new(
        FailureCode::Conflict,
        format!("`{}` was moved or mounted over meanwhile", location.mount_point()),
    )
    .with_hint("find out who changes the directories on the way, then send the job again"))
}

/// Unmounts the new mount at `entry`, because of `failure`; never what another process has mounted over it.
fn unmount_again(entry: &DirEntryRef, root: MountRoot, failure: Failure) -> Failure {
    let kept = match entry.state() {
        Ok(state) if state == EntryState::MountRoot(root) => match entry.unmount() {
            Ok(()) => return failure,
            Err(errno) => Failure::internal(format!("cannot unmount `{}`", entry.path()), errno),
        },
        _ => Failure::new(
            FailureCode::Conflict,
            format!("something else lies over the new mount at `{}`", entry.path()),
        ),
    };
    failure.undo_failed(kept.at_step(Step::Unmount.name()))
}

fn not_moved(path: &MountPoint, errno: Errno) -> Failure {
    let detail = format!("cannot put the mount at `{path}`");
    match errno {
        Errno::NOENT => Failure::new(FailureCode::Conflict, detail)
            .caused_by(errno)
            .with_hint("the directory was removed meanwhile: send the job again with a new id"),
        Errno::NOSPC => Failure::internal(detail, errno)
            .with_hint("this host has too many mounts: raise the setting `fs.mount-max`"),
        _ => Failure::internal(detail, errno),
    }
}
