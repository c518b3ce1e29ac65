//! Resolving the path of a mount point from its allowed root with one pinned directory per component; no component may be
//! a symbolic link, also not one that is swapped in meanwhile.

use crate::failpoint::failpoint;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::mount_point::{AllowedRoots, MountPoint};
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, fchmod, fsync, mkdirat, openat, openat2, unlinkat,
};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Of new directories, as `mkdir` makes them.
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);
/// How often one component is tried while the kernel reports that the tree changes under it (`EAGAIN`, openat2(2)).
const COMPONENT_TRIES_MAX: u32 = 64;

/// The allowed roots, each resolved once: an operator may have made them links.
pub(crate) struct Roots {
    allowed: AllowedRoots,
    resolved: BTreeMap<MountPoint, PathBuf>,
}

impl Roots {
    /// Resolves each root. One that does not exist is remembered as missing.
    pub(crate) fn resolve(allowed: AllowedRoots) -> Self {
        let roots = allowed.roots().iter();
        let resolved = roots
            .filter_map(|root| Some((root.path.clone(), Path::new(root.path.as_str()).canonicalize().ok()?)))
            .collect();
        Self { allowed, resolved }
    }

    /// Where `mount_point` lies. By text only: no file is inspected.
    pub(crate) fn locate(&self, mount_point: &MountPoint) -> Result<Location, Failure> {
        let root = &self.allowed.check(mount_point)?.path;
        let start = self.resolved.get(root).ok_or_else(|| {
            Failure::new(FailureCode::ForbiddenPath, format!("allowed root `{root}` does not exist"))
                .with_hint(format!("make the directory `{root}`, then start the agent again"))
        })?;
        let below = mount_point.as_str()[root.as_str().len()..].trim_start_matches('/');
        let real = start.join(below);
        let own = Path::new(AllowedRoots::OWN);
        if real.starts_with(own) || own.starts_with(&real) {
            return Err(Failure::new(
                FailureCode::ForbiddenPath,
                format!("mount point `{mount_point}` leads to `{}`, the agent's own place", own.display()),
            ));
        }
        if below.is_empty() {
            return Err(Failure::new(
                FailureCode::Unsupported,
                format!("a link cannot stand in for the allowed root `{root}`"),
            )
            .with_hint("choose a path below it, or run the agent as root"));
        }
        Ok(Location { start: start.clone(), real, components: components(mount_point, root) })
    }
}

/// A mount point below an allowed root.
pub(crate) struct Location {
    start: PathBuf,
    /// The mount point's path without the root's links.
    pub(crate) real: PathBuf,
    /// The paths of the directories below the root, and of the mount point.
    components: Vec<MountPoint>,
}

/// How far a path could be resolved.
pub(crate) enum Resolved {
    /// The directory in which the mount point is an entry.
    Parent(OwnedFd),
    /// The first directory that does not exist, and those below it.
    Missing(Vec<MountPoint>),
}

impl Location {
    /// The mount point's name in its parent directory.
    pub(crate) fn name(&self) -> &str {
        name_of(self.components.last().expect("a location has a last component"))
    }

    pub(crate) fn resolve(&self) -> Result<Resolved, Failure> {
        let mut parent = self.open_start()?;
        for (depth, path) in self.parents().iter().enumerate() {
            parent = match open_component(&parent, path)? {
                Some(directory) => directory,
                None => return Ok(Resolved::Missing(self.components[depth..].to_vec())),
            };
        }
        Ok(Resolved::Parent(parent))
    }

    /// Opens the directory in which the mount point is an entry, making those missing directories that `missing` allows
    /// to make; each of them is added to `created`.
    pub(crate) fn create_parents(
        &self,
        missing: &[MountPoint],
        created: &mut CreatedDirectories,
    ) -> Result<OwnedFd, Failure> {
        let mut parent = self.open_start()?;
        for path in self.parents() {
            let mut opened = open_component(&parent, path)?;
            if opened.is_none() && missing.contains(path) {
                created.create(&parent, path)?;
                opened = open_component(&parent, path)?;
            }
            parent = opened.ok_or_else(|| {
                Failure::new(FailureCode::Conflict, format!("directory `{path}` is not there any more"))
                    .with_hint("send the job again with a new id")
            })?;
        }
        Ok(parent)
    }

    fn parents(&self) -> &[MountPoint] {
        &self.components[..self.components.len() - 1]
    }

    fn open_start(&self) -> Result<OwnedFd, Failure> {
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        open_directory(CWD, &self.start, resolve).map_err(|errno| {
            Failure::internal(format!("cannot open allowed root `{}`", self.start.display()), errno)
                .at_step("resolve the mount point")
        })
    }
}

/// Directories that one call made, outermost first, each with its parent.
#[derive(Default)]
pub(crate) struct CreatedDirectories(Vec<(OwnedFd, MountPoint)>);

impl CreatedDirectories {
    fn create(&mut self, parent: &OwnedFd, path: &MountPoint) -> Result<(), Failure> {
        let failed = |errno| not_made(path, errno).at_step("make directories");
        failpoint("link.directories")?;
        let kept =
            parent.try_clone().map_err(|error| Failure::internal("cannot keep a directory open", error))?;
        match mkdirat(parent, name_of(path), DIRECTORY_MODE) {
            Ok(()) => self.0.push((kept, path.clone())),
            Err(Errno::EXIST) => return Ok(()), // Made by another process.
            Err(errno) => return Err(failed(errno)),
        }
        // Independent of the umask.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(parent, name_of(path), flags, Mode::empty()).map_err(failed)?;
        fchmod(opened, DIRECTORY_MODE).map_err(failed)
    }

    /// Removes them again, innermost first, because of `failure`, and makes that durable; an error of this is kept with
    /// `failure`.
    pub(crate) fn rollback(self, failure: Failure) -> Failure {
        let removed = self.0.iter().rev().try_for_each(|(parent, path)| {
            match unlinkat(parent, name_of(path), AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(errno) => Err(Failure::internal(format!("cannot remove directory `{path}`"), errno)
                    .at_step("remove directories")),
            }
        });
        // The removal of the outermost includes that of the others.
        match removed.and_then(|()| self.0.first().map_or(Ok(()), |(parent, path)| sync(parent, path))) {
            Ok(()) => failure,
            Err(undo) => failure.undo_failed(undo),
        }
    }
}

/// Makes durable what was removed at `path` from its `parent`, where the file system can.
pub(crate) fn sync(parent: &OwnedFd, path: &MountPoint) -> Result<(), Failure> {
    failpoint("link.sync-directories")?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(parent, ".", flags, Mode::empty()).and_then(fsync) {
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(errno) => Err(Failure::internal(format!("cannot make durable that `{path}` is removed"), errno)
            .at_step("sync directories")),
    }
}

/// The paths of the directories between `root` and `mount_point`, and `mount_point`.
fn components(mount_point: &MountPoint, root: &MountPoint) -> Vec<MountPoint> {
    let text = mount_point.as_str();
    let below = root.as_str().len() + 1;
    let ends = text[below..].match_indices('/').map(|(slash, _)| below + slash).chain([text.len()]);
    ends.map(|end| MountPoint::new(&text[..end]).expect("the beginning of a normal path is one")).collect()
}

/// The last component of a path.
fn name_of(path: &MountPoint) -> &str {
    path.as_str().rsplit('/').next().unwrap_or_default()
}

/// Opens the directory at `path` in its `parent`, if it exists.
fn open_component(parent: &OwnedFd, path: &MountPoint) -> Result<Option<OwnedFd>, Failure> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match open_directory(parent, Path::new(name_of(path)), resolve) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::LOOP) => Err(Failure::new(FailureCode::ForbiddenPath, format!("`{path}` is a link"))
            .with_hint("give the path that it leads to, or allow the link itself with `--mount-root`")),
        Err(Errno::NOTDIR) => {
            Err(Failure::new(FailureCode::Conflict, format!("`{path}` is there and is no directory"))
                .with_hint("move the file away, or choose another path"))
        }
        Err(errno) => Err(Failure::internal(format!("cannot open directory `{path}`"), errno)
            .at_step("resolve the mount point")),
    }
}

fn open_directory(parent: impl AsFd, path: &Path, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut tries = 1;
    loop {
        match openat2(&parent, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < COMPONENT_TRIES_MAX => tries += 1,
            opened => return opened,
        }
    }
}

/// The failure of a directory or link that cannot be made.
pub(crate) fn not_made(path: &MountPoint, errno: Errno) -> Failure {
    let failed = |code, hint: &str| {
        Failure::new(code, format!("cannot make `{path}`")).caused_by(errno).with_hint(hint)
    };
    match errno {
        Errno::NOSPC | Errno::DQUOT => {
            failed(FailureCode::NoSpace, "free space on the file system that holds the mount point")
        }
        Errno::ROFS => {
            failed(FailureCode::ForbiddenPath, "choose a path on a file system that can be written to")
        }
        Errno::ACCESS | Errno::PERM => failed(
            FailureCode::ForbiddenPath,
            "choose a path that the agent's user may write to, allow one with `--mount-root`, or run it as root",
        ),
        _ => Failure::internal(format!("cannot make `{path}`"), errno),
    }
}
