use super::*;
use dvs_domain::attachment::Holder;
use dvs_domain::job::{CreateRequest, DeleteRequest, Job, JobRequest, Target};
use dvs_domain::ledger::{AnswerState, Finished, Outcome, Phase};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::size::VolumeSize;
use dvs_domain::time::{BootId, Moment, Timestamp, Uptime};
use dvs_domain::volume::{FileSystem, Mode, Provision};
use std::collections::BTreeSet;

fn at(path: &str) -> MountPoint {
    MountPoint::new(path).unwrap()
}

fn id() -> VolumeId {
    VolumeId { store: StoreName::new("loop").unwrap(), name: VolumeName::new("pg-data_1.x").unwrap() }
}

fn key(kind: JobKind) -> JobKey {
    JobKey { sender: SenderId::new("host \"ü\"").unwrap(), kind, id: JobId::new("a/b\"\\c").unwrap() }
}

fn moment() -> Moment {
    Moment { wall: Timestamp(u64::MAX), boot: Some(BootId(u128::MAX >> 8)), uptime: Uptime(7) }
}

fn of_wall() -> Moment {
    Moment::of_wall(Timestamp(1))
}

fn targets() -> Vec<Target> {
    let store = || Some(StoreName::new("nfs").unwrap());
    let name = || Some(VolumeName::new("v").unwrap());
    let path = || Some(at("/mnt/ä \"b\"\\"));
    [(store(), name(), path()), (None, name(), None), (None, None, path()), (store(), None, path())]
        .map(|(store, name, path)| Target::new(store, name, path).unwrap())
        .to_vec()
}

fn requests() -> Vec<JobRequest> {
    let mut requests = Vec::new();
    for target in targets() {
        requests.push(JobRequest::Delete(DeleteRequest { target: target.clone() }));
        let size = VolumeSize::from_mebibytes(VolumeSize::MEBIBYTES_MAX).unwrap();
        requests.push(JobRequest::Create(CreateRequest { target, ..CreateRequest::at(at("/mnt/a"), size) }));
    }
    for fs in FileSystem::ALL {
        for provision in [Provision::Thin, Provision::Thick] {
            requests.push(JobRequest::Create(CreateRequest {
                file_system: Some(fs),
                uid: Some(u32::MAX),
                gid: Some(0),
                mode: Some(Mode::parse("7777").unwrap()),
                provision: Some(provision),
                ..CreateRequest::at(at("/srv"), VolumeSize::from_mebibytes(1).unwrap())
            }));
        }
    }
    requests
}

fn reports() -> Vec<FailureReport> {
    let of = |code| FailureReport { code, error: format!("`x`: \u{1f600} {code}\n"), hint: None };
    let mut reports: Vec<_> = FailureCode::ALL.into_iter().map(of).collect();
    reports.push(FailureReport { hint: Some("do \"this\"".to_owned()), ..of(FailureCode::Busy) });
    reports
}

fn phases() -> Vec<Phase> {
    let mut phases = vec![Phase::Accepted];
    let outcomes = reports().into_iter().map(Outcome::Failed).chain([Outcome::Done]);
    for outcome in outcomes {
        for answers in
            [AnswerState::PendingUnacknowledged, AnswerState::FinalUnacknowledged, AnswerState::Acknowledged]
        {
            for volume in [None, Some(id())] {
                phases.push(Phase::Finished(Finished {
                    outcome: outcome.clone(),
                    changed: volume.is_some(),
                    volume,
                    order: u64::MAX,
                    at: moment(),
                    answers,
                    needs_undo: outcome != Outcome::Done,
                }));
            }
        }
    }
    phases
}

#[test]
fn every_job_in_every_phase_is_read_as_it_was_written() {
    for request in requests() {
        for phase in phases() {
            let kind = request.kind();
            let job = Job { sender: key(kind).sender, id: key(kind).id, request: request.clone() };
            let default_store = job.request.target().store.is_none().then(|| StoreName::new("loop").unwrap());
            let record = JobRecord { job, number: u64::MAX, received: moment(), default_store, phase };
            assert_eq!(read_job(&write_job(&record)).unwrap(), record);
            // As the first agents wrote it.
            let mut first = JobRecord { default_store: None, received: of_wall(), ..record };
            if let Phase::Finished(finished) = &mut first.phase {
                finished.at = of_wall();
            }
            assert_eq!(read_job(&write_job(&first)).unwrap(), first);
            let written = String::from_utf8(write_job(&first)).unwrap();
            assert!(!written.contains("default_store") && !written.contains("uptime"), "{written}");
        }
    }
}

#[test]
fn refusals_are_read_as_they_were_written() {
    for report in reports() {
        for (sender, job) in
            [(None, None), (Some(key(JobKind::Create).sender), None), (None, Some(key(JobKind::Create).id))]
        {
            let refusal = Refusal { sender, job, report: report.clone() };
            assert_eq!(read_refusal(&write_refusal(&refusal)).unwrap(), refusal);
        }
    }
}

#[test]
fn attachments_are_read_as_they_were_written() {
    let holders = [
        Holder::Job(key(JobKind::Create)),
        Holder::Job(key(JobKind::Delete)),
        Holder::Docker("any \"text\"/".to_owned()),
    ];
    for count in 0..=holders.len() {
        let attachment = Attachment {
            volume: id(),
            mount_point: at("/mnt/a/b"),
            made_directories: vec![at("/mnt/a"), at("/mnt/a/b")][..count.min(2)].to_vec(),
            holders: holders[..count].to_vec(),
        };
        assert_eq!(read_attachment(&write_attachment(&attachment)).unwrap(), attachment);
    }
}

#[test]
fn keys_of_two_jobs_are_never_the_same() {
    let mut keys = BTreeSet::new();
    let (senders, ids) = (["a", "a create", "create"], ["b", "a/create/b", "/", "create/b"]);
    for sender in senders {
        for kind in [JobKind::Create, JobKind::Delete] {
            for id in ids {
                let key =
                    JobKey { sender: SenderId::new(sender).unwrap(), kind, id: JobId::new(id).unwrap() };
                assert!(keys.insert(job_key(&key)), "{key}");
            }
        }
    }
    assert_eq!(keys.len(), senders.len() * 2 * ids.len());
}

#[test]
fn rows_that_no_program_of_ours_wrote_are_refused_with_their_reason() {
    let refusal = Refusal { sender: None, job: None, report: reports().remove(0) };
    let good = String::from_utf8(write_refusal(&refusal)).unwrap();
    for (from, to, reason) in [
        ("\"v\":1", "\"v\":2", "version 2"),
        ("\"sender\":null", "\"sender\":\"a/b\"", "sender"),
        ("bad-request", "bad-luck", "bad-luck"),
        ("\"job\":null", "\"jab\":null", "jab"),
        ("}", "", "EOF"),
    ] {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good);
        let refused = read_refusal(changed.as_bytes()).unwrap_err().to_string();
        assert!(refused.contains(reason), "{refused}");
    }
}
