//! Where the order of calls is itself the promise.

use crate::support::{Containers, HandClock, create, delete};
use async_trait::async_trait;
use dvs_core::{Core, CoreParts, EngineLimits};
use dvs_domain::attachment::{Attachment, Holder};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::{Answer, Refusal, Status};
use dvs_domain::ledger::{AnswerId, Change, Limits, Outcome, Phase, Remembered};
use dvs_domain::mount_point::{AllowedRoots, MountPoint};
use dvs_domain::names::{SenderId, StoreName};
use dvs_domain::ports::{
    Answers, Arrival, Detached, JobIntake, Journal, Mounter, Source, Survey, VolumeStore,
};
use dvs_domain::time::Timestamp;
use dvs_domain::user::User;
use dvs_domain::volume::{Volume, VolumeId};
use dvs_store_fake::{Action, FakeStore};
use mockall::{Sequence, mock};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};

mock! {
    Journal {}
    #[async_trait]
    impl Journal for Journal {
        async fn load(&self) -> Result<Remembered, Failure>;
        async fn commit(&self, changes: &[Change]) -> Result<(), Failure>;
    }
}

mock! {
    Answers {}
    #[async_trait]
    impl Answers for Answers {
        async fn send(&self, id: AnswerId, answer: &Answer);
    }
}

mock! {
    Mounter {}
    #[async_trait]
    impl Mounter for Mounter {
        async fn survey(&self, mount_point: &MountPoint) -> Result<Survey, Failure>;
        async fn attach(&self, source: &Source, mount_point: &MountPoint, missing: &[MountPoint]) -> Result<(), Failure>;
        async fn detach(&self, source: &Source, mount_point: &MountPoint) -> Result<Detached, Failure>;
        async fn remove_directories(&self, directories: &[MountPoint]) -> Result<(), Failure>;
        async fn guard(&self, mount_point: &MountPoint, missing: &[MountPoint]) -> Result<(), Failure>;
        async fn unguard(&self, mount_point: &MountPoint) -> Result<(), Failure>;
        async fn holders_of(&self, source: &Source, mount_point: &MountPoint) -> Vec<User>;
    }
}

mock! {
    Door {
        fn recorded(&self);
    }
}

/// A running core over mocks, and a store that is none.
struct Mocked {
    intake: dvs_core::Intake,
    store: Arc<FakeStore>,
    _stop: watch::Sender<bool>,
    _folder: TempDir,
}

impl Mocked {
    async fn new(journal: MockJournal, answers: MockAnswers, mounter: MockMounter) -> Self {
        Self::with(journal, answers, mounter, &[]).await
    }

    /// With a volume at each of these paths.
    async fn with(journal: MockJournal, answers: MockAnswers, mounter: MockMounter, paths: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let store = Arc::new(FakeStore::at(StoreName::new("fake").unwrap(), folder.path()));
        let mut remembered = Remembered::default();
        for path in paths {
            let job = create("made", path);
            let dvs_domain::job::JobRequest::Create(request) = &job.request else { unreachable!() };
            let spec = request.complete(&store.describe(), request.target.name()).unwrap();
            let volume: VolumeId = spec.id.clone();
            store.create(&Volume { spec, made_by: None, made_at: Timestamp(0) }).await.unwrap();
            remembered.attachments.push(Attachment {
                volume,
                mount_point: MountPoint::new(*path).unwrap(),
                made_directories: Vec::new(),
                holders: vec![Holder::Job(job.key())],
            });
        }
        let core = Core::open(CoreParts {
            stores: vec![store.clone()],
            journal: Arc::new(journal),
            remembered,
            mounter: Arc::new(mounter),
            references: Arc::new(Containers::default()),
            clock: Arc::new(HandClock::default()),
            roots: AllowedRoots::with([]),
            reserved: Vec::new(),
            limits: Limits::default(),
            engine_limits: EngineLimits { stop_seconds: 5 },
        })
        .unwrap();
        let intake = core.intake();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(core.run(Arc::new(answers), stopped));
        Self { intake, store, _stop: stop, _folder: folder }
    }
}

fn free() -> Survey {
    Survey { missing: Vec::new(), mounted: None, hides_files: false }
}

fn accepts(changes: &[Change]) -> bool {
    changes.iter().any(|change| matches!(change, Change::PutJob(record) if record.phase == Phase::Accepted))
}

fn finishes(changes: &[Change]) -> bool {
    changes.iter().any(|change| {
        matches!(change, Change::PutJob(record)
            if matches!(&record.phase, Phase::Finished(finished) if finished.outcome == Outcome::Done))
    })
}

/// A channel, and what sends on it when it is called.
fn signal() -> (impl FnOnce() + Send, oneshot::Receiver<()>) {
    let (sender, receiver) = oneshot::channel();
    let send = move || {
        let _gone = sender.send(());
    };
    (send, receiver)
}

#[tokio::test]
async fn a_job_is_recorded_then_answered_then_worked_on_and_its_end_likewise() {
    let mut order = Sequence::new();
    let (mut journal, mut answers, mut mounter) =
        (MockJournal::new(), MockAnswers::new(), MockMounter::new());
    let pending = |_: &AnswerId, answer: &Answer| answer.status == Status::Pending;
    let recorded = |_: &[Change]| Ok(());
    journal.expect_commit().withf(accepts).times(1).in_sequence(&mut order).returning(recorded);
    answers.expect_send().withf(pending).times(1).in_sequence(&mut order).returning(|_, _| ());
    let is_attachment = |changes: &[Change]| matches!(changes, [Change::PutAttachment(_)]);
    journal.expect_commit().withf(is_attachment).times(1).in_sequence(&mut order).returning(recorded);
    mounter.expect_attach().times(1).in_sequence(&mut order).returning(|_, _, _| Ok(()));
    let (ended, has_ended) = signal();
    let mut ended = Some(ended);
    journal.expect_commit().withf(finishes).times(1).in_sequence(&mut order).returning(move |_| {
        ended.take().unwrap()();
        Ok(())
    });
    let may_be_sent = |changes: &[Change]| matches!(changes, [Change::PutJob(_)]);
    journal.expect_commit().withf(may_be_sent).times(1).in_sequence(&mut order).returning(recorded);
    let (done, is_done) = signal();
    let mut done = Some(done);
    let final_answer = |_: &AnswerId, answer: &Answer| answer.status == Status::Done;
    answers.expect_send().withf(final_answer).times(1).in_sequence(&mut order).returning(move |_, _| {
        done.take().unwrap()();
    });
    mounter.expect_survey().returning(|_| Ok(free()));
    let core = Mocked::new(journal, answers, mounter).await;
    let job = create("1", "/mnt/a");
    core.intake.offer(Arrival::Job(job.clone()), Box::new(|| {})).unwrap();
    has_ended.await.unwrap(); // `DONE` waits until the broker has `PENDING`.
    core.intake.acknowledged(AnswerId::Pending(job.key()));
    is_done.await.unwrap();
}

#[tokio::test]
async fn a_message_is_acknowledged_after_its_refusal_is_recorded() {
    let mut order = Sequence::new();
    let (mut journal, mut answers, mut door) = (MockJournal::new(), MockAnswers::new(), MockDoor::new());
    let is_refusal = |changes: &[Change]| matches!(changes, [Change::PutRefusal(..)]);
    journal.expect_commit().withf(is_refusal).times(1).in_sequence(&mut order).returning(|_| Ok(()));
    let (recorded, is_recorded) = signal();
    let mut recorded = Some(recorded);
    door.expect_recorded().times(1).in_sequence(&mut order).returning(move || recorded.take().unwrap()());
    answers.expect_send().times(1).returning(|_, _| ());
    let core = Mocked::new(journal, answers, MockMounter::new()).await;
    let report = Failure::new(FailureCode::BadRequest, "no job").report();
    let refusal = Refusal { sender: Some(SenderId::new("s").unwrap()), job: None, report };
    core.intake.offer(Arrival::Refused(refusal), Box::new(move || door.recorded())).unwrap();
    is_recorded.await.unwrap();
}

#[tokio::test]
async fn what_is_not_destroyed_is_mounted_again_before_its_holders_are_looked_for() {
    let mut order = Sequence::new();
    let (mut journal, mut answers, mut mounter) =
        (MockJournal::new(), MockAnswers::new(), MockMounter::new());
    mounter.expect_detach().times(1).in_sequence(&mut order).returning(|_, _| Ok(Detached::Gone));
    mounter.expect_attach().times(1).in_sequence(&mut order).returning(|_, _, _| Ok(()));
    let (looked, is_looked) = signal();
    let mut looked = Some(looked);
    mounter.expect_holders_of().times(1).in_sequence(&mut order).returning(move |_, _| {
        looked.take().unwrap()();
        Vec::new()
    });
    journal.expect_commit().returning(|_| Ok(()));
    answers.expect_send().returning(|_, _| ());
    let core = Mocked::with(journal, answers, mounter, &["/mnt/a"]).await;
    core.store.failing_next(Action::Destroy, FailureCode::InUse);
    core.intake.offer(Arrival::Job(delete("2", "/mnt/a")), Box::new(|| {})).unwrap();
    is_looked.await.unwrap();
}
