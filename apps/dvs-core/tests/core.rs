//! The core with parts in memory: what jobs come to, and what is left when something breaks.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod away;
mod flood;
mod order;
mod power;
mod support;
mod troubles;

use dvs_domain::failure::FailureCode;
use dvs_domain::job::{CreateRequest, DeleteRequest, JobRequest, Target};
use dvs_domain::ledger::{AnswerState, Change, JobRecord, Limits, Phase};
use dvs_domain::names::{StoreName, VolumeName};
use dvs_domain::ports::{Arrival, VolumeStore};
use dvs_domain::size::VolumeSize;
use dvs_domain::user::User;
use std::sync::atomic::Ordering;
use support::{Core, at, create, delete, hand_in, job, wait_for};

async fn names(core: &Core) -> Vec<String> {
    core.store.list().await.unwrap().iter().map(|entry| entry.name().to_string()).collect()
}

async fn assert_nothing_is_left(core: &Core) {
    assert_eq!(names(core).await, Vec::<String>::new());
    assert_eq!(core.mounts.count(), 0);
    assert_eq!(core.journal.contents().attachments, []);
}

fn is_attachment(change: &Change) -> bool {
    matches!(change, Change::PutAttachment(_))
}

fn is_acceptance(change: &Change) -> bool {
    matches!(change, Change::PutJob(record) if record.phase == Phase::Accepted)
}

#[tokio::test]
async fn a_volume_is_made_attached_and_deleted() {
    let core = Core::new(Limits::default()).await;
    core.send(&create("1", "/mnt/a")).await;
    assert_eq!(core.answers_to("1", 2).await, ["PENDING", "DONE"]);
    assert!(core.mounts.at("/mnt/a").is_some());
    assert_eq!(names(&core).await, [at("/mnt/a").derived_name().to_string()]);
    core.send(&delete("2", "/mnt/a")).await;
    assert_eq!(core.answers_to("2", 2).await, ["PENDING", "DONE"]);
    assert_nothing_is_left(&core).await;
}

#[tokio::test]
async fn deleting_nothing_is_done() {
    let core = Core::new(Limits::default()).await;
    core.send(&delete("1", "/mnt/a")).await;
    assert_eq!(core.answers_to("1", 2).await, ["PENDING", "DONE"]);
}

#[tokio::test]
async fn the_end_of_a_job_and_the_next_arrival_share_one_wait_for_the_disk() {
    let core = Core::new(Limits::default()).await;
    core.mounts.gate_is_closed.store(true, Ordering::SeqCst);
    core.send(&create("1", "/mnt/a")).await;
    wait_for(|| core.mounts.waiting.load(Ordering::SeqCst) == 1, || "not at the gate".to_owned()).await;
    core.journal.gate_is_closed.store(true, Ordering::SeqCst);
    let (second, third) = (delete("2", "/mnt/b"), delete("3", "/mnt/c"));
    let mut sent = std::pin::pin!(core.send(&second));
    assert!(futures::poll!(&mut sent).is_pending());
    // The engine waits for the disk with that; meanwhile the first job ends, and another one comes.
    wait_for(|| core.journal.waiting.load(Ordering::SeqCst) == 1, || "not at the disk".to_owned()).await;
    core.mounts.open_gate();
    wait_for(|| core.mounts.at("/mnt/a").is_some(), || "not mounted".to_owned()).await;
    let mut also_sent = std::pin::pin!(core.send(&third));
    assert!(futures::poll!(&mut also_sent).is_pending());
    core.journal.open_gate();
    futures::join!(sent, also_sent);
    assert_eq!(core.answers_to("1", 2).await, ["PENDING", "DONE"]);
    let is_of =
        |id: &str, change: &Change| matches!(change, Change::PutJob(record) if record.job.id.as_str() == id);
    let is_end = |change: &Change| is_of("1", change) && !is_acceptance(change);
    let is_next = |change: &Change| is_of("3", change) && is_acceptance(change);
    assert!(core.journal.has_together(is_end, is_next));
}

#[tokio::test]
async fn a_failing_mount_leaves_nothing_and_names_its_step() {
    let core = Core::new(Limits::default()).await;
    *core.mounts.refuses.lock().unwrap() = Some(FailureCode::Internal);
    core.send(&create("1", "/mnt/a")).await;
    let said = core.answers_to("1", 2).await;
    assert_eq!(said[1], "FAILED internal: cannot create volume at `/mnt/a`: step `mount`: refused by a test");
    assert_nothing_is_left(&core).await;
    *core.mounts.refuses.lock().unwrap() = None;
    core.send(&create("2", "/mnt/a")).await;
    assert_eq!(core.answers_to("2", 2).await, ["PENDING", "DONE"]);
}

#[tokio::test]
async fn a_failing_mount_leaves_a_volume_that_was_there_before() {
    let core = Core::new(Limits::default()).await;
    let size = VolumeSize::from_mebibytes(8).unwrap();
    let named = |mount_point| Target::new(None, Some(VolumeName::new("v").unwrap()), mount_point).unwrap();
    let request = |mount_point| {
        JobRequest::Create(CreateRequest {
            target: named(mount_point),
            ..CreateRequest::at(at("/mnt/x"), size)
        })
    };
    core.send(&job("1", request(None))).await;
    assert_eq!(core.answers_to("1", 2).await, ["PENDING", "DONE"]);
    assert_eq!(core.mounts.count(), 0, "made and not attached");
    *core.mounts.refuses.lock().unwrap() = Some(FailureCode::Internal);
    core.send(&job("2", request(Some(at("/mnt/a"))))).await;
    assert!(core.answers_to("2", 2).await[1].starts_with("FAILED"));
    assert_eq!(names(&core).await, ["v"]);
    assert_eq!(core.journal.contents().attachments, []);
}

#[tokio::test]
async fn a_job_that_cannot_be_recorded_is_failed_and_leaves_nothing() {
    let core = Core::new(Limits::default()).await;
    *core.journal.fails_for.lock().unwrap() = Some(is_acceptance);
    core.send(&create("1", "/mnt/a")).await;
    let said = core.answers_to("1", 1).await;
    assert!(said[0].starts_with("FAILED no-space: step `record`"), "{said:?}");
    assert_nothing_is_left(&core).await;
    *core.journal.fails_for.lock().unwrap() = None;
    core.send(&create("1", "/mnt/a")).await;
    assert_eq!(core.answers_to("1", 3).await[1..], ["PENDING", "DONE"]);
}

#[tokio::test]
async fn an_attachment_that_cannot_be_recorded_makes_nothing() {
    let core = Core::new(Limits::default()).await;
    *core.journal.fails_for.lock().unwrap() = Some(is_attachment);
    core.send(&create("1", "/mnt/a")).await;
    assert!(core.answers_to("1", 2).await[1].contains("step `remember the attachment`"));
    assert_nothing_is_left(&core).await;
}

#[tokio::test]
async fn an_end_that_cannot_be_recorded_is_not_answered_until_it_can() {
    let core = Core::new(Limits::default()).await;
    *core.journal.fails_for.lock().unwrap() =
        Some(|change| matches!(change, Change::PutJob(record) if record.phase != Phase::Accepted));
    core.send(&create("1", "/mnt/a")).await;
    wait_for(|| core.mounts.at("/mnt/a").is_some(), || "no mount".to_owned()).await;
    wait_for(|| core.journal.refusals.load(Ordering::SeqCst) > 1, || "not tried again".to_owned()).await;
    core.send(&create("2", "/mnt/b")).await;
    assert!(
        core.answers_to("2", 1).await[0].starts_with("FAILED"),
        "nothing new while the journal is behind"
    );
    assert_eq!(core.answers.to("1"), ["PENDING"]);
    *core.journal.fails_for.lock().unwrap() = None;
    assert_eq!(core.answers_to("1", 2).await, ["PENDING", "DONE"]);
}

#[tokio::test]
async fn a_volume_in_use_is_not_deleted() {
    let core = Core::new(Limits::default()).await;
    core.send(&create("1", "/mnt/a")).await;
    core.answers_to("1", 2).await;
    core.mounts.is_held.store(true, Ordering::SeqCst);
    core.send(&delete("2", "/mnt/a")).await;
    assert!(core.answers_to("2", 2).await[1].starts_with("FAILED in-use"));
    assert!(core.mounts.at("/mnt/a").is_some());
    core.mounts.is_held.store(false, Ordering::SeqCst);
    core.send(&delete("3", "/mnt/a")).await;
    assert_eq!(core.answers_to("3", 2).await, ["PENDING", "DONE"]);
    assert_nothing_is_left(&core).await;
}

#[tokio::test]
async fn a_volume_that_a_stopped_container_refers_to_is_not_deleted() {
    let core = Core::new(Limits::default()).await;
    core.send(&create("1", "/mnt/a")).await;
    core.answers_to("1", 2).await;
    *core.containers.referring.lock().unwrap() =
        vec![User::Container { name: "db".to_owned(), running: false, process: None }];
    core.send(&delete("2", "/mnt/a")).await;
    assert_eq!(
        core.answers_to("2", 2).await[1],
        "FAILED in-use: cannot delete volume at `/mnt/a`: container `db` (stopped) still uses it"
    );
    core.containers.is_silent.store(true, Ordering::SeqCst);
    core.send(&delete("3", "/mnt/a")).await;
    assert!(core.answers_to("3", 2).await[1].starts_with("FAILED store-unavailable"), "never guessed");
    assert!(core.mounts.at("/mnt/a").is_some());
}

#[tokio::test]
async fn containers_and_who_holds_the_volume_besides_are_named_together() {
    let core = Core::new(Limits::default()).await;
    core.send(&create("1", "/mnt/a")).await;
    core.answers_to("1", 2).await;
    let db = User::Container { name: "db".to_owned(), running: true, process: Some(7) };
    *core.containers.referring.lock().unwrap() = vec![db];
    let namespace = User::Namespace { id: 7, name: "postgres".to_owned() };
    *core.mounts.holders.lock().unwrap() = vec![namespace, User::Process { id: 9, name: "sh".to_owned() }];
    core.send(&delete("2", "/mnt/a")).await;
    let answer = core.answers_to("2", 2).await.remove(1);
    assert!(answer.ends_with("container `db` (running), process 9 (`sh`) still use it"), "{answer}");
    assert!(core.mounts.at("/mnt/a").is_some());
}

#[tokio::test]
async fn a_running_container_that_would_not_see_the_mount_prevents_it() {
    let core = Core::new(Limits::default()).await;
    *core.containers.bound.lock().unwrap() =
        vec![User::Container { name: "db".to_owned(), running: true, process: None }];
    core.send(&create("1", "/mnt/a")).await;
    assert!(core.answers_to("1", 2).await[1].starts_with("FAILED in-use"));
    assert_nothing_is_left(&core).await;
    core.containers.is_silent.store(true, Ordering::SeqCst);
    core.send(&create("2", "/mnt/a")).await;
    assert_eq!(core.answers_to("2", 2).await, ["PENDING", "DONE"], "creating never depends on an engine");
}

#[tokio::test]
async fn a_store_that_refuses_to_destroy_keeps_the_volume_attached() {
    let core = Core::new(Limits::default()).await;
    core.send(&create("1", "/mnt/a")).await;
    core.answers_to("1", 2).await;
    core.store.failing_next(dvs_store_fake::Action::Destroy, FailureCode::InUse);
    core.send(&delete("2", "/mnt/a")).await;
    assert!(core.answers_to("2", 2).await[1].starts_with("FAILED in-use"));
    assert!(core.mounts.at("/mnt/a").is_some(), "attached again at once");
    assert_eq!(core.journal.contents().attachments.len(), 1);
}

#[tokio::test]
async fn another_store_name_or_path_is_refused_before_it_is_taken() {
    let core = Core::new(Limits::default()).await;
    let target = Target::new(Some(StoreName::new("other").unwrap()), None, Some(at("/mnt/a"))).unwrap();
    core.send(&job("1", JobRequest::Delete(DeleteRequest { target }))).await;
    assert!(core.answers_to("1", 1).await[0].starts_with("FAILED no-such-store"));
    core.send(&create("2", "/etc")).await;
    assert!(core.answers_to("2", 1).await[0].starts_with("FAILED forbidden-path"));
    core.send(&create("3", "/srv/images/a")).await;
    let refused = &core.answers_to("3", 1).await[0];
    assert!(refused.starts_with("FAILED forbidden-path") && refused.contains("lies in the store `fake`"));
    core.send(&delete("4", "/srv/images/a")).await;
    assert_eq!(core.answers_to("4", 2).await[1], "DONE", "nothing is there, and a delete hides nothing");
}

#[tokio::test]
async fn work_past_its_time_is_answered_and_undone_when_it_returns() {
    let core = Core::new(Limits { job_milliseconds: 1000, ..Limits::default() }).await;
    core.mounts.gate_is_closed.store(true, Ordering::SeqCst);
    core.send(&create("1", "/mnt/a")).await;
    wait_for(|| core.mounts.waiting.load(Ordering::SeqCst) == 1, || "not at the gate".to_owned()).await;
    core.clock.0.store(1000, Ordering::SeqCst);
    assert!(core.answers_to("1", 2).await[1].starts_with("FAILED timeout"));
    core.send(&create("2", "/mnt/a")).await;
    assert!(core.answers_to("2", 1).await[0].starts_with("FAILED busy"));
    core.mounts.open_gate();
    wait_for(|| core.journal.contents().attachments.is_empty(), || "still attached".to_owned()).await;
    assert_nothing_is_left(&core).await;
}

#[tokio::test]
async fn work_that_ends_after_a_pause_of_the_process_longer_than_its_time_is_answered_and_undone() {
    let core = Core::new(Limits { job_milliseconds: 1000, ..Limits::default() }).await;
    core.mounts.gate_is_closed.store(true, Ordering::SeqCst);
    core.send(&create("1", "/mnt/a")).await;
    wait_for(|| core.mounts.waiting.load(Ordering::SeqCst) == 1, || "not at the gate".to_owned()).await;
    core.clock.0.store(60_000, Ordering::SeqCst);
    core.mounts.open_gate(); // The work goes on before the engine looks at the time.
    assert!(core.answers_to("1", 2).await[1].starts_with("FAILED timeout"));
    wait_for(|| core.journal.contents().attachments.is_empty(), || "still attached".to_owned()).await;
    assert_nothing_is_left(&core).await;
    core.send(&create("2", "/mnt/a")).await;
    assert_eq!(core.answers_to("2", 2).await, ["PENDING", "DONE"]);
}

#[tokio::test]
async fn a_defect_in_the_work_fails_the_job_and_not_the_agent() {
    let core = Core::new(Limits::default()).await;
    core.mounts.panics.store(true, Ordering::SeqCst);
    core.send(&create("1", "/mnt/a")).await;
    assert!(core.answers_to("1", 2).await[1].starts_with("FAILED internal"));
    core.mounts.panics.store(false, Ordering::SeqCst);
    core.send(&create("2", "/mnt/b")).await;
    assert_eq!(core.answers_to("2", 2).await, ["PENDING", "DONE"]);
}

#[tokio::test]
async fn a_job_that_a_crash_cut_off_is_done_after_the_restart() {
    let core = Core::new(Limits::default()).await;
    core.mounts.gate_is_closed.store(true, Ordering::SeqCst);
    core.send(&create("1", "/mnt/a")).await;
    wait_for(|| core.mounts.waiting.load(Ordering::SeqCst) == 1, || "not at the gate".to_owned()).await;
    let core = core.crash_and_restart(Limits::default()).await;
    assert_eq!(core.answers_to("1", 2).await, ["PENDING", "DONE"]);
    assert_eq!(names(&core).await.len(), 1);
    assert!(core.mounts.at("/mnt/a").is_some());
}

#[tokio::test]
async fn a_job_that_a_crash_cut_off_and_whose_time_is_over_is_undone() {
    let limits = Limits { job_milliseconds: 1000, ..Limits::default() };
    let core = Core::new(limits).await;
    core.mounts.gate_is_closed.store(true, Ordering::SeqCst);
    core.send(&create("1", "/mnt/a")).await;
    wait_for(|| core.mounts.waiting.load(Ordering::SeqCst) == 1, || "not at the gate".to_owned()).await;
    core.clock.0.store(2000, Ordering::SeqCst);
    let core = core.crash_and_restart(limits).await;
    assert!(core.answers_to("1", 2).await[1].starts_with("FAILED timeout"));
    assert_nothing_is_left(&core).await;
}

#[tokio::test]
async fn answers_wait_for_a_broker_that_is_away_and_come_in_order() {
    let core = Core::new(Limits::default()).await;
    core.answers.is_away.store(true, Ordering::SeqCst);
    core.send(&create("1", "/mnt/a")).await;
    wait_for(|| core.mounts.at("/mnt/a").is_some(), || "no mount".to_owned()).await;
    assert_eq!(core.answers.all(), []);
    core.answers.come_back();
    assert_eq!(core.answers_to("1", 2).await, ["PENDING", "DONE"]);
}

#[tokio::test]
async fn stopping_finishes_what_runs_and_takes_nothing_more() {
    let core = Core::new(Limits::default()).await;
    core.send(&create("1", "/mnt/a")).await;
    let (answers, journal, intake) = (core.answers.clone(), core.journal.clone(), core.intake.clone());
    core.stop().await;
    assert_eq!(answers.to("1"), ["PENDING", "DONE"]);
    assert_eq!(journal.contents().attachments.len(), 1, "stopping detaches nothing");
    assert!(hand_in(&intake, Arrival::Job(create("2", "/mnt/b"))).await.is_err());
}

#[tokio::test]
async fn a_stopping_agent_waits_for_the_broker_and_records_what_it_has() {
    let core = Core::new(Limits::default()).await;
    core.answers.is_away.store(true, Ordering::SeqCst);
    core.send(&create("1", "/mnt/a")).await;
    wait_for(|| core.mounts.at("/mnt/a").is_some(), || "no mount".to_owned()).await;
    core.begin_to_stop().await;
    core.answers.come_back();
    let (answers, journal) = (core.answers.clone(), core.journal.clone());
    core.stop().await;
    assert_eq!(answers.to("1"), ["PENDING", "DONE"]);
    let jobs = journal.contents().jobs;
    let state = |record: &JobRecord| match &record.phase {
        Phase::Finished(finished) => Some(finished.answers),
        Phase::Accepted => None,
    };
    assert_eq!(jobs.iter().map(state).collect::<Vec<_>>(), [Some(AnswerState::Acknowledged)]);
}

#[tokio::test]
async fn a_volume_below_a_root_that_is_not_allowed_any_more_can_be_deleted() {
    let mut core = Core::new(Limits::default()).await;
    core.roots = vec![at("/data")];
    let mut core = core.crash_and_restart(Limits::default()).await;
    core.send(&create("1", "/data/a")).await;
    assert_eq!(core.answers_to("1", 2).await, ["PENDING", "DONE"]);
    core.roots = Vec::new();
    let core = core.crash_and_restart(Limits::default()).await;
    core.send(&create("2", "/data/b")).await;
    assert!(core.answers_to("2", 1).await[0].starts_with("FAILED forbidden-path"));
    core.send(&create("3", "/data/a")).await;
    assert!(core.answers_to("3", 1).await[0].starts_with("FAILED forbidden-path"));
    core.send(&delete("4", "/data/b")).await;
    assert!(core.answers_to("4", 1).await[0].starts_with("FAILED forbidden-path"), "nothing of ours");
    core.send(&delete("5", "/data/a")).await;
    assert_eq!(core.answers_to("5", 2).await, ["PENDING", "DONE"]);
    assert_nothing_is_left(&core).await;
}

#[tokio::test]
async fn after_a_reboot_every_volume_is_attached_again_or_guarded() {
    let core = Core::new(Limits::default()).await;
    for (id, path) in [("1", "/mnt/a"), ("2", "/mnt/b")] {
        core.send(&create(id, path)).await;
        core.answers_to(id, 2).await;
    }
    core.mounts.forget_all();
    core.store.failing_next(dvs_store_fake::Action::Source, FailureCode::Damaged);
    let core = core.crash_and_restart(Limits::default()).await;
    assert_eq!(core.mounts.count(), 1, "one is attached");
    assert_eq!(core.mounts.guarded.lock().unwrap().len(), 1, "the other is guarded");
}

#[tokio::test]
async fn a_delete_that_was_decided_before_a_crash_is_finished_and_guards_nothing() {
    let core = Core::new(Limits::default()).await;
    core.send(&create("1", "/mnt/a")).await;
    core.answers_to("1", 2).await;
    *core.journal.fails_for.lock().unwrap() = Some(|change| matches!(change, Change::DropAttachment(_)));
    core.answers.is_away.store(true, Ordering::SeqCst);
    core.send(&delete("2", "/mnt/a")).await;
    wait_for(|| core.mounts.count() == 0, || "still mounted".to_owned()).await;
    *core.journal.fails_for.lock().unwrap() = None;
    let core = core.crash_and_restart(Limits::default()).await;
    core.answers_to("2", 2).await;
    assert_nothing_is_left(&core).await;
    assert!(core.mounts.guarded.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_volume_of_a_forgotten_job_survives_that_job_sent_again() {
    let core = Core::new(Limits::default()).await;
    core.send(&create("1", "/mnt/a")).await;
    core.answers_to("1", 2).await;
    core.journal.forget_everything();
    core.mounts.forget_all();
    core.clock.0.store(5000, Ordering::SeqCst);
    let core = core.crash_and_restart(Limits::default()).await;
    *core.mounts.refuses.lock().unwrap() = Some(FailureCode::Damaged);
    core.send(&create("1", "/mnt/a")).await;
    assert!(core.answers_to("1", 2).await[1].starts_with("FAILED damaged"));
    assert_eq!(names(&core).await.len(), 1, "it was not made by this attempt, and is not undone with it");
    core.send(&create("1", "/mnt/b")).await;
    let core = core.crash_and_restart(Limits::default()).await;
    assert_eq!(names(&core).await.len(), 1);
}

#[tokio::test]
async fn a_delete_by_name_that_was_decided_before_a_crash_is_finished() {
    let core = Core::new(Limits::default()).await;
    let name = VolumeName::new("v").unwrap();
    let size = VolumeSize::from_mebibytes(8).unwrap();
    let target = Target::new(None, Some(name.clone()), Some(at("/mnt/a"))).unwrap();
    let request = CreateRequest { target, ..CreateRequest::at(at("/mnt/a"), size) };
    core.send(&job("1", JobRequest::Create(request))).await;
    core.answers_to("1", 2).await;
    *core.journal.fails_for.lock().unwrap() = Some(|change| matches!(change, Change::DropAttachment(_)));
    core.answers.is_away.store(true, Ordering::SeqCst);
    let target = Target::new(None, Some(name), None).unwrap();
    core.send(&job("2", JobRequest::Delete(DeleteRequest { target }))).await;
    wait_for(|| core.mounts.count() == 0, || "still mounted".to_owned()).await;
    *core.journal.fails_for.lock().unwrap() = None;
    let core = core.crash_and_restart(Limits::default()).await;
    core.answers_to("2", 2).await;
    assert_nothing_is_left(&core).await;
    assert!(core.mounts.guarded.lock().unwrap().is_empty());
}
