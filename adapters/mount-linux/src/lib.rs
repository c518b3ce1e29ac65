//! Attaches and detaches volumes: the only place that touches mount points.
//!
//! What keeps it safe, and where:
//! - `roots`, `path`: a mount point is walked from its allowed root with one pinned directory per step, and no
//!   step follows a link, also not one that is swapped in meanwhile.
//! - `new_mount`: a mount is made detached, with all that must be true of it, before anybody can see it.
//! - `show`: the path is walked anew before the mount is shown, and once more afterwards: what did not come
//!   to lie at the path asked for is taken away again.
//! - `detach`: a plain unmount through the parent directory, so that nothing of ours holds the mount.
//! - `guard`: an empty, read-only mount where a volume should be and is not; a volume is mounted on top of it.
//!
//! `holders` finds out who holds a volume, for the refusal to name them. It changes nothing and decides nothing.
//!
//! It needs Linux 5.8 (5.12 for directories), `/proc`, and the capability `CAP_SYS_ADMIN`. It knows nothing of
//! stores, jobs or images.

mod attach;
mod detach;
mod directories;
mod guard;
mod holders;
mod mount_attributes;
mod mount_table;
mod new_mount;
mod path;
mod place;
mod roots;
mod show;
mod source;
mod step;
mod survey;

use crate::holders::Search;
use crate::roots::Roots;
use async_trait::async_trait;
use dvs_domain::failure::Failure;
use dvs_domain::mount_point::{AllowedRoots, MountPoint};
use dvs_domain::ports::{Detached, Mounter, Source, Survey};
use dvs_domain::user::User;
use std::sync::Arc;

/// Mount points of this host, in the mount namespace of this process.
///
/// A call that is cancelled still runs to its end, or is undone, on its own thread; its source must stay until
/// then. Made directories get the mode 0755, less the process's umask.
#[derive(Clone, Debug)]
pub struct LinuxMounter {
    roots: Arc<Roots>,
}

impl LinuxMounter {
    /// Resolves each of `roots` once. One that is a link leads where it leads now, for as long as this lives;
    /// one that does not exist is remembered as missing, and mount points below it are refused.
    #[must_use]
    pub fn new(roots: AllowedRoots) -> Self {
        Self { roots: Arc::new(Roots::resolve(roots)) }
    }

    async fn blocking<T, W>(&self, work: W) -> Result<T, Failure>
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
        let mount_point = mount_point.clone();
        self.blocking(move |roots| survey::survey(&roots.locate(&mount_point)?)).await
    }

    async fn attach(
        &self,
        source: &Source,
        mount_point: &MountPoint,
        missing: &[MountPoint],
    ) -> Result<(), Failure> {
        let (kind, mount_point, missing) = (source.kind.clone(), mount_point.clone(), missing.to_vec());
        self.blocking(move |roots| attach::attach(&roots.locate(&mount_point)?, &kind, &missing)).await
    }

    async fn detach(&self, source: &Source, mount_point: &MountPoint) -> Result<Detached, Failure> {
        let (kind, mount_point) = (source.kind.clone(), mount_point.clone());
        self.blocking(move |roots| detach::detach(&roots.locate(&mount_point)?, &kind)).await
    }

    async fn remove_directories(&self, directories: &[MountPoint]) -> Result<(), Failure> {
        let directories = directories.to_vec();
        self.blocking(move |roots| directories::remove(roots, &directories)).await
    }

    async fn guard(&self, mount_point: &MountPoint, missing: &[MountPoint]) -> Result<(), Failure> {
        let (mount_point, missing) = (mount_point.clone(), missing.to_vec());
        self.blocking(move |roots| guard::guard(&roots.locate(&mount_point)?, &missing)).await
    }

    async fn unguard(&self, mount_point: &MountPoint) -> Result<(), Failure> {
        let mount_point = mount_point.clone();
        self.blocking(move |roots| guard::unguard(&roots.locate(&mount_point)?)).await
    }

    async fn holders_of(&self, source: &Source, mount_point: &MountPoint) -> Vec<User> {
        let search = Arc::new(Search::begin());
        let (kind, mount_point, roots) = (source.kind.clone(), mount_point.clone(), Arc::clone(&self.roots));
        let searching = Arc::clone(&search);
        let work =
            tokio::task::spawn_blocking(move || holders::find(&roots, &kind, &mount_point, &searching));
        // A thread that hangs in the kernel is left to itself; what was found until then is told.
        drop(tokio::time::timeout_at(search.until().into(), work).await);
        search.found()
    }
}
