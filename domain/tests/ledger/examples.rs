//! What the ledger decides, event by event, where a property would hide the example.

use super::support::*;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::{CreateRequest, DeleteRequest, Job, JobRequest, Status, Target};
use dvs_domain::ledger::{AnswerId, Attempt, Change, Effect, Event, Limits, Outcome};
use dvs_domain::names::{StoreName, VolumeName};
use dvs_domain::size::VolumeSize;
use dvs_domain::volume::VolumeId;

#[test]
fn a_job_is_recorded_then_answered_then_worked_on() {
    let mut ledger = ledger(Limits::default());
    let job = create("1", "/mnt/a");
    let effects = ledger.on(Event::Requested(job.clone()), 5);
    assert!(matches!(&effects[0], Effect::Record(changes) if matches!(&changes[0], Change::PutJob(_))));
    assert!(
        matches!(&effects[1], Effect::Answer(AnswerId::Pending(_), answer) if answer.status == Status::Pending)
    );
    assert_eq!(works(&effects), [(job.clone(), Attempt::Do)]);
    assert!(statuses(&ledger.on(done(&job, "/mnt/a", true), 6)).is_empty(), "PENDING comes first");
    let effects = ledger.on(Event::Acknowledged(AnswerId::Pending(job.key())), 7);
    assert_eq!(statuses(&effects), [Status::Done]);
}

#[test]
fn the_examples_of_the_specification_share_their_id_and_are_two_jobs() {
    let mut ledger = ledger(Limits::default());
    complete(&mut ledger, &create("1234567890", "/mnt"), "/mnt", true);
    let effects = ledger.on(Event::Requested(delete("1234567890", "/mnt")), 9);
    assert_eq!(statuses(&effects), [Status::Pending]);
    assert_eq!(works(&effects).len(), 1);
}

#[test]
fn a_repeat_gets_its_final_answer_again_without_work() {
    let mut ledger = ledger(Limits::default());
    let job = create("1", "/mnt/a");
    complete(&mut ledger, &job, "/mnt/a", true);
    let effects = ledger.on(Event::Requested(job), 9);
    assert_eq!(statuses(&effects), [Status::Done]);
    assert!(works(&effects).is_empty());
}

#[test]
fn a_repeat_with_other_content_is_refused() {
    let mut ledger = ledger(Limits::default());
    complete(&mut ledger, &create("1", "/mnt/a"), "/mnt/a", true);
    let effects = ledger.on(Event::Requested(create("1", "/mnt/b")), 9);
    assert_eq!(refused_with(&effects), FailureCode::JobIdReused);
}

#[test]
fn a_repeat_after_a_later_job_has_changed_the_volume_is_refused() {
    let mut ledger = ledger(Limits::default());
    let first = create("1", "/mnt/a");
    complete(&mut ledger, &first, "/mnt/a", true);
    complete(&mut ledger, &create("2", "/mnt/a"), "/mnt/a", false);
    assert_eq!(statuses(&ledger.on(Event::Requested(first.clone()), 9)), [Status::Done]);
    complete(&mut ledger, &delete("3", "/mnt/a"), "/mnt/a", true);
    ledger.on(Event::Acknowledged(AnswerId::Final(first.key())), 9);
    assert_eq!(refused_with(&ledger.on(Event::Requested(first), 9)), FailureCode::JobIdReused);
}

#[test]
fn nested_mount_points_wait_for_each_other_and_neighbours_do_not() {
    let mut ledger = ledger(Limits::default());
    let outer = create("1", "/mnt/a");
    assert_eq!(works(&ledger.on(Event::Requested(outer.clone()), 1)).len(), 1);
    assert!(works(&ledger.on(Event::Requested(create("2", "/mnt/a/b")), 1)).is_empty());
    assert_eq!(works(&ledger.on(Event::Requested(create("3", "/mnt/ab")), 1)).len(), 1);
    let effects = ledger.on(done(&outer, "/mnt/a", true), 2);
    assert_eq!(works(&effects)[0].0.id.as_str(), "2");
}

#[test]
fn work_past_its_time_is_abandoned_and_keeps_its_lane_until_it_returns() {
    let mut ledger = ledger(Limits { job_milliseconds: 1000, ..Limits::default() });
    let slow = create("1", "/mnt/a");
    ledger.on(Event::Requested(slow.clone()), 0);
    ledger.on(Event::Acknowledged(AnswerId::Pending(slow.key())), 1);
    ledger.on(Event::Requested(delete("2", "/mnt/a")), 500);
    ledger.on(Event::Acknowledged(AnswerId::Pending(delete("2", "/mnt/a").key())), 501);
    assert_eq!(ledger.on(Event::Tick, 999), []);
    assert_eq!(ledger.on(Event::Tick, 1000), [Effect::Abandon(slow.key())]);
    assert_eq!(ledger.on(Event::Tick, 1001), [], "told once");
    let told = statuses(&ledger.on(Event::Abandoned(slow.key()), 1002));
    let codes: Vec<_> =
        told.iter().map(|status| if let Status::Failed(f) = status { f.code.as_str() } else { "" }).collect();
    assert_eq!(codes, ["timeout", "busy"]);
    let refused = ledger.on(Event::Requested(create("3", "/mnt/a")), 1003);
    assert_eq!(refused_with(&refused), FailureCode::Busy);
    ledger.on(Event::Released { key: slow.key(), released: None, undone: true }, 2000);
    assert_eq!(works(&ledger.on(Event::Requested(create("4", "/mnt/a")), 2001)).len(), 1);
}

#[test]
fn a_job_that_ends_after_its_time_before_it_is_abandoned_is_answered_timeout_and_undone_at_once() {
    for job in [create("1", "/mnt/a"), delete("1", "/mnt/a")] {
        let mut ledger = ledger(Limits { job_milliseconds: 1000, ..Limits::default() });
        ledger.on(Event::Requested(job.clone()), 0);
        ledger.on(Event::Acknowledged(AnswerId::Pending(job.key())), 1);
        let next = create("2", "/mnt/a");
        ledger.on(Event::Requested(next.clone()), 2);
        let effects = ledger.on(done(&job, "/mnt/a", true), 1000);
        assert!(
            matches!(&statuses(&effects)[..], [Status::Failed(report)] if report.code == FailureCode::Timeout)
        );
        assert_eq!(works(&effects), [(job.clone(), Attempt::Undo)]);
        ledger.on(Event::Acknowledged(AnswerId::Final(job.key())), 1001);
        let undone = ledger.on(failed(&job), 1001);
        assert_eq!(works(&undone), [(next.clone(), Attempt::Do)], "the lane is free");
        assert_eq!(statuses(&undone), [], "answered once");
    }
}

#[test]
fn a_job_that_fails_after_its_time_before_it_is_abandoned_keeps_its_failure() {
    let mut ledger = ledger(Limits { job_milliseconds: 1000, ..Limits::default() });
    let job = create("1", "/mnt/a");
    ledger.on(Event::Requested(job.clone()), 0);
    ledger.on(Event::Acknowledged(AnswerId::Pending(job.key())), 1);
    ledger.on(Event::Tick, 1000);
    let effects = ledger.on(failed(&job), 1001);
    assert_eq!((statuses(&effects).len(), works(&effects).len()), (1, 0));
}

#[test]
fn more_than_the_queue_holds_is_refused_as_busy_and_not_remembered() {
    let mut ledger = ledger(Limits { workers: 1, queue: 1, ..Limits::default() });
    ledger.on(Event::Requested(create("1", "/mnt/a")), 0);
    ledger.on(Event::Requested(create("2", "/mnt/b")), 0);
    let third = create("3", "/mnt/c");
    assert_eq!(refused_with(&ledger.on(Event::Requested(third.clone()), 0)), FailureCode::Busy);
    ledger.on(done(&create("1", "/mnt/a"), "/mnt/a", true), 1);
    assert_eq!(statuses(&ledger.on(Event::Requested(third), 2)), [Status::Pending]);
}

#[test]
fn a_job_that_the_journal_could_not_take_is_failed_and_may_come_again() {
    let mut ledger = ledger(Limits::default());
    let job = create("1", "/mnt/a");
    ledger.on(Event::Requested(job.clone()), 0);
    let report = Failure::new(FailureCode::NoSpace, "the journal is full").report();
    let effects = ledger.on(Event::JobNotRecorded(job.key(), report), 0);
    assert_eq!(refused_with(&effects), FailureCode::NoSpace);
    assert_eq!(statuses(&ledger.on(Event::Requested(job), 1)), [Status::Pending]);
}

#[test]
fn refusals_without_a_sender_are_answered_to_nobody() {
    let mut ledger = ledger(Limits::default());
    let report = Failure::new(FailureCode::BadRequest, "no JSON").report();
    let refusal = dvs_domain::job::Refusal { sender: None, job: None, report };
    assert_eq!(ledger.on(Event::Refused(refusal), 0), []);
}

#[test]
fn work_that_hung_at_a_crash_is_undone_after_it_and_answered_once() {
    let limits = Limits { job_milliseconds: 1000, ..Limits::default() };
    let mut before = ledger(limits);
    let job = create("1", "/mnt/a");
    let mut effects = before.on(Event::Requested(job.clone()), 0);
    effects.extend(before.on(Event::Acknowledged(AnswerId::Pending(job.key())), 1));
    effects.extend(before.on(Event::Tick, 1000));
    effects.extend(before.on(Event::Abandoned(job.key()), 1000));
    effects.extend(before.on(Event::Acknowledged(AnswerId::Final(job.key())), 1001));
    let (mut after, first) = TestLedger::restore(limits, store(), remembered(&effects), 2000);
    assert_eq!(
        first,
        [Effect::Work(job.clone(), Attempt::Undo, records(&effects)[0].attempt())],
        "its sender knows already"
    );
    let next = after.on(Event::Requested(create("2", "/mnt/a")), 2001);
    assert_eq!(works(&next), [], "the lane is kept");
    let undone = after.on(failed(&job), 2002);
    assert_eq!(statuses(&undone), []);
    assert_eq!(works(&undone), [(create("2", "/mnt/a"), Attempt::Do)]);
    let (_, first) = TestLedger::restore(limits, store(), remembered(&undone), 3000);
    assert_eq!(first, [], "undone once");
}

#[test]
fn a_job_behind_work_that_hangs_after_a_restart_is_answered_and_undone_later() {
    let limits = Limits { job_milliseconds: 1000, undo_milliseconds: 100, ..Limits::default() };
    let mut before = ledger(limits);
    let (first, second) = (create("1", "/mnt/a"), delete("2", "/mnt/a"));
    let mut effects = before.on(Event::Requested(first.clone()), 0);
    effects.extend(before.on(Event::Requested(second.clone()), 0));
    let (mut after, _) = TestLedger::restore(limits, store(), remembered(&effects), 500);
    for job in [&first, &second] {
        after.on(Event::Acknowledged(AnswerId::Pending(job.key())), 501);
    }
    assert_eq!(after.on(Event::Tick, 1000), [Effect::Abandon(first.key())]);
    let told = statuses(&after.on(Event::Abandoned(first.key()), 1000));
    assert_eq!(told.len(), 2, "both are answered: {told:?}");
    let freed = after.on(Event::Released { key: first.key(), released: None, undone: true }, 9000);
    assert_eq!(works(&freed), [(second, Attempt::Undo)]);
}

#[test]
fn a_repeat_after_a_delete_that_a_restart_has_cut_off_is_refused() {
    let mut before = ledger(Limits::default());
    let (job, gone) = (create("1", "/mnt/a"), delete("2", "/mnt/a"));
    let mut effects = before.on(Event::Requested(job.clone()), 1);
    effects.extend(before.on(Event::Acknowledged(AnswerId::Pending(job.key())), 2));
    effects.extend(before.on(done(&job, "/mnt/a", true), 3));
    effects.extend(before.on(Event::Acknowledged(AnswerId::Final(job.key())), 4));
    effects.extend(before.on(Event::Requested(gone.clone()), 5));
    let (mut after, first) = TestLedger::restore(Limits::default(), store(), remembered(&effects), 6);
    assert_eq!(works(&first), [(gone.clone(), Attempt::Redo)]);
    // The attempt before the restart had removed everything, so this one finds nothing.
    let nothing = Event::Ended {
        key: gone.key(),
        outcome: Outcome::Done,
        volume: None,
        changed: false,
        released: None,
        needs_undo: false,
    };
    after.on(nothing, 7);
    let repeated = after.on(Event::Requested(job), 8);
    assert_eq!(refused_with(&repeated), FailureCode::JobIdReused);
}

#[test]
fn a_repeat_after_a_cut_off_delete_by_a_bare_name_is_refused_whichever_store_had_the_name() {
    let (name, other) = (VolumeName::new("x").unwrap(), StoreName::new("other").unwrap());
    let target = |store| Target::new(store, Some(name.clone()), None).unwrap();
    let size = VolumeSize::from_mebibytes(8).unwrap();
    let request =
        CreateRequest { target: target(Some(other.clone())), ..CreateRequest::at(at("/mnt"), size) };
    let made = Job { request: JobRequest::Create(request), ..create("made", "/mnt") };
    let request = DeleteRequest { target: target(None) };
    let gone = Job { request: JobRequest::Delete(request), ..delete("gone", "/mnt") };
    let volume = Some(VolumeId { store: other, name: name.clone() });
    let mut before = ledger(Limits::default());
    let effects: Vec<Effect> = [
        Event::Requested(made.clone()),
        Event::Acknowledged(AnswerId::Pending(made.key())),
        Event::Ended {
            key: made.key(),
            outcome: Outcome::Done,
            volume,
            changed: true,
            released: None,
            needs_undo: false,
        },
        Event::Acknowledged(AnswerId::Final(made.key())),
        Event::Requested(gone.clone()),
    ]
    .into_iter()
    .flat_map(|event| before.on(event, 1))
    .collect();
    let (mut after, _) = TestLedger::restore(Limits::default(), store(), remembered(&effects), 2);
    let nothing_there = Event::Ended {
        key: gone.key(),
        outcome: Outcome::Done,
        volume: None,
        changed: false,
        released: None,
        needs_undo: false,
    };
    after.on(nothing_there, 3);
    let repeat = after.on(Event::Requested(made), 4);
    assert_eq!(refused_with(&repeat), FailureCode::JobIdReused);
}

#[test]
fn what_could_not_be_undone_is_tried_again_and_keeps_its_lane_until_then() {
    let mut ledger = ledger(Limits::default());
    let job = create("1", "/mnt/a");
    ledger.on(Event::Requested(job.clone()), 1);
    ledger.on(Event::Acknowledged(AnswerId::Pending(job.key())), 2);
    let outcome = Outcome::Failed(Failure::new(FailureCode::Internal, "undoing failed").report());
    let volume = volume("/mnt/a");
    let end =
        Event::Ended { key: job.key(), outcome, volume, changed: true, released: None, needs_undo: true };
    let effects = ledger.on(end.clone(), 3);
    assert!(matches!(statuses(&effects).as_slice(), [Status::Failed(_)]), "its sender is told at once");
    assert_eq!(works(&effects), []);
    let busy = ledger.on(Event::Requested(create("2", "/mnt/a")), 4);
    assert_eq!(refused_with(&busy), FailureCode::Busy);
    let neighbour = ledger.on(Event::Requested(create("3", "/mnt/b")), 5);
    assert_eq!(works(&neighbour).len(), 1);
    let undo = [(job.clone(), Attempt::Undo)];
    let pause = Limits::default().undo_milliseconds;
    assert_eq!(works(&ledger.on(Event::Tick, 2 + pause)), []);
    assert_eq!(works(&ledger.on(Event::Tick, 3 + pause)), undo);
    assert_eq!(ledger.on(end, 4 + pause), [], "nobody is told twice");
    assert_eq!(works(&ledger.on(Event::Tick, 4 + 2 * pause)), undo);
    assert!(matches!(ledger.on(failed(&job), 5 + 2 * pause).as_slice(), [Effect::Record(_)]));
    let next = ledger.on(Event::Requested(create("4", "/mnt/a")), 6 + 2 * pause);
    assert_eq!(works(&next), [(create("4", "/mnt/a"), Attempt::Do)]);
}

#[test]
fn a_repeat_after_a_delete_that_a_defect_stopped_is_refused_and_the_delete_is_settled_later() {
    let mut ledger = ledger(Limits::default());
    let (made, gone) = (create("1", "/mnt/a"), delete("2", "/mnt/a"));
    complete(&mut ledger, &made, "/mnt/a", true);
    ledger.on(Event::Requested(gone.clone()), 5);
    let defect = Failure::new(FailureCode::Internal, "a defect stopped the work");
    assert_eq!(works(&ledger.on(Event::broken(gone.key(), &defect), 6)), []);
    let repeat = ledger.on(Event::Requested(made), 7);
    assert_eq!(refused_with(&repeat), FailureCode::JobIdReused, "its volume may be gone");
    let later = ledger.on(Event::Tick, 6 + Limits::default().undo_milliseconds);
    assert_eq!(works(&later), [(gone, Attempt::Undo)]);
}

#[test]
fn what_a_restart_cut_off_stays_in_the_store_that_was_the_default_when_it_arrived() {
    let mut before = ledger(Limits::default());
    let cut_off = create("1", "/mnt/a");
    let effects = before.on(Event::Requested(cut_off.clone()), 1);
    let other = StoreName::new("other").unwrap();
    let restored = |now| TestLedger::restore(Limits::default(), other.clone(), remembered(&effects), now);
    let (mut after, first) = restored(2);
    let (work, attempt) = works(&first).remove(0);
    assert_eq!(work.request.target().store, Some(store()));
    assert_eq!((work.key(), attempt), (cut_off.key(), Attempt::Redo));
    let same_name = Target::new(Some(store()), Some(at("/mnt/a").derived_name()), None).unwrap();
    let same =
        Job { request: JobRequest::Delete(DeleteRequest { target: same_name }), ..delete("2", "/mnt/b") };
    assert_eq!(works(&after.on(Event::Requested(same), 3)), [], "it is the same volume");
    let repeated = after.on(Event::Requested(cut_off), 4);
    assert_eq!(repeated, [], "it is the same job");
    let overdue = Limits::default().job_milliseconds + 1;
    assert_eq!(works(&restored(overdue).1)[0].0.request.target().store, Some(store()), "undone there too");
    let next = after.on(Event::Requested(create("3", "/mnt/c")), 5);
    assert_eq!(
        works(&next),
        [(create("3", "/mnt/c"), Attempt::Do)],
        "what arrives now means the default of now"
    );
}

#[test]
fn what_can_never_be_undone_keeps_no_other_job_from_being_forgotten() {
    let mut ledger = ledger(Limits { remembered_min: 0, remembered_milliseconds: 1000, ..Limits::default() });
    let stuck = create("1", "/mnt/a");
    ledger.on(Event::Requested(stuck.clone()), 1);
    ledger.on(Event::Acknowledged(AnswerId::Pending(stuck.key())), 2);
    ledger.on(needs_undo(&stuck), 3);
    ledger.on(Event::Acknowledged(AnswerId::Final(stuck.key())), 4);
    let later = [create("2", "/mnt/b"), create("3", "/mnt/c")];
    for job in &later {
        complete(&mut ledger, job, "/mnt/b", true);
    }
    let effects = ledger.on(Event::Tick, 2000);
    let drops: Vec<Change> = later.iter().map(|job| Change::DropJob(job.key())).collect();
    assert!(effects.contains(&Effect::Record(drops)), "{effects:?}");
    let repeat = ledger.on(Event::Requested(stuck), 2001);
    assert_eq!(refused_with(&repeat), FailureCode::Damaged, "this one is still known");
}

#[test]
fn what_is_to_be_undone_takes_no_place_in_the_queue() {
    let mut ledger = ledger(Limits { queue: 1, ..Limits::default() });
    let stuck = create("1", "/mnt/a");
    ledger.on(Event::Requested(stuck.clone()), 1);
    ledger.on(needs_undo(&stuck), 2);
    let next = ledger.on(Event::Requested(create("2", "/mnt/b")), 3);
    assert_eq!(statuses(&next), [Status::Pending]);
}
