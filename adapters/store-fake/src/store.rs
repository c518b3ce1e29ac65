//! The store: one volume, one operation at a time, on threads for blocking work.

use crate::capacity::{Reservations, allocated_bytes, used_bytes};
use crate::folder::Folder;
use crate::options::Options;
use async_trait::async_trait;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::{StoreName, VolumeName};
use dvs_domain::overcommit::OvercommitRatio;
use dvs_domain::ports::{
    Created, DestroyError, Destroyed, Probe, SharedStore, Source, SourceKind, VolumeStore,
};
use dvs_domain::volume::{Entry, StoreDescription, Usage, Volume};
use dvs_volume_record::{LocalFolder, space_at};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use url::Url;

/// Volumes as plain directories below a folder. See the crate's page for what lies where.
pub struct FakeStore {
    description: StoreDescription,
    shared: Arc<Shared>,
    lanes: Mutex<HashMap<VolumeName, Arc<tokio::sync::Mutex<()>>>>,
}

/// An operation, to make fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Fails when everything is made, just before the volume exists.
    Create,
    /// Fails before anything is removed.
    Destroy,
    /// Fails at once.
    LookUp,
    /// Fails at once.
    List,
    /// Fails at once.
    Usage,
    /// Fails at once.
    Source,
}

/// What the threads for blocking work need.
struct Shared {
    name: StoreName,
    local: LocalFolder<Folder>,
    overcommit: OvercommitRatio,
    reservations: Arc<Reservations>,
    demands: Mutex<Demands>,
}

/// What a test has asked for.
#[derive(Default)]
struct Demands {
    capacity_bytes: Option<u64>,
    failing: Vec<(Action, FailureCode)>,
    is_shared: bool,
}

impl FakeStore {
    /// The store `name` that `url` describes, such as `fake:///srv/dvs-try?fs=ext4&provision=thin`:
    /// `fs`, `provision`, `uid`, `gid` and `mode` are what requests may leave open, `overcommit` is how many
    /// bytes are promised for each one there is. The agent's folder `state` remembers which store the folder holds.
    /// The first operation opens it, and makes a folder that is missing and was never known.
    ///
    /// # Errors
    /// `bad-request` for a URL that describes none.
    pub fn open(name: StoreName, url: &Url, state: Option<&Path>) -> Result<Self, Failure> {
        Ok(Self::with_options(Options::read(name, url)?, state))
    }

    /// The store `name` in the folder `path`, with every option left out.
    #[must_use]
    pub fn at(name: StoreName, path: &Path) -> Self {
        Self::with_options(Options::at(name, path.to_owned()), None)
    }

    /// The same store with `bytes` of room, whatever the file system below has.
    #[must_use]
    pub fn with_capacity(self, bytes: u64) -> Self {
        self.shared.demands().capacity_bytes = Some(bytes);
        self
    }

    /// Makes the next `action` fail with `code`. Said twice, the next two fail, in that order.
    pub fn failing_next(&self, action: Action, code: FailureCode) {
        self.shared.demands().failing.push((action, code));
    }

    /// From now on it describes itself as a store that nodes share.
    pub fn share(&self) {
        self.shared.demands().is_shared = true;
    }

    fn with_options(options: Options, state: Option<&Path>) -> Self {
        let name = options.description.name.clone();
        let shared = Shared {
            local: LocalFolder::new(&name, options.folder, state),
            name,
            overcommit: options.overcommit,
            reservations: Arc::default(),
            demands: Mutex::default(),
        };
        Self { description: options.description, shared: Arc::new(shared), lanes: Mutex::default() }
    }

    /// Does `work` on a thread for blocking work.
    async fn blocking<T: Send + 'static, E: From<Failure> + Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let shared = Arc::clone(&self.shared);
        let done = tokio::task::spawn_blocking(move || work(&shared)).await;
        done.unwrap_or_else(|ended| {
            Err(Failure::internal("an operation of the store ended unexpectedly", ended).into())
        })
    }

    /// Does `work` while no other changes `name`. The lane is kept until the work ends, also when the caller
    /// gives up waiting: then what was begun is still finished before anything else happens to `name`.
    async fn in_lane<T: Send + 'static, E: From<Failure> + Send + 'static>(
        &self,
        name: &VolumeName,
        work: impl FnOnce(&Shared) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let lane = {
            let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
            Arc::clone(lanes.entry(name.clone()).or_default())
        };
        let turn = lane.lock_owned().await;
        self.blocking(move |shared| {
            let _turn = turn;
            work(shared)
        })
        .await
    }
}

impl Shared {
    /// The folder, open.
    fn folder(&self) -> Result<Arc<Folder>, Failure> {
        let open = |path: &Path| Folder::open(self.name.clone(), path);
        self.local.contact(Folder::reach, open).map(|(folder, ())| folder)
    }

    fn create(&self, volume: &Volume) -> Result<Created, Failure> {
        let folder = self.folder()?;
        match folder.read(&volume.spec.id.name)? {
            Some(Entry::Sound(there)) => return Ok(Created::AlreadyThere(there)),
            Some(Entry::Damaged { reason, .. }) => {
                return Err(damaged(&volume.spec.id.name, &reason));
            }
            None => {}
        }
        let capacity = self.demands().capacity_bytes;
        let _reserved = self.reservations.reserve(&folder, capacity, self.overcommit, volume)?;
        folder.make(volume, self.demanded(Action::Create))?;
        Ok(Created::New(None))
    }

    fn destroy(&self, name: &VolumeName) -> Result<Destroyed, DestroyError> {
        self.fail_if_demanded(Action::Destroy)?;
        let folder = self.folder()?;
        let exists = match folder.read(name)? {
            Some(Entry::Damaged { reason, .. }) => return Err(damaged(name, &reason).into()),
            Some(Entry::Sound(_)) => true,
            None => false,
        };
        let gone = folder.unmake(name, exists)?;
        Ok(if gone { Destroyed::Gone } else { Destroyed::NothingThere })
    }

    fn look_up(&self, name: &VolumeName) -> Result<Option<Entry>, Failure> {
        self.fail_if_demanded(Action::LookUp)?;
        self.folder()?.read(name)
    }

    fn list(&self) -> Result<Vec<Entry>, Failure> {
        self.fail_if_demanded(Action::List)?;
        self.folder()?.list()
    }

    fn usage(&self, name: &VolumeName) -> Result<Usage, Failure> {
        self.fail_if_demanded(Action::Usage)?;
        let folder = self.folder()?;
        let used_bytes = used_bytes(&folder.volume(name));
        match folder.read(name)? {
            Some(Entry::Sound(volume)) => {
                Ok(Usage { allocated_bytes: allocated_bytes(&volume.spec, used_bytes) })
            }
            Some(Entry::Damaged { .. }) => Ok(Usage { allocated_bytes: used_bytes }),
            None => Err(not_found(name)),
        }
    }

    fn source(&self, name: &VolumeName) -> Result<Source, Failure> {
        self.fail_if_demanded(Action::Source)?;
        let folder = self.folder()?;
        match folder.read(name)? {
            Some(Entry::Sound(_)) => Ok(Source::new(SourceKind::Directory(folder.data(name)))),
            Some(Entry::Damaged { reason, .. }) => Err(damaged(name, &reason)),
            None => Err(not_found(name)),
        }
    }

    fn demands(&self) -> std::sync::MutexGuard<'_, Demands> {
        self.demands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The failure that a test has asked for, if any. Given once.
    fn demanded(&self, action: Action) -> Option<Failure> {
        let failing = &mut self.demands().failing;
        let at = failing.iter().position(|(failing, _)| *failing == action)?;
        let (_, code) = failing.remove(at);
        Some(Failure::new(code, format!("{action:?} failed on demand")).at_step("fail on demand"))
    }

    fn fail_if_demanded(&self, action: Action) -> Result<(), Failure> {
        self.demanded(action).map_or(Ok(()), Err)
    }
}

#[async_trait]
impl VolumeStore for FakeStore {
    fn describe(&self) -> StoreDescription {
        StoreDescription { is_shared: self.shared.demands().is_shared, ..self.description.clone() }
    }

    async fn create(&self, volume: &Volume) -> Result<Created, Failure> {
        let asked = volume.clone();
        self.in_lane(&volume.spec.id.name, move |shared| shared.create(&asked)).await
    }

    async fn destroy(&self, name: &VolumeName, _: Option<&Source>) -> Result<Destroyed, DestroyError> {
        let asked = name.clone();
        self.in_lane(name, move |shared| shared.destroy(&asked)).await
    }

    async fn look_up(&self, name: &VolumeName) -> Result<Option<Entry>, Failure> {
        let asked = name.clone();
        self.blocking(move |shared| shared.look_up(&asked)).await
    }

    async fn list(&self) -> Result<Vec<Entry>, Failure> {
        self.blocking(Shared::list).await
    }

    async fn usage(&self, name: &VolumeName) -> Result<Usage, Failure> {
        let asked = name.clone();
        self.blocking(move |shared| shared.usage(&asked)).await
    }

    async fn source(&self, name: &VolumeName) -> Result<Source, Failure> {
        let asked = name.clone();
        self.in_lane(name, move |shared| shared.source(&asked)).await
    }

    async fn probe(&self) -> Probe {
        let space = |shared: &Shared| shared.local.check().and_then(|()| space_at(shared.local.path()));
        Probe { needs: Vec::new(), space: self.blocking(space).await }
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        None
    }
}

fn not_found(name: &VolumeName) -> Failure {
    Failure::new(FailureCode::NotFound, format!("volume `{name}` is not there"))
}

fn damaged(name: &VolumeName, reason: &str) -> Failure {
    Failure::new(FailureCode::Damaged, format!("volume `{name}` is damaged: {reason}"))
        .with_hint("mend or remove its folder by hand; DVS never removes what it cannot read")
}
