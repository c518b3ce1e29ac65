//! What every operation needs: the connection to the export and its two folders, a lane for each volume, and the note of
//! what is left over for the janitor.

use crate::client::{Calls, Client, ClientError, Fault, Handle};
use crate::layout::{self, METADATA, VOLUMES};
use crate::leftover::Leftovers;
use crate::problem::{At, Problem, READ_ONLY_HINT};
use crate::settings::Settings;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::{NodeId, StoreName, VolumeName};
use dvs_domain::volume::VolumeId;
use std::collections::HashMap;
use std::future::Future;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How long undoing may take after an operation that failed in time: then the janitor does it.
const UNDO_MILLISECONDS_MAX: u64 = 900;
/// Listing and removing trees may take so many times the limit of other operations.
const LONG_OPERATIONS: u32 = 30;
const PREPARE: &str = "prepare the export";

/// How this node appears to others that share a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThisNode {
    /// Identifies it.
    pub id: NodeId,
    /// Shown to operators.
    pub name: String,
}

pub(crate) struct Session {
    pub(crate) name: StoreName,
    pub(crate) settings: Settings,
    pub(crate) node: ThisNode,
    client: Arc<Client>,
    /// `volumes` and `volumes_metadata`.
    folders: Mutex<Option<(Handle, Handle)>>,
    lanes: Mutex<HashMap<VolumeName, Lane>>,
    leftovers: Mutex<Leftovers>,
    /// Wakes the janitor: there are leftovers, and the server has just answered.
    pub(crate) recovery_due: Notify,
}

type Lane = Arc<tokio::sync::Mutex<()>>;

/// The export as one operation sees it: the handles of the store's two folders, and calls that share one deadline.
#[derive(Clone)]
pub(crate) struct Export {
    pub(crate) session: Arc<Session>,
    pub(crate) volumes: Handle,
    pub(crate) metadata: Handle,
    calls: Calls,
}

impl Deref for Export {
    type Target = Calls;

    fn deref(&self) -> &Calls {
        &self.calls
    }
}

impl Session {
    pub(crate) fn new(name: StoreName, settings: Settings, node: ThisNode) -> Self {
        Self {
            client: Arc::new(Client::new(&settings)),
            name,
            settings,
            node,
            folders: Mutex::default(),
            lanes: Mutex::default(),
            leftovers: Mutex::default(),
            recovery_due: Notify::new(),
        }
    }

    pub(crate) fn id(&self, name: &VolumeName) -> VolumeId {
        VolumeId { store: self.name.clone(), name: name.clone() }
    }

    /// Runs `work`, which changes nothing. Gives `without` if the store's folders are missing and cannot be made, because
    /// the export is read-only: then there are no volumes.
    pub(crate) async fn read<T, F: Future<Output = Result<T, Problem>>>(
        self: &Arc<Self>,
        without: impl Fn() -> Result<T, Failure>,
        work: impl Fn(Export) -> F,
    ) -> Result<T, Failure> {
        let done = self.run(self.client.calls(self.settings.timeout), work).await;
        done.map_err(|problem| self.failure(problem))?.map_or_else(without, Ok)
    }

    /// Runs `work` alone with the volume `name`, and waits for that as long as an operation may take. A caller who is
    /// cancelled does not stop the work: the lane is occupied until it ends.
    pub(crate) async fn change<T, F>(
        self: &Arc<Self>,
        name: &VolumeName,
        work: impl Fn(Export, VolumeName) -> F + Send + Sync + 'static,
    ) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        if self.settings.read_only {
            let detail = format!("store `{}` is configured as read-only (`ro=1`)", self.name);
            return Err(Failure::new(FailureCode::Unsupported, detail).with_hint(READ_ONLY_HINT).into());
        }
        let calls = self.client.calls(self.settings.timeout);
        let Ok(lane) = tokio::time::timeout(self.settings.timeout, self.lane(name).lock_owned()).await else {
            let detail = format!("another operation on volume `{}` is still running", self.id(name));
            return Err(Failure::new(FailureCode::Busy, detail).at_step("wait for others").into());
        };
        let (session, name) = (Arc::clone(self), name.clone());
        let done = tokio::spawn(async move {
            let _lane = lane;
            session.run(calls, |export| work(export, name.clone())).await
        });
        let done = done.await;
        let done = done.map_err(|cut| Failure::internal("the work on a volume was cut off", cut))?;
        done?.map_or_else(
            || Err(ClientError { call: "make a directory", fault: Fault::ReadOnly }).at(PREPARE),
            Ok,
        )
    }

    /// Runs `work`, and once more if its handles were stale. Wakes the janitor, because the server answers.
    async fn run<T, F: Future<Output = Result<T, Problem>>>(
        self: &Arc<Self>,
        calls: Calls,
        work: impl Fn(Export) -> F,
    ) -> Result<Option<T>, Problem> {
        match self.run_once(calls.clone(), &work).await {
            Err(problem) if problem.is_stale() => {
                self.forget();
                let again = self.run_once(calls, &work).await;
                if problem.is_decided() { again.map_err(Problem::after_decision) } else { again }
            }
            done => done,
        }
    }

    async fn run_once<T, F: Future<Output = Result<T, Problem>>>(
        self: &Arc<Self>,
        calls: Calls,
        work: impl Fn(Export) -> F,
    ) -> Result<Option<T>, Problem> {
        let Some(export) = self.open(calls).await? else { return Ok(None) };
        if !self.settings.read_only && self.leftovers().is_any() {
            self.recovery_due.notify_one();
        }
        work(export).await.map(Some)
    }

    /// The export with a new deadline. `None` as for [`Self::read`].
    pub(crate) async fn export(self: &Arc<Self>) -> Result<Option<Export>, Problem> {
        self.open(self.client.calls(self.settings.timeout)).await
    }

    async fn open(self: &Arc<Self>, calls: Calls) -> Result<Option<Export>, Problem> {
        let known = self.known_folders().clone();
        let (volumes, metadata) = match known {
            Some(known) => known,
            None => {
                let root = calls.root().await.at("reach the server")?;
                let (volumes, metadata) = futures::join!(
                    self.prepare(&calls, &root, VOLUMES),
                    self.prepare(&calls, &root, METADATA)
                );
                let (Some(volumes), Some(metadata)) = (volumes?, metadata?) else { return Ok(None) };
                *self.known_folders() = Some((volumes.clone(), metadata.clone()));
                (volumes, metadata)
            }
        };
        Ok(Some(Export { session: Arc::clone(self), volumes, metadata, calls }))
    }

    /// One of the folders, made if it is missing. `None` if the export is read-only.
    async fn prepare(
        &self,
        calls: &Calls,
        root: &Handle,
        folder: &'static str,
    ) -> Result<Option<Handle>, Problem> {
        let name = layout::fixed(folder);
        for _ in 0..2 {
            match calls.look_up(root, &name).await.at(PREPARE)? {
                Some(found) if found.attributes.is_directory => return Ok(Some(found.handle)),
                Some(_) => {
                    let detail =
                        format!("`{folder}` on the export of store `{}` is not a directory", self.name);
                    return Err(Failure::new(FailureCode::StoreUnavailable, detail).at_step(PREPARE).into());
                }
                None if self.settings.read_only => return Ok(None),
                None => match calls.make_directory(root, &name, None).await {
                    Ok(made) => return Ok(Some(made)),
                    Err(ClientError { fault: Fault::Exists, .. }) => {} // Another node prepares it too.
                    Err(ClientError { fault: Fault::ReadOnly, .. }) => return Ok(None),
                    Err(error) => return Err(error).at(PREPARE),
                },
            }
        }
        Err(ClientError { call: "make a directory", fault: Fault::Exists }).at(PREPARE)
    }

    pub(crate) fn lane(&self, name: &VolumeName) -> Lane {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        Arc::clone(lanes.entry(name.clone()).or_default())
    }

    fn forget(&self) {
        *self.known_folders() = None;
        self.client.forget();
    }

    fn known_folders(&self) -> MutexGuard<'_, Option<(Handle, Handle)>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The limit of operations whose work grows with what there is.
    pub(crate) fn long_limit(&self) -> Duration {
        self.settings.timeout * LONG_OPERATIONS
    }

    pub(crate) fn not_found(&self, name: &VolumeName) -> Failure {
        Failure::new(FailureCode::NotFound, format!("volume `{}` does not exist", self.id(name)))
    }

    pub(crate) fn failure(&self, problem: Problem) -> Failure {
        problem.into_failure(&self.name, &self.settings)
    }

    pub(crate) fn leftovers(&self) -> MutexGuard<'_, Leftovers> {
        self.leftovers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that something of this node may be left under a temporary name.
    pub(crate) fn note_leftover(&self) {
        self.leftovers().may_exist = true;
    }

    /// Notes that this node's delete lock may be left on a volume whose destroy was not decided.
    pub(crate) fn note_delete_lock(&self, name: &VolumeName) {
        self.leftovers().delete_locks.insert(name.clone());
    }

    /// The failure of an operation on a volume that another node is destroying.
    pub(crate) fn being_destroyed(&self, name: &VolumeName, node: &str) -> Failure {
        let detail = format!("node {} is destroying volume `{}`", node.escape_debug(), self.id(name));
        Failure::new(FailureCode::Busy, detail)
            .with_hint("if that node is dead, `dvs release` removes what it left")
    }
}

impl Export {
    /// With a new deadline, for work that consists of many calls.
    pub(crate) fn renewed(&self) -> Self {
        Self { calls: self.session.client.calls(self.session.settings.timeout), ..self.clone() }
    }

    /// With the deadline of undoing.
    pub(crate) fn undoing(&self) -> Self {
        let limit = self.session.settings.timeout.min(Duration::from_millis(UNDO_MILLISECONDS_MAX));
        Self { calls: self.session.client.calls(limit), ..self.clone() }
    }
}
