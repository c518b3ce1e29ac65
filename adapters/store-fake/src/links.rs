//! Attaching for an ordinary user: a symbolic link at the mount point, to the volume's directory.
//!
//! - A link of ours ends in `/.`: so it is told from any other, and leads to a directory or nowhere.
//! - An empty directory at the mount point is exchanged with the link, in one step of the kernel. It waits
//!   beside it, under a hidden name that follows from the mount point's path, and comes back by the same
//!   exchange: at every instant there is one of the two. What the exchange leaves at the hidden name goes
//!   with the next call.
//! - A link can hide no files, and stand in for no allowed root: that is refused as `unsupported`.

use crate::failpoint::failpoint;
use crate::step::AtStep;
use crate::way::{Made, Roots, Walked, Way, not_made};
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
            let way = roots.way_to(&mount_point)?;
            let mut made = Made::default();
            way.walk_making(&missing, &mut made)
                .and_then(|parent| Place::new(parent, &way, &mount_point).put(&target))
                .map_err(|failure| made.undo(failure))
        })
        .await
    }

    async fn detach(&self, source: &Source, mount_point: &MountPoint) -> Result<Detached, Failure> {
        let target = target_of(source)?;
        let mount_point = mount_point.clone();
        self.blocking(move |roots| {
            let way = roots.way_to(&mount_point)?;
            match way.walk()? {
                Walked::Missing(_) => Ok(Detached::NothingThere),
                Walked::ToParent(parent) => Place::new(parent, &way, &mount_point).take(&target),
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

    /// A link holds nothing, and can be taken away at any time.
    async fn holders_of(&self, _: &Source, _: &MountPoint) -> Vec<User> {
        Vec::new()
    }
}

/// What a link to `source` says.
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
    let way = roots.way_to(mount_point)?;
    let mut survey = Survey { missing: Vec::new(), mounted: None, hides_files: false };
    let parent = match way.walk()? {
        Walked::Missing(missing) => return Ok(Survey { missing, ..survey }),
        Walked::ToParent(parent) => parent,
    };
    match Place::new(parent, &way, mount_point).look()? {
        Found::Nothing => survey.missing.push(mount_point.clone()),
        Found::EmptyDirectory => {}
        Found::FullDirectory => survey.hides_files = true,
        Found::Mount(what) => survey.mounted = Some(Mounted::Something(what)),
        Found::Link(target) => {
            survey.mounted = Some(Mounted::Something(format!("link to `{}`", target.display())));
        }
    }
    Ok(survey)
}

/// Removes what is empty, innermost first; stops at the first that stays.
fn remove_directories(roots: &Roots, directories: &[MountPoint]) -> Result<(), Failure> {
    for directory in directories.iter().rev() {
        let way = roots.way_to(directory)?;
        let parent = match way.walk() {
            Ok(Walked::ToParent(parent)) => parent,
            Ok(Walked::Missing(_)) => continue,
            // What is no directory any more, or a link, is not what was made.
            Err(failure) if failure.code() != FailureCode::Internal => return Ok(()),
            Err(failure) => return Err(failure),
        };
        failpoint("link.remove-directories")?;
        match unlinkat(parent, way.name(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY | Errno::NOTDIR) => return Ok(()),
            Err(errno) => {
                return Err(Failure::internal(format!("cannot remove directory `{directory}`"), errno)
                    .at_step("remove directories"));
            }
        }
    }
    Ok(())
}

/// What is at a mount point.
enum Found {
    Nothing,
    EmptyDirectory,
    FullDirectory,
    /// Something is mounted there.
    Mount(String),
    /// A link of ours, and what it says.
    Link(PathBuf),
}

/// A mount point in its pinned parent.
struct Place<'a> {
    parent: OwnedFd,
    way: &'a Way,
    mount_point: &'a MountPoint,
    /// Where an empty directory waits while a link is at the mount point.
    aside: String,
}

impl<'a> Place<'a> {
    fn new(parent: OwnedFd, way: &'a Way, mount_point: &'a MountPoint) -> Self {
        Self { parent, way, mount_point, aside: format!(".dvs-{}", mount_point.derived_name()) }
    }

    /// What is there; a foreign link and what is no directory are failures.
    fn look(&self) -> Result<Found, Failure> {
        let mount_point = self.mount_point;
        match self.type_of(self.way.name())? {
            None => Ok(Found::Nothing),
            Some(FileType::Symlink) => self.own_link(self.way.name())?.map(Found::Link).ok_or_else(|| {
                Failure::new(FailureCode::ForbiddenPath, format!("`{mount_point}` is a link"))
                    .with_hint("give the path that it leads to, or remove the link")
            }),
            Some(FileType::Directory) => {
                let table = MountTable::read().at("read the mount table", Path::new(MountTable::OWN))?;
                match table.mounts().iter().rev().find(|mount| mount.mount_point == self.way.real) {
                    Some(mount) => Ok(Found::Mount(mount.to_string())),
                    None if self.is_empty(self.way.name())? => Ok(Found::EmptyDirectory),
                    None => Ok(Found::FullDirectory),
                }
            }
            Some(_) => Err(Failure::new(
                FailureCode::Conflict,
                format!("`{mount_point}` is there and is no directory"),
            )
            .with_hint("move the file away, or choose another path")),
        }
    }

    /// Makes a link that says `target` be there.
    fn put(&self, target: &Path) -> Result<(), Failure> {
        let mount_point = self.mount_point;
        match self.look()? {
            Found::Link(there) if there == target => Ok(()),
            Found::Link(other) => Err(self.taken(&format!("link to `{}`", other.display()))),
            Found::Mount(what) => Err(self.taken(&what)),
            Found::FullDirectory => Err(self.not_empty()),
            Found::Nothing => {
                failpoint("link.place")?;
                symlinkat(target, &self.parent, self.way.name())
                    .map_err(|errno| not_made(mount_point, errno).at_step("make the link"))
            }
            Found::EmptyDirectory => self.exchange_for_link(target),
        }
    }

    /// Makes a link that says `target` not be there, and what was there before be there again.
    fn take(&self, target: &Path) -> Result<Detached, Failure> {
        let there = match self.look() {
            Ok(Found::Link(there)) => there,
            Ok(Found::Mount(what)) => return Err(self.taken(&what)),
            Ok(Found::Nothing | Found::EmptyDirectory | Found::FullDirectory) => {
                // What an exchange that was cut off has left.
                self.remove_link_aside()?;
                return Ok(Detached::NothingThere);
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
            unlinkat(&self.parent, self.way.name(), AtFlags::empty()).map_err(|errno| {
                Failure::internal(format!("cannot remove `{}`", self.mount_point), errno)
                    .at_step("remove the link")
            })?;
        }
        Ok(Detached::Gone)
    }

    fn exchange_for_link(&self, target: &Path) -> Result<(), Failure> {
        self.remove_link_aside()?;
        failpoint("link.place")?;
        symlinkat(target, &self.parent, self.aside.as_str())
            .map_err(|errno| not_made(self.mount_point, errno).at_step("make the link"))?;
        let exchanged = self.exchange("put the link there").and_then(|()| {
            // Somebody may have put a file there just before.
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

    /// Exchanges what is at the mount point with what waits aside, in one step.
    fn exchange(&self, step: &'static str) -> Result<(), Failure> {
        let (parent, flags) = (&self.parent, RenameFlags::EXCHANGE);
        renameat_with(parent, self.aside.as_str(), parent, self.way.name(), flags).map_err(|errno| {
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

    /// What the link called `name` says, without its mark, if it is one of ours.
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
