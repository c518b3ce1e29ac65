//! Paths of mount points, walked so that no step can be swapped for a link: each directory on the way is opened
//! below the one before it, which stays pinned, and the kernel refuses a link at every step.

use crate::place::Place;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::mount_point::MountPoint;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// How often one step is tried when the kernel says that the tree changed under it (`EAGAIN`, openat2(2)).
const STEP_TRIES_MAX: u32 = 64;

/// Where a mount point lies: where its walk starts, and the directories from there. The last is the
/// mount point.
#[derive(Debug)]
pub(crate) struct Location<'a> {
    mount_point: &'a MountPoint,
    root: &'a MountPoint,
    start: Option<PathBuf>,
    segments: Vec<Segment>,
}

/// One directory on a walk.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// The directory's name in the one before.
    pub(crate) name: OsString,
    /// The directory's path, as the mount point spells it.
    pub(crate) path: MountPoint,
    /// Which one it is, counted from 0.
    pub(crate) depth: usize,
}

impl Segment {
    /// The walk ends at this directory.
    pub(crate) fn blocked(&self, obstacle: Obstacle) -> Blocked {
        Blocked { obstacle, path: self.path.clone(), depth: self.depth }
    }
}

impl<'a> Location<'a> {
    /// The location of `mount_point`, which is `root` or lies below it; `resolved` is where the root leads.
    pub(crate) fn new(mount_point: &'a MountPoint, root: &'a MountPoint, resolved: &Path) -> Self {
        if mount_point == root {
            // The root's parent is opened, so that looking at the root does not hold what is mounted there.
            let name = resolved.file_name().unwrap_or_default().to_owned();
            let start = resolved.parent().map(Path::to_owned);
            return Self {
                mount_point,
                root,
                start,
                segments: vec![Segment { name, path: root.clone(), depth: 0 }],
            };
        }
        let segments = segments_of(mount_point.as_str(), root.as_str().len() + 1);
        Self { mount_point, root, start: Some(resolved.to_owned()), segments }
    }

    /// The location of a mount point whose root does not exist.
    pub(crate) fn without_root(mount_point: &'a MountPoint, root: &'a MountPoint) -> Self {
        let segments = vec![Segment { name: OsString::new(), path: mount_point.clone(), depth: 0 }];
        Self { mount_point, root, start: None, segments }
    }

    /// The mount point.
    pub(crate) fn mount_point(&self) -> &MountPoint {
        self.mount_point
    }

    /// Whether the mount point is the root itself.
    pub(crate) fn is_root(&self) -> bool {
        self.mount_point == self.root
    }

    /// The directories on the way to the mount point, and the mount point.
    pub(crate) fn way_and_last(&self) -> (&[Segment], &Segment) {
        let (last, way) = self.segments.split_last().expect("every location has a last directory");
        (way, last)
    }

    /// The paths from the directory `depth` on, outermost first.
    pub(crate) fn paths_from(&self, depth: usize) -> Vec<MountPoint> {
        self.segments.iter().skip(depth).map(|segment| segment.path.clone()).collect()
    }

    /// Opens the directory from which the walk starts, anew by its path: something may have been mounted over
    /// it since.
    pub(crate) fn open_start(&self) -> Result<OwnedFd, Blocked> {
        let blocked = |obstacle| Blocked { obstacle, path: self.root.clone(), depth: 0 };
        let Some(start) = &self.start else { return Err(blocked(Obstacle::RootMissing)) };
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        open_directory(CWD, start.as_os_str(), resolve).map_err(|obstacle| {
            blocked(if obstacle == Obstacle::Missing { Obstacle::RootMissing } else { obstacle })
        })
    }

    /// Walks to the directory that holds the mount point.
    pub(crate) fn place(&self) -> Result<Place, Blocked> {
        let (way, last) = self.way_and_last();
        let mut here = self.open_start()?;
        for segment in way {
            here = enter(here.as_fd(), segment)?;
        }
        Ok(Place::new(Rc::new(here), last.clone()))
    }
}

fn segments_of(text: &str, below: usize) -> Vec<Segment> {
    let ends = text[below..].match_indices('/').map(|(slash, _)| below + slash).chain([text.len()]);
    let mut begin = below;
    let mut segments = Vec::new();
    for (depth, end) in ends.enumerate() {
        let path = MountPoint::new(&text[..end]).expect("the beginning of a normal path is a normal path");
        segments.push(Segment { name: OsString::from(&text[begin..end]), path, depth });
        begin = end + 1;
    }
    segments
}

/// Opens the directory `segment` in `parent`, or the top of what is mounted there.
pub(crate) fn enter(parent: BorrowedFd<'_>, segment: &Segment) -> Result<OwnedFd, Blocked> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    open_directory(parent, &segment.name, resolve).map_err(|obstacle| segment.blocked(obstacle))
}

fn open_directory(parent: BorrowedFd<'_>, path: &OsStr, resolve: ResolveFlags) -> Result<OwnedFd, Obstacle> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut tries = 1;
    loop {
        match openat2(parent, path, flags, Mode::empty(), resolve) {
            Ok(directory) => return Ok(directory),
            Err(Errno::AGAIN | Errno::INTR) if tries < STEP_TRIES_MAX => tries += 1,
            Err(errno) => return Err(Obstacle::of(errno)),
        }
    }
}

/// What stands in the way of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// The allowed root is not there.
    RootMissing,
    /// Nothing is there.
    Missing,
    /// A link.
    Link,
    /// Something that is no directory.
    NoDirectory,
    /// The kernel gave another reason.
    Refused(Errno),
}

impl Obstacle {
    /// What an error of a system call says about the path that it was given.
    pub(crate) fn of(errno: Errno) -> Self {
        match errno {
            Errno::NOENT => Self::Missing,
            Errno::LOOP => Self::Link,
            Errno::NOTDIR => Self::NoDirectory,
            other => Self::Refused(other),
        }
    }
}

/// Where a walk ended early.
#[derive(Debug)]
pub(crate) struct Blocked {
    /// Why.
    pub(crate) obstacle: Obstacle,
    /// Where.
    pub(crate) path: MountPoint,
    /// Which directory of the walk it was, counted from 0.
    pub(crate) depth: usize,
}

impl From<Blocked> for Failure {
    fn from(blocked: Blocked) -> Self {
        let path = &blocked.path;
        match blocked.obstacle {
            Obstacle::RootMissing => {
                Self::new(FailureCode::ForbiddenPath, format!("allowed root `{path}` does not exist"))
                    .with_hint(format!("make the directory `{path}`, then start the agent again"))
            }
            Obstacle::Missing => {
                Self::new(FailureCode::Conflict, format!("directory `{path}` is not there any more"))
                    .with_hint("send the job again with a new id")
            }
            Obstacle::Link => Self::new(FailureCode::ForbiddenPath, format!("`{path}` is a link"))
                .with_hint("give the path that it leads to, or allow the link itself with `--mount-root`"),
            Obstacle::NoDirectory => {
                Self::new(FailureCode::Conflict, format!("`{path}` is there and is no directory"))
                    .with_hint("move the file away, or choose another path")
            }
            Obstacle::Refused(Errno::NOSYS) => {
                Self::new(FailureCode::Unsupported, "this kernel is too old to walk paths safely")
                    .with_hint("use Linux 5.8 or newer")
            }
            Obstacle::Refused(errno) => Self::internal(format!("cannot open directory `{path}`"), errno),
        }
    }
}
