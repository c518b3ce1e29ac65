//! The store's folders: `volumes/<name>/{image,record,record.copy}`, and `staging/` for what is being made or
//! removed. Everything below them is reached by name through an open folder, never by following a link.

use crate::step;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::VolumeName;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, Stat, fchmod, flock, fstat, fsync, mkdirat, open,
    openat, statat, unlinkat,
};
use rustix::io::Errno;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// The image of a volume, within its folder.
pub(crate) const IMAGE: &str = "image";
/// The record, and its copy.
pub(crate) const RECORDS: [&str; 2] = ["record", "record.copy"];
/// Everything that the store puts into a volume's folder.
pub(crate) const KNOWN_FILES: [&str; 3] = [IMAGE, RECORDS[0], RECORDS[1]];

/// How long another process may keep a volume's folder locked before the volume is `busy`.
const FOLDER_LOCK_SECONDS_MAX: u64 = 3;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const ONLY_ROOT: Mode = Mode::RWXU;

/// Where the store is, and how to know that it is still the same.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) path: PathBuf,
    volumes: (u64, u64),
}

/// The store's folders, open for one operation.
pub(crate) struct Folders {
    pub(crate) volumes: OwnedFd,
    pub(crate) staging: OwnedFd,
}

/// The size and the allocation of an image.
pub(crate) struct Image {
    pub(crate) name: VolumeName,
    pub(crate) size_bytes: u64,
    pub(crate) allocated_bytes: u64,
}

impl Root {
    /// Makes the folders that are missing, with access for their owner only, and sees that they fit together.
    pub(crate) fn prepare(path: &Path) -> Result<Self, Failure> {
        let failed = |errno| unavailable(path, errno);
        make_folders(path).map_err(failed)?;
        // A link to the store's folder is the operator's choice, made once, here.
        let path = path.canonicalize().map_err(|error| failed(as_errno(&error)))?;
        let root = open(&path, FOLDER, Mode::empty()).map_err(failed)?;
        for name in ["volumes", "staging"] {
            match mkdirat(&root, name, ONLY_ROOT) {
                Ok(()) => fsync(&root).map_err(failed)?,
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        let stat = |name| statat(&root, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed);
        let (volumes, staging) = (stat("volumes")?, stat("staging")?);
        if volumes.st_dev != staging.st_dev {
            return Err(Failure::new(
                FailureCode::StoreUnavailable,
                format!("`volumes` and `staging` in `{}` are on two file systems", path.display()),
            )
            .with_hint("mount one file system at the store's folder instead"));
        }
        Ok(Self { path, volumes: identity(&volumes) })
    }

    /// Where the image of volume `name` is, for telling.
    pub(crate) fn image(&self, name: &VolumeName) -> PathBuf {
        self.path.join("volumes").join(name.as_str()).join(IMAGE)
    }

    /// Opens the folders, if the store is still there.
    pub(crate) fn open(&self) -> Result<Folders, Failure> {
        let opened = || {
            let root = open(&self.path, FOLDER, Mode::empty())?;
            let volumes = openat(&root, "volumes", FOLDER, Mode::empty())?;
            let staging = openat(&root, "staging", FOLDER, Mode::empty())?;
            let found = identity(&fstat(&volumes)?);
            Ok((Folders { volumes, staging }, found))
        };
        let (folders, found) = opened().map_err(|errno| unavailable(&self.path, errno))?;
        if found != self.volumes {
            return Err(Failure::new(
                FailureCode::StoreUnavailable,
                format!("`{}` is another folder than when the store was opened", self.path.display()),
            )
            .with_hint("mount what was there before, or restart the agent"));
        }
        Ok(folders)
    }
}

impl Folders {
    /// The names of all volumes' folders, in any order. What can be no volume's name is not the store's.
    pub(crate) fn names(&self) -> Result<Vec<VolumeName>, Failure> {
        let names = names_in(&self.volumes).map_err(|errno| unlisted("volumes", errno))?;
        Ok(names.into_iter().filter_map(|name| VolumeName::new(name.into_string().ok()?).ok()).collect())
    }

    /// The names of everything in `staging`.
    pub(crate) fn staged(&self) -> Result<Vec<String>, Failure> {
        let names = names_in(&self.staging).map_err(|errno| unlisted("staging", errno))?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    /// Every image, whether or not its record can be read.
    pub(crate) fn images(&self) -> Result<Vec<Image>, Failure> {
        let mut images = Vec::new();
        for name in self.names()? {
            let path = format!("{name}/{IMAGE}");
            if let Ok(stat) = statat(&self.volumes, path, AtFlags::SYMLINK_NOFOLLOW)
                && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            {
                let size_bytes = u64::try_from(stat.st_size).unwrap_or(0);
                images.push(Image { name, size_bytes, allocated_bytes: allocated_bytes(&stat) });
            }
        }
        Ok(images)
    }
}

/// Makes a folder with access for its owner only, whatever the process's mask, and opens it.
pub(crate) fn make_folder(parent: impl AsFd, name: &str) -> rustix::io::Result<OwnedFd> {
    mkdirat(&parent, name, ONLY_ROOT)?;
    step::between("loop.staged");
    let opened = openat(&parent, name, FOLDER, Mode::empty())
        .and_then(|folder| fchmod(&folder, ONLY_ROOT).map(|()| folder));
    opened.inspect_err(|_| {
        // It is empty: what cannot be removed now goes with everything that is left in `staging`.
        let _ = unlinkat(&parent, name, AtFlags::REMOVEDIR);
    })
}

/// Opens the folder `name`, if it is there.
pub(crate) fn open_folder(parent: impl AsFd, name: &str) -> rustix::io::Result<Option<OwnedFd>> {
    match openat(parent, name, FOLDER, Mode::empty()) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Whether `name` in `parent` is the folder that is open.
pub(crate) fn is_still(parent: impl AsFd, name: &str, folder: impl AsFd) -> bool {
    let there = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
    matches!((there, fstat(folder)), (Ok(there), Ok(open)) if identity(&there) == identity(&open))
}

/// Locks a volume's folder, or its image, against every other process that works with this store's code. Released with
/// the descriptor, however the process ends.
pub(crate) fn lock(file: impl AsFd, name: &VolumeName) -> Result<(), Failure> {
    let until = Instant::now() + Duration::from_secs(FOLDER_LOCK_SECONDS_MAX);
    match lock_folder_until(file, until) {
        Ok(true) => Ok(()),
        Ok(false) => {
            let detail = format!("another process works on volume `{name}`");
            Err(Failure::new(FailureCode::Busy, detail).at_step("lock"))
        }
        Err(errno) => Err(step::failed("lock", "cannot lock the volume", errno)),
    }
}

/// Locks a folder, unless another process has it locked until `until`.
pub(crate) fn lock_folder_until(folder: impl AsFd, until: Instant) -> rustix::io::Result<bool> {
    loop {
        if try_lock_folder(&folder)? {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Locks a folder, if no other process has.
pub(crate) fn try_lock_folder(folder: impl AsFd) -> rustix::io::Result<bool> {
    match flock(folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// The files in a folder that the store did not put there.
pub(crate) fn unknown_files(folder: impl AsFd) -> rustix::io::Result<Vec<CString>> {
    let mut names = names_in(folder)?;
    names.retain(|name| !KNOWN_FILES.iter().any(|known| known.as_bytes() == name.as_bytes()));
    Ok(names)
}

/// Removes the store's files from a folder, and the folder from `parent`. Anything else in it stays, and with it
/// the folder: then this fails.
pub(crate) fn remove_folder(parent: impl AsFd, name: &str, folder: impl AsFd) -> rustix::io::Result<()> {
    for file in KNOWN_FILES {
        step::between("loop.unlink");
        match unlinkat(&folder, file, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    step::between("loop.unlink-folder");
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// What `du` shows of a file.
pub(crate) fn allocated_bytes(stat: &Stat) -> u64 {
    const BYTES_PER_BLOCK: u64 = 512; // Of `st_blocks`, whatever the file system's own blocks are.
    u64::try_from(stat.st_blocks).unwrap_or(0) * BYTES_PER_BLOCK
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn names_in(folder: impl AsFd) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_owned();
        if name.as_bytes() != b"." && name.as_bytes() != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Like `mkdir -p -m 0700`, and durable.
fn make_folders(path: &Path) -> rustix::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().ok_or(Errno::NOENT)?;
    make_folders(parent)?;
    let parent = open(parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let name = path.file_name().unwrap_or(OsStr::new("")).as_bytes();
    match mkdirat(&parent, name, ONLY_ROOT) {
        Ok(()) => fsync(&parent),
        // Somebody else made it, or it is something else: opening it will tell.
        Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn unavailable(path: &Path, errno: Errno) -> Failure {
    Failure::new(
        FailureCode::StoreUnavailable,
        format!("the store's folder `{}` cannot be used", path.display()),
    )
    .caused_by(io::Error::from(errno))
}

fn unlisted(folder: &str, errno: Errno) -> Failure {
    Failure::new(FailureCode::StoreUnavailable, format!("the store's folder `{folder}` cannot be listed"))
        .caused_by(io::Error::from(errno))
}

fn as_errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
