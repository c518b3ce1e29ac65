//! Which jobs are forgotten, and what repeats of the others still get.

use super::support::*;
use dvs_domain::failure::FailureCode;
use dvs_domain::job::{JobKey, Status};
use dvs_domain::ledger::{AnswerId, Change, Effect, Event, Limits};

const LIMITS: Limits = Limits {
    workers: 8,
    queue: 8,
    job_milliseconds: 1000,
    undo_milliseconds: 100,
    remembered_min: 2,
    remembered_max: 5,
    remembered_milliseconds: 1000,
    refusals: 8,
    stuck: 8,
};

#[test]
fn the_oldest_are_forgotten_once_they_are_old_enough_and_more_than_enough() {
    let mut ledger = ledger(LIMITS);
    let jobs = ["1", "2", "3", "4"].map(|id| create(id, &format!("/mnt/{id}")));
    for job in &jobs {
        complete(&mut ledger, job, "/mnt", true); // They end at 3.
    }
    assert_eq!(ledger.on(Event::Tick, 1003), [], "exactly as long as they are remembered at least");
    let dropped = [&jobs[0], &jobs[1]].map(|job| Change::DropJob(job.key()));
    assert_eq!(recorded(&ledger.on(Event::Tick, 1004)), dropped);
    assert_eq!(ledger.on(Event::Tick, 9999), [], "two are remembered at least");
    assert_eq!(statuses(&ledger.on(Event::Requested(jobs[0].clone()), 9999)), [Status::Pending], "a new job");
    assert_eq!(statuses(&ledger.on(Event::Requested(jobs[3].clone()), 9999)), [Status::Done]);
}

#[test]
fn those_that_ended_first_are_forgotten_however_young_once_more_are_known_than_at_most() {
    let mut ledger = ledger(LIMITS);
    let jobs = ["1", "2", "3", "4", "5", "6", "7"].map(|id| create(id, &format!("/mnt/{id}")));
    for job in &jobs[..5] {
        complete(&mut ledger, job, "/mnt", true);
    }
    assert_eq!(ledger.on(Event::Tick, 5), [], "exactly as many as are remembered at most");
    for job in &jobs[5..] {
        complete(&mut ledger, job, "/mnt", true);
    }
    assert_eq!(drops(&ledger.on(Event::Tick, 5)), [jobs[0].key(), jobs[1].key()]);
    assert_eq!(statuses(&ledger.on(Event::Requested(jobs[6].clone()), 6)), [Status::Done]);
}

#[test]
fn a_job_without_its_end_is_never_forgotten_and_keeps_no_other_from_it() {
    let mut ledger = ledger(LIMITS);
    let hung = create("0", "/mnt/0");
    ledger.on(Event::Requested(hung.clone()), 1);
    ledger.on(Event::Acknowledged(AnswerId::Pending(hung.key())), 2);
    let later = ["1", "2", "3", "4", "5", "6"].map(|id| create(id, &format!("/mnt/{id}")));
    for job in &later {
        complete(&mut ledger, job, "/mnt", true);
    }
    let first = [later[0].key()];
    assert_eq!(drops(&ledger.on(Event::Tick, 5)), first, "beyond those that are remembered at most");
    let others = [later[1].key(), later[2].key(), later[3].key()];
    assert_eq!(drops(&ledger.on(Event::Tick, 2000)), others, "old, and beyond those remembered at least");
    ledger.on(Event::Abandoned(hung.key()), 2001);
    ledger.on(Event::Released { key: hung.key(), released: None, undone: true }, 2002);
    ledger.on(Event::Acknowledged(AnswerId::Final(hung.key())), 2003);
    complete(&mut ledger, &create("7", "/mnt/7"), "/mnt", true);
    let others = [later[4].key(), later[5].key()];
    assert_eq!(drops(&ledger.on(Event::Tick, 2004)), others, "the hung one has ended later");
}

#[test]
fn a_job_without_its_acknowledged_answer_is_never_forgotten_nor_are_those_that_ended_later() {
    let mut ledger = ledger(LIMITS);
    let unanswered = create("0", "/mnt/0");
    ledger.on(Event::Requested(unanswered.clone()), 1);
    ledger.on(Event::Acknowledged(AnswerId::Pending(unanswered.key())), 2);
    ledger.on(done(&unanswered, "/mnt/0", true), 3);
    for id in ["1", "2", "3", "4", "5", "6"] {
        complete(&mut ledger, &create(id, &format!("/mnt/{id}")), "/mnt", true);
    }
    assert_eq!(drops(&ledger.on(Event::Tick, 500_000)), []);
}

fn drops(effects: &[Effect]) -> Vec<JobKey> {
    let changes = recorded(effects).into_iter();
    changes.filter_map(|change| if let Change::DropJob(key) = change { Some(key) } else { None }).collect()
}

#[test]
fn what_is_forgotten_does_not_change_the_answers_to_repeats_of_the_others() {
    let mut ledger = ledger(LIMITS);
    complete(&mut ledger, &create("old", "/mnt/old"), "/mnt/old", true);
    let (made, gone) = (create("made", "/mnt/a"), delete("gone", "/mnt/a"));
    complete(&mut ledger, &made, "/mnt/a", true);
    complete(&mut ledger, &gone, "/mnt/a", true);
    assert_eq!(recorded(&ledger.on(Event::Tick, 5000)).len(), 1);
    assert_eq!(refused_with(&ledger.on(Event::Requested(made), 5001)), FailureCode::JobIdReused);
    assert_eq!(statuses(&ledger.on(Event::Requested(gone), 5002)), [Status::Done]);
}

#[test]
fn a_delete_that_a_defect_stopped_counts_for_the_volume_that_was_attached_there() {
    let mut ledger = ledger(LIMITS);
    let made = named(dvs_domain::job::JobKind::Create, "1", None, "v");
    let volume = attachment("loop", "v", "/mnt/a").volume;
    for event in [
        Event::Requested(made.clone()),
        Event::Acknowledged(AnswerId::Pending(made.key())),
        Event::Ended {
            key: made.key(),
            outcome: dvs_domain::ledger::Outcome::Done,
            volume: Some(volume),
            changed: true,
            released: None,
            needs_undo: false,
        },
        Event::Acknowledged(AnswerId::Final(made.key())),
    ] {
        ledger.on(event, 1);
    }
    ledger.attached.put(attachment("loop", "v", "/mnt/a"));
    let gone = delete("2", "/mnt/a");
    ledger.on(Event::Requested(gone.clone()), 2);
    ledger.on(needs_undo(&gone), 3);
    assert_eq!(refused_with(&ledger.on(Event::Requested(made), 4)), FailureCode::JobIdReused);
}
