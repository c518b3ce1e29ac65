//! What the repeat of an answered job gets, by what later jobs about its volume have done.

use super::support::*;
use dvs_domain::failure::FailureCode;
use dvs_domain::job::{Job, JobKind, Status};
use dvs_domain::ledger::{AnswerId, Event, Limits, Outcome};
use dvs_domain::names::{StoreName, VolumeName};
use dvs_domain::volume::VolumeId;

#[test]
fn a_repeat_after_a_delete_that_changed_nothing_gets_its_answer_again() {
    let mut ledger = ledger(Limits::default());
    let (made, refused) = (create("1", "/mnt/a"), delete("2", "/mnt/a"));
    complete(&mut ledger, &made, "/mnt/a", true);
    ledger.on(Event::Requested(refused.clone()), 5);
    ledger.on(failed(&refused), 6);
    assert_eq!(statuses(&ledger.on(Event::Requested(made), 7)), [Status::Done], "its volume is still there");
}

#[test]
fn a_repeat_after_a_delete_that_hangs_is_refused() {
    let mut ledger = ledger(Limits { job_milliseconds: 1000, ..Limits::default() });
    let (made, gone) = (create("1", "/mnt/a"), delete("2", "/mnt/a"));
    complete(&mut ledger, &made, "/mnt/a", true);
    ledger.on(Event::Requested(gone.clone()), 5);
    ledger.on(Event::Acknowledged(AnswerId::Pending(gone.key())), 6);
    ledger.on(Event::Tick, 1005);
    assert_eq!(refused_with(&ledger.on(Event::Abandoned(gone.key()), 1006)), FailureCode::Timeout);
    let repeat = ledger.on(Event::Requested(made), 1007);
    assert_eq!(refused_with(&repeat), FailureCode::JobIdReused, "its volume may be gone");
}

#[test]
fn a_repeat_after_a_create_that_ended_too_late_gets_its_answer_again() {
    let mut ledger = ledger(Limits { job_milliseconds: 1000, ..Limits::default() });
    let (gone, late) = (delete("1", "/mnt/a"), create("2", "/mnt/a"));
    complete(&mut ledger, &gone, "/mnt/a", true);
    ledger.on(Event::Requested(late.clone()), 5);
    ledger.on(Event::Acknowledged(AnswerId::Pending(late.key())), 6);
    let ended = ledger.on(done(&late, "/mnt/a", true), 1005);
    assert_eq!(failures(&ended)[0].code, FailureCode::Timeout);
    let repeat = ledger.on(Event::Requested(gone), 1006);
    assert_eq!(statuses(&repeat), [Status::Done], "what was made too late is undone");
}

#[test]
fn a_repeat_of_a_delete_by_name_that_found_nothing_is_refused_once_there_is_something() {
    let volume = |store: &str| VolumeId { store: StoreName::new(store).unwrap(), name: name("v") };
    let made_in = |store: &str, ledger: &mut TestLedger| {
        let made = named(JobKind::Create, "2", Some(store), "v");
        ledger.on(Event::Requested(made.clone()), 5);
        ledger.on(ended(&made, Some(volume(store)), true), 6);
    };
    for (asked, made, is_meant) in [
        (None, "loop", true),
        (None, "other", true),
        (Some("loop"), "loop", true),
        (Some("loop"), "other", false),
    ] {
        let mut ledger = ledger(Limits::default());
        let nothing = named(JobKind::Delete, "1", asked, "v");
        ledger.on(Event::Requested(nothing.clone()), 1);
        ledger.on(Event::Acknowledged(AnswerId::Pending(nothing.key())), 2);
        ledger.on(ended(&nothing, None, false), 3);
        ledger.on(Event::Acknowledged(AnswerId::Final(nothing.key())), 4);
        made_in(made, &mut ledger);
        let repeat = ledger.on(Event::Requested(nothing), 7);
        if is_meant {
            assert_eq!(refused_with(&repeat), FailureCode::JobIdReused, "{asked:?} {made}");
        } else {
            assert_eq!(statuses(&repeat), [Status::Done], "{asked:?} {made}");
        }
    }
}

#[test]
fn a_repeat_of_a_create_that_failed_is_refused_once_its_own_store_has_the_volume() {
    for (made_in, is_meant) in [(store(), true), (StoreName::new("other").unwrap(), false)] {
        let mut ledger = ledger(Limits::default());
        let broken = named(JobKind::Create, "1", None, "v");
        ledger.on(Event::Requested(broken.clone()), 1);
        ledger.on(Event::Acknowledged(AnswerId::Pending(broken.key())), 2);
        ledger.on(failed(&broken), 3);
        ledger.on(Event::Acknowledged(AnswerId::Final(broken.key())), 4);
        let made = named(JobKind::Create, "2", Some(made_in.as_str()), "v");
        ledger.on(Event::Requested(made.clone()), 5);
        let volume = VolumeId { store: made_in.clone(), name: name("v") };
        ledger.on(ended(&made, Some(volume), true), 6);
        let code = refused_with(&ledger.on(Event::Requested(broken), 7));
        assert_eq!(code == FailureCode::JobIdReused, is_meant, "{made_in}: {code}");
    }
}

fn name(text: &str) -> VolumeName {
    VolumeName::new(text).unwrap()
}

fn ended(job: &Job, volume: Option<VolumeId>, changed: bool) -> Event {
    let outcome = Outcome::Done;
    Event::Ended { key: job.key(), outcome, volume, changed, released: None, needs_undo: false }
}
