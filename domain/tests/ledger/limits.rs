//! How much is accepted, runs and waits.

use super::support::*;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::Refusal;
use dvs_domain::ledger::{AnswerId, Effect, Event, Limits, RefusalNumber};
use dvs_domain::names::SenderId;

fn refusal() -> Event {
    let report = Failure::new(FailureCode::BadRequest, "no job").report();
    Event::Refused(Refusal { sender: Some(SenderId::new("s").unwrap()), job: None, report })
}

/// The numbers of the refusals that are answered.
fn refused(effects: &[Effect]) -> Vec<u64> {
    let number = |effect: &Effect| match effect {
        Effect::Answer(AnswerId::Refusal(number) | AnswerId::Unrecorded(number), _) => Some(number.0),
        _ => None,
    };
    effects.iter().filter_map(number).collect()
}

#[test]
fn no_more_jobs_run_than_there_are_workers() {
    for workers in [0, 1] {
        let mut ledger = ledger(Limits { workers, ..Limits::default() });
        assert_eq!(started(&ledger.on(Event::Requested(create("1", "/mnt/a")), 1)), ["1"]);
        assert_eq!(ledger.waiting(), 0);
        assert_eq!(started(&ledger.on(Event::Requested(create("2", "/mnt/b")), 1)), [""; 0]);
        assert_eq!(ledger.waiting(), 1);
        assert_eq!(started(&ledger.on(done(&create("1", "/mnt/a"), "/mnt/a", true), 2)), ["2"]);
    }
}

#[test]
fn refusals_have_numbers_of_their_own_and_an_upper_bound() {
    let mut ledger = ledger(Limits { refusals: 2, ..Limits::default() });
    assert_eq!(refused(&ledger.on(refusal(), 1)), [0]);
    assert_eq!(refused(&ledger.on(refusal(), 1)), [1]);
    assert_eq!(ledger.on(refusal(), 1), [], "two wait for their acknowledgement");
    ledger.on(Event::Acknowledged(AnswerId::Refusal(RefusalNumber(0))), 2);
    assert_eq!(refused(&ledger.on(refusal(), 3)), [2]);
    ledger.on(Event::RefusalNotRecorded(RefusalNumber(2)), 4);
    assert_eq!(refused(&ledger.on(refusal(), 5)), [3]);
    ledger.on(Event::Requested(create("1", "/mnt/a")), 6);
    let report = Failure::new(FailureCode::NoSpace, "the journal is full").report();
    let unrecorded = ledger.on(Event::JobNotRecorded(create("1", "/mnt/a").key(), report), 6);
    assert_eq!(refused(&unrecorded), [4]);
}

#[test]
fn with_too_many_operations_that_hang_no_more_are_started() {
    let mut ledger = ledger(Limits { stuck: 1, job_milliseconds: 2000, ..Limits::default() });
    let (hangs, behind) = (create("1", "/mnt/a"), delete("2", "/mnt/a"));
    for (job, now) in [(&hangs, 0), (&behind, 500)] {
        ledger.on(Event::Requested(job.clone()), now);
        ledger.on(Event::Acknowledged(AnswerId::Pending(job.key())), now);
    }
    ledger.on(Event::Tick, 2000);
    let abandoned = ledger.on(Event::Abandoned(hangs.key()), 2000);
    let failures = failures(&abandoned);
    let [late, busy] = failures.as_slice() else { panic!("both are answered") };
    assert!(late.error.contains("not finished within 2 s"), "{late:?}");
    assert_eq!((late.code, busy.code), (FailureCode::Timeout, FailureCode::Busy));
    assert_eq!(started(&abandoned), [""; 0], "the work of the first still runs");
    let elsewhere = create("3", "/mnt/b");
    assert_eq!(refused_with(&ledger.on(Event::Requested(elsewhere.clone()), 2001)), FailureCode::Busy);
    ledger.on(Event::Released { key: hangs.key(), released: None, undone: true }, 2002);
    assert_eq!(started(&ledger.on(Event::Requested(elsewhere), 2003)), ["3"]);
}

#[test]
fn all_jobs_behind_work_that_hangs_are_answered_and_others_go_on() {
    let mut ledger = ledger(Limits { workers: 1, job_milliseconds: 1000, ..Limits::default() });
    let hangs = create("hangs", "/mnt/a");
    let (elsewhere, same, nested) =
        (create("elsewhere", "/mnt/b"), delete("same", "/mnt/a"), create("nested", "/mnt/a/b"));
    for (job, now) in [(&hangs, 0), (&elsewhere, 500), (&same, 500), (&nested, 500)] {
        ledger.on(Event::Requested(job.clone()), now);
        ledger.on(Event::Acknowledged(AnswerId::Pending(job.key())), now);
    }
    ledger.on(Event::Tick, 1000);
    let abandoned = ledger.on(Event::Abandoned(hangs.key()), 1000);
    let codes: Vec<_> = failures(&abandoned).iter().map(|failure| failure.code).collect();
    assert_eq!(codes, [FailureCode::Timeout, FailureCode::Busy, FailureCode::Busy]);
    assert_eq!(started(&abandoned), ["elsewhere"], "what hangs takes no worker");
}

#[test]
fn a_job_that_waits_until_its_time_is_over_is_answered_and_never_starts() {
    let mut ledger = ledger(Limits { job_milliseconds: 2000, ..Limits::default() });
    let (slow, behind) = (create("1", "/mnt/a"), delete("2", "/mnt/a"));
    ledger.on(Event::Requested(slow.clone()), 500);
    ledger.on(Event::Requested(behind.clone()), 0);
    ledger.on(Event::Acknowledged(AnswerId::Pending(behind.key())), 0);
    assert_eq!(ledger.on(Event::Tick, 1999), []);
    let failures = failures(&ledger.on(Event::Tick, 2000));
    let [late] = failures.as_slice() else { panic!("it is answered") };
    assert!(late.code == FailureCode::Timeout && late.error.contains("waited 2 s"), "{late:?}");
    assert_eq!(started(&ledger.on(done(&slow, "/mnt/a", true), 2001)), [""; 0]);
    assert_eq!(started(&ledger.on(Event::Requested(create("3", "/mnt/a")), 2002)), ["3"]);
}

#[test]
fn a_retry_waits_for_its_time_whatever_else_ends_in_its_lane() {
    let mut ledger = ledger(Limits { job_milliseconds: 1000, ..Limits::default() });
    let (broken, behind) = (create("1", "/mnt/a"), delete("2", "/mnt/a"));
    ledger.on(Event::Requested(broken.clone()), 0);
    ledger.on(Event::Requested(behind), 0);
    ledger.on(needs_undo(&broken), 500);
    let late = ledger.on(Event::Tick, 1000);
    assert_eq!(recorded(&late).len(), 1, "the second is given up");
    assert_eq!(started(&late), [""; 0], "and the first is not retried before its time");
    assert_eq!(started(&ledger.on(Event::Tick, 500 + Limits::default().undo_milliseconds)), ["1"]);
}
