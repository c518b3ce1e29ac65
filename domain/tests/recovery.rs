//! What a restart does with what is on disk: the tables of `recovery` and of `ledger`, row by row.
#![allow(clippy::unwrap_used, reason = "tests")]

use dvs_domain::attachment::{Attachment, AttachmentTable, Holder};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::{Answer, CreateRequest, DeleteRequest, Job, JobRequest, Refusal, Status, Target};
use dvs_domain::ledger::{
    AnswerId, AnswerState, Attempt, Effect, Event, Finished, JobRecord, Ledger, Limits, Outcome, Phase,
    RefusalNumber, Remembered,
};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::names::{JobId, SenderId, StoreName, VolumeName};
use dvs_domain::recovery::{CutOff, Rule, Situation, UnresolvedJobs, VolumeHealth, rule};
use dvs_domain::size::VolumeSize;
use dvs_domain::time::{BootId, Moment, Timestamp, Uptime};
use dvs_domain::volume::VolumeId;

const EVERY_STANDING: [VolumeHealth; 4] =
    [VolumeHealth::InOrder, VolumeHealth::Gone, VolumeHealth::Damaged, VolumeHealth::Unknown];

#[test]
fn every_state_of_an_attachment_has_its_rule() {
    let rows = [
        (CutOff::Nothing, VolumeHealth::InOrder, Rule::Attach),
        (CutOff::Nothing, VolumeHealth::Gone, Rule::Guard),
        (CutOff::Nothing, VolumeHealth::Damaged, Rule::Guard),
        (CutOff::Nothing, VolumeHealth::Unknown, Rule::Guard),
        (CutOff::Delete, VolumeHealth::InOrder, Rule::Attach),
        (CutOff::Delete, VolumeHealth::Gone, Rule::LeaveToJob),
        (CutOff::Delete, VolumeHealth::Damaged, Rule::Guard),
        (CutOff::Delete, VolumeHealth::Unknown, Rule::Guard),
        (CutOff::Create, VolumeHealth::InOrder, Rule::LeaveToJob),
        (CutOff::Create, VolumeHealth::Gone, Rule::LeaveToJob),
        (CutOff::Create, VolumeHealth::Damaged, Rule::LeaveToJob),
        (CutOff::Create, VolumeHealth::Unknown, Rule::LeaveToJob),
    ];
    for (cut_off, standing, expected) in rows {
        let situation = Situation { cut_off, volume: Some(standing), is_void: false };
        assert_eq!(rule(situation), expected, "{situation:?}");
    }
    let unseen = Situation { cut_off: CutOff::Create, volume: None, is_void: false };
    assert_eq!(rule(unseen), Rule::LeaveToJob, "what a create is to make is not looked at");
}

#[test]
fn what_only_ids_of_docker_hold_is_void_after_a_reboot_however_its_volume_is() {
    for cut_off in [CutOff::Nothing, CutOff::Delete] {
        for standing in EVERY_STANDING {
            let situation = Situation { cut_off, volume: Some(standing), is_void: true };
            assert_eq!(rule(situation), Rule::Forget, "{situation:?}");
        }
    }
}

#[test]
fn a_volume_stands_as_its_store_says() {
    assert_eq!(VolumeHealth::of(None), VolumeHealth::InOrder);
    assert_eq!(VolumeHealth::of(Some(FailureCode::NotFound)), VolumeHealth::Gone);
    assert_eq!(VolumeHealth::of(Some(FailureCode::Damaged)), VolumeHealth::Damaged);
    for code in [
        FailureCode::StoreUnavailable,
        FailureCode::NoSuchStore,
        FailureCode::Conflict,
        FailureCode::Busy,
        FailureCode::Timeout,
        FailureCode::Unsupported,
        FailureCode::Internal,
    ] {
        assert_eq!(
            VolumeHealth::of(Some(code)),
            VolumeHealth::Unknown,
            "{code}: nobody says that it is gone"
        );
    }
}

fn at(path: &str) -> MountPoint {
    MountPoint::new(path).unwrap()
}

fn moment(milliseconds: u64) -> Moment {
    Moment { wall: Timestamp(milliseconds), boot: Some(BootId(1)), uptime: Uptime(milliseconds) }
}

fn record(id: &str, request: JobRequest, phase: Phase) -> JobRecord {
    let job = Job { sender: SenderId::new("s").unwrap(), id: JobId::new(id).unwrap(), request };
    JobRecord { job, received: moment(1), number: 1, default_store: None, phase }
}

fn create(path: &str) -> JobRequest {
    JobRequest::Create(CreateRequest::at(at(path), VolumeSize::from_mebibytes(16).unwrap()))
}

fn delete(path: &str) -> JobRequest {
    JobRequest::Delete(DeleteRequest { target: Target::new(None, None, Some(at(path))).unwrap() })
}

fn finished(needs_undo: bool) -> Phase {
    Phase::Finished(Finished {
        outcome: Outcome::Done,
        answers: AnswerState::Acknowledged,
        volume: None,
        changed: true,
        order: 1,
        at: moment(2),
        needs_undo,
    })
}

fn attachment(path: &str, holders: impl IntoIterator<Item = Holder>) -> Attachment {
    let name = at(path).derived_name();
    Attachment {
        volume: VolumeId { store: StoreName::new("loop").unwrap(), name },
        mount_point: at(path),
        made_directories: Vec::new(),
        holders: holders.into_iter().collect(),
    }
}

#[test]
fn jobs_that_a_restart_has_cut_off_are_told_from_those_that_have_ended() {
    for (phase, is_cut_off) in [(Phase::Accepted, true), (finished(false), false), (finished(true), true)] {
        let (made, gone) =
            (record("1", create("/mnt/a"), phase.clone()), record("2", delete("/mnt/b"), phase.clone()));
        let unresolved = UnresolvedJobs::of([&made, &gone]);
        let expected = |cut_off| if is_cut_off { cut_off } else { CutOff::Nothing };
        let meant = attachment("/mnt/a", [Holder::Job(made.key())]);
        assert_eq!(unresolved.about(&meant), expected(CutOff::Create), "{phase:?}");
        let earlier = attachment("/mnt/b", [Holder::Job(made.key())]);
        let earlier = Attachment { holders: Vec::new(), ..earlier };
        assert_eq!(unresolved.about(&earlier), expected(CutOff::Delete), "{phase:?}");
        assert_eq!(unresolved.about(&attachment("/mnt/c", [])), CutOff::Nothing);
        // A second create of what another job has made is no doubt about it.
        assert_eq!(unresolved.about(&attachment("/mnt/a", [])), CutOff::Nothing);
    }
}

#[test]
fn a_delete_by_name_is_about_what_has_that_name() {
    let named = Target::new(None, Some(VolumeName::new("data").unwrap()), None).unwrap();
    let job = record("1", JobRequest::Delete(DeleteRequest { target: named }), Phase::Accepted);
    let unresolved = UnresolvedJobs::of([&job]);
    let mut meant = attachment("/mnt/a", []);
    assert_eq!(unresolved.about(&meant), CutOff::Nothing);
    meant.volume.name = VolumeName::new("data").unwrap();
    assert_eq!(unresolved.about(&meant), CutOff::Delete);
}

#[test]
fn only_ids_of_docker_are_void() {
    let (job, docker) =
        (Holder::Job(record("1", create("/mnt/a"), Phase::Accepted).key()), Holder::Docker("id".to_owned()));
    assert!(attachment("/mnt/a", [docker.clone()]).is_held_by_docker_only());
    assert!(!attachment("/mnt/a", [docker, job.clone()]).is_held_by_docker_only());
    assert!(!attachment("/mnt/a", [job]).is_held_by_docker_only());
    assert!(!attachment("/mnt/a", []).is_held_by_docker_only());
}

/// What a restart with one job, or one refusal, on disk does first, in short.
fn first_effects(remembered: Remembered, now: u64) -> Vec<String> {
    let limits = Limits { job_milliseconds: 1000, ..Limits::default() };
    let (_, effects) = Ledger::restore(limits, StoreName::new("loop").unwrap(), remembered, moment(now));
    let told = |effect: &Effect| match effect {
        Effect::Answer(_, Answer { status: Status::Pending, .. }) => "PENDING".to_owned(),
        Effect::Answer(_, Answer { status: Status::Done, .. }) => "DONE".to_owned(),
        Effect::Answer(_, Answer { status: Status::Failed(report), .. }) => format!("FAILED {}", report.code),
        Effect::Work(_, attempt, _) => match attempt {
            Attempt::Do => "do".to_owned(),
            Attempt::Redo => "redo".to_owned(),
            Attempt::Undo => "undo".to_owned(),
        },
        other => format!("{other:?}"),
    };
    effects.iter().map(told).collect()
}

#[test]
fn every_state_of_a_job_and_its_answers_has_its_rule() {
    let finished = |answers, needs_undo| match finished(needs_undo) {
        Phase::Finished(finished) => Phase::Finished(Finished { answers, ..finished }),
        Phase::Accepted => Phase::Accepted,
    };
    let rows: [(&str, Phase, u64, &[&str]); 6] = [
        ("accepted, within its time", Phase::Accepted, 500, &["PENDING", "redo"]),
        ("accepted, overdue", Phase::Accepted, 5000, &["PENDING", "undo"]),
        (
            "finished, PENDING unacknowledged",
            finished(AnswerState::PendingUnacknowledged, false),
            500,
            &["PENDING"],
        ),
        ("finished, final unacknowledged", finished(AnswerState::FinalUnacknowledged, false), 500, &["DONE"]),
        ("finished, acknowledged", finished(AnswerState::Acknowledged, false), 500, &[]),
        ("finished, owes undoing", finished(AnswerState::Acknowledged, true), 500, &["undo"]),
    ];
    for (state, phase, now, expected) in rows {
        for request in [create("/mnt/a"), delete("/mnt/a")] {
            let jobs = vec![record("1", request, phase.clone())];
            assert_eq!(first_effects(Remembered { jobs, ..Remembered::default() }, now), expected, "{state}");
        }
    }
}

#[test]
fn a_refusal_that_was_not_acknowledged_is_sent_again() {
    let report = Failure::new(FailureCode::BadRequest, "no size").report();
    let refusal =
        Refusal { sender: Some(SenderId::new("s").unwrap()), job: Some(JobId::new("1").unwrap()), report };
    let refusals = vec![(RefusalNumber(7), refusal)];
    assert_eq!(first_effects(Remembered { refusals, ..Remembered::default() }, 5), ["FAILED bad-request"]);
}

#[test]
fn the_final_answer_waits_for_pending_over_a_restart_too() {
    let pending = Phase::Finished(match finished(false) {
        Phase::Finished(finished) => Finished { answers: AnswerState::PendingUnacknowledged, ..finished },
        Phase::Accepted => unreachable!("it is finished"),
    });
    let job = record("1", create("/mnt/a"), pending);
    let key = job.key();
    let remembered = Remembered { jobs: vec![job], ..Remembered::default() };
    let (mut ledger, _) =
        Ledger::restore(Limits::default(), StoreName::new("loop").unwrap(), remembered, moment(500));
    let then =
        ledger.on(Event::Acknowledged(AnswerId::Pending(key)), moment(501), &AttachmentTable::default());
    assert!(
        matches!(then.last(), Some(Effect::Answer(AnswerId::Final(_), Answer { status: Status::Done, .. }))),
        "{then:?}"
    );
}
