//! Volumes as directories on an NFSv3 export, reached by a client in user space: no call of the agent ever waits in
//! the kernel for a server. Sizes are recorded, and enforced by nobody.
//!
//! On the export lie `volumes/<name>` and `volumes_metadata/<name>/record`. A volume is made under a name that no
//! volume can have, and exists from one rename on, of its folder in `volumes_metadata`: on an export that several
//! nodes share exactly one of two creates succeeds, because a folder with a record in it is never replaced. Its
//! directory follows by a second rename, which whoever finds it missing makes. It ends by the same two renames
//! backwards. So whatever cuts the work off leaves a whole volume, or names of this node's own, which it clears away
//! at its next contact with the server.
//!
//! Beside the folders of the records lies `volumes_metadata/.list`: what a node has found that had to read many of them,
//! for others to list by. It decides nothing, and may be missing, old or wrong.
//!
//! It knows nothing of mount points, jobs, or containers. Opening it touches no network.

mod connection;
mod create;
mod destroy;
mod entry;
mod gone;
mod layout;
mod list;
mod mark;
mod nodes;
mod problem;
mod record;
mod removal;
mod settings;
mod shared;
mod sweep;
mod target;
#[cfg(feature = "testing")]
pub mod testing;

use async_trait::async_trait;
use dvs_domain::failure::Failure;
use dvs_domain::names::{NodeId, StoreName, VolumeName};
use dvs_domain::ports::{
    Claim, Created, DestroyError, Destroyed, SharedStore, Source, SourceKind, VolumeStore,
};
use dvs_domain::volume::{Entry, StoreDescription, Usage, Volume};
use problem::Problem;
use settings::Settings;
use shared::Shared;
use std::sync::Arc;
use target::{Export, NfsExport};
use url::Url;

/// Whether `url` configures a store, as [`NfsStore::open`] would find. Touches nothing.
///
/// # Errors
/// `bad-request`, saying what is wrong with it.
pub fn check_url(url: &Url) -> Result<(), Failure> {
    Settings::parse(url).map(drop)
}

/// How much room the export at `url` has, all of it and what is free, in bytes. Changes nothing there.
///
/// # Errors
/// `bad-request` for a URL that configures no store, `store-unavailable` when the export cannot be reached.
pub async fn room(name: &StoreName, url: &Url) -> Result<(u64, u64), Failure> {
    let settings = Settings::parse(url)?;
    let target = NfsExport::new(settings.clone()).visit(settings.timeout);
    let told = |error| Problem::Call("look at the export", error).told(name, &settings);
    let root = target.root().await.map_err(told)?;
    target.room(&root).await.map_err(told)
}

/// As what this node appears to others that share a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThisNode {
    /// What tells it apart.
    pub id: NodeId,
    /// What it is called.
    pub name: String,
}

/// An export of an NFSv3 server in which volumes are directories.
pub struct NfsStore {
    shared: Arc<Shared>,
}

impl NfsStore {
    /// The store that `url` configures (`nfs://host/export/path?uid=1000&gid=1000`, also `mode`, `ro`, `timeout`,
    /// `mountport`, and a port). The server is first contacted by the first operation.
    ///
    /// # Errors
    /// `bad-request` for a URL that says something else.
    pub fn open(name: StoreName, url: &Url, node: ThisNode) -> Result<Self, Failure> {
        let settings = Settings::parse(url)?;
        let export = Arc::new(NfsExport::new(settings.clone()));
        Ok(Self::on(name, settings, node, export))
    }

    fn on(name: StoreName, settings: Settings, node: ThisNode, export: Arc<dyn Export>) -> Self {
        Self { shared: Arc::new(Shared::new(name, settings, node, export)) }
    }
}

#[async_trait]
impl VolumeStore for NfsStore {
    fn describe(&self) -> StoreDescription {
        let settings = &self.shared.settings;
        StoreDescription {
            name: self.shared.name.clone(),
            kind: "nfs",
            file_system: None,
            provision: None,
            uid: settings.uid,
            gid: settings.gid,
            mode: settings.mode,
            attachable: false,
            is_shared: true,
        }
    }

    async fn create(&self, volume: &Volume) -> Result<Created, Failure> {
        let volume = Arc::new(volume.clone());
        let name = volume.spec.id.name.clone();
        self.shared
            .alone_with(&name, move |work| {
                let volume = Arc::clone(&volume);
                async move { create::create(&work, &volume).await }
            })
            .await
    }

    async fn destroy(&self, name: &VolumeName, _: Option<&Source>) -> Result<Destroyed, DestroyError> {
        let asked = name.clone();
        let destroyed = self
            .shared
            .alone_with(name, move |work| {
                let name = asked.clone();
                async move { destroy::destroy(&work, &name).await }
            })
            .await;
        destroyed.map_err(|failure| {
            if failure.is_undone() { DestroyError::Refused(failure) } else { DestroyError::Decided(failure) }
        })
    }

    async fn look_up(&self, name: &VolumeName) -> Result<Option<Entry>, Failure> {
        self.shared
            .beside_others(|work| async move {
                let state = entry::find(&work, name).await?;
                Ok(state.into_entry(name))
            })
            .await
    }

    async fn list(&self) -> Result<Vec<Entry>, Failure> {
        self.shared.beside_others(|work| async move { list::list(&work).await }).await
    }

    /// What the volume can take at most: what is taken of the export, and no more than was recorded for it. NFSv3
    /// does not tell how much is below one directory.
    async fn usage(&self, name: &VolumeName) -> Result<Usage, Failure> {
        self.shared.beside_others(|work| async move { entry::usage(&work, name).await }).await
    }

    async fn source(&self, name: &VolumeName) -> Result<Source, Failure> {
        self.shared
            .beside_others(|work| async move {
                entry::attachable(&work, name).await?;
                let settings = &work.shared.settings;
                let folder = if settings.path == "/" { "" } else { &settings.path };
                Ok(Source::new(SourceKind::NfsExport {
                    server: settings.host.clone(),
                    port: settings.port,
                    path: format!("{folder}/{}/{name}", layout::VOLUMES),
                    read_only: settings.read_only,
                }))
            })
            .await
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        Some(self)
    }
}

#[async_trait]
impl SharedStore for NfsStore {
    async fn enter(&self, name: &VolumeName) -> Result<(), Failure> {
        let asked = name.clone();
        self.shared
            .alone_with(name, move |work| {
                let name = asked.clone();
                async move { nodes::enter(&work, &name).await }
            })
            .await
    }

    async fn leave(&self, name: &VolumeName) -> Result<(), Failure> {
        let asked = name.clone();
        self.shared
            .alone_with(name, move |work| {
                let name = asked.clone();
                async move { nodes::leave(&work, &name).await }
            })
            .await
    }

    async fn claims(&self, name: &VolumeName) -> Result<Vec<Claim>, Failure> {
        self.shared.beside_others(|work| async move { nodes::claims(&work, name).await }).await
    }

    async fn release(&self, name: &VolumeName, node: &NodeId) -> Result<Vec<Claim>, Failure> {
        let (asked, node) = (name.clone(), node.clone());
        self.shared
            .alone_with(name, move |work| {
                let (name, node) = (asked.clone(), node.clone());
                async move { nodes::release(&work, &name, &node).await }
            })
            .await
    }
}
