//! Resolving the paths of mount points so that no component can be swapped for a symbolic link: each directory is opened
//! below its pinned parent, and the kernel refuses a link at each component.

use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::mount_point::MountPoint;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// How often one component is tried while the kernel reports that the tree changes under it (`EAGAIN`, openat2(2)).
const COMPONENT_TRIES_MAX: u32 = 64;

/// Where a mount point lies: the directory where its resolution starts, and the components from there. The last is
/// the mount point.
#[derive(Debug)]
pub(crate) struct Location<'a> {
    mount_point: &'a MountPoint,
    root: &'a MountPoint,
    start: Option<PathBuf>,
    components: Vec<Component>,
}

/// One component of a path.
#[derive(Clone, Debug)]
pub(crate) struct Component {
    pub(crate) name: OsString,
    /// The path up to here, as the mount point spells it.
    pub(crate) path: MountPoint,
    /// Its index, counted from 0.
    pub(crate) depth: usize,
}

impl Component {
    /// Resolution ends at this component.
    pub(crate) fn error(&self, kind: ResolveErrorKind) -> ResolveError {
        ResolveError { kind, path: self.path.clone(), depth: self.depth }
    }
}

impl<'a> Location<'a> {
    /// The location of `mount_point`, which is `root` or lies below it; `resolved` is where the root leads.
    pub(crate) fn new(mount_point: &'a MountPoint, root: &'a MountPoint, resolved: &Path) -> Self {
        if mount_point == root {
            // The root's parent is opened, so that inspecting the root does not hold what is mounted there.
            let name = resolved.file_name().unwrap_or_default().to_owned();
            let start = resolved.parent().map(Path::to_owned);
            return Self {
                mount_point,
                root,
                start,
                components: vec![Component { name, path: root.clone(), depth: 0 }],
            };
        }
        let components = components_of(mount_point.as_str(), root.as_str().len() + 1);
        Self { mount_point, root, start: Some(resolved.to_owned()), components }
    }

    /// The location of a mount point whose root does not exist.
    pub(crate) fn without_root(mount_point: &'a MountPoint, root: &'a MountPoint) -> Self {
        let components = vec![Component { name: OsString::new(), path: mount_point.clone(), depth: 0 }];
        Self { mount_point, root, start: None, components }
    }

    pub(crate) fn mount_point(&self) -> &MountPoint {
        self.mount_point
    }

    /// Whether the mount point is the root itself.
    pub(crate) fn is_root(&self) -> bool {
        self.mount_point == self.root
    }

    /// The directories above the mount point, from the start on, and the mount point.
    pub(crate) fn parents_and_last(&self) -> (&[Component], &Component) {
        let (last, parents) = self.components.split_last().expect("every location has a last component");
        (parents, last)
    }

    /// The paths of the components from `depth` on, outermost first.
    pub(crate) fn paths_from(&self, depth: usize) -> Vec<MountPoint> {
        self.components.iter().skip(depth).map(|component| component.path.clone()).collect()
    }

    /// Opens the directory where resolution starts, each time by its path: something may have been mounted over it
    /// since.
    pub(crate) fn open_start(&self) -> Result<OwnedFd, ResolveError> {
        let error = |kind| ResolveError { kind, path: self.root.clone(), depth: 0 };
        let Some(start) = &self.start else { return Err(error(ResolveErrorKind::RootMissing)) };
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        open_directory(CWD, start.as_os_str(), resolve).map_err(|kind| {
            error(if kind == ResolveErrorKind::Missing { ResolveErrorKind::RootMissing } else { kind })
        })
    }

    /// Opens the directory in which the mount point is an entry.
    pub(crate) fn open_parent(&self) -> Result<OwnedFd, ResolveError> {
        let (parents, _) = self.parents_and_last();
        let start = self.open_start()?;
        parents.iter().try_fold(start, |parent, component| open_component(parent.as_fd(), component))
    }
}

fn components_of(text: &str, below: usize) -> Vec<Component> {
    let ends = text[below..].match_indices('/').map(|(slash, _)| below + slash).chain([text.len()]);
    let mut begin = below;
    let mut components = Vec::new();
    for (depth, end) in ends.enumerate() {
        let path = MountPoint::new(&text[..end]).expect("the beginning of a normal path is a normal path");
        components.push(Component { name: OsString::from(&text[begin..end]), path, depth });
        begin = end + 1;
    }
    components
}

/// Opens the directory `component` in `parent`, or the root of what is mounted there.
pub(crate) fn open_component(parent: BorrowedFd<'_>, component: &Component) -> Result<OwnedFd, ResolveError> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    open_directory(parent, &component.name, resolve).map_err(|kind| component.error(kind))
}

fn open_directory(
    parent: BorrowedFd<'_>,
    path: &OsStr,
    resolve: ResolveFlags,
) -> Result<OwnedFd, ResolveErrorKind> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut tries = 1;
    loop {
        match openat2(parent, path, flags, Mode::empty(), resolve) {
            Ok(directory) => return Ok(directory),
            Err(Errno::AGAIN | Errno::INTR) if tries < COMPONENT_TRIES_MAX => tries += 1,
            Err(errno) => return Err(ResolveErrorKind::of(errno)),
        }
    }
}

/// Why a path cannot be resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResolveErrorKind {
    /// The allowed root does not exist.
    RootMissing,
    /// The component does not exist.
    Missing,
    SymbolicLink,
    NotADirectory,
    /// Another error of the kernel.
    Other(Errno),
}

impl ResolveErrorKind {
    /// What an error of a system call means for the path that it was given.
    pub(crate) fn of(errno: Errno) -> Self {
        match errno {
            Errno::NOENT => Self::Missing,
            Errno::LOOP => Self::SymbolicLink,
            Errno::NOTDIR => Self::NotADirectory,
            other => Self::Other(other),
        }
    }
}

/// A path that cannot be resolved.
#[derive(Debug)]
pub(crate) struct ResolveError {
    pub(crate) kind: ResolveErrorKind,
    /// The path up to the component that failed.
    pub(crate) path: MountPoint,
    /// The index of that component, counted from 0.
    pub(crate) depth: usize,
}

impl From<ResolveError> for Failure {
    fn from(error: ResolveError) -> Self {
        let path = &error.path;
        match error.kind {
            ResolveErrorKind::RootMissing => {
                Self::new(FailureCode::ForbiddenPath, format!("allowed root `{path}` does not exist"))
                    .with_hint(format!("make the directory `{path}`, then start the agent again"))
            }
            ResolveErrorKind::Missing => {
                Self::new(FailureCode::Conflict, format!("directory `{path}` is not there any more"))
                    .with_hint("send the job again with a new id")
            }
            ResolveErrorKind::SymbolicLink => {
                Self::new(FailureCode::ForbiddenPath, format!("`{path}` is a link"))
                    .with_hint("give the path that it leads to, or allow the link itself with `--mount-root`")
            }
            ResolveErrorKind::NotADirectory => {
                Self::new(FailureCode::Conflict, format!("`{path}` is there and is no directory"))
                    .with_hint("move the file away, or choose another path")
            }
            ResolveErrorKind::Other(Errno::NOSYS) => {
                Self::new(FailureCode::Unsupported, "this kernel is too old to walk paths safely")
                    .with_hint("use Linux 5.8 or newer")
            }
            ResolveErrorKind::Other(errno) => {
                Self::internal(format!("cannot open directory `{path}`"), errno)
            }
        }
    }
}
