//! What `cargo xtask sim` has found: troubles that come one after the other.

use crate::support::{Core, at, create, delete, job, wait_for};
use crate::{assert_nothing_is_left, names};
use dvs_domain::failure::FailureCode;
use dvs_domain::job::{CreateRequest, Job, JobRequest, Target};
use dvs_domain::ledger::{AnswerState, Change, Finished, Limits, Phase};
use dvs_domain::names::VolumeName;
use dvs_domain::size::VolumeSize;
use dvs_store_fake::Action;
use std::sync::atomic::Ordering;

/// A create job with another size than `create` asks for.
fn create_larger(id: &str, path: &str) -> Job {
    job(id, JobRequest::Create(CreateRequest::at(at(path), VolumeSize::from_mebibytes(16).unwrap())))
}

/// A create job for a volume called `x`.
fn create_named(id: &str, path: Option<&str>) -> Job {
    let target = Target::new(None, Some(VolumeName::new("x").unwrap()), path.map(at)).unwrap();
    let size = VolumeSize::from_mebibytes(8).unwrap();
    job(id, JobRequest::Create(CreateRequest { target, ..CreateRequest::at(at("/mnt/x"), size) }))
}

fn finished(core: &Core, id: &str) -> Option<Finished> {
    core.journal.contents().jobs.into_iter().find_map(|record| match record.phase {
        Phase::Finished(finished) if record.job.id.as_str() == id => Some(finished),
        _ => None,
    })
}

async fn what_is_owed_is_undone(core: &Core) {
    let owes = || {
        let contents = core.journal.contents();
        contents.jobs.iter().any(|record| matches!(&record.phase, Phase::Finished(end) if end.needs_undo))
    };
    wait_for(owes, || "nothing is owed".to_owned()).await;
    core.clock.0.fetch_add(Limits::default().undo_milliseconds, Ordering::SeqCst);
    wait_for(|| !owes(), || "it is still owed".to_owned()).await;
}

fn is_first_end(change: &Change) -> bool {
    matches!(change, Change::PutJob(record) if matches!(&record.phase,
        Phase::Finished(finished) if finished.answers == AnswerState::PendingUnacknowledged))
}

#[tokio::test]
async fn what_could_not_be_recorded_is_never_recorded_after_what_came_later() {
    let core = Core::new(Limits::default()).await;
    *core.journal.fails_for.lock().unwrap() = Some(is_first_end);
    core.answers.is_away.store(true, Ordering::SeqCst);
    core.send(&create("1", "/mnt/a")).await;
    wait_for(|| 0 < core.journal.refusals.load(Ordering::SeqCst), || "no end".to_owned()).await;
    core.answers.come_back();
    wait_for(|| core.answers.to("1") == ["PENDING"], || "no PENDING".to_owned()).await;
    *core.journal.fails_for.lock().unwrap() = None;
    assert_eq!(core.answers_to("1", 2).await, ["PENDING", "DONE"]);
    let is_settled =
        || finished(&core, "1").is_some_and(|finished| finished.answers == AnswerState::Acknowledged);
    wait_for(is_settled, || format!("{:?}", finished(&core, "1"))).await;
    core.send(&create("2", "/mnt/b")).await;
    core.answers_to("2", 2).await;
    assert!(is_settled(), "a restart would send PENDING again");
}

#[tokio::test]
async fn a_delete_that_was_answered_while_it_waited_does_not_begin_afterwards() {
    let core = Core::new(Limits { job_milliseconds: 1000, ..Limits::default() }).await;
    core.send(&create("1", "/mnt/a")).await;
    core.answers_to("1", 2).await;
    core.containers.gate_is_closed.store(true, Ordering::SeqCst);
    core.send(&delete("2", "/mnt/a")).await;
    wait_for(|| core.containers.waiting.load(Ordering::SeqCst) == 1, || "does not ask".to_owned()).await;
    core.clock.0.store(1000, Ordering::SeqCst);
    assert!(core.answers_to("2", 2).await[1].starts_with("FAILED timeout"));
    core.containers.open_gate();
    let has_returned = || finished(&core, "2").is_some_and(|finished| !finished.needs_undo);
    wait_for(has_returned, || "still hangs".to_owned()).await;
    assert_eq!(names(&core).await.len(), 1);
    assert!(core.mounts.at("/mnt/a").is_some());
}

#[tokio::test]
async fn what_hung_when_its_job_was_answered_is_undone_after_a_crash_too() {
    let limits = Limits { job_milliseconds: 1000, ..Limits::default() };
    let core = Core::new(limits).await;
    core.mounts.gate_is_closed.store(true, Ordering::SeqCst);
    core.send(&create("1", "/mnt/a")).await;
    wait_for(|| core.mounts.waiting.load(Ordering::SeqCst) == 1, || "not at the gate".to_owned()).await;
    core.clock.0.store(1000, Ordering::SeqCst);
    assert!(core.answers_to("1", 2).await[1].starts_with("FAILED timeout"));
    let core = core.crash_and_restart(limits).await;
    let is_undone = || finished(&core, "1").is_some_and(|finished| !finished.needs_undo);
    wait_for(is_undone, || "not undone".to_owned()).await;
    assert_nothing_is_left(&core).await;
    assert!(
        core.answers.to("1").iter().all(|word| word.starts_with("FAILED timeout")),
        "nothing else is said"
    );
}

#[tokio::test]
async fn what_a_crash_cut_off_is_undone_when_the_next_attempt_fails_early() {
    let core = Core::new(Limits::default()).await;
    core.mounts.gate_is_closed.store(true, Ordering::SeqCst);
    core.send(&create("1", "/mnt/a")).await;
    wait_for(|| core.mounts.waiting.load(Ordering::SeqCst) == 1, || "not at the gate".to_owned()).await;
    core.store.failing_next(Action::LookUp, FailureCode::StoreUnavailable);
    let core = core.crash_and_restart(Limits::default()).await;
    assert!(core.answers_to("1", 2).await[1].starts_with("FAILED store-unavailable"));
    assert_nothing_is_left(&core).await;
}

#[tokio::test]
async fn a_job_that_will_fail_does_not_keep_a_volume_from_being_attached_at_the_start() {
    let core = Core::new(Limits::default()).await;
    core.send(&create("1", "/mnt/a")).await;
    core.answers_to("1", 2).await;
    *core.journal.fails_for.lock().unwrap() = Some(
        |change| matches!(change, Change::PutJob(record) if record.job.id.as_str() == "2" && record.phase != Phase::Accepted),
    );
    core.send(&create_larger("2", "/mnt/a")).await;
    wait_for(|| 0 < core.journal.refusals.load(Ordering::SeqCst), || "no end".to_owned()).await;
    *core.journal.fails_for.lock().unwrap() = None;
    core.mounts.forget_all();
    let core = core.crash_and_restart(Limits::default()).await;
    assert!(core.answers_to("2", 2).await[1].starts_with("FAILED conflict"));
    assert!(core.mounts.at("/mnt/a").is_some());
}

#[tokio::test]
async fn a_delete_ends_when_its_attachment_can_be_forgotten() {
    let core = Core::new(Limits::default()).await;
    core.send(&create_named("1", Some("/mnt/a"))).await;
    core.answers_to("1", 2).await;
    *core.journal.fails_for.lock().unwrap() = Some(|change| matches!(change, Change::DropAttachment(_)));
    core.send(&delete("2", "/mnt/a")).await;
    let refusals = || core.journal.refusals.load(Ordering::SeqCst);
    wait_for(|| refusals() > 1, || "it was not tried again".to_owned()).await;
    assert_eq!(core.answers_to("2", 1).await, ["PENDING"], "nothing is done before it is on disk");
    *core.journal.fails_for.lock().unwrap() = None;
    assert_eq!(core.answers_to("2", 2).await, ["PENDING", "DONE"]);
    assert_eq!(core.journal.contents().attachments, []);
    core.send(&create_named("3", None)).await;
    assert_eq!(core.answers_to("3", 2).await, ["PENDING", "DONE"]);
    core.send(&create_named("1", Some("/mnt/a"))).await;
    let said = core.answers_to("1", 3).await;
    assert!(said[2].starts_with("FAILED job-id-reused"), "its volume is gone: {said:?}");
}

#[tokio::test]
async fn what_a_failed_create_could_not_undo_is_undone_later() {
    let core = Core::new(Limits::default()).await;
    core.store.failing_next(Action::Source, FailureCode::Internal);
    core.store.failing_next(Action::Destroy, FailureCode::Internal);
    core.send(&create("1", "/mnt/a")).await;
    let said = core.answers_to("1", 2).await;
    assert!(said[1].starts_with("FAILED internal") && said[1].contains("undoing failed too"), "{said:?}");
    what_is_owed_is_undone(&core).await;
    assert_nothing_is_left(&core).await;
    core.send(&create("2", "/mnt/a")).await;
    assert_eq!(core.answers_to("2", 2).await, ["PENDING", "DONE"]);
}

#[tokio::test]
async fn what_a_create_had_made_when_a_defect_stopped_it_is_taken_back_later() {
    let core = Core::new(Limits::default()).await;
    core.mounts.panics.store(true, Ordering::SeqCst);
    core.send(&create("1", "/mnt/a")).await;
    assert!(core.answers_to("1", 2).await[1].starts_with("FAILED internal"));
    core.mounts.panics.store(false, Ordering::SeqCst);
    what_is_owed_is_undone(&core).await;
    assert_nothing_is_left(&core).await;
    core.send(&create_larger("2", "/mnt/a")).await;
    assert_eq!(core.answers_to("2", 2).await, ["PENDING", "DONE"]);
}

#[tokio::test]
async fn what_a_delete_had_taken_out_of_sight_when_a_defect_stopped_it_is_attached_again_later() {
    let core = Core::new(Limits::default()).await;
    core.send(&create("1", "/mnt/a")).await;
    core.answers_to("1", 2).await;
    core.mounts.panics.store(true, Ordering::SeqCst);
    core.send(&delete("2", "/mnt/a")).await;
    assert!(core.answers_to("2", 2).await[1].starts_with("FAILED internal"));
    assert_eq!(core.mounts.count(), 0);
    core.mounts.panics.store(false, Ordering::SeqCst);
    what_is_owed_is_undone(&core).await;
    assert!(core.mounts.at("/mnt/a").is_some());
    core.send(&delete("3", "/mnt/a")).await;
    assert_eq!(core.answers_to("3", 2).await, ["PENDING", "DONE"]);
}

#[tokio::test]
async fn what_cannot_be_attached_again_after_an_overdue_delete_is_guarded_and_reported() {
    let core = Core::new(Limits::default()).await;
    core.send(&create("1", "/mnt/a")).await;
    core.answers_to("1", 2).await;
    core.mounts.panics.store(true, Ordering::SeqCst);
    core.send(&delete("2", "/mnt/a")).await;
    core.answers_to("2", 2).await;
    core.mounts.panics.store(false, Ordering::SeqCst);
    *core.mounts.refuses.lock().unwrap() = Some(FailureCode::Damaged);
    what_is_owed_is_undone(&core).await;
    assert!(core.mounts.guarded.lock().unwrap().contains(&at("/mnt/a")));
}

#[tokio::test]
async fn an_overdue_delete_that_was_decided_is_finished_once_its_store_answers() {
    let limits = Limits { job_milliseconds: 1000, ..Limits::default() };
    let core = Core::new(limits).await;
    core.send(&create("1", "/mnt/a")).await;
    core.answers_to("1", 2).await;
    *core.journal.fails_for.lock().unwrap() = Some(|change| matches!(change, Change::DropAttachment(_)));
    core.answers.is_away.store(true, Ordering::SeqCst);
    core.send(&delete("2", "/mnt/a")).await;
    wait_for(|| core.mounts.count() == 0, || "still mounted".to_owned()).await;
    *core.journal.fails_for.lock().unwrap() = None;
    core.clock.0.store(2000, Ordering::SeqCst);
    core.store.failing_next(Action::LookUp, FailureCode::StoreUnavailable);
    let core = core.crash_and_restart(limits).await;
    assert!(core.answers_to("2", 2).await[1].starts_with("FAILED"));
    what_is_owed_is_undone(&core).await;
    assert_nothing_is_left(&core).await;
}

#[tokio::test]
async fn what_a_failed_create_has_made_in_a_shared_store_stays_and_the_same_create_finds_it() {
    let core = Core::new(Limits::default()).await;
    core.store.share();
    core.store.failing_next(Action::Source, FailureCode::Internal);
    core.send(&create("1", "/mnt/a")).await;
    let said = core.answers_to("1", 2).await;
    assert!(said[1].starts_with("FAILED internal"), "{said:?}");
    wait_for(|| finished(&core, "1").is_some(), || "no end".to_owned()).await;
    assert!(finished(&core, "1").is_some_and(|finished| !finished.needs_undo), "it is not tried again");
    assert_eq!(names(&core).await.len(), 1, "it is there");
    assert!(core.mounts.at("/mnt/a").is_none());
    core.send(&create("2", "/mnt/a")).await;
    assert_eq!(core.answers_to("2", 2).await, ["PENDING", "DONE"]);
    assert!(core.mounts.at("/mnt/a").is_some());
}

#[tokio::test]
async fn what_could_not_be_recorded_is_recorded_before_the_next_job_at_its_place_begins() {
    let limits = Limits { workers: 2, ..Limits::default() };
    let core = Core::new(limits).await;
    for (id, path) in [("1", "/mnt/hangs"), ("2", "/mnt/a")] {
        core.send(&create(id, path)).await;
        core.answers_to(id, 2).await;
    }
    core.mounts.panics.store(true, Ordering::SeqCst);
    core.send(&delete("3", "/mnt/hangs")).await;
    core.answers_to("3", 2).await;
    core.mounts.panics.store(false, Ordering::SeqCst);
    core.mounts.gate_is_closed.store(true, Ordering::SeqCst);
    core.clock.0.fetch_add(limits.undo_milliseconds, Ordering::SeqCst);
    wait_for(|| core.mounts.waiting.load(Ordering::SeqCst) == 1, || "not being undone".to_owned()).await;
    // One worker hangs. The other deletes, and what follows is for whoever comes first.
    *core.journal.fails_for.lock().unwrap() = Some(|change| matches!(change, Change::DropAttachment(_)));
    core.containers.gate_is_closed.store(true, Ordering::SeqCst);
    core.send(&delete("4", "/mnt/a")).await;
    core.send(&create("5", "/mnt/b")).await;
    core.send(&create("6", "/mnt/a")).await;
    core.containers.open_gate();
    let refusals = || core.journal.refusals.load(Ordering::SeqCst);
    wait_for(|| 0 < refusals(), || "the delete does not end".to_owned()).await;
    core.clock.0.fetch_add(limits.undo_milliseconds, Ordering::SeqCst);
    let (enough, tried) = (refusals() + 3, || format!("tried {} times", refusals()));
    wait_for(|| enough <= refusals(), tried).await;
    core.mounts.open_gate();
    wait_for(|| enough + 2 <= refusals(), tried).await;
    *core.journal.fails_for.lock().unwrap() = None;
    assert_eq!(core.answers_to("6", 2).await, ["PENDING", "DONE"]);
    let is_there = |path: &str| {
        core.mounts.at(path).is_some()
            && core.journal.contents().attachments.iter().any(|found| found.mount_point == at(path))
    };
    assert!(is_there("/mnt/a"), "{:?}", core.journal.contents().attachments);
}
