//! Volumes as image files with a file system inside, given out as loop devices: size enforced by the kernel.
//!
//! Below the store's folder: `volumes/<name>/{image,record,record.copy}` and `staging/`. A volume is made whole in
//! `staging` and exists from one rename on; its end is one rename the other way, while its loop device is held so
//! that nothing can have it mounted. So whatever cuts the work off leaves a whole volume, or staging names that
//! opening the store removes. Only names that are ours are ever removed, and no link is followed.
//!
//! It knows nothing of mount points, jobs, or users of a volume other than the kernel.

mod attach;
mod check;
mod command;
mod create;
mod destroy;
pub mod device;
mod device_events;
mod entry;
mod folders;
mod format;
mod locks;
mod loop_index;
mod lost_and_found;
mod owner;
mod probe;
mod program;
mod reservations;
mod settings;
mod shared;
mod sources;
mod stage;
mod step;
mod superblock;
mod template;

use async_trait::async_trait;
use dvs_domain::failure::Failure;
use dvs_domain::names::{StoreName, VolumeName};
use dvs_domain::ports::{Created, DestroyError, Destroyed, Probe, SharedStore, Source, VolumeStore};
use dvs_domain::volume::{Entry, StoreDescription, Usage, Volume};
use locks::NameLocks;
use settings::Settings;
use shared::Shared;
use std::path::Path;
use std::sync::Arc;
use url::Url;

/// A folder of this host in which volumes are image files.
pub struct LoopStore {
    shared: Arc<Shared>,
    locks: Arc<NameLocks>,
}

impl LoopStore {
    /// The store that `url` configures (`loop:///folder?fs=ext4&provision=thin&overcommit=2`, also `uid`, `gid`,
    /// `mode`). The agent's folder `state` remembers which store the folder holds. The first operation opens it, makes
    /// a folder that is missing and was never known, and removes what unfinished work has left.
    ///
    /// # Errors
    /// `bad-request` for a URL that says something else.
    pub fn open(name: StoreName, url: &Url, state: Option<&Path>) -> Result<Self, Failure> {
        let settings = Settings::parse(url)?;
        Ok(Self { shared: Arc::new(Shared::new(name, settings, state)), locks: Arc::default() })
    }

    /// Runs `work` on a thread for blocking work, alone with `name`. A caller who gives up does not stop it: it is
    /// finished, and the name stays locked until then.
    async fn alone_with<T: Send + 'static, E: From<Failure> + Send + 'static>(
        &self,
        name: &VolumeName,
        work: impl FnOnce(&Shared) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let guard = self.locks.lock(name).await;
        self.aside(move |shared| {
            let _guard = guard;
            work(shared)
        })
        .await
    }

    /// Runs `work` on a thread for blocking work.
    async fn aside<T: Send + 'static, E: From<Failure> + Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let shared = Arc::clone(&self.shared);
        match tokio::task::spawn_blocking(move || work(&shared)).await {
            Ok(result) => result,
            Err(error) => Err(Failure::internal("the work on a volume was cut off", error).into()),
        }
    }
}

#[async_trait]
impl VolumeStore for LoopStore {
    fn describe(&self) -> StoreDescription {
        let settings = &self.shared.settings;
        StoreDescription {
            name: self.shared.name.clone(),
            kind: "loop",
            file_system: Some(settings.file_system),
            provision: Some(settings.provision),
            uid: settings.uid,
            gid: settings.gid,
            mode: settings.mode,
            attachable: true,
            is_shared: false,
        }
    }

    async fn create(&self, volume: &Volume) -> Result<Created, Failure> {
        let volume = volume.clone();
        self.alone_with(&volume.spec.id.name.clone(), move |shared| create::create(shared, &volume)).await
    }

    async fn destroy(&self, name: &VolumeName, source: Option<&Source>) -> Result<Destroyed, DestroyError> {
        let (asked, kept) = (name.clone(), source.and_then(Source::kept));
        self.alone_with(name, move |shared| destroy::destroy(shared, &asked, kept.as_deref())).await
    }

    async fn look_up(&self, name: &VolumeName) -> Result<Option<Entry>, Failure> {
        let name = name.clone();
        self.aside(move |shared| shared.look_up(&name)).await
    }

    async fn list(&self) -> Result<Vec<Entry>, Failure> {
        self.aside(Shared::list).await
    }

    async fn usage(&self, name: &VolumeName) -> Result<Usage, Failure> {
        let name = name.clone();
        self.aside(move |shared| shared.usage(&name)).await
    }

    async fn source(&self, name: &VolumeName) -> Result<Source, Failure> {
        let asked = name.clone();
        self.alone_with(name, move |shared| attach::source(shared, &asked)).await
    }

    async fn probe(&self) -> Probe {
        let probed = self.aside(|shared| Ok::<_, Failure>((probe::needs(), shared.space()))).await;
        let (needs, space) = probed.unwrap_or_else(|failure| (Vec::new(), Err(failure)));
        Probe { needs, space }
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        None
    }
}
