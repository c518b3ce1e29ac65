//! Which jobs wait for each other.

use super::support::*;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::JobKind::{Create, Delete};
use dvs_domain::job::{Job, JobRequest};
use dvs_domain::ledger::{Event, Limits, Remembered};
use dvs_domain::names::StoreName;

/// A create job for the volume called `v`, at `path`.
fn create_v(id: &str, path: &str) -> Job {
    let mut job = create(id, path);
    if let JobRequest::Create(request) = &mut job.request {
        request.target = dvs_domain::job::Target::new(
            None,
            attachment("loop", "v", path).volume.name.into(),
            Some(at(path)),
        )
        .unwrap();
    }
    job
}

#[test]
fn a_job_waits_for_what_an_earlier_one_may_have_made_while_it_ran() {
    let mut ledger = ledger(Limits::default());
    let first = create_v("1", "/mnt/a");
    assert_eq!(started(&ledger.on(Event::Requested(first.clone()), 1)), ["1"]);
    let second = named(Delete, "2", None, "v");
    assert_eq!(started(&ledger.on(Event::Requested(second.clone()), 2)), [""; 0]);
    assert_eq!(started(&ledger.on(done(&first, "/mnt/a", true), 3)), ["2"]);
    // The volume `v` is at `/mnt/a` now, though the delete names only the volume, and this one only the path.
    let third = create("3", "/mnt/a");
    assert_eq!(started(&ledger.on(Event::Requested(third), 4)), [""; 0], "it follows the delete");
    assert_eq!(started(&ledger.on(done(&second, "/mnt/a", true), 5)), ["3"]);
}

#[test]
fn a_job_waits_for_what_an_earlier_one_will_make_that_waits_itself() {
    let mut ledger = ledger(Limits::default());
    let blocking = create("0", "/mnt/a/below");
    let (first, second, third) =
        (create_v("1", "/mnt/a"), named(Delete, "2", None, "v"), create("3", "/mnt/a"));
    for job in [&blocking, &first, &second] {
        ledger.on(Event::Requested(job.clone()), 1);
    }
    assert_eq!(started(&ledger.on(done(&blocking, "/mnt/a/below", true), 2)), ["1"]);
    assert_eq!(started(&ledger.on(done(&first, "/mnt/a", true), 3)), ["2"]);
    assert_eq!(started(&ledger.on(Event::Requested(third), 4)), [""; 0]);
}

#[test]
fn after_a_restart_lanes_are_as_before() {
    let mut before = ledger(Limits::default());
    let (first, second) = (create_v("1", "/mnt/a"), named(Delete, "2", None, "v"));
    let mut effects = before.on(Event::Requested(first.clone()), 1);
    effects.extend(before.on(Event::Requested(second), 2));
    let (mut after, restored) = TestLedger::restore(Limits::default(), store(), remembered(&effects), 3);
    assert_eq!(started(&restored), ["1"]);
    assert_eq!(started(&after.on(done(&first, "/mnt/a", true), 4)), ["2"]);
    assert_eq!(started(&after.on(Event::Requested(create("3", "/mnt/a")), 5)), [""; 0]);
}

#[test]
fn what_is_attached_joins_a_volume_and_its_mount_point_in_one_lane() {
    let attachments = vec![attachment("loop", "v", "/mnt/a"), attachment("nfs", "v", "/mnt/n")];
    let remembered = Remembered { attachments, ..Remembered::default() };
    // Which of the others must wait while a job works on what is at that path.
    let waiting_for = |path: &str| -> Vec<String> {
        let (mut ledger, _) = TestLedger::restore(Limits::default(), store(), remembered.clone(), 0);
        assert_eq!(started(&ledger.on(Event::Requested(delete("0", path)), 1)), ["0"]);
        let others = [
            named(Delete, "bare", None, "v"),
            named(Create, "default", None, "v"),
            named(Delete, "loop", Some("loop"), "v"),
            named(Delete, "nfs", Some("nfs"), "v"),
            named(Delete, "other", Some("other"), "v"),
            named(Delete, "name", None, "w"),
        ];
        let mut waiting = Vec::new();
        for job in others {
            // Each beside the first job only.
            let (mut ledger, _) = TestLedger::restore(Limits::default(), store(), remembered.clone(), 0);
            ledger.on(Event::Requested(delete("0", path)), 1);
            if started(&ledger.on(Event::Requested(job.clone()), 2)).is_empty() {
                waiting.push(job.id.to_string());
            }
        }
        waiting
    };
    assert_eq!(waiting_for("/mnt/a"), ["bare", "default", "loop"]);
    assert_eq!(waiting_for("/mnt/n"), ["bare", "nfs"]);
    assert_eq!(waiting_for("/mnt/z"), [""; 0]);
}

#[test]
fn a_job_that_was_not_recorded_leaves_its_lane() {
    let mut ledger = ledger(Limits::default());
    let report = || Failure::new(FailureCode::NoSpace, "the journal is full").report();
    let (first, second) = (create("1", "/mnt/a"), delete("2", "/mnt/a"));
    ledger.on(Event::Requested(first.clone()), 1);
    ledger.on(Event::Requested(second.clone()), 1);
    assert_eq!(started(&ledger.on(Event::JobNotRecorded(first.key(), report()), 1)), ["2"]);
    assert_eq!(ledger.on(Event::JobNotRecorded(first.key(), report()), 2), [], "it is forgotten");
    let third = create("3", "/mnt/a");
    ledger.on(Event::Requested(third.clone()), 3);
    ledger.on(Event::JobNotRecorded(third.key(), report()), 3);
    assert_eq!(started(&ledger.on(done(&second, "/mnt/a", true), 4)), [""; 0], "nor does it run later");
}

#[test]
fn stores_of_the_same_name_are_told_apart_only_where_both_are_named() {
    let loop_store = || StoreName::new("loop").unwrap();
    assert_eq!(loop_store(), store());
    for (first, second, waits) in [
        (Some("a"), Some("a"), true),
        (Some("a"), Some("b"), false),
        (None, Some("b"), true),
        (Some("a"), None, true),
        (None, None, true),
    ] {
        let mut ledger = ledger(Limits::default());
        ledger.on(Event::Requested(named(Delete, "1", first, "v")), 1);
        let started = started(&ledger.on(Event::Requested(named(Delete, "2", second, "v")), 2));
        assert_eq!(started.is_empty(), waits, "{first:?}, {second:?}");
    }
}
