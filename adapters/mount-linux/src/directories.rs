//! The directories that are made for a mount point, and removed with it.

use crate::path::{Location, Obstacle, Segment, enter};
use crate::place::{Found, Place};
use crate::roots::Roots;
use crate::step::Step;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::mount_point::MountPoint;
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::rc::Rc;

/// The directories that one call made, outermost first, each in its pinned parent.
#[derive(Debug, Default)]
pub(crate) struct Made {
    places: Vec<Place>,
}

impl Made {
    /// Walks to the mount point, making those directories on the way, and the mount point, that are not there
    /// and that `missing` allows to make. One that somebody else makes meanwhile is not ours.
    pub(crate) fn make(&mut self, location: &Location<'_>, missing: &[MountPoint]) -> Result<Place, Failure> {
        let (way, last) = location.way_and_last();
        let mut here = Rc::new(location.open_start()?);
        for segment in way {
            let entered = match enter(here.as_fd(), segment) {
                Err(blocked) if blocked.obstacle == Obstacle::Missing && missing.contains(&segment.path) => {
                    self.make_one(&Place::new(Rc::clone(&here), segment.clone()))?;
                    enter(here.as_fd(), segment)
                }
                entered => entered,
            };
            here = Rc::new(entered?);
        }
        let place = Place::new(here, last.clone());
        if place.look()? == Found::Nothing {
            if !missing.contains(place.path()) {
                return Err(gone(last));
            }
            self.make_one(&place)?;
        }
        Ok(place)
    }

    /// Removes what was made, innermost first, because of `failure`; keeps what could not be removed with it.
    pub(crate) fn undo(self, failure: Failure) -> Failure {
        self.places.into_iter().rev().fold(failure, |failure, place| match place.remove_directory() {
            Ok(()) | Err(Errno::NOENT) => failure,
            Err(errno) => failure.undo_failed(
                Failure::internal(format!("cannot remove directory `{}`", place.path()), errno)
                    .at_step(Step::RemoveDirectories.name()),
            ),
        })
    }

    fn make_one(&mut self, place: &Place) -> Result<(), Failure> {
        Step::MakeDirectories.begin()?;
        match place.make_directory() {
            Ok(()) => self.places.push(place.clone()),
            Err(Errno::EXIST) => {}
            Err(errno) => {
                return Err(not_made(place.path(), errno).at_step(Step::MakeDirectories.name()));
            }
        }
        Ok(())
    }
}

/// Removes `directories`, which are given outermost first, innermost first; stops at the first that stays.
pub(crate) fn remove(roots: &Roots, directories: &[MountPoint]) -> Result<(), Failure> {
    for path in directories.iter().rev() {
        let location = roots.locate(path)?;
        if location.is_root() {
            // Roots are never made, so one in the list is a mistake.
            return Ok(());
        }
        let place = match location.place() {
            Ok(place) => place,
            Err(blocked) => match blocked.obstacle {
                Obstacle::Missing | Obstacle::RootMissing => continue,
                Obstacle::Link | Obstacle::NoDirectory => return Ok(()),
                Obstacle::Refused(_) => {
                    return Err(Failure::from(blocked).at_step(Step::RemoveDirectories.name()));
                }
            },
        };
        Step::RemoveDirectories.begin()?;
        match place.remove_directory() {
            Ok(()) | Err(Errno::NOENT) => {}
            // Not empty, a mount point, or no directory: it stays, and so does everything above it.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY | Errno::NOTDIR) => return Ok(()),
            Err(errno) => {
                return Err(Failure::internal(format!("cannot remove directory `{path}`"), errno)
                    .at_step(Step::RemoveDirectories.name()));
            }
        }
    }
    Ok(())
}

fn gone(segment: &Segment) -> Failure {
    segment.blocked(Obstacle::Missing).into()
}

fn not_made(path: &MountPoint, errno: Errno) -> Failure {
    let detail = format!("cannot make directory `{path}`");
    match errno {
        Errno::NOSPC | Errno::DQUOT => Failure::new(FailureCode::NoSpace, detail)
            .caused_by(errno)
            .with_hint("free space on the file system that holds the mount point"),
        Errno::ROFS => Failure::new(FailureCode::ForbiddenPath, detail)
            .caused_by(errno)
            .with_hint("choose a path on a file system that can be written to"),
        _ => Failure::internal(detail, errno),
    }
}
