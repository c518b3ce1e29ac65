//! A whole core over parts that live in memory: what it says, remembers and mounts can be looked at.

mod journal;
pub(crate) mod virtual_time;

pub(crate) use journal::MemoryJournal;

use async_trait::async_trait;
use dvs_core::{CoreParts, EngineLimits, Intake};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::{Answer, CreateRequest, DeleteRequest, Job, JobRequest, Status, Target};
use dvs_domain::ledger::{AnswerId, Limits};
use dvs_domain::mount_point::{AllowedRoots, MountPoint};
use dvs_domain::names::{JobId, SenderId, StoreName};
use dvs_domain::ports::{
    Answers, Arrival, Clock, Detached, JobIntake, Journal, Mounted, Mounter, NotQueued, Source, SourceKind,
    Survey, VolumeReferences, VolumeStore,
};
use dvs_domain::size::VolumeSize;
use dvs_domain::time::{BootId, Moment, Timestamp, Uptime};
use dvs_domain::user::User;
use dvs_domain::volume::VolumeId;
use dvs_store_fake::FakeStore;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;

/// How long a test waits for something to become true, in seconds.
const WAIT_SECONDS_MAX: u64 = 20;

pub(crate) struct Core {
    pub(crate) store: Arc<FakeStore>,
    pub(crate) journal: Arc<MemoryJournal>,
    pub(crate) answers: Arc<Recorder>,
    pub(crate) mounts: Arc<MemoryMounts>,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) containers: Arc<Containers>,
    pub(crate) intake: Intake,
    stop: watch::Sender<bool>,
    engine: JoinHandle<()>,
    folder: TempDir,
    beside: Option<Arc<dyn VolumeStore>>,
    /// Where jobs may mount besides, from the next start on.
    pub(crate) roots: Vec<MountPoint>,
}

impl Core {
    pub(crate) async fn new(limits: Limits) -> Self {
        Self::with(limits, None).await
    }

    /// With `other` as its second store.
    pub(crate) async fn beside(other: Arc<dyn VolumeStore>) -> Self {
        Self::with(Limits::default(), Some(other)).await
    }

    async fn with(limits: Limits, beside: Option<Arc<dyn VolumeStore>>) -> Self {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let store = FakeStore::at(StoreName::new("fake").unwrap(), folder.path());
        let parts = (Arc::default(), Arc::default(), Arc::new(Recorder::default()), Arc::default());
        Self::start(limits, folder, (Arc::new(store), beside), parts, Vec::new()).await
    }

    /// Ends the engine at once, as a crash would, and starts another one on what is on disk and mounted. Work that
    /// waits at the gate never goes on.
    pub(crate) async fn crash_and_restart(self, limits: Limits) -> Self {
        self.engine.abort();
        let _aborted = self.engine.await;
        self.mounts.gate_is_closed.store(false, Ordering::SeqCst);
        let parts = (self.journal, self.mounts, Arc::new(Recorder::default()), self.clock);
        Self::start(limits, self.folder, (self.store, self.beside), parts, self.roots).await
    }

    async fn start(
        limits: Limits,
        folder: TempDir,
        (store, beside): (Arc<FakeStore>, Option<Arc<dyn VolumeStore>>),
        (journal, mounts, answers, clock): (
            Arc<MemoryJournal>,
            Arc<MemoryMounts>,
            Arc<Recorder>,
            Arc<HandClock>,
        ),
        roots: Vec<MountPoint>,
    ) -> Self {
        let containers = Arc::new(Containers::default());
        let first: Arc<dyn VolumeStore> = store.clone();
        let core = dvs_core::Core::open(CoreParts {
            stores: [first].into_iter().chain(beside.clone()).collect(),
            journal: journal.clone(),
            remembered: journal.load().await.unwrap(),
            mounter: mounts.clone(),
            references: containers.clone(),
            clock: clock.clone(),
            roots: AllowedRoots::with(roots.clone()),
            reserved: vec![(at("/srv/images"), "the store `fake`".to_owned())],
            limits,
            engine_limits: EngineLimits { stop_seconds: 5 },
        })
        .unwrap();
        core.reattach().await;
        let intake = core.intake();
        assert!(answers.intake.set(intake.clone()).is_ok());
        let (stop, stopped) = watch::channel(false);
        let engine = tokio::spawn(core.run(answers.clone(), stopped));
        Self {
            store,
            journal,
            answers,
            mounts,
            clock,
            containers,
            intake,
            stop,
            engine,
            folder,
            beside,
            roots,
        }
    }

    pub(crate) async fn send(&self, job: &Job) {
        hand_in(&self.intake, Arrival::Job(job.clone())).await.unwrap();
    }

    /// Waits until `id` has `count` answers, and gives them.
    pub(crate) async fn answers_to(&self, id: &str, count: usize) -> Vec<String> {
        wait_for(|| self.answers.to(id).len() >= count, || format!("answers: {:?}", self.answers.all()))
            .await;
        self.answers.to(id)
    }

    pub(crate) async fn stop(self) {
        self.stop.send(true).unwrap();
        self.engine.await.unwrap();
    }

    /// Tells the engine to stop, and waits until it accepts nothing more.
    pub(crate) async fn begin_to_stop(&self) {
        self.stop.send(true).unwrap();
        let refusal = || self.intake.offer(Arrival::Job(delete("late", "/mnt/late")), Box::new(|| {}));
        wait_for(|| refusal() == Err(NotQueued::Stopping), || "it still accepts jobs".to_owned()).await;
    }
}

/// Waits for a condition, with a limit, and tells the last state.
pub(crate) async fn wait_for(is_true: impl Fn() -> bool, state: impl Fn() -> String) {
    // Of the host's clock: that of a test may stand still.
    let end = Instant::now() + Duration::from_secs(WAIT_SECONDS_MAX);
    while !is_true() {
        assert!(Instant::now() < end, "waited {WAIT_SECONDS_MAX} s in vain; {}", state());
        tokio::task::yield_now().await;
    }
}

pub(crate) fn at(path: &str) -> MountPoint {
    MountPoint::new(path).unwrap()
}

pub(crate) fn create(id: &str, path: &str) -> Job {
    job(id, JobRequest::Create(CreateRequest::at(at(path), VolumeSize::from_mebibytes(8).unwrap())))
}

pub(crate) fn delete(id: &str, path: &str) -> Job {
    job(id, JobRequest::Delete(DeleteRequest { target: Target::new(None, None, Some(at(path))).unwrap() }))
}

pub(crate) fn job(id: &str, request: JobRequest) -> Job {
    Job { sender: SenderId::new("s").unwrap(), id: JobId::new(id).unwrap(), request }
}

/// Hands `arrival` in, and waits until it is recorded.
pub(crate) async fn hand_in(intake: &Intake, arrival: Arrival) -> Result<(), NotQueued> {
    loop {
        let (recorded, is_recorded) = oneshot::channel();
        match intake.offer(
            arrival.clone(),
            Box::new(move || {
                let _gone = recorded.send(());
            }),
        ) {
            Err(NotQueued::Full) => tokio::task::yield_now().await,
            Err(NotQueued::Stopping) => return Err(NotQueued::Stopping),
            Ok(()) => return is_recorded.await.map_err(|_| NotQueued::Stopping),
        }
    }
}

/// A broker that acknowledges everything at once, or, when it is away, nothing.
#[derive(Default)]
pub(crate) struct Recorder {
    intake: OnceLock<Intake>,
    said: Mutex<Vec<(String, String)>>,
    waiting: Mutex<Vec<(AnswerId, Answer)>>,
    pub(crate) is_away: AtomicBool,
}

#[async_trait]
impl Answers for Recorder {
    async fn send(&self, id: AnswerId, answer: &Answer) {
        self.waiting.lock().unwrap().push((id, answer.clone()));
        if !self.is_away.load(Ordering::SeqCst) {
            self.come_back();
        }
    }
}

impl Recorder {
    pub(crate) fn come_back(&self) {
        self.is_away.store(false, Ordering::SeqCst);
        for (id, answer) in self.waiting.lock().unwrap().drain(..) {
            let job = answer.job.as_ref().map_or("-", |job| job.as_str()).to_owned();
            let word = match &answer.status {
                Status::Pending => "PENDING".to_owned(),
                Status::Done => "DONE".to_owned(),
                Status::Failed(report) => format!("FAILED {}: {}", report.code, report.error),
            };
            self.said.lock().unwrap().push((job, word));
            self.intake.get().unwrap().acknowledged(id);
        }
    }

    pub(crate) fn all(&self) -> Vec<(String, String)> {
        self.said.lock().unwrap().clone()
    }

    pub(crate) fn to(&self, id: &str) -> Vec<String> {
        let said = self.said.lock().unwrap();
        said.iter().filter(|(to, _)| to == id).map(|(_, word)| word.clone()).collect()
    }
}

/// Mount points in memory. Attaching can be held at a gate, refused, or made to panic, as detaching can.
#[derive(Default)]
pub(crate) struct MemoryMounts {
    mounted: Mutex<BTreeMap<MountPoint, SourceKind>>,
    pub(crate) guarded: Mutex<BTreeSet<MountPoint>>,
    pub(crate) refuses: Mutex<Option<FailureCode>>,
    pub(crate) is_held: AtomicBool,
    pub(crate) holders: Mutex<Vec<User>>,
    pub(crate) gate_is_closed: AtomicBool,
    pub(crate) gate: Notify,
    pub(crate) waiting: AtomicU64,
    pub(crate) panics: AtomicBool,
}

impl MemoryMounts {
    pub(crate) fn at(&self, path: &str) -> Option<SourceKind> {
        self.mounted.lock().unwrap().get(&at(path)).cloned()
    }

    pub(crate) fn count(&self) -> usize {
        self.mounted.lock().unwrap().len()
    }

    /// What a reboot does.
    pub(crate) fn forget_all(&self) {
        self.mounted.lock().unwrap().clear();
    }

    pub(crate) fn open_gate(&self) {
        self.gate_is_closed.store(false, Ordering::SeqCst);
        self.gate.notify_waiters();
    }
}

#[async_trait]
impl Mounter for MemoryMounts {
    async fn survey(&self, mount_point: &MountPoint) -> Result<Survey, Failure> {
        let mounted =
            self.mounted.lock().unwrap().get(mount_point).map(|_| Mounted::Something("memory".to_owned()));
        Ok(Survey { missing: vec![mount_point.clone()], mounted, hides_files: false })
    }

    async fn attach(&self, source: &Source, there: &MountPoint, _: &[MountPoint]) -> Result<(), Failure> {
        assert!(!self.panics.load(Ordering::SeqCst), "a defect, made by a test");
        while self.gate_is_closed.load(Ordering::SeqCst) {
            let opened = self.gate.notified();
            self.waiting.fetch_add(1, Ordering::SeqCst);
            opened.await;
        }
        if let Some(code) = *self.refuses.lock().unwrap() {
            return Err(Failure::new(code, "refused by a test").at_step("mount"));
        }
        self.mounted.lock().unwrap().insert(there.clone(), source.kind.clone());
        Ok(())
    }

    async fn detach(&self, _: &Source, there: &MountPoint) -> Result<Detached, Failure> {
        if self.is_held.load(Ordering::SeqCst) {
            return Err(Failure::new(FailureCode::InUse, "a process holds it"));
        }
        let gone = self.mounted.lock().unwrap().remove(there).is_some();
        assert!(!self.panics.load(Ordering::SeqCst), "a defect, made by a test");
        Ok(if gone { Detached::Gone } else { Detached::NothingThere })
    }

    async fn remove_directories(&self, _: &[MountPoint]) -> Result<(), Failure> {
        Ok(())
    }

    async fn guard(&self, there: &MountPoint, _: &[MountPoint]) -> Result<(), Failure> {
        self.guarded.lock().unwrap().insert(there.clone());
        Ok(())
    }

    async fn unguard(&self, there: &MountPoint) -> Result<(), Failure> {
        self.guarded.lock().unwrap().remove(there);
        Ok(())
    }

    async fn holders_of(&self, _: &Source, _: &MountPoint) -> Vec<User> {
        self.holders.lock().unwrap().clone()
    }
}

/// Containers that tests name; an engine that does not answer, or only when a gate opens.
#[derive(Default)]
pub(crate) struct Containers {
    pub(crate) referring: Mutex<Vec<User>>,
    pub(crate) bound: Mutex<Vec<User>>,
    pub(crate) is_silent: AtomicBool,
    pub(crate) gate_is_closed: AtomicBool,
    pub(crate) gate: Notify,
    pub(crate) waiting: AtomicU64,
}

impl Containers {
    pub(crate) fn open_gate(&self) {
        self.gate_is_closed.store(false, Ordering::SeqCst);
        self.gate.notify_waiters();
    }

    fn ask(&self, users: &Mutex<Vec<User>>) -> Result<Vec<User>, Failure> {
        if self.is_silent.load(Ordering::SeqCst) {
            return Err(Failure::new(FailureCode::StoreUnavailable, "engine `docker` does not answer"));
        }
        Ok(users.lock().unwrap().clone())
    }
}

#[async_trait]
impl VolumeReferences for Containers {
    async fn users_of(&self, _: &VolumeId, _: Option<&MountPoint>) -> Result<Vec<User>, Failure> {
        while self.gate_is_closed.load(Ordering::SeqCst) {
            let opened = self.gate.notified();
            self.waiting.fetch_add(1, Ordering::SeqCst);
            opened.await;
        }
        self.ask(&self.referring)
    }

    async fn bound_at(&self, _: &MountPoint) -> Result<Vec<User>, Failure> {
        self.ask(&self.bound)
    }
}

/// A clock that tests move.
#[derive(Default)]
pub(crate) struct HandClock(pub(crate) AtomicU64);

impl Clock for HandClock {
    fn now(&self) -> Moment {
        let milliseconds = self.0.load(Ordering::SeqCst);
        Moment { wall: Timestamp(milliseconds), boot: Some(BootId(1)), uptime: Uptime(milliseconds) }
    }
}
