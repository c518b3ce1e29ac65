//! `staging/`: where a volume is made before it exists, and where it goes when its end is decided. What is left
//! there by a process that ended is removed by the next one; a folder that is still worked on is locked.
//!
//! A folder has one name only: once its new one is durable the old one is gone as well. So a rename needs no sync
//! but that of the folder it leads to.

use crate::folders::{self, Folders};
use crate::step;
use dvs_domain::failure::Failure;
use dvs_domain::names::VolumeName;
use dvs_domain::ports::DestroyError;
use rustix::fd::OwnedFd;
use rustix::fs::{RenameFlags, fsync, renameat_with};
use rustix::io::Errno;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How often a new staging folder is made, when another process's cleaning takes it away before it is locked.
const STAGE_TRIES_MAX: u32 = 100;

/// How long opening waits for folders that are locked: what a killed process had just started holds copies of its
/// descriptors for a moment, until it runs.
const SWEEP_MILLISECONDS_MAX: u64 = 300;

const DELETING: &str = "deleting-";

/// A volume's folder under a staging name, locked as long as this is there.
pub(crate) struct Staged {
    pub(crate) name: String,
    pub(crate) folder: OwnedFd,
}

/// What publishing found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Published {
    /// The volume exists, durably.
    Yes,
    /// Another process has made one of that name meanwhile.
    NameIsTaken,
}

impl Staged {
    /// Makes an empty folder for a volume that is to be called `name`.
    pub(crate) fn make(folders: &Folders, name: &VolumeName) -> Result<Self, Failure> {
        step::failpoint("loop.stage")?;
        let failed = |errno| step::failed("stage", "cannot make a folder in `staging`", errno);
        for _ in 0..STAGE_TRIES_MAX {
            let staged = staging_name("", name);
            let folder = match folders::make_folder(&folders.staging, &staged) {
                Ok(folder) => folder,
                Err(Errno::NOENT | Errno::EXIST) => continue,
                Err(errno) => return Err(failed(errno)),
            };
            step::between("loop.stage-lock");
            let locked = folders::try_lock_folder(&folder).map_err(|errno| {
                let removed = folders::remove_folder(&folders.staging, &staged, &folder);
                undone(failed(errno), removed.map_err(failed))
            })?;
            if locked && folders::is_still(&folders.staging, &staged, &folder) {
                return Ok(Self { name: staged, folder });
            }
        }
        Err(failed(Errno::NOENT))
    }

    /// Makes the volume, whose content is durable, exist: by one rename, which is made durable.
    pub(crate) fn publish(&self, folders: &Folders, name: &VolumeName) -> Result<Published, Failure> {
        step::failpoint("loop.publish")?;
        let failed = |what, errno| step::failed("publish", what, errno);
        let (name, staged) = (name.as_str(), self.name.as_str());
        match renameat_with(&folders.staging, staged, &folders.volumes, name, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(Published::NameIsTaken),
            Err(errno) => return Err(failed("cannot give the volume its name", errno)),
        }
        let durable = step::failpoint("loop.published").and_then(|()| {
            fsync(&folders.volumes).map_err(|errno| failed("cannot make the volume's name durable", errno))
        });
        durable.map(|()| Published::Yes).map_err(|failure| {
            let back =
                renameat_with(&folders.volumes, name, &folders.staging, staged, RenameFlags::NOREPLACE);
            undone(failure, back.map_err(|errno| failed("cannot take the volume's name back", errno)))
        })
    }

    /// Decides that the volume `name`, whose folder is open and locked, is no more: by one rename, which is made
    /// durable.
    pub(crate) fn decide(
        folders: &Folders,
        name: &VolumeName,
        folder: OwnedFd,
    ) -> Result<Self, DestroyError> {
        step::failpoint("loop.decide")?;
        let failed = |what, errno| step::failed("decide", what, errno);
        let staged = staging_name(DELETING, name);
        let name = name.as_str();
        renameat_with(&folders.volumes, name, &folders.staging, &staged, RenameFlags::NOREPLACE)
            .map_err(|errno| failed("cannot move the volume to `staging`", errno))?;
        let durable = step::failpoint("loop.decided").and_then(|()| {
            fsync(&folders.staging).map_err(|errno| failed("cannot make the volume's end durable", errno))
        });
        match durable {
            Ok(()) => Ok(Self { name: staged, folder }),
            Err(failure) => {
                let back =
                    renameat_with(&folders.staging, &staged, &folders.volumes, name, RenameFlags::NOREPLACE);
                Err(match back.map_err(|errno| failed("cannot move the volume back", errno)) {
                    Ok(()) => DestroyError::Refused(failure),
                    Err(undo) => DestroyError::Decided(failure.undo_failed(undo)),
                })
            }
        }
    }

    /// Removes the folder and what the store put into it.
    pub(crate) fn remove(&self, folders: &Folders) -> Result<(), Failure> {
        folders::remove_folder(&folders.staging, &self.name, &self.folder)
            .map_err(|errno| step::failed("remove", format!("cannot remove `staging/{}`", self.name), errno))
    }
}

/// Keeps a failure to undo beside the failure that made the undoing necessary.
pub(crate) fn undone(failure: Failure, undo: Result<(), Failure>) -> Failure {
    match undo {
        Ok(()) => failure,
        Err(undo) => failure.undo_failed(undo),
    }
}

/// Removes what processes that ended have left in `staging`. What has no name of ours, holds files that are not
/// ours, or is being worked on by another process, stays.
pub(crate) fn sweep(folders: &Folders) -> Result<(), Failure> {
    let until = Instant::now() + Duration::from_millis(SWEEP_MILLISECONDS_MAX);
    for name in folders.staged()? {
        if !is_staging_name(&name) {
            tracing::warn!(entry = %name, "something in `staging` is not the store's, and stays");
            continue;
        }
        let removed = folders::open_folder(&folders.staging, &name).and_then(|folder| match folder {
            Some(folder) if folders::lock_folder_until(&folder, until)? => {
                folders::remove_folder(&folders.staging, &name, &folder)
            }
            _ => Ok(()),
        });
        if let Err(error) = removed {
            tracing::warn!(entry = %name, %error, "something in `staging` could not be removed, and stays");
        }
    }
    Ok(())
}

fn staging_name(prefix: &str, name: &VolumeName) -> String {
    format!("{prefix}{name}-{}", Uuid::new_v4().simple())
}

fn is_staging_name(name: &str) -> bool {
    let random =
        |text: &str| text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let named = |text: &str| VolumeName::new(text).is_ok();
    name.rsplit_once('-').is_some_and(|(rest, end)| {
        random(end) && (named(rest) || rest.strip_prefix(DELETING).is_some_and(named))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_our_pattern_are_ours() {
        let longest = VolumeName::new("v".repeat(128)).unwrap();
        for name in [VolumeName::new("a").unwrap(), VolumeName::new("deleting-x-1").unwrap(), longest] {
            for prefix in ["", DELETING] {
                let staged = staging_name(prefix, &name);
                assert!(is_staging_name(&staged), "{staged}");
                assert!(staged.len() <= 255, "{staged} is too long for a file");
                assert_ne!(staged, staging_name(prefix, &name));
            }
        }
        let random = "0123456789abcdef0123456789abcdef";
        for foreign in
            ["a", "lost+found", "a-", random, &format!("-{random}"), &format!("a-{}", random.to_uppercase())]
        {
            assert!(!is_staging_name(foreign), "{foreign}");
        }
    }
}
