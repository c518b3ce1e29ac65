//! The store's folder: what lies where, and the steps that change it. Everything here blocks.

use crate::failpoint::failpoint;
use crate::record;
use crate::removal::remove_tree;
use crate::step::{AtStep, after_undo, unreachable_at};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::{StoreName, VolumeName};
use dvs_domain::ports::DestroyError;
use dvs_domain::volume::{Entry, Volume, VolumeId};
use dvs_mountinfo::MountTable;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// What others may do with directories on the way to the data: pass.
const WAY_MODE: u32 = 0o755;

/// An open folder: nobody else works in it meanwhile.
pub(crate) struct Folder {
    store: StoreName,
    path: PathBuf,
    volumes_id: (u64, u64),
    next_number: AtomicU64,
    _lock: File,
}

impl Folder {
    /// Opens the folder, makes what is missing of it, and removes what an interrupted run left in staging.
    pub(crate) fn open(store: StoreName, path: &Path) -> Result<Self, Failure> {
        let unreachable = |error| unreachable_at("open the folder", path, error);
        fs::create_dir_all(path).map_err(unreachable)?;
        let path = path.canonicalize().map_err(unreachable)?;
        let lock = lock(&path)?;
        for (part, mode) in [("volumes", WAY_MODE), ("staging", 0o700)] {
            make_directory(&path.join(part), mode).or_else(|error| match error.kind() {
                ErrorKind::AlreadyExists => Ok(()),
                _ => Err(error).at("prepare the folder", &path.join(part)),
            })?;
        }
        // Leftovers that could not be removed keep their names, so numbers begin anew where no run has been.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let next_number = AtomicU64::new(u64::try_from(now.as_nanos()).unwrap_or(0));
        let volumes = path.join("volumes");
        let volumes_id = fs::symlink_metadata(&volumes).map(|found| id_of(&found)).map_err(unreachable)?;
        let folder = Self { store, path, volumes_id, next_number, _lock: lock };
        folder.remove_leftovers()?;
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the volume `name` lies, or would lie.
    pub(crate) fn volume(&self, name: &VolumeName) -> PathBuf {
        self.volumes().join(name.as_str())
    }

    /// Where what is attached of the volume `name` lies.
    pub(crate) fn data(&self, name: &VolumeName) -> PathBuf {
        self.volume(name).join("data")
    }

    /// What is called `name`.
    pub(crate) fn read(&self, name: &VolumeName) -> Result<Option<Entry>, Failure> {
        self.reach()?;
        let folder = self.volume(name);
        let damaged = |reason| Ok(Some(Entry::Damaged { name: name.clone(), reason }));
        match fs::symlink_metadata(&folder) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return damaged("it is no directory".to_owned()),
            Err(error) if error.kind() == ErrorKind::NotFound => return self.reach().map(|()| None),
            Err(error) => return Err(unreachable_at("look the volume up", &folder, error)),
        }
        let id = VolumeId { store: self.store.clone(), name: name.clone() };
        match record::read(&folder, &id) {
            Ok(_) if !fs::symlink_metadata(folder.join("data")).is_ok_and(|data| data.is_dir()) => {
                damaged("its directory `data` is missing".to_owned())
            }
            Ok(volume) => Ok(Some(Entry::Sound(Box::new(volume)))),
            Err(reason) => damaged(reason),
        }
    }

    /// Every entry, in order of names. A file whose name no volume can have is nobody's.
    pub(crate) fn list(&self) -> Result<Vec<Entry>, Failure> {
        let unreachable = |error| unreachable_at("list the volumes", &self.volumes(), error);
        let mut names = Vec::new();
        for entry in fs::read_dir(self.volumes()).map_err(unreachable)? {
            let name = entry.map_err(unreachable)?.file_name();
            names.extend(name.to_str().and_then(|name| VolumeName::new(name).ok()));
        }
        names.sort();
        // One that goes meanwhile is not there any more.
        names.iter().filter_map(|name| self.read(name).transpose()).collect()
    }

    /// Makes `volume` exist. Nothing has its name.
    pub(crate) fn make(&self, volume: &Volume, before_publishing: Option<Failure>) -> Result<(), Failure> {
        self.reach()?;
        let staged = self.staged(&volume.spec.id.name, "new");
        let made = fill(&staged, volume).and_then(|()| {
            before_publishing.map_or(Ok(()), Err)?;
            self.publish(&staged, &volume.spec.id.name)
        });
        made.map_err(|failure| after_undo(failure, self.remove_staged(&staged)))
    }

    /// Makes `name` not exist, and removes what it was, and what earlier removals of that name left. Says
    /// whether there was anything.
    pub(crate) fn unmake(&self, name: &VolumeName, exists: bool) -> Result<bool, DestroyError> {
        self.reach()?;
        if exists {
            self.check_unused(name)?;
            failpoint("fake.decide")?;
            let staged = self.staged(name, "gone");
            fs::rename(self.volume(name), &staged).at("decide the removal", &self.volume(name))?;
            sync(&self.volumes()).map_err(|failure| {
                match fs::rename(&staged, self.volume(name)).at("take the removal back", &staged) {
                    Ok(()) => DestroyError::Refused(failure),
                    Err(undo) => DestroyError::Decided(failure.undo_failed(undo)),
                }
            })?;
        }
        self.remove_gone(name).map_err(DestroyError::Decided)
    }

    /// Removes what removals of `name` have left. Says whether there was anything.
    fn remove_gone(&self, name: &VolumeName) -> Result<bool, Failure> {
        let mine = format!("{name}~gone~");
        let leftovers = self.leftovers(|leftover| leftover.starts_with(&mine))?;
        for leftover in &leftovers {
            failpoint("fake.remove")?;
            self.remove_staged(leftover)?;
        }
        Ok(!leftovers.is_empty())
    }

    /// Checks that the folder is there, with its parts, and the one that was opened.
    pub(crate) fn reach(&self) -> Result<(), Failure> {
        for part in [self.volumes(), self.staging()] {
            let found = fs::symlink_metadata(&part)
                .map_err(|error| unreachable_at("reach the folder", &self.path, error))?;
            if !found.is_dir() {
                let error = io::Error::from(ErrorKind::NotADirectory);
                return Err(unreachable_at("reach the folder", &part, error));
            }
            if part == self.volumes() && id_of(&found) != self.volumes_id {
                return Err(unreachable_at("reach the folder", &part, "it is another than was opened"));
            }
        }
        Ok(())
    }

    fn volumes(&self) -> PathBuf {
        self.path.join("volumes")
    }

    fn staging(&self) -> PathBuf {
        self.path.join("staging")
    }

    /// A new name in staging. No name of a volume has a `~`, so names of two volumes never meet.
    fn staged(&self, name: &VolumeName, why: &str) -> PathBuf {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        self.staging().join(format!("{name}~{why}~{number}"))
    }

    /// Moves a finished volume to where volumes are: from here on it exists.
    fn publish(&self, staged: &Path, name: &VolumeName) -> Result<(), Failure> {
        failpoint("fake.publish")?;
        renameat_with(CWD, staged, CWD, self.volume(name), RenameFlags::NOREPLACE)
            .at("publish the volume", &self.volume(name))?;
        sync(&self.volumes()).map_err(|failure| {
            let back = fs::rename(self.volume(name), staged);
            after_undo(failure, back.at("take the volume back", staged))
        })
    }

    /// Something mounted inside would be emptied, or keep the removal from ending.
    fn check_unused(&self, name: &VolumeName) -> Result<(), Failure> {
        let volume = self.volume(name);
        let table = MountTable::read().at("read the mount table", Path::new(MountTable::OWN))?;
        match table.mounts().iter().find(|mount| mount.mount_point.starts_with(&volume)) {
            None => Ok(()),
            Some(mount) => Err(Failure::new(
                FailureCode::InUse,
                format!("{mount} is mounted at `{}` inside the volume", mount.mount_point.display()),
            )
            .with_hint("unmount it first")),
        }
    }

    fn remove_leftovers(&self) -> Result<(), Failure> {
        for leftover in self.leftovers(|_| true)? {
            if let Err(failure) = self.remove_staged(&leftover) {
                // It does not exist as a volume, and must not keep the others from working.
                tracing::warn!(store = %self.store, failure = failure.chain(), "a leftover stays in staging");
            }
        }
        Ok(())
    }

    fn leftovers(&self, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, Failure> {
        let staging = self.staging();
        let mut leftovers = Vec::new();
        for entry in fs::read_dir(&staging).at("look into staging", &staging)? {
            let entry = entry.at("look into staging", &staging)?;
            if entry.file_name().to_str().is_some_and(&is_wanted) {
                leftovers.push(entry.path());
            }
        }
        Ok(leftovers)
    }

    fn remove_staged(&self, staged: &Path) -> Result<(), Failure> {
        remove_tree(staged, || {
            let number = self.next_number.fetch_add(1, Ordering::Relaxed);
            let mut fresh = staged.as_os_str().to_owned();
            fresh.push(format!("~{number}"));
            PathBuf::from(fresh)
        })
    }
}

/// Makes the parts of `volume` at `staged`, all of them durable.
fn fill(staged: &Path, volume: &Volume) -> Result<(), Failure> {
    let spec = &volume.spec;
    let path = staged.join("data");
    failpoint("fake.directory")?;
    make_directory(staged, WAY_MODE).at("make the directory", staged)?;
    make_directory(&path, 0o700).at("make the directory", &path)?;
    failpoint("fake.owner")?;
    let data = File::open(&path).at("make the directory", &path)?;
    // Only root can give directories away; for others the owner is recorded, as sizes are.
    if rustix::process::geteuid().is_root() {
        fchown(&data, Some(spec.uid), Some(spec.gid)).at("set the owner", &path)?;
    }
    data.set_permissions(Permissions::from_mode(spec.mode.bits())).at("set the mode", &path)?;
    data.sync_all().at("make it durable", &path)?;
    failpoint("fake.record")?;
    record::write(staged, volume)?;
    sync(staged)
}

/// Two agents in one folder would take each other's unfinished work for leftovers.
fn lock(folder: &Path) -> Result<File, Failure> {
    let path = folder.join("lock");
    let lock = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let lock = lock.map_err(|error| unreachable_at("open the folder", folder, error))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
        Failure::new(
            FailureCode::StoreUnavailable,
            format!("folder `{}` is in use by another agent", folder.display()),
        )
        .caused_by(error)
        .at_step("lock the folder")
        .with_hint("give each agent a folder of its own")
    })?;
    Ok(lock)
}

fn id_of(found: &fs::Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(mode).create(path)?;
    // Whatever the umask says.
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn sync(directory: &Path) -> Result<(), Failure> {
    File::open(directory).and_then(|opened| opened.sync_all()).at("make it durable", directory)
}
