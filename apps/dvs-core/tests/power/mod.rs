//! What `cargo xtask powercut` has found, and what is known of losses of power from the field.

use crate::support::{Core, create, delete, wait_for};
use crate::{assert_nothing_is_left, names};
use dvs_domain::failure::FailureCode;
use dvs_domain::ledger::Limits;
use dvs_store_fake::Action;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn a_volume_that_cannot_be_attached_for_want_of_room_or_a_sound_file_system_can_be_deleted() {
    for code in [FailureCode::NoSpace, FailureCode::Damaged] {
        let core = Core::new(Limits::default()).await;
        core.send(&create("1", "/mnt/a")).await;
        core.answers_to("1", 2).await;
        core.mounts.forget_all();
        core.store.failing_next(Action::Source, code);
        let core = core.crash_and_restart(Limits::default()).await;
        assert_eq!(core.mounts.guarded.lock().unwrap().len(), 1);
        core.store.failing_next(Action::Source, code);
        core.send(&delete("2", "/mnt/a")).await;
        assert_eq!(core.answers_to("2", 2).await, ["PENDING", "DONE"], "{code}");
        assert_nothing_is_left(&core).await;
    }
}

#[tokio::test]
async fn a_volume_that_broke_before_its_create_was_answered_is_made_anew() {
    let core = Core::new(Limits::default()).await;
    core.mounts.gate_is_closed.store(true, Ordering::SeqCst);
    core.send(&create("1", "/mnt/a")).await;
    wait_for(|| core.mounts.waiting.load(Ordering::SeqCst) == 1, || "not at the gate".to_owned()).await;
    core.store.failing_next(Action::Source, FailureCode::Damaged);
    let core = core.crash_and_restart(Limits::default()).await;
    assert_eq!(core.answers_to("1", 2).await, ["PENDING", "DONE"]);
    assert_eq!(names(&core).await.len(), 1);
    assert!(core.mounts.at("/mnt/a").is_some());
}
