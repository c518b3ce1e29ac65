//! A store that cannot be reached: what its jobs are told, and that the others go on.

use crate::names;
use crate::support::{Core, create, job, wait_for};
use async_trait::async_trait;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::{CreateRequest, DeleteRequest, Job, JobRequest, Target};
use dvs_domain::ledger::Limits;
use dvs_domain::names::{NodeId, StoreName, VolumeName};
use dvs_domain::ports::{
    Claim, Created, DestroyError, Destroyed, Probe, SharedStore, Source, Space, VolumeStore,
};
use dvs_domain::size::VolumeSize;
use dvs_domain::volume::{Entry, Mode, StoreDescription, Usage, Volume};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

/// How long a call waits for an answer.
const LIMIT_SECONDS: u64 = 3;

/// A store that nodes share, and whose server swallows what it is sent: each call waits until its time is over, or it
/// answers by then.
#[derive(Default)]
struct RemoteStore {
    answers: AtomicBool,
    calls: AtomicUsize,
    time_is_over: Notify,
    made: Mutex<Vec<Volume>>,
}

impl RemoteStore {
    /// Waits until so many calls have been made so far.
    async fn is_called(&self, times: usize) {
        let calls = || self.calls.load(Ordering::SeqCst);
        wait_for(|| times <= calls(), || format!("{} calls", calls())).await;
    }

    async fn let_time_pass(&self) {
        tokio::time::advance(Duration::from_secs(LIMIT_SECONDS)).await;
        self.time_is_over.notify_waiters();
    }

    async fn reach(&self) -> Result<(), Failure> {
        let over = self.time_is_over.notified();
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.answers.load(Ordering::SeqCst) {
            return Ok(());
        }
        over.await;
        if self.answers.load(Ordering::SeqCst) {
            return Ok(());
        }
        Err(Failure::new(FailureCode::StoreUnavailable, "no answer from server `far`").at_step("reach"))
    }
}

#[async_trait]
impl VolumeStore for RemoteStore {
    fn describe(&self) -> StoreDescription {
        StoreDescription {
            name: StoreName::new("far").unwrap(),
            kind: "far",
            file_system: None,
            provision: None,
            uid: 0,
            gid: 0,
            mode: Mode::DEFAULT,
            attachable: false,
            is_shared: true,
        }
    }

    async fn create(&self, volume: &Volume) -> Result<Created, Failure> {
        self.reach().await?;
        self.made.lock().unwrap().push(volume.clone());
        Ok(Created::New(None))
    }

    /// Breaks off when it has begun, and leaves something under the name.
    async fn destroy(&self, name: &VolumeName, _: Option<&Source>) -> Result<Destroyed, DestroyError> {
        self.reach().await?;
        let left = format!("the server went away, and half of `{name}` is left");
        Err(DestroyError::Decided(Failure::new(FailureCode::StoreUnavailable, left)))
    }

    async fn look_up(&self, name: &VolumeName) -> Result<Option<Entry>, Failure> {
        self.reach().await?;
        let made = self.made.lock().unwrap();
        let found = made.iter().find(|volume| volume.spec.id.name == *name);
        Ok(found.map(|volume| Entry::Sound(Box::new(volume.clone()))))
    }

    async fn list(&self) -> Result<Vec<Entry>, Failure> {
        Ok(Vec::new()) // The start asks, and is no matter here.
    }

    async fn usage(&self, _: &VolumeName) -> Result<Usage, Failure> {
        self.reach().await.map(|()| Usage { allocated_bytes: 0 })
    }

    async fn source(&self, name: &VolumeName) -> Result<Source, Failure> {
        self.reach().await?;
        Err(Failure::new(FailureCode::NotFound, format!("no `{name}`")))
    }

    async fn probe(&self) -> Probe {
        let space = Space { free_bytes: 0, total_bytes: 0 };
        Probe { needs: Vec::new(), space: self.reach().await.map(|()| space) }
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        Some(self)
    }
}

#[async_trait]
impl SharedStore for RemoteStore {
    async fn enter(&self, _: &VolumeName) -> Result<(), Failure> {
        self.reach().await
    }

    async fn leave(&self, _: &VolumeName) -> Result<(), Failure> {
        self.reach().await
    }

    async fn claims(&self, _: &VolumeName) -> Result<Vec<Claim>, Failure> {
        self.reach().await.map(|()| Vec::new())
    }

    async fn release(&self, _: &VolumeName, _: &NodeId) -> Result<Vec<Claim>, Failure> {
        self.reach().await.map(|()| Vec::new())
    }
}

/// A create job for the volume `name` in the store `store`, or in whichever.
fn create_named(store: Option<&str>, name: &str) -> Job {
    let store = store.map(|store| StoreName::new(store).unwrap());
    let target = Target::new(store, Some(VolumeName::new(name).unwrap()), None).unwrap();
    let size = VolumeSize::from_mebibytes(8).unwrap();
    let anywhere = crate::support::at("/mnt/x");
    job(name, JobRequest::Create(CreateRequest { target, ..CreateRequest::at(anywhere, size) }))
}

#[tokio::test(start_paused = true)]
async fn a_store_that_swallows_everything_holds_up_no_job_of_another_store() {
    let far = Arc::new(RemoteStore::default());
    let core = Core::beside(far.clone()).await;
    let jobs: Vec<String> =
        (0..4 * Limits::default().workers).map(|number| format!("far-{number}")).collect();
    for name in &jobs {
        core.send(&create_named(Some("far"), name)).await;
    }
    far.is_called(Limits::default().workers).await;
    far.let_time_pass().await;
    // From here on it is known: one call finds out when the store can be reached again.
    far.is_called(Limits::default().workers + 1).await;
    core.send(&create("near", "/mnt/near")).await;
    assert_eq!(core.answers_to("near", 2).await, ["PENDING", "DONE"]);
    let is_told = |name: &&String| core.answers.to(name).len() == 2;
    wait_for(
        || jobs.iter().filter(is_told).count() == jobs.len() - 1,
        || format!("{:?}", core.answers.all()),
    )
    .await;
    for name in jobs.iter().filter(is_told) {
        let said = core.answers.to(name);
        assert!(said[1].starts_with("FAILED store-unavailable"), "{said:?}");
        assert!(said[1].contains("step `reach`: no answer from server `far`"), "{said:?}");
    }
    far.answers.store(true, Ordering::SeqCst);
    far.let_time_pass().await;
    wait_for(|| jobs.iter().all(|name| is_told(&name)), || format!("{:?}", core.answers.all())).await;
    core.send(&create_named(Some("far"), "late")).await;
    assert_eq!(core.answers_to("late", 2).await, ["PENDING", "DONE"], "it is used as soon as it answers");
    assert_eq!(names(&core).await.len(), 1);
}

/// A store that went away after the volumes were looked up, while their containers were asked for.
#[tokio::test(start_paused = true)]
async fn deletes_whose_store_went_away_meanwhile_hold_no_worker() {
    let far = Arc::new(RemoteStore::default());
    far.answers.store(true, Ordering::SeqCst);
    let core = Core::beside(far.clone()).await;
    let made: Vec<Job> = (0..Limits::default().workers - 2)
        .map(|number| create_named(Some("far"), &format!("v{number}")))
        .collect();
    for job in &made {
        core.send(job).await;
        assert_eq!(core.answers_to(job.id.as_str(), 2).await, ["PENDING", "DONE"]);
    }
    core.containers.gate_is_closed.store(true, Ordering::SeqCst);
    let deletes: Vec<String> = (0..made.len()).map(|number| format!("gone-{number}")).collect();
    for (id, made) in deletes.iter().zip(&made) {
        let target = made.request.target().clone();
        core.send(&job(id, JobRequest::Delete(DeleteRequest { target }))).await;
    }
    let asked = || core.containers.waiting.load(Ordering::SeqCst);
    wait_for(|| asked() == made.len() as u64, || format!("{} ask for containers", asked())).await;
    far.answers.store(false, Ordering::SeqCst);
    let calls = far.calls.load(Ordering::SeqCst);
    core.send(&create_named(Some("far"), "finds-out")).await;
    far.is_called(calls + 1).await;
    far.let_time_pass().await;
    assert!(core.answers_to("finds-out", 2).await[1].starts_with("FAILED store-unavailable"));
    core.send(&create_named(Some("far"), "probes")).await;
    far.is_called(calls + 2).await;
    core.containers.open_gate();
    for id in &deletes {
        let answers = core.answers_to(id, 2).await;
        assert!(answers[1].starts_with("FAILED store-unavailable"), "{answers:?}");
    }
    assert_eq!(far.calls.load(Ordering::SeqCst), calls + 2, "none of them has waited for the store");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_has_long_been_back_does_everything_that_arrives_at_once() {
    let far = Arc::new(RemoteStore::default());
    let core = Core::beside(far.clone()).await;
    core.send(&create_named(Some("far"), "early")).await;
    far.is_called(1).await;
    far.let_time_pass().await;
    assert!(core.answers_to("early", 2).await[1].starts_with("FAILED store-unavailable"));
    let before = far.calls.load(Ordering::SeqCst);
    tokio::time::advance(Duration::from_secs(3600)).await;
    let jobs: Vec<String> = (0..Limits::default().workers).map(|number| format!("late-{number}")).collect();
    for name in &jobs {
        core.send(&create_named(Some("far"), name)).await;
    }
    far.is_called(before + 1).await;
    far.answers.store(true, Ordering::SeqCst);
    far.time_is_over.notify_waiters();
    for name in &jobs {
        assert_eq!(core.answers_to(name, 2).await, ["PENDING", "DONE"]);
    }
}

#[tokio::test]
async fn a_delete_that_its_store_has_begun_counts_although_something_is_left() {
    let far = Arc::new(RemoteStore::default());
    far.answers.store(true, Ordering::SeqCst);
    let core = Core::beside(far.clone()).await;
    let made = create_named(Some("far"), "made");
    core.send(&made).await;
    assert_eq!(core.answers_to("made", 2).await, ["PENDING", "DONE"]);
    let target = made.request.target().clone();
    core.send(&job("gone", JobRequest::Delete(DeleteRequest { target }))).await;
    assert!(core.answers_to("gone", 2).await[1].starts_with("FAILED store-unavailable"));
    core.send(&made).await;
    let said = core.answers_to("made", 3).await;
    assert!(said[2].starts_with("FAILED job-id-reused"), "what it has made is not what it was: {said:?}");
}
