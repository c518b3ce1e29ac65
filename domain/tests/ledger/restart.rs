//! What a restart continues.

use super::support::*;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::JobKind::{Create, Delete};
use dvs_domain::job::{Refusal, Status};
use dvs_domain::ledger::{AnswerId, Attempt, Change, Effect, Event, Limits, RefusalNumber, Remembered};
use dvs_domain::names::SenderId;
use dvs_domain::time::{BootId, Uptime};

#[test]
fn numbers_and_orders_go_on_where_they_were() {
    let mut before = ledger(Limits::default());
    let first = create("1", "/mnt/a");
    let mut effects = before.on(Event::Requested(first.clone()), 1);
    effects.extend(before.on(Event::Acknowledged(AnswerId::Pending(first.key())), 2));
    effects.extend(before.on(done(&first, "/mnt/a", true), 3));
    effects.extend(before.on(Event::Acknowledged(AnswerId::Final(first.key())), 4));
    let report = Failure::new(FailureCode::BadRequest, "no job").report();
    let refusal = Refusal { sender: Some(SenderId::new("s").unwrap()), job: None, report };
    let refusals = vec![(RefusalNumber(7), refusal.clone())];
    let on_disk = Remembered { refusals, ..remembered(&effects) };
    let (mut after, _) = TestLedger::restore(Limits::default(), store(), on_disk, 5);
    let refused = after.on(Event::Refused(refusal), 6);
    assert!(matches!(recorded(&refused).as_slice(), [Change::PutRefusal(RefusalNumber(8), _)]));
    let second = delete("2", "/mnt/a");
    assert_eq!(records(&after.on(Event::Requested(second.clone()), 7))[0].number, 1);
    after.on(done(&second, "/mnt/a", true), 8);
    assert_eq!(refused_with(&after.on(Event::Requested(first), 9)), FailureCode::JobIdReused, "a later end");
}

#[test]
fn a_finished_job_goes_on_with_the_answer_that_its_sender_lacks() {
    let job = create("1", "/mnt/a");
    let (pending, last) = (AnswerId::Pending(job.key()), AnswerId::Final(job.key()));
    for (acknowledged, sent) in [
        (vec![], vec![Status::Pending]),
        (vec![pending.clone()], vec![Status::Done]),
        (vec![pending, last], vec![]),
    ] {
        let mut before = ledger(Limits::default());
        let mut effects = before.on(Event::Requested(job.clone()), 1);
        effects.extend(before.on(done(&job, "/mnt/a", true), 2));
        for answer in acknowledged.clone() {
            effects.extend(before.on(Event::Acknowledged(answer), 3));
        }
        let (_, first) = TestLedger::restore(Limits::default(), store(), remembered(&effects), 4);
        assert_eq!(statuses(&first), sent, "{acknowledged:?}");
        assert_eq!(works(&first), [], "{acknowledged:?}");
    }
}

#[test]
fn what_is_to_be_undone_is_undone_after_a_restart_also_within_its_time() {
    let mut before = ledger(Limits::default());
    let job = create("1", "/mnt/a");
    let mut effects = before.on(Event::Requested(job.clone()), 1);
    effects.extend(before.on(needs_undo(&job), 2));
    let (_, first) = TestLedger::restore(Limits::default(), store(), remembered(&effects), 3);
    assert!(matches!(works(&first).as_slice(), [(_, Attempt::Undo)]));
    assert!(matches!(statuses(&first).as_slice(), [Status::Pending]), "its sender has not heard of it");
}

#[test]
fn an_overdue_job_that_waits_is_answered_when_undoing_would_have_had_its_time() {
    let limits = Limits { workers: 1, job_milliseconds: 1000, undo_milliseconds: 100, ..Limits::default() };
    let mut before = ledger(limits);
    let (first, second) = (create("1", "/mnt/a"), create("2", "/mnt/b"));
    let mut effects = before.on(Event::Requested(first.clone()), 0);
    effects.extend(before.on(Event::Requested(second.clone()), 0));
    let (mut after, started) = TestLedger::restore(limits, store(), remembered(&effects), 3000);
    assert_eq!(works(&started).len(), 1);
    for job in [&first, &second] {
        after.on(Event::Acknowledged(AnswerId::Pending(job.key())), 3000);
    }
    assert_eq!(after.on(Event::Tick, 3099), []);
    let late = after.on(Event::Tick, 3100);
    assert!(late.contains(&Effect::Abandon(first.key())));
    let failures = failures(&late);
    let [report] = failures.as_slice() else { panic!("one is answered") };
    assert!(report.code == FailureCode::Timeout && report.error.contains("is being undone"), "{report:?}");
    let next = after.on(Event::Abandoned(first.key()), 3100);
    assert!(matches!(works(&next).as_slice(), [(job, Attempt::Undo)] if *job == second));
}

#[test]
fn only_a_create_that_names_no_store_remembers_the_default() {
    let mut ledger = ledger(Limits::default());
    for (job, default) in [
        (create("1", "/mnt/a"), Some(store())),
        (named(Create, "2", Some("nfs"), "b"), None),
        (delete("3", "/mnt/c"), None),
        (named(Delete, "4", Some("nfs"), "d"), None),
    ] {
        assert_eq!(records(&ledger.on(Event::Requested(job), 1))[0].default_store, default);
    }
}

#[test]
fn attempts_of_one_acceptance_have_one_id_and_those_of_another_a_different_one() {
    let mut before = ledger(Limits::default());
    let accepted = before.on(Event::Requested(create("1", "/mnt/a")), 5);
    let record = records(&accepted).remove(0);
    let attempt = record.attempt();
    assert!(attempt.is_some());
    let (_, first) = TestLedger::restore(Limits::default(), store(), remembered(&accepted), 6);
    assert!(matches!(&first[1], Effect::Work(_, Attempt::Redo, id) if *id == attempt), "{first:?}");

    let mut others = [record.clone(), record.clone(), record.clone()];
    others[0].number += 1;
    others[1].received.uptime = Uptime(6);
    others[2].received.boot = Some(BootId(2));
    for other in others {
        assert_ne!(other.attempt(), attempt, "{other:?}");
    }
    let mut of_an_earlier_agent = record;
    of_an_earlier_agent.received.boot = None;
    assert_eq!(of_an_earlier_agent.attempt(), None);
}

#[test]
fn the_end_of_a_job_drops_what_it_has_detached_in_the_same_commit() {
    let mut ledger = ledger(Limits { job_milliseconds: 1000, ..Limits::default() });
    let gone = delete("1", "/mnt/a");
    ledger.on(Event::Requested(gone.clone()), 1);
    let Event::Ended { key, outcome, volume, .. } = done(&gone, "/mnt/a", true) else { unreachable!() };
    let released = Some(at("/mnt/a"));
    let ended = Event::Ended { key, outcome, volume, changed: true, released, needs_undo: false };
    let changes = recorded(&ledger.on(ended, 2));
    assert!(
        matches!(changes.as_slice(), [Change::DropAttachment(there), Change::PutJob(_)] if *there == at("/mnt/a"))
    );
    let late = delete("2", "/mnt/b");
    ledger.on(Event::Requested(late.clone()), 3);
    ledger.on(Event::Tick, 2000);
    ledger.on(Event::Abandoned(late.key()), 2000);
    let returned = Event::Released { key: late.key(), released: Some(at("/mnt/b")), undone: true };
    let changes = recorded(&ledger.on(returned, 2001));
    assert!(
        matches!(changes.as_slice(), [Change::DropAttachment(there), Change::PutJob(_)] if *there == at("/mnt/b"))
    );
}
