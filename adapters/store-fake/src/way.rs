//! The way to a mount point: walked from its allowed root with one pinned directory per step, and no step
//! follows a link, also not one that is swapped in meanwhile.

use crate::failpoint::failpoint;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::mount_point::{AllowedRoots, MountPoint};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, fchmod, mkdirat, openat, openat2, unlinkat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What others may do with a directory that was made: pass, as `mkdir` would have it.
const MADE_MODE: Mode = Mode::from_raw_mode(0o755);
/// How often the kernel is asked again when it says that something moved while it walked (openat2(2)).
const STEP_TRIES_MAX: u32 = 64;

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

    /// The way to `mount_point`. Touches nothing.
    pub(crate) fn way_to(&self, mount_point: &MountPoint) -> Result<Way, Failure> {
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
        Ok(Way { start: start.clone(), real, steps: steps(mount_point, root) })
    }
}

/// From an allowed root to a mount point below it.
pub(crate) struct Way {
    start: PathBuf,
    /// Where the mount point really is: its path without the root's links.
    pub(crate) real: PathBuf,
    /// The directories below the root, the mount point as the last.
    steps: Vec<MountPoint>,
}

/// How far a way could be walked.
pub(crate) enum Walked {
    /// To the directory that holds the mount point.
    ToParent(OwnedFd),
    /// To a directory that is not there: it, and those below it.
    Missing(Vec<MountPoint>),
}

impl Way {
    /// The mount point's own name.
    pub(crate) fn name(&self) -> &str {
        name_of(self.steps.last().expect("a way has a last step"))
    }

    /// Walks as far as there are directories.
    pub(crate) fn walk(&self) -> Result<Walked, Failure> {
        let mut here = self.open_start()?;
        for (depth, step) in self.before_last().iter().enumerate() {
            here = match enter(&here, step)? {
                Some(directory) => directory,
                None => return Ok(Walked::Missing(self.steps[depth..].to_vec())),
            };
        }
        Ok(Walked::ToParent(here))
    }

    /// Walks to the directory that holds the mount point, making those on the way that are not there and that
    /// `missing` allows to make; each that was made is added to `made`.
    pub(crate) fn walk_making(&self, missing: &[MountPoint], made: &mut Made) -> Result<OwnedFd, Failure> {
        let mut here = self.open_start()?;
        for step in self.before_last() {
            let mut entered = enter(&here, step)?;
            if entered.is_none() && missing.contains(step) {
                made.make(&here, step)?;
                entered = enter(&here, step)?;
            }
            here = entered.ok_or_else(|| {
                Failure::new(FailureCode::Conflict, format!("directory `{step}` is not there any more"))
                    .with_hint("send the job again with a new id")
            })?;
        }
        Ok(here)
    }

    fn before_last(&self) -> &[MountPoint] {
        &self.steps[..self.steps.len() - 1]
    }

    fn open_start(&self) -> Result<OwnedFd, Failure> {
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        open_directory(CWD, &self.start, resolve).map_err(|errno| {
            Failure::internal(format!("cannot open allowed root `{}`", self.start.display()), errno)
                .at_step("walk to the mount point")
        })
    }
}

/// Directories that one call made, each with its parent.
#[derive(Default)]
pub(crate) struct Made(Vec<(OwnedFd, MountPoint)>);

impl Made {
    fn make(&mut self, parent: &OwnedFd, step: &MountPoint) -> Result<(), Failure> {
        let failed = |errno| not_made(step, errno).at_step("make directories");
        failpoint("link.directories")?;
        let kept =
            parent.try_clone().map_err(|error| Failure::internal("cannot keep a directory open", error))?;
        match mkdirat(parent, name_of(step), MADE_MODE) {
            Ok(()) => self.0.push((kept, step.clone())),
            Err(Errno::EXIST) => return Ok(()), // Somebody else's.
            Err(errno) => return Err(failed(errno)),
        }
        // Whatever the umask says.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(parent, name_of(step), flags, Mode::empty()).map_err(failed)?;
        fchmod(opened, MADE_MODE).map_err(failed)
    }

    /// Removes them again, innermost first, because of `failure`; keeps with it what could not be removed.
    pub(crate) fn undo(self, failure: Failure) -> Failure {
        self.0.into_iter().rev().fold(failure, |failure, (parent, step)| {
            match unlinkat(parent, name_of(&step), AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => failure,
                Err(errno) => failure.undo_failed(
                    Failure::internal(format!("cannot remove directory `{step}`"), errno)
                        .at_step("remove directories"),
                ),
            }
        })
    }
}

/// The paths of what lies between `root` and `mount_point`, and `mount_point`.
fn steps(mount_point: &MountPoint, root: &MountPoint) -> Vec<MountPoint> {
    let text = mount_point.as_str();
    let below = root.as_str().len() + 1;
    let ends = text[below..].match_indices('/').map(|(slash, _)| below + slash).chain([text.len()]);
    ends.map(|end| MountPoint::new(&text[..end]).expect("the beginning of a normal path is one")).collect()
}

/// The last component of a path.
fn name_of(step: &MountPoint) -> &str {
    step.as_str().rsplit('/').next().unwrap_or_default()
}

/// Opens the directory `step` in `parent`, if it is there.
fn enter(parent: &OwnedFd, step: &MountPoint) -> Result<Option<OwnedFd>, Failure> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match open_directory(parent, Path::new(name_of(step)), resolve) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::LOOP) => Err(Failure::new(FailureCode::ForbiddenPath, format!("`{step}` is a link"))
            .with_hint("give the path that it leads to, or allow the link itself with `--mount-root`")),
        Err(Errno::NOTDIR) => {
            Err(Failure::new(FailureCode::Conflict, format!("`{step}` is there and is no directory"))
                .with_hint("move the file away, or choose another path"))
        }
        Err(errno) => Err(Failure::internal(format!("cannot open directory `{step}`"), errno)
            .at_step("walk to the mount point")),
    }
}

fn open_directory(parent: impl AsFd, path: &Path, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut tries = 1;
    loop {
        match openat2(&parent, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < STEP_TRIES_MAX => tries += 1,
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
