//! What every operation needs: the export and its two folders, a lane for each name, and what is still to be cleared
//! away.

use crate::ThisNode;
use crate::layout::{self, METADATA, VOLUMES};
use crate::list::Listing;
use crate::mark::Search;
use crate::problem::{At, Problem, READ_ONLY_HINT};
use crate::settings::Settings;
use crate::sweep::{self, Left};
use crate::target::{Export, Fault, Handle, Target, TargetError};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::{StoreName, VolumeName};
use dvs_domain::volume::VolumeId;
use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long undoing may take after an operation that failed in time: then it is left for later.
const UNDO_MILLISECONDS_MAX: u64 = 900;
/// What is long because there is much of it, listing and removing, may take so many times the limit.
const LONG_OPERATIONS: u32 = 30;

/// One store.
pub(crate) struct Shared {
    pub(crate) name: StoreName,
    pub(crate) settings: Settings,
    pub(crate) node: ThisNode,
    pub(crate) export: Arc<dyn Export>,
    pub(crate) listing: Listing,
    folders: Mutex<Option<Folders>>,
    lanes: Mutex<HashMap<VolumeName, Lane>>,
    /// What operations may have left that failed without anybody knowing how far they had come.
    doubts: Mutex<BTreeSet<Left>>,
    /// How far this node's marks from before this start were looked for.
    search: Mutex<Search>,
    /// What was cleared away last, or tried.
    last: Mutex<Option<Left>>,
    /// Something of this node's may have to be cleared away.
    is_untidy: AtomicBool,
    /// The server has answered since the clearing away that runs was begun.
    is_asked_to_tidy: AtomicBool,
    is_sweeping: AtomicBool,
}

type Lane = Arc<tokio::sync::Mutex<()>>;

/// The two folders of a store, as far as they are there.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    pub(crate) volumes: Handle,
    pub(crate) metadata: Handle,
}

/// One operation at work.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) shared: Arc<Shared>,
    target: Arc<dyn Target>,
}

impl Deref for Work {
    type Target = dyn Target;

    fn deref(&self) -> &(dyn Target + 'static) {
        &*self.target
    }
}

impl Shared {
    pub(crate) fn new(name: StoreName, settings: Settings, node: ThisNode, export: Arc<dyn Export>) -> Self {
        Self {
            name,
            settings,
            node,
            export,
            listing: Listing::default(),
            folders: Mutex::default(),
            lanes: Mutex::default(),
            doubts: Mutex::default(),
            search: Mutex::default(),
            last: Mutex::default(),
            is_untidy: AtomicBool::new(true),
            is_asked_to_tidy: AtomicBool::new(false),
            is_sweeping: AtomicBool::new(false),
        }
    }

    pub(crate) fn id(&self, name: &VolumeName) -> VolumeId {
        VolumeId { store: self.name.clone(), name: name.clone() }
    }

    /// Runs `operation`, once more if the handles that it used lead nowhere any more: it may have been done half.
    pub(crate) async fn beside_others<T, F: Future<Output = Result<T, Problem>>>(
        self: &Arc<Self>,
        operation: impl Fn(Work) -> F,
    ) -> Result<T, Failure> {
        let work = self.work(self.settings.timeout);
        self.run(work, operation).await
    }

    async fn run<T, F: Future<Output = Result<T, Problem>>>(
        self: &Arc<Self>,
        work: Work,
        operation: impl Fn(Work) -> F,
    ) -> Result<T, Failure> {
        let mut result = operation(work.clone()).await;
        if let Err(problem) = &result
            && problem.is_stale()
        {
            self.forget();
            let is_decided = problem.is_decided();
            result = operation(work).await;
            if is_decided {
                result = result.map_err(Problem::after_decision);
            }
        }
        result.map_err(|problem| problem.told(&self.name, &self.settings))
    }

    /// Runs `operation` alone with `name`, for which it waits as long as it may take itself. A caller who gives up does
    /// not stop it: it comes to its end, and the name is taken until then.
    pub(crate) async fn alone_with<T, F>(
        self: &Arc<Self>,
        name: &VolumeName,
        operation: impl Fn(Work) -> F + Send + Sync + 'static,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        let work = self.work(self.settings.timeout);
        let Ok(turn) = tokio::time::timeout(self.settings.timeout, self.lane(name).lock_owned()).await else {
            let detail = format!("something else is still being done with volume `{}`", self.id(name));
            return Err(Failure::new(FailureCode::Busy, detail).at_step("wait for others"));
        };
        let shared = Arc::clone(self);
        let done = tokio::spawn(async move {
            let _turn = turn;
            shared.run(work, operation).await
        });
        done.await.unwrap_or_else(|cut| Err(Failure::internal("the work on a volume was cut off", cut)))
    }

    pub(crate) fn lane(&self, name: &VolumeName) -> Lane {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        Arc::clone(lanes.entry(name.clone()).or_default())
    }

    /// An operation that must have ended `within` this time.
    pub(crate) fn work(self: &Arc<Self>, within: Duration) -> Work {
        Work { shared: Arc::clone(self), target: self.export.visit(within) }
    }

    pub(crate) fn forget(&self) {
        *self.folders.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.export.forget();
    }

    /// How long an operation may take that is as long as there is much to do.
    pub(crate) fn long(&self) -> Duration {
        self.settings.timeout * LONG_OPERATIONS
    }

    /// Refuses what changes something, where the store is configured to change nothing. Sends nothing.
    pub(crate) fn refuse_read_only(&self) -> Result<(), Failure> {
        if !self.settings.read_only {
            return Ok(());
        }
        let detail = format!("store `{}` is configured as read-only (`ro=1`)", self.name);
        Err(Failure::new(FailureCode::Unsupported, detail).with_hint(READ_ONLY_HINT))
    }

    /// Something is left that this node has to clear away.
    pub(crate) fn is_left_untidy(&self) {
        self.is_untidy.store(true, Ordering::Release);
    }

    #[cfg(feature = "testing")]
    pub(crate) fn is_untidy(&self) -> bool {
        self.is_untidy.load(Ordering::Acquire) || self.is_sweeping.load(Ordering::Acquire)
    }

    pub(crate) fn doubts(&self) -> MutexGuard<'_, BTreeSet<Left>> {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody knows whether this is left.
    pub(crate) fn doubt(&self, left: Left) {
        self.doubts().insert(left);
        self.is_left_untidy();
    }

    pub(crate) fn search(&self) -> MutexGuard<'_, Search> {
        self.search.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was cleared away last, or tried.
    pub(crate) fn last(&self) -> MutexGuard<'_, Option<Left>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Clears away what unfinished work has left, beside everything else, once there is something and the server
    /// answers.
    pub(crate) fn tidy(self: &Arc<Self>) {
        self.is_asked_to_tidy.store(true, Ordering::Release);
        if self.settings.read_only || !self.is_untidy.load(Ordering::Acquire) {
            return;
        }
        if self.is_sweeping.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            shared.is_untidy.store(false, Ordering::Release);
            shared.is_asked_to_tidy.store(false, Ordering::Release);
            let swept = sweep::sweep(&shared).await;
            if let Err(failure) = &swept {
                shared.is_left_untidy();
                tracing::warn!(store = %shared.name, "cannot clear away: {}", failure.chain());
            }
            // Not a mere store: what whoever found this set has said before must be seen below.
            shared.is_sweeping.swap(false, Ordering::AcqRel);
            // Something may have been left meanwhile, or the server be back.
            if swept.is_ok() || shared.is_asked_to_tidy.load(Ordering::Acquire) {
                shared.tidy();
            }
        });
    }
}

impl Work {
    /// The same operation with another limit of time.
    pub(crate) fn anew(&self) -> Self {
        self.shared.work(self.shared.settings.timeout)
    }

    /// What undoes an operation that failed.
    pub(crate) fn undoing(&self) -> Self {
        self.shared.work(self.shared.settings.timeout.min(Duration::from_millis(UNDO_MILLISECONDS_MAX)))
    }

    /// The folders of the store, made if they are missing; `None` where they are missing and cannot be made because
    /// nothing may be changed: then there are no volumes.
    pub(crate) async fn folders_if_there(&self) -> Result<Option<Folders>, Problem> {
        let folders = self.prepared().await?;
        if folders.is_some() {
            self.shared.tidy();
        }
        Ok(folders)
    }

    /// As [`Self::folders_if_there`], for what clears away.
    pub(crate) async fn prepared(&self) -> Result<Option<Folders>, Problem> {
        let known = self.shared.folders.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if known.is_some() {
            return Ok(known);
        }
        let root = self.root().await.at("reach the server")?;
        let (volumes, metadata) = futures::join!(self.prepare(&root, VOLUMES), self.prepare(&root, METADATA));
        let (Some(volumes), Some(metadata)) = (volumes?, metadata?) else { return Ok(None) };
        let folders = Folders { volumes, metadata };
        *self.shared.folders.lock().unwrap_or_else(PoisonError::into_inner) = Some(folders.clone());
        Ok(Some(folders))
    }

    /// The folders of the store, to change something in them.
    pub(crate) async fn folders(&self) -> Result<Folders, Problem> {
        match self.folders_if_there().await? {
            Some(folders) => Ok(folders),
            None => {
                Err(TargetError { call: "make a folder", fault: Fault::ReadOnly }).at("prepare the export")
            }
        }
    }

    async fn prepare(&self, root: &Handle, folder: &str) -> Result<Option<Handle>, Problem> {
        let step = "prepare the export";
        let name = layout::name(folder).at(step)?;
        for _ in 0..2 {
            match self.look_up(root, &name).await.at(step)? {
                Some(found) if found.attributes.is_folder => return Ok(Some(found.handle)),
                Some(_) => {
                    let detail =
                        format!("`{folder}` on the export of store `{}` is no folder", self.shared.name);
                    return Err(Failure::new(FailureCode::StoreUnavailable, detail).at_step(step).into());
                }
                None if self.shared.settings.read_only => return Ok(None),
                None => match self.make_folder(root, &name, None).await {
                    Ok(made) => return Ok(Some(made)),
                    Err(TargetError { fault: Fault::Exists, .. }) => {} // Another node is preparing it too.
                    Err(TargetError { fault: Fault::ReadOnly, .. }) => return Ok(None),
                    Err(error) => return Err(error).at(step),
                },
            }
        }
        Err(TargetError { call: "make a folder", fault: Fault::Exists }).at(step)
    }
}
