//! A stream of arrivals that never ends: deadlines, retries and forgetting do not wait behind it.

use crate::support::virtual_time::{passed_until, run_clock};
use crate::support::{Core, create, delete, hand_in, wait_for};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::Refusal;
use dvs_domain::ledger::Limits;
use dvs_domain::names::SenderId;
use dvs_domain::ports::Arrival;
use std::sync::atomic::Ordering;
use tokio::task::JoinSet;

/// How long a commit takes, in milliseconds of the test's own time: as long as an fsync may take.
const COMMIT_MILLISECONDS: u64 = 10;

/// More than the engine takes at once, so that some wait at any moment.
const SENDERS: usize = 128;

const LIMITS: Limits = Limits {
    workers: 8,
    queue: 1024,
    job_milliseconds: 3000,
    undo_milliseconds: 1000,
    remembered_min: 0,
    remembered_max: 10_000,
    remembered_milliseconds: 1000,
    refusals: 10_000,
    stuck: 64,
};

/// Senders that hand in the next message as soon as one was accepted, and a clock that runs with the test's time.
fn flood(core: &Core) -> JoinSet<()> {
    let mut flood = JoinSet::new();
    for _ in 0..SENDERS {
        let intake = core.intake.clone();
        let report = Failure::new(FailureCode::BadRequest, "no job").report();
        let refusal = Refusal { sender: Some(SenderId::new("flood").unwrap()), job: None, report };
        flood
            .spawn(async move { while hand_in(&intake, Arrival::Refused(refusal.clone())).await.is_ok() {} });
    }
    flood.spawn(run_clock(core.clock.clone(), COMMIT_MILLISECONDS));
    flood
}

#[tokio::test(start_paused = true)]
async fn a_hung_job_is_answered_in_its_time_and_old_jobs_are_forgotten_during_a_flood() {
    let core = Core::new(LIMITS).await;
    for (id, job) in [("1", create("1", "/mnt/a")), ("2", delete("2", "/mnt/a"))] {
        core.send(&job).await;
        core.answers_to(id, 2).await;
    }
    core.mounts.gate_is_closed.store(true, Ordering::SeqCst);
    core.send(&create("hung", "/mnt/hung")).await;
    wait_for(|| core.mounts.waiting.load(Ordering::SeqCst) == 1, || "not at the gate".to_owned()).await;
    core.journal.takes_milliseconds.store(COMMIT_MILLISECONDS, Ordering::SeqCst);
    let _flood = flood(&core);
    let passed = passed_until(&core.clock, || core.answers.to("hung").len() == 2).await;
    assert!(core.answers.to("hung")[1].starts_with("FAILED timeout"), "{:?}", core.answers.to("hung"));
    assert!(passed <= LIMITS.job_milliseconds + 1000, "answered after {passed} ms");
    let remembered: Vec<_> = core.journal.contents().jobs.iter().map(|record| record.key()).collect();
    assert_eq!(remembered, [create("hung", "/mnt/hung").key()], "the others are old enough to be forgotten");
}
