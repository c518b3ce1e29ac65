//! Attaches and detaches volumes: the only place that touches mount points.
//!
//! What keeps it safe, and where:
//! - `roots`, `path`: a mount point is resolved from its allowed root with one pinned directory per component, and no
//!   component may be a symbolic link, also not one that is swapped in meanwhile.
//! - `new_mount`: a mount is made detached, with all its attributes, before anybody can see it.
//! - `mount`: the path is resolved again before the mount is moved to it, and once more afterwards: a mount that does
//!   not lie at the requested path then is unmounted again.
//! - `detach`: a plain unmount through the parent directory, so that this process does not hold the mount itself.
//! - `guard`: an empty, read-only mount where a volume should be and is not; a volume is mounted on top of it.
//!
//! `holders` finds out who holds a volume, for the refusal to name them. It changes nothing and decides nothing.
//!
//! It needs Linux 5.8 (5.12 for directories), `/proc`, and the capability `CAP_SYS_ADMIN`. From Linux 6.13 on no call
//! depends on the number of mounts, except for naming holders. It knows nothing of stores, jobs or images.

mod attach;
mod detach;
mod dir_entry;
mod directories;
mod guard;
mod holders;
mod mount;
mod mount_attributes;
mod new_mount;
mod path;
mod roots;
mod source;
mod step;
mod survey;
mod unmount;

use crate::holders::Search;
use crate::path::Location;
use crate::roots::Roots;
use async_trait::async_trait;
use dvs_domain::failure::Failure;
use dvs_domain::mount_point::{AllowedRoots, MountPoint};
use dvs_domain::ports::{Detached, Mounter, Source, Survey};
use dvs_domain::user::User;
use dvs_mountinfo::Mounts;
use std::sync::Arc;

/// Mount points of this host, in the mount namespace of this process.
///
/// A call that is cancelled still runs to its end, or is undone, on its own thread; its source must stay until
/// then. New directories get the mode 0755, less the process's umask.
#[derive(Clone, Debug)]
pub struct LinuxMounter {
    roots: Arc<Roots>,
    mounts: Arc<Mounts>,
}

impl LinuxMounter {
    /// Resolves each of `roots` once. One that is a symbolic link leads where it leads now, for as long as this lives;
    /// one that does not exist is remembered as missing, and mount points below it are refused.
    #[must_use]
    pub fn new(roots: AllowedRoots) -> Self {
        Self { roots: Arc::new(Roots::resolve(roots)), mounts: Arc::new(Mounts::new()) }
    }

    /// The same, knowing mounts only by the whole mount table, as on a kernel before 6.13. For tests.
    #[must_use]
    pub fn by_table_only(self) -> Self {
        Self { mounts: Arc::new(Mounts::by_table_only()), ..self }
    }

    /// Runs `work` on `mount_point` where it may block.
    async fn blocking<T, W>(&self, mount_point: &MountPoint, work: W) -> Result<T, Failure>
    where
        T: Send + 'static,
        W: FnOnce(&Location<'_>, &Mounts) -> Result<T, Failure> + Send + 'static,
    {
        let (mount_point, mounts) = (mount_point.clone(), Arc::clone(&self.mounts));
        self.blocking_in_roots(move |roots| work(&roots.locate(&mount_point)?, &mounts)).await
    }

    async fn blocking_in_roots<T, W>(&self, work: W) -> Result<T, Failure>
    where
        T: Send + 'static,
        W: FnOnce(&Roots) -> Result<T, Failure> + Send + 'static,
    {
        let roots = Arc::clone(&self.roots);
        match tokio::task::spawn_blocking(move || work(&roots)).await {
            Ok(outcome) => outcome,
            Err(ended) => Err(Failure::internal("the work on a mount point ended early", ended)),
        }
    }
}

#[async_trait]
impl Mounter for LinuxMounter {
    async fn survey(&self, mount_point: &MountPoint) -> Result<Survey, Failure> {
        self.blocking(mount_point, survey::survey).await
    }

    async fn attach(
        &self,
        source: &Source,
        mount_point: &MountPoint,
        missing: &[MountPoint],
    ) -> Result<(), Failure> {
        let (kind, missing) = (source.kind.clone(), missing.to_vec());
        self.blocking(mount_point, move |location, mounts| attach::attach(location, mounts, &kind, &missing))
            .await
    }

    async fn detach(&self, source: &Source, mount_point: &MountPoint) -> Result<Detached, Failure> {
        let kind = source.kind.clone();
        self.blocking(mount_point, move |location, mounts| detach::detach(location, mounts, &kind)).await
    }

    async fn remove_directories(&self, directories: &[MountPoint]) -> Result<(), Failure> {
        let directories = directories.to_vec();
        self.blocking_in_roots(move |roots| directories::remove(roots, &directories)).await
    }

    async fn guard(&self, mount_point: &MountPoint, missing: &[MountPoint]) -> Result<(), Failure> {
        let missing = missing.to_vec();
        self.blocking(mount_point, move |location, mounts| guard::guard(location, mounts, &missing)).await
    }

    async fn unguard(&self, mount_point: &MountPoint) -> Result<(), Failure> {
        self.blocking(mount_point, guard::unguard).await
    }

    async fn holders_of(&self, source: &Source, mount_point: &MountPoint) -> Vec<User> {
        let search = Arc::new(Search::begin());
        let (kind, mount_point, roots) = (source.kind.clone(), mount_point.clone(), Arc::clone(&self.roots));
        let searching = Arc::clone(&search);
        let work =
            tokio::task::spawn_blocking(move || holders::find(&roots, &kind, &mount_point, &searching));
        // A thread that hangs in the kernel is abandoned; what it has found until then is returned.
        drop(tokio::time::timeout_at(search.until().into(), work).await);
        search.found()
    }
}
