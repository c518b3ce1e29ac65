//! The directories that are made for a mount point, and removed with it.
//!
//! That they were made need not be durable: a start that finds them missing makes them again. That they were removed must
//! be before the attachment is forgotten, or a loss of power would bring them back for ever.

use crate::dir_entry::{DirEntryRef, EntryState};
use crate::path::{Location, ResolveErrorKind, open_component};
use crate::roots::Roots;
use crate::step::{self, Step};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::mount_point::MountPoint;
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::rc::Rc;

/// The directories that one call made, outermost first.
#[derive(Debug, Default)]
pub(crate) struct CreatedDirectories {
    entries: Vec<DirEntryRef>,
}

impl CreatedDirectories {
    /// Resolves the path of the mount point, making those missing directories, the mount point included, that `missing`
    /// allows to make. One that another process makes meanwhile is not counted as made here.
    pub(crate) fn create(
        &mut self,
        location: &Location<'_>,
        missing: &[MountPoint],
    ) -> Result<DirEntryRef, Failure> {
        let (parents, last) = location.parents_and_last();
        let mut parent = Rc::new(location.open_start()?);
        for component in parents {
            let opened = match open_component(parent.as_fd(), component) {
                Err(error)
                    if error.kind == ResolveErrorKind::Missing && missing.contains(&component.path) =>
                {
                    self.create_one(&DirEntryRef::new(Rc::clone(&parent), component.clone()))?;
                    open_component(parent.as_fd(), component)
                }
                opened => opened,
            };
            parent = Rc::new(opened?);
        }
        let entry = DirEntryRef::new(parent, last.clone());
        if entry.state()? == EntryState::Absent {
            if !missing.contains(entry.path()) {
                return Err(last.error(ResolveErrorKind::Missing).into());
            }
            self.create_one(&entry)?;
        }
        Ok(entry)
    }

    /// Removes what was made, innermost first, because of `failure`, and makes that durable; an error of this is kept
    /// with `failure`.
    pub(crate) fn rollback(self, failure: Failure) -> Failure {
        let removed = self.entries.iter().rev().try_for_each(|entry| match entry.remove_directory() {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(not_removed(entry.path(), errno)),
        });
        // The removal of the outermost includes that of the others.
        let synced = removed.and_then(|()| self.entries.first().map_or(Ok(()), sync));
        match synced {
            Ok(()) => failure,
            Err(undo) => failure.undo_failed(undo),
        }
    }

    fn create_one(&mut self, entry: &DirEntryRef) -> Result<(), Failure> {
        Step::MakeDirectories.begin()?;
        match entry.make_directory() {
            Ok(()) => self.entries.push(entry.clone()),
            Err(Errno::EXIST) => {}
            Err(errno) => {
                return Err(not_made(entry.path(), errno).at_step(Step::MakeDirectories.name()));
            }
        }
        Ok(())
    }
}

/// Removes `directories`, which are given outermost first, innermost first; stops at the first that stays. Also what was
/// removed by an earlier call that was cut off is durable afterwards.
pub(crate) fn remove(roots: &Roots, directories: &[MountPoint]) -> Result<(), Failure> {
    let mut outermost = None;
    for path in directories.iter().rev() {
        let location = roots.locate(path)?;
        if location.is_root() {
            // Roots are never made, so one in the list is a mistake.
            break;
        }
        let entry = match DirEntryRef::resolve(&location) {
            Ok(entry) => entry,
            Err(error) => match error.kind {
                ResolveErrorKind::Missing | ResolveErrorKind::RootMissing => continue,
                ResolveErrorKind::SymbolicLink | ResolveErrorKind::NotADirectory => break,
                ResolveErrorKind::Other(_) => {
                    return Err(Failure::from(error).at_step(Step::RemoveDirectories.name()));
                }
            },
        };
        Step::RemoveDirectories.begin()?;
        match entry.remove_directory() {
            Ok(()) | Err(Errno::NOENT) => outermost = Some(entry),
            // Not empty, a mount point, or no directory: it stays, and so does everything above it.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY | Errno::NOTDIR) => break,
            Err(errno) => return Err(not_removed(path, errno)),
        }
    }
    outermost.as_ref().map_or(Ok(()), sync)
}

/// Makes durable that `entry` was removed from its parent directory.
fn sync(entry: &DirEntryRef) -> Result<(), Failure> {
    Step::SyncDirectories.begin()?;
    step::sync("skip.directories", || entry.sync_parent()).map_err(|errno| {
        Failure::internal(format!("cannot make durable that directory `{}` is removed", entry.path()), errno)
            .at_step(Step::SyncDirectories.name())
    })
}

fn not_removed(path: &MountPoint, errno: Errno) -> Failure {
    Failure::internal(format!("cannot remove directory `{path}`"), errno)
        .at_step(Step::RemoveDirectories.name())
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
