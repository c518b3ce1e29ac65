//! Showing: a new mount is put at its place, and has to lie at the path asked for afterwards.

use crate::mount_table::MountTable;
use crate::new_mount::NewMount;
use crate::path::Location;
use crate::place::{Found, Place, Top};
use crate::step::{Step, between};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::mount_point::MountPoint;
use rustix::io::Errno;
use std::os::fd::AsFd;

/// What to do where something is mounted already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is what was to be shown.
    Already,
    /// It may be mounted over.
    Over,
}

/// Judges what is mounted at a place; what may not be there is a failure.
pub(crate) trait Judge {
    /// Judges the mount with this top.
    fn judge(&self, path: &MountPoint, top: Top, table: &MountTable) -> Result<Verdict, Failure>;

    /// Judges what was found at `place`; where nothing is mounted, the new mount may be put.
    fn judge_found(&self, place: &Place, found: Found) -> Result<Verdict, Failure> {
        match found {
            Found::Nothing | Found::Directory => Ok(Verdict::Over),
            Found::Mount(top) => self.judge(place.path(), top, &MountTable::read()?),
        }
    }
}

/// Puts `mount` at `location`. Making it may have taken a while: the path is walked anew, and what is there now
/// is judged again.
pub(crate) fn show(location: &Location<'_>, judge: &impl Judge, mount: NewMount) -> Result<(), Failure> {
    put(location, judge, mount).map_err(|failure| failure.at_step(Step::Show.name()))
}

fn put(location: &Location<'_>, judge: &impl Judge, mount: NewMount) -> Result<(), Failure> {
    let place = location.place()?;
    let (target, found) = place.open()?;
    if judge.judge_found(&place, found)? == Verdict::Already {
        return Ok(());
    }
    Step::Show.begin()?;
    mount.show_on(target.as_fd()).map_err(|errno| not_shown(place.path(), errno))?;
    between(Step::Show, "mount.shown");
    let number = mount.number();
    // Both would hold the mount that may have to be taken away again.
    drop(target);
    drop(mount);
    confirm(location, number).map_err(|failure| take_away(&place, number, failure))
}

/// A directory on the way may have been moved elsewhere, with our mount in it, or somebody may have mounted
/// there at the same instant: the path asked for has to lead to our mount.
fn confirm(location: &Location<'_>, number: u64) -> Result<(), Failure> {
    match location.place()?.look()? {
        Found::Mount(top) if top.mount == number => Ok(()),
        _ => Err(Failure::new(
            FailureCode::Conflict,
            format!("`{}` was moved or mounted over meanwhile", location.mount_point()),
        )
        .with_hint("find out who changes the directories on the way, then send the job again")),
    }
}

/// Unmounts what was shown at `place`, because of `failure`; never what somebody else mounted over it.
fn take_away(place: &Place, number: u64, failure: Failure) -> Failure {
    let kept = match place.look() {
        Ok(Found::Mount(top)) if top.mount == number => match place.unmount() {
            Ok(()) => return failure,
            Err(errno) => Failure::internal(format!("cannot unmount `{}`", place.path()), errno),
        },
        _ => Failure::new(
            FailureCode::Conflict,
            format!("something else lies over the new mount at `{}`", place.path()),
        ),
    };
    failure.undo_failed(kept.at_step(Step::Unmount.name()))
}

fn not_shown(path: &MountPoint, errno: Errno) -> Failure {
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
