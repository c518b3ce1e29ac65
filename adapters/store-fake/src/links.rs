//! Attaching for an ordinary user: a symbolic link at the mount point, to the volume's directory.
//!
//! - A link made here ends in `/.`, which distinguishes it from any other; it leads to a directory or nowhere.
//! - An empty directory at the mount point is exchanged with the link atomically. It is kept beside it, under a hidden
//!   name that is derived from the mount point's path, and comes back by the same exchange: at every instant one of the two
//!   is there. A link that a cut-off exchange leaves at the hidden name is removed by the next call.
//! - A link can hide no files, and cannot replace an allowed root: that is refused as `unsupported`.

use crate::failpoint::failpoint;
use crate::path::{CreatedDirectories, Location, Resolved, Roots, not_made, sync};
use crate::step::AtStep;
use async_trait::async_trait;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::mount_point::{AllowedRoots, MountPoint};
use dvs_domain::ports::{Detached, Mounted, Mounter, Source, SourceKind, Survey};
use dvs_domain::user::User;
use dvs_mountinfo::MountTable;
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, openat, readlinkat, renameat_with, statat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Mount points of an ordinary user: each is a symbolic link to a directory.
pub struct LinkMounter {
    roots: Arc<Roots>,
}

impl LinkMounter {
    /// Resolves each of `roots` once. Mount points below one that does not exist are refused.
    #[must_use]
    pub fn new(roots: AllowedRoots) -> Self {
        Self { roots: Arc::new(Roots::resolve(roots)) }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Roots) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let roots = Arc::clone(&self.roots);
        let done = tokio::task::spawn_blocking(move || work(&roots)).await;
        done.unwrap_or_else(|ended| Err(Failure::internal("the work on a mount point ended early", ended)))
    }
}

#[async_trait]
impl Mounter for LinkMounter {
    async fn survey(&self, mount_point: &MountPoint) -> Result<Survey, Failure> {
        let mount_point = mount_point.clone();
        self.blocking(move |roots| survey(roots, &mount_point)).await
    }

    async fn attach(
        &self,
        source: &Source,
        mount_point: &MountPoint,
        missing: &[MountPoint],
    ) -> Result<(), Failure> {
        let target = target_of(source)?;
        let (mount_point, missing) = (mount_point.clone(), missing.to_vec());
        self.blocking(move |roots| {
            let location = roots.locate(&mount_point)?;
            let mut created = CreatedDirectories::default();
            location
                .create_parents(&missing, &mut created)
                .and_then(|parent| DirEntryRef::new(parent, &location, &mount_point).link(&target))
                .map_err(|failure| created.rollback(failure))
        })
        .await
    }

    async fn detach(&self, source: &Source, mount_point: &MountPoint) -> Result<Detached, Failure> {
        let target = target_of(source)?;
        let mount_point = mount_point.clone();
        self.blocking(move |roots| {
            let location = roots.locate(&mount_point)?;
            match location.resolve()? {
                Resolved::Missing(_) => Ok(Detached::NothingThere),
                Resolved::Parent(parent) => DirEntryRef::new(parent, &location, &mount_point).unlink(&target),
            }
        })
        .await
    }

    async fn remove_directories(&self, directories: &[MountPoint]) -> Result<(), Failure> {
        let directories = directories.to_vec();
        self.blocking(move |roots| remove_directories(roots, &directories)).await
    }

    async fn guard(&self, mount_point: &MountPoint, _: &[MountPoint]) -> Result<(), Failure> {
        Err(Failure::new(
            FailureCode::Unsupported,
            format!("no guard can be laid over `{mount_point}` by a link"),
        )
        .with_hint("run as root"))
    }

    async fn unguard(&self, _: &MountPoint) -> Result<(), Failure> {
        Ok(())
    }

    /// A link holds nothing, and can be removed at any time.
    async fn holders_of(&self, _: &Source, _: &MountPoint) -> Vec<User> {
        Vec::new()
    }
}

/// The target of a link to `source`.
fn target_of(source: &Source) -> Result<PathBuf, Failure> {
    match &source.kind {
        SourceKind::Directory(path) => Ok(path.join(".")),
        SourceKind::NfsExport { server, path, .. } => Err(Failure::new(
            FailureCode::Unsupported,
            format!("a directory on an NFS server (`{server}:{path}`) cannot be attached yet"),
        )),
        SourceKind::Device { path, .. } => Err(Failure::new(
            FailureCode::Unsupported,
            format!("an ordinary user cannot mount device `{}`", path.display()),
        )
        .with_hint("run the agent as root")),
    }
}

fn survey(roots: &Roots, mount_point: &MountPoint) -> Result<Survey, Failure> {
    let location = roots.locate(mount_point)?;
    let mut survey = Survey { missing: Vec::new(), mounted: None, hides_files: false };
    let parent = match location.resolve()? {
        Resolved::Missing(missing) => return Ok(Survey { missing, ..survey }),
        Resolved::Parent(parent) => parent,
    };
    match DirEntryRef::new(parent, &location, mount_point).state()? {
        EntryState::Absent => survey.missing.push(mount_point.clone()),
        EntryState::EmptyDirectory => {}
        EntryState::FullDirectory => survey.hides_files = true,
        EntryState::Mount(what) => survey.mounted = Some(Mounted::Something(what)),
        EntryState::Link(target) => {
            survey.mounted = Some(Mounted::Something(format!("link to `{}`", target.display())));
        }
    }
    Ok(survey)
}

/// Removes empty directories, innermost first, and makes that durable; stops at the first that stays.
fn remove_directories(roots: &Roots, directories: &[MountPoint]) -> Result<(), Failure> {
    let mut outermost = None;
    for directory in directories.iter().rev() {
        let location = roots.locate(directory)?;
        let parent = match location.resolve() {
            Ok(Resolved::Parent(parent)) => parent,
            Ok(Resolved::Missing(_)) => continue,
            // A link, or anything else but a directory, was not made here.
            Err(failure) if failure.code() != FailureCode::Internal => break,
            Err(failure) => return Err(failure),
        };
        failpoint("link.remove-directories")?;
        match unlinkat(&parent, location.name(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => outermost = Some((parent, directory)),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY | Errno::NOTDIR) => break,
            Err(errno) => {
                return Err(Failure::internal(format!("cannot remove directory `{directory}`"), errno)
                    .at_step("remove directories"));
            }
        }
    }
    outermost.map_or(Ok(()), |(parent, directory)| sync(&parent, directory))
}

enum EntryState {
    Absent,
    EmptyDirectory,
    FullDirectory,
    /// Described as in the mount table.
    Mount(String),
    /// A link made here, and its target.
    Link(PathBuf),
}

/// A mount point as an entry of its pinned parent directory.
struct DirEntryRef<'a> {
    parent: OwnedFd,
    location: &'a Location,
    mount_point: &'a MountPoint,
    /// The hidden name of an empty directory while a link is at the mount point.
    aside: String,
}

impl<'a> DirEntryRef<'a> {
    fn new(parent: OwnedFd, location: &'a Location, mount_point: &'a MountPoint) -> Self {
        Self { parent, location, mount_point, aside: format!(".dvs-{}", mount_point.derived_name()) }
    }

    /// A foreign link, and anything that is neither a link nor a directory, is a failure.
    fn state(&self) -> Result<EntryState, Failure> {
        let mount_point = self.mount_point;
        match self.type_of(self.location.name())? {
            None => Ok(EntryState::Absent),
            Some(FileType::Symlink) => {
                self.own_link(self.location.name())?.map(EntryState::Link).ok_or_else(|| {
                    Failure::new(FailureCode::ForbiddenPath, format!("`{mount_point}` is a link"))
                        .with_hint("give the path that it leads to, or remove the link")
                })
            }
            Some(FileType::Directory) => {
                let table = MountTable::read().at("read the mount table", Path::new(MountTable::OWN))?;
                match table.mounts().iter().rev().find(|mount| mount.mount_point == self.location.real) {
                    Some(mount) => Ok(EntryState::Mount(mount.to_string())),
                    None if self.is_empty(self.location.name())? => Ok(EntryState::EmptyDirectory),
                    None => Ok(EntryState::FullDirectory),
                }
            }
            Some(_) => Err(Failure::new(
                FailureCode::Conflict,
                format!("`{mount_point}` is there and is no directory"),
            )
            .with_hint("move the file away, or choose another path")),
        }
    }

    /// Makes sure that a link to `target` is there.
    fn link(&self, target: &Path) -> Result<(), Failure> {
        let mount_point = self.mount_point;
        match self.state()? {
            EntryState::Link(there) if there == target => Ok(()),
            EntryState::Link(other) => Err(self.taken(&format!("link to `{}`", other.display()))),
            EntryState::Mount(what) => Err(self.taken(&what)),
            EntryState::FullDirectory => Err(self.not_empty()),
            EntryState::Absent => {
                failpoint("link.place")?;
                symlinkat(target, &self.parent, self.location.name())
                    .map_err(|errno| not_made(mount_point, errno).at_step("make the link"))
            }
            EntryState::EmptyDirectory => self.exchange_for_link(target),
        }
    }

    /// Makes sure, durably, that no link to `target` is there, and puts back an empty directory that was there before.
    fn unlink(&self, target: &Path) -> Result<Detached, Failure> {
        let there = match self.state() {
            Ok(EntryState::Link(there)) => there,
            Ok(EntryState::Mount(what)) => return Err(self.taken(&what)),
            Ok(EntryState::Absent | EntryState::EmptyDirectory | EntryState::FullDirectory) => {
                // Left by an exchange that was cut off.
                self.remove_link_aside()?;
                return sync(&self.parent, self.mount_point).map(|()| Detached::NothingThere);
            }
            Err(failure) if failure.code() == FailureCode::ForbiddenPath => return Err(self.taken("link")),
            Err(failure) if failure.code() == FailureCode::Conflict => return Ok(Detached::NothingThere),
            Err(failure) => return Err(failure),
        };
        if there != target {
            return Err(self.taken(&format!("link to `{}`", there.display())));
        }
        failpoint("link.remove")?;
        if self.type_of(&self.aside)? == Some(FileType::Directory) {
            self.exchange("put the directory back")?;
            self.remove_link_aside()?;
        } else {
            unlinkat(&self.parent, self.location.name(), AtFlags::empty()).map_err(|errno| {
                Failure::internal(format!("cannot remove `{}`", self.mount_point), errno)
                    .at_step("remove the link")
            })?;
        }
        sync(&self.parent, self.mount_point).map(|()| Detached::Gone)
    }

    fn exchange_for_link(&self, target: &Path) -> Result<(), Failure> {
        self.remove_link_aside()?;
        failpoint("link.place")?;
        symlinkat(target, &self.parent, self.aside.as_str())
            .map_err(|errno| not_made(self.mount_point, errno).at_step("make the link"))?;
        let exchanged = self.exchange("put the link there").and_then(|()| {
            // Another process may have put a file there just before.
            if self.is_empty(&self.aside)? {
                return Ok(());
            }
            let failure = self.not_empty();
            Err(match self.exchange("put the directory back") {
                Ok(()) => failure,
                Err(undo) => failure.undo_failed(undo),
            })
        });
        exchanged.map_err(|failure| match self.remove_link_aside() {
            Ok(()) => failure,
            Err(undo) => failure.undo_failed(undo),
        })
    }

    /// Exchanges the mount point with the hidden name, atomically.
    fn exchange(&self, step: &'static str) -> Result<(), Failure> {
        let (parent, flags) = (&self.parent, RenameFlags::EXCHANGE);
        renameat_with(parent, self.aside.as_str(), parent, self.location.name(), flags).map_err(|errno| {
            match errno {
                Errno::INVAL | Errno::NOSYS => Failure::new(
                    FailureCode::Unsupported,
                    format!(
                        "the file system of `{}` cannot exchange a directory and a link",
                        self.mount_point
                    ),
                )
                .caused_by(errno)
                .with_hint("remove the empty directory, or choose another path"),
                errno => not_made(self.mount_point, errno),
            }
            .at_step(step)
        })
    }

    fn remove_link_aside(&self) -> Result<(), Failure> {
        if self.type_of(&self.aside)? == Some(FileType::Symlink) && self.own_link(&self.aside)?.is_some() {
            unlinkat(&self.parent, self.aside.as_str(), AtFlags::empty()).map_err(|errno| {
                Failure::internal(format!("cannot remove `{}`", self.aside), errno).at_step("remove the link")
            })?;
        }
        Ok(())
    }

    fn type_of(&self, name: &str) -> Result<Option<FileType>, Failure> {
        match statat(&self.parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(FileType::from_raw_mode(found.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.not_looked_at(errno)),
        }
    }

    /// The target of the link `name`, if it was made here.
    fn own_link(&self, name: &str) -> Result<Option<PathBuf>, Failure> {
        let target = readlinkat(&self.parent, name, Vec::new()).map_err(|errno| self.not_looked_at(errno))?;
        let is_ours = target.as_bytes().ends_with(b"/.");
        Ok(is_ours.then(|| PathBuf::from(OsStr::from_bytes(target.as_bytes()))))
    }

    fn is_empty(&self, name: &str) -> Result<bool, Failure> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let look = || {
            let opened = openat(&self.parent, name, flags, Mode::empty())?;
            for entry in Dir::read_from(opened)? {
                if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        look().map_err(|errno| self.not_looked_at(errno))
    }

    fn taken(&self, what: &str) -> Failure {
        Failure::new(FailureCode::Conflict, format!("something else is at `{}`: {what}", self.mount_point))
            .with_hint("unmount or remove it first, or choose another path")
    }

    fn not_empty(&self) -> Failure {
        Failure::new(
            FailureCode::Unsupported,
            format!("`{}` holds files, and a link cannot hide them", self.mount_point),
        )
        .with_hint("move the files away, choose another path, or run the agent as root")
    }

    fn not_looked_at(&self, errno: Errno) -> Failure {
        Failure::internal(format!("cannot look at `{}`", self.mount_point), errno)
            .at_step("look at the mount point")
    }
}
