//! Turns a message into a job, or into a refusal with its reason.

use crate::document::{Document, bad};
use crate::shown;
use crate::topics::Topics;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::{CreateRequest, DeleteRequest, Job, JobKind, JobRequest, Refusal, Target};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::names::{JobId, SenderId, StoreName, VolumeName};
use dvs_domain::ports::Arrival;
use dvs_domain::size::VolumeSize;
use dvs_domain::volume::{FileSystem, Mode, Provision};

/// Reads one message. A refusal names sender and id wherever the payload has usable ones, so that it can be answered.
/// `retained` is the message's own flag: a message that the broker had stored is not a job.
#[must_use]
pub fn decode(topics: &Topics, topic: &str, payload: &[u8], retained: bool) -> Arrival {
    let mut document = Document::read(payload);
    let flaw = document.take_flaw();
    let job = kind(topics, topic, retained)
        .and_then(|kind| flaw.map_or(Ok(kind), Err))
        .and_then(|kind| job(&document, kind));
    match job {
        Ok(job) => Arrival::Job(job),
        Err(failure) => Arrival::Refused(Refusal {
            sender: sender(&document).ok(),
            job: id(&document).ok(),
            report: failure.report(),
        }),
    }
}

fn kind(topics: &Topics, topic: &str, retained: bool) -> Result<JobKind, Failure> {
    let refuse = |detail| Err(Failure::new(FailureCode::UnknownTopic, detail));
    match topics.kind_of(topic) {
        None => refuse(format!("`{}` is no topic for jobs", shown(topic))),
        Some(_) if retained => {
            refuse(format!("the message on `{}` is an old one that the broker kept (retained)", shown(topic)))
        }
        Some(kind) => Ok(kind),
    }
}

fn job(document: &Document, kind: JobKind) -> Result<Job, Failure> {
    let sender = sender(document)?;
    let id = id(document)?;
    let request = match kind {
        JobKind::Create => JobRequest::Create(create(document)?),
        JobKind::Delete => JobRequest::Delete(DeleteRequest { target: target(document)? }),
    };
    Ok(Job { sender, id, request })
}

fn sender(document: &Document) -> Result<SenderId, Failure> {
    SenderId::new(document.text("sipId")?.ok_or_else(|| missing("sipId"))?)
}

fn id(document: &Document) -> Result<JobId, Failure> {
    JobId::new(either(document, "job", "jobId")?.ok_or_else(|| missing("job"))?)
}

fn target(document: &Document) -> Result<Target, Failure> {
    let store = document.text("store")?.map(StoreName::new).transpose()?;
    let name = document.text("name")?.map(VolumeName::new).transpose()?;
    let mount_point = either(document, "mountPount", "mountPoint")?.map(MountPoint::new).transpose()?;
    Target::new(store, name, mount_point)
}

fn create(document: &Document) -> Result<CreateRequest, Failure> {
    let target = target(document)?;
    let mebibytes = document.whole("volumeSize")?.ok_or_else(|| missing("volumeSize"))?;
    Ok(CreateRequest {
        target,
        size: VolumeSize::from_mebibytes(mebibytes)?,
        file_system: document.text("fs")?.map(FileSystem::parse).transpose()?,
        uid: owner(document, "uid")?,
        gid: owner(document, "gid")?,
        mode: document.text("mode")?.map(Mode::parse).transpose()?,
        provision: document.text("provision")?.map(Provision::parse).transpose()?,
    })
}

/// A user or group. The highest number is left out: system calls take it for "leave as it is" (chown(2)).
fn owner(document: &Document, key: &'static str) -> Result<Option<u32>, Failure> {
    const MAX: u32 = u32::MAX - 1;
    let Some(number) = document.whole(key)? else { return Ok(None) };
    match u32::try_from(number) {
        Ok(number) if number <= MAX => Ok(Some(number)),
        _ => Err(bad(format!("`{key}` {number} is above the most, {MAX}"))),
    }
}

/// The text of a key that has two spellings. Both may be there if they are equal.
fn either<'d>(document: &'d Document, one: &str, other: &str) -> Result<Option<&'d str>, Failure> {
    match (document.text(one)?, document.text(other)?) {
        (Some(first), Some(second)) if first != second => Err(bad(format!(
            "`{one}` and `{other}` are two spellings of one key, and differ: `{}` and `{}`",
            shown(first),
            shown(second)
        ))),
        (first, second) => Ok(first.or(second)),
    }
}

fn missing(key: &str) -> Failure {
    bad(format!("`{key}` is missing"))
}
