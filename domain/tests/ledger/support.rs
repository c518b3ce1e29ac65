//! Jobs, events, and a ledger that tests drive by milliseconds.

use dvs_domain::attachment::{Attachment, AttachmentTable};
use dvs_domain::failure::{Failure, FailureCode, FailureReport};
use dvs_domain::job::{CreateRequest, DeleteRequest, Job, JobKind, JobRequest, Status, Target};
use dvs_domain::ledger::{
    AnswerId, Attempt, Change, Effect, Event, JobRecord, Ledger, Limits, Outcome, Remembered,
};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::names::{JobId, SenderId, StoreName, VolumeName};
use dvs_domain::size::VolumeSize;
use dvs_domain::time::{BootId, Moment, Timestamp, Uptime};
use dvs_domain::volume::VolumeId;

pub(crate) fn store() -> StoreName {
    StoreName::new("loop").unwrap()
}

/// A ledger, and the attachments that successful jobs make and remove.
pub(crate) struct TestLedger {
    ledger: Ledger,
    pub(crate) attached: AttachmentTable,
}

impl TestLedger {
    pub(crate) fn restore(
        limits: Limits,
        default: StoreName,
        remembered: Remembered,
        now: u64,
    ) -> (Self, Vec<Effect>) {
        Self::restore_at(limits, default, remembered, moment(now))
    }

    pub(crate) fn restore_at(
        limits: Limits,
        default: StoreName,
        remembered: Remembered,
        now: Moment,
    ) -> (Self, Vec<Effect>) {
        let attached = remembered.attachments.iter().cloned().collect();
        let (ledger, effects) = Ledger::restore(limits, default, remembered, now);
        (Self { ledger, attached }, effects)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.ledger.waiting()
    }

    pub(crate) fn on(&mut self, event: Event, now: u64) -> Vec<Effect> {
        self.on_moment(event, moment(now))
    }

    pub(crate) fn on_moment(&mut self, event: Event, now: Moment) -> Vec<Effect> {
        self.ledger.on(event, now, &self.attached)
    }
}

pub(crate) fn ledger(limits: Limits) -> TestLedger {
    TestLedger::restore(limits, store(), Remembered::default(), 0).0
}

/// A moment of the first boot, whose wall clock is right.
pub(crate) fn moment(milliseconds: u64) -> Moment {
    Moment { wall: Timestamp(milliseconds), boot: Some(BootId(1)), uptime: Uptime(milliseconds) }
}

pub(crate) fn at(path: &str) -> MountPoint {
    MountPoint::new(path).unwrap()
}

pub(crate) fn create(id: &str, path: &str) -> Job {
    let request = CreateRequest::at(at(path), VolumeSize::from_mebibytes(5000).unwrap());
    Job {
        sender: SenderId::new("s").unwrap(),
        id: JobId::new(id).unwrap(),
        request: JobRequest::Create(request),
    }
}

pub(crate) fn delete(id: &str, path: &str) -> Job {
    let request = DeleteRequest { target: Target::new(None, None, Some(at(path))).unwrap() };
    Job {
        sender: SenderId::new("s").unwrap(),
        id: JobId::new(id).unwrap(),
        request: JobRequest::Delete(request),
    }
}

pub(crate) fn volume(path: &str) -> Option<VolumeId> {
    Some(VolumeId { store: store(), name: at(path).derived_name() })
}

pub(crate) fn done(job: &Job, path: &str, changed: bool) -> Event {
    Event::Ended {
        key: job.key(),
        outcome: Outcome::Done,
        volume: volume(path),
        changed,
        released: None,
        needs_undo: false,
    }
}

/// The end of work that failed, and is undone.
pub(crate) fn failed(job: &Job) -> Event {
    let outcome = Outcome::Failed(Failure::new(FailureCode::Timeout, "too late").report());
    Event::Ended { key: job.key(), outcome, volume: None, changed: false, released: None, needs_undo: false }
}

/// Takes a job all the way to its acknowledged answer.
pub(crate) fn complete(ledger: &mut TestLedger, job: &Job, path: &str, changed: bool) {
    ledger.on(Event::Requested(job.clone()), 1);
    ledger.on(Event::Acknowledged(AnswerId::Pending(job.key())), 2);
    ledger.on(done(job, path, changed), 3);
    ledger.on(Event::Acknowledged(AnswerId::Final(job.key())), 4);
}

/// The changes that `effects` record, in order.
pub(crate) fn recorded(effects: &[Effect]) -> Vec<Change> {
    let changes = effects.iter().filter_map(|effect| match effect {
        Effect::Record(changes) => Some(changes.clone()),
        _ => None,
    });
    changes.flatten().collect()
}

/// The job records among them.
pub(crate) fn records(effects: &[Effect]) -> Vec<JobRecord> {
    let record = |change| if let Change::PutJob(record) = change { Some(*record) } else { None };
    recorded(effects).into_iter().filter_map(record).collect()
}

/// The ids of the jobs whose work starts.
pub(crate) fn started(effects: &[Effect]) -> Vec<String> {
    works(effects).iter().map(|(job, _)| job.id.to_string()).collect()
}

/// A job about the volume called `name` in `store`, at no mount point.
pub(crate) fn named(kind: JobKind, id: &str, store: Option<&str>, name: &str) -> Job {
    let store = store.map(|store| StoreName::new(store).unwrap());
    let target = Target::new(store, Some(VolumeName::new(name).unwrap()), None).unwrap();
    let request = match kind {
        JobKind::Create => {
            let size = VolumeSize::from_mebibytes(8).unwrap();
            JobRequest::Create(CreateRequest { target, ..CreateRequest::at(at("/mnt"), size) })
        }
        JobKind::Delete => JobRequest::Delete(DeleteRequest { target }),
    };
    Job { request, ..create(id, "/mnt") }
}

/// The volume called `name` in `store`, attached at `path`.
pub(crate) fn attachment(store: &str, name: &str, path: &str) -> Attachment {
    let volume = VolumeId { store: StoreName::new(store).unwrap(), name: VolumeName::new(name).unwrap() };
    let (made_directories, holders) = (Vec::new(), Vec::new());
    Attachment { volume, mount_point: at(path), made_directories, holders }
}

pub(crate) fn statuses(effects: &[Effect]) -> Vec<Status> {
    let status = |effect: &Effect| match effect {
        Effect::Answer(_, answer) => Some(answer.status.clone()),
        _ => None,
    };
    effects.iter().filter_map(status).collect()
}

pub(crate) fn works(effects: &[Effect]) -> Vec<(Job, Attempt)> {
    let work = |effect: &Effect| match effect {
        Effect::Work(job, attempt, _) => Some((job.clone(), *attempt)),
        _ => None,
    };
    effects.iter().filter_map(work).collect()
}

/// The reports of the jobs that fail.
pub(crate) fn failures(effects: &[Effect]) -> Vec<FailureReport> {
    let report = |status| if let Status::Failed(report) = status { Some(report) } else { None };
    statuses(effects).into_iter().filter_map(report).collect()
}

pub(crate) fn refused_with(effects: &[Effect]) -> FailureCode {
    match statuses(effects).as_slice() {
        [Status::Failed(report)] => report.code,
        other => panic!("expected one FAILED, got {other:?}"),
    }
}

/// What the journal holds after `effects`, of the jobs that they record.
pub(crate) fn remembered(effects: &[Effect]) -> Remembered {
    let mut remembered = Remembered::default();
    for effect in effects {
        let (Effect::Record(changes) | Effect::Note(changes)) = effect else { continue };
        for change in changes {
            let Change::PutJob(record) = change else {
                panic!("only jobs are recorded here, not {change:?}")
            };
            remembered.jobs.retain(|other| other.key() != record.key());
            remembered.jobs.push((**record).clone());
        }
    }
    remembered
}

/// The end of work that failed, and is still to be undone.
pub(crate) fn needs_undo(job: &Job) -> Event {
    Event::broken(job.key(), &Failure::new(FailureCode::Damaged, "it cannot be undone"))
}
