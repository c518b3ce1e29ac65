//! What the tests of the journal share.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use dvs_domain::attachment::{Attachment, Holder};
use dvs_domain::failure::{FailureCode, FailureReport};
use dvs_domain::job::{CreateRequest, DeleteRequest, Job, JobRequest, Refusal, Target};
use dvs_domain::ledger::{AnswerState, Finished, JobRecord, Outcome, Phase, Remembered};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::names::{JobId, SenderId, StoreName, VolumeName};
use dvs_domain::ports::Journal;
use dvs_domain::size::VolumeSize;
use dvs_domain::time::{Moment, Timestamp};
use dvs_domain::volume::VolumeId;
use dvs_journal_redb::RedbJournal;

pub(crate) fn at(path: &str) -> MountPoint {
    MountPoint::new(path).unwrap()
}

/// A create job that was accepted.
pub(crate) fn create(number: u64) -> JobRecord {
    let size = VolumeSize::from_mebibytes(number % 1000 + 1).unwrap();
    record(number, JobRequest::Create(CreateRequest::at(at(&format!("/mnt/{number}")), size)))
}

/// A delete job that was accepted.
pub(crate) fn delete(number: u64) -> JobRecord {
    let target = Target::new(None, None, Some(at(&format!("/mnt/{number}")))).unwrap();
    record(number, JobRequest::Delete(DeleteRequest { target }))
}

/// The same job, finished.
pub(crate) fn finished(record: &JobRecord) -> JobRecord {
    let finished = Finished {
        outcome: Outcome::Done,
        volume: Some(volume(record.number)),
        changed: true,
        order: record.number,
        at: Moment::of_wall(Timestamp(record.received.wall.0 + 1)),
        answers: AnswerState::PendingUnacknowledged,
        needs_undo: false,
    };
    JobRecord { phase: Phase::Finished(finished), ..record.clone() }
}

pub(crate) fn attachment(record: &JobRecord) -> Attachment {
    let mount_point = at(&format!("/mnt/{}", record.number));
    Attachment {
        volume: volume(record.number),
        made_directories: vec![mount_point.clone()],
        mount_point,
        holders: vec![Holder::Job(record.key())],
    }
}

pub(crate) fn refusal(number: u64) -> Refusal {
    Refusal {
        sender: Some(SenderId::new("host.example").unwrap()),
        job: None,
        report: FailureReport {
            code: FailureCode::BadRequest,
            error: format!("refused number {number}"),
            hint: None,
        },
    }
}

/// Everything that is remembered, in order.
pub(crate) async fn remembered(journal: &RedbJournal) -> Remembered {
    let mut remembered = journal.load().await.unwrap();
    remembered.jobs.sort_by_key(|record| record.number);
    remembered.refusals.sort_by_key(|(number, _)| *number);
    remembered.attachments.sort_by(|one, other| one.mount_point.cmp(&other.mount_point));
    remembered
}

fn record(number: u64, request: JobRequest) -> JobRecord {
    let job = Job {
        sender: SenderId::new("host.example").unwrap(),
        id: JobId::new(number.to_string()).unwrap(),
        request,
    };
    let received = Moment::of_wall(Timestamp(1_700_000_000_000 + number));
    JobRecord { job, number, received, default_store: None, phase: Phase::Accepted }
}

fn volume(number: u64) -> VolumeId {
    let name = VolumeName::new(format!("v{number}")).unwrap();
    VolumeId { store: StoreName::new("loop").unwrap(), name }
}
