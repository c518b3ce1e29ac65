//! Volumes as directories on an NFSv3 export, reached by a client in user space: no call of the agent ever waits in
//! the kernel for a server. Sizes are recorded, and enforced by nobody.
//!
//! On the export lie `volumes/<name>` and `volumes_metadata/<name>/record`. A volume is made under a temporary name and
//! exists from one rename on, that of its folder in `volumes_metadata`: when several nodes create one volume at the same
//! time, exactly one succeeds, because a folder with a record in it is never replaced. Its directory follows by a second
//! rename, which whoever finds it missing makes. A destroy does the two renames backwards. So an operation that is cut
//! off leaves a whole volume, or temporary names of this node, which its janitor removes when the server answers again.
//!
//! This crate knows nothing of mount points, jobs, or containers. Opening a store contacts nobody.

mod claims;
mod client;
mod create;
mod delete_lock;
mod destroy;
mod janitor;
mod layout;
mod leftover;
mod list;
mod list_cache;
mod problem;
mod record;
mod recovery;
mod removal;
mod session;
mod settings;
mod volume_state;

pub use session::ThisNode;

use async_trait::async_trait;
use dvs_domain::failure::Failure;
use dvs_domain::names::{NodeId, StoreName, VolumeName};
use dvs_domain::ports::{
    Claim, Created, DestroyError, Destroyed, Probe, SharedStore, Source, SourceKind, Space, VolumeStore,
};
use dvs_domain::volume::{Entry, StoreDescription, Usage, Volume};
use janitor::Janitor;
use list_cache::ListCache;
use problem::{At, Problem};
use session::Session;
use settings::Settings;
use std::sync::{Arc, OnceLock};
use url::Url;
use volume_state::VolumeState;

/// A store on an export of an NFSv3 server.
pub struct NfsStore {
    session: Arc<Session>,
    cache: ListCache,
    janitor: OnceLock<Janitor>,
}

impl NfsStore {
    /// The store that `url` configures (`nfs://host/export/path?uid=1000&gid=1000`, also `mode`, `ro`, `timeout`,
    /// `mountport`, and a port). Refuses another one with `bad-request`. The first operation contacts the server.
    pub fn open(name: StoreName, url: &Url, node: ThisNode) -> Result<Self, Failure> {
        let session = Arc::new(Session::new(name, Settings::parse(url)?, node));
        Ok(Self { session, cache: ListCache::default(), janitor: OnceLock::new() })
    }

    /// Whether unfinished operations of this node may have left something on the export that the janitor has not
    /// removed yet.
    #[must_use]
    pub fn has_leftovers(&self) -> bool {
        let leftovers = self.session.leftovers();
        leftovers.is_any() || leftovers.is_recovering
    }

    /// The session, with its janitor at work.
    fn session(&self) -> &Arc<Session> {
        self.janitor.get_or_init(|| Janitor::start(&self.session));
        &self.session
    }
}

#[async_trait]
impl VolumeStore for NfsStore {
    fn describe(&self) -> StoreDescription {
        let settings = &self.session.settings;
        StoreDescription {
            name: self.session.name.clone(),
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
        let made = Arc::new(volume.clone());
        let created = self.session().change(&volume.spec.id.name, move |export, _| {
            let volume = Arc::clone(&made);
            async move { create::create(&export, &volume).await }
        });
        created.await.map_err(|problem| self.session.failure(problem))
    }

    async fn destroy(&self, name: &VolumeName, _: Option<&Source>) -> Result<Destroyed, DestroyError> {
        let work = |export, name| async move { destroy::destroy(&export, &name).await };
        let destroyed = self.session().change(name, work);
        destroyed.await.map_err(|problem| {
            let is_decided = problem.is_decided();
            let failure = self.session.failure(problem);
            if is_decided { DestroyError::Decided(failure) } else { DestroyError::Refused(failure) }
        })
    }

    async fn look_up(&self, name: &VolumeName) -> Result<Option<Entry>, Failure> {
        let found = self.session().read(
            || Ok(VolumeState::Absent),
            |export| async move { volume_state::find(&export, name).await },
        );
        let found = found.await?;
        self.cache.correct(name, &found);
        Ok(found.into_entry(name))
    }

    async fn list(&self) -> Result<Vec<Entry>, Failure> {
        let empty = || Ok(Vec::new());
        self.session().read(empty, |export| async move { list::list(&export, &self.cache).await }).await
    }

    /// An upper bound: NFSv3 does not tell how much a directory uses.
    async fn usage(&self, name: &VolumeName) -> Result<Usage, Failure> {
        let session = self.session();
        let not_found = || Err(session.not_found(name));
        session.read(not_found, |export| async move { volume_state::usage(&export, name).await }).await
    }

    async fn source(&self, name: &VolumeName) -> Result<Source, Failure> {
        let session = self.session();
        let not_found = || Err(session.not_found(name));
        session
            .read(not_found, |export| async move { volume_state::attachable(&export, name).await })
            .await?;
        let settings = &session.settings;
        let folder = if settings.path == "/" { "" } else { &settings.path };
        Ok(Source::new(SourceKind::NfsExport {
            server: settings.host.clone(),
            port: settings.port,
            path: format!("{folder}/{}/{name}", layout::VOLUMES),
            read_only: settings.read_only,
        }))
    }

    /// Over a connection of its own.
    async fn probe(&self) -> Probe {
        let settings = &self.session.settings;
        let client = Arc::new(client::Client::new(settings)).calls(settings.timeout);
        let space = async {
            let root = client.root().await.at("reach the server")?;
            client.room(&root).await.at("ask for free space")
        };
        let space = space.await.map(|(total_bytes, free_bytes)| Space { free_bytes, total_bytes });
        Probe { needs: Vec::new(), space: space.map_err(|problem: Problem| self.session.failure(problem)) }
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        Some(self)
    }
}

#[async_trait]
impl SharedStore for NfsStore {
    async fn enter(&self, name: &VolumeName) -> Result<(), Failure> {
        let work = |export, name| async move { claims::enter(&export, &name).await };
        let entered = self.session().change(name, work);
        entered.await.map_err(|problem| self.session.failure(problem))
    }

    async fn leave(&self, name: &VolumeName) -> Result<(), Failure> {
        let work = |export, name| async move { claims::leave(&export, &name).await };
        let left = self.session().change(name, work);
        left.await.map_err(|problem| self.session.failure(problem))
    }

    async fn claims(&self, name: &VolumeName) -> Result<Vec<Claim>, Failure> {
        let none = || Ok(Vec::new());
        self.session().read(none, |export| async move { claims::claims(&export, name).await }).await
    }

    async fn release(&self, name: &VolumeName, node: &NodeId) -> Result<Vec<Claim>, Failure> {
        let node = node.clone();
        let released = self.session().change(name, move |export, name| {
            let node = node.clone();
            async move { recovery::release::release(&export, &name, &node).await }
        });
        released.await.map_err(|problem| self.session.failure(problem))
    }
}
