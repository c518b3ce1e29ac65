//! Jobs: what was asked, and how far it is.

use super::{ReportRow, VERSION, VolumeRow};
use dvs_domain::failure::{BoxError, Failure};
use dvs_domain::job::{CreateRequest, DeleteRequest, Job, JobRequest, Target};
use dvs_domain::ledger::{AnswerState, Finished, JobRecord, Outcome, Phase};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::names::{JobId, SenderId, StoreName, VolumeName};
use dvs_domain::size::VolumeSize;
use dvs_domain::time::{BootId, Moment, Timestamp, Uptime};
use dvs_domain::volume::{FileSystem, Mode, Provision, VolumeId};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JobRow {
    v: u32,
    sender: String,
    id: String,
    request: RequestRow,
    number: u64,
    received_ms: u64,
    /// Not in what the first agents wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    received_uptime: Option<UptimeRow>,
    /// Not in what the first agents wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default_store: Option<String>,
    phase: PhaseRow,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RequestRow {
    Create(CreateRow),
    Delete(TargetRow),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetRow {
    store: Option<String>,
    name: Option<String>,
    mount_point: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateRow {
    target: TargetRow,
    mebibytes: u64,
    fs: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    mode: Option<String>,
    provision: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PhaseRow {
    Accepted,
    Finished(FinishedRow),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FinishedRow {
    outcome: OutcomeRow,
    volume: Option<VolumeRow>,
    changed: bool,
    order: u64,
    at_ms: u64,
    /// Not in what the first agents wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_uptime: Option<UptimeRow>,
    answers: AnswersRow,
    #[serde(rename = "owes_undo")]
    needs_undo: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UptimeRow {
    /// 32 hexadecimal digits.
    boot: String,
    ms: u64,
}

impl UptimeRow {
    fn of(moment: Moment) -> Option<Self> {
        Some(Self { boot: format!("{:032x}", moment.boot?.0), ms: moment.uptime.0 })
    }
}

fn moment(wall_ms: u64, uptime: Option<UptimeRow>) -> Result<Moment, BoxError> {
    let mut moment = Moment::of_wall(Timestamp(wall_ms));
    if let Some(UptimeRow { boot, ms }) = uptime {
        moment.boot = Some(BootId(u128::from_str_radix(&boot, 16)?));
        moment.uptime = Uptime(ms);
    }
    Ok(moment)
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OutcomeRow {
    Done,
    Failed(ReportRow),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AnswersRow {
    PendingUnacknowledged,
    FinalUnacknowledged,
    Acknowledged,
}

impl From<&JobRecord> for JobRow {
    fn from(record: &JobRecord) -> Self {
        Self {
            v: VERSION,
            sender: record.job.sender.to_string(),
            id: record.job.id.to_string(),
            request: (&record.job.request).into(),
            number: record.number,
            received_ms: record.received.wall.0,
            received_uptime: UptimeRow::of(record.received),
            default_store: record.default_store.as_ref().map(ToString::to_string),
            phase: match &record.phase {
                Phase::Accepted => PhaseRow::Accepted,
                Phase::Finished(finished) => PhaseRow::Finished(finished.into()),
            },
        }
    }
}

impl TryFrom<JobRow> for JobRecord {
    type Error = BoxError;

    fn try_from(row: JobRow) -> Result<Self, BoxError> {
        Ok(Self {
            job: Job {
                sender: SenderId::new(row.sender)?,
                id: JobId::new(row.id)?,
                request: row.request.try_into()?,
            },
            number: row.number,
            received: moment(row.received_ms, row.received_uptime)?,
            default_store: row.default_store.map(StoreName::new).transpose()?,
            phase: match row.phase {
                PhaseRow::Accepted => Phase::Accepted,
                PhaseRow::Finished(finished) => Phase::Finished(finished.try_into()?),
            },
        })
    }
}

impl From<&JobRequest> for RequestRow {
    fn from(request: &JobRequest) -> Self {
        match request {
            JobRequest::Create(create) => Self::Create(CreateRow {
                target: (&create.target).into(),
                mebibytes: create.size.mebibytes(),
                fs: create.file_system.map(|fs| fs.as_str().to_owned()),
                uid: create.uid,
                gid: create.gid,
                mode: create.mode.map(|mode| mode.to_string()),
                provision: create.provision.map(|provision| provision.as_str().to_owned()),
            }),
            JobRequest::Delete(delete) => Self::Delete((&delete.target).into()),
        }
    }
}

impl TryFrom<RequestRow> for JobRequest {
    type Error = Failure;

    fn try_from(row: RequestRow) -> Result<Self, Failure> {
        Ok(match row {
            RequestRow::Create(create) => Self::Create(CreateRequest {
                target: create.target.try_into()?,
                size: VolumeSize::from_mebibytes(create.mebibytes)?,
                file_system: create.fs.as_deref().map(FileSystem::parse).transpose()?,
                uid: create.uid,
                gid: create.gid,
                mode: create.mode.as_deref().map(Mode::parse).transpose()?,
                provision: create.provision.as_deref().map(Provision::parse).transpose()?,
            }),
            RequestRow::Delete(target) => Self::Delete(DeleteRequest { target: target.try_into()? }),
        })
    }
}

impl From<&Target> for TargetRow {
    fn from(target: &Target) -> Self {
        Self {
            store: target.store.as_ref().map(ToString::to_string),
            name: target.given_name().map(ToString::to_string),
            mount_point: target.mount_point().map(ToString::to_string),
        }
    }
}

impl TryFrom<TargetRow> for Target {
    type Error = Failure;

    fn try_from(row: TargetRow) -> Result<Self, Failure> {
        Self::new(
            row.store.map(StoreName::new).transpose()?,
            row.name.map(VolumeName::new).transpose()?,
            row.mount_point.map(MountPoint::new).transpose()?,
        )
    }
}

impl From<&Finished> for FinishedRow {
    fn from(finished: &Finished) -> Self {
        Self {
            outcome: match &finished.outcome {
                Outcome::Done => OutcomeRow::Done,
                Outcome::Failed(report) => OutcomeRow::Failed(report.into()),
            },
            volume: finished.volume.as_ref().map(VolumeRow::from),
            changed: finished.changed,
            order: finished.order,
            at_ms: finished.at.wall.0,
            at_uptime: UptimeRow::of(finished.at),
            answers: match finished.answers {
                AnswerState::PendingUnacknowledged => AnswersRow::PendingUnacknowledged,
                AnswerState::FinalUnacknowledged => AnswersRow::FinalUnacknowledged,
                AnswerState::Acknowledged => AnswersRow::Acknowledged,
            },
            needs_undo: finished.needs_undo,
        }
    }
}

impl TryFrom<FinishedRow> for Finished {
    type Error = BoxError;

    fn try_from(row: FinishedRow) -> Result<Self, BoxError> {
        Ok(Self {
            outcome: match row.outcome {
                OutcomeRow::Done => Outcome::Done,
                OutcomeRow::Failed(report) => Outcome::Failed(report.try_into()?),
            },
            volume: row.volume.map(VolumeId::try_from).transpose()?,
            changed: row.changed,
            order: row.order,
            at: moment(row.at_ms, row.at_uptime)?,
            answers: match row.answers {
                AnswersRow::PendingUnacknowledged => AnswerState::PendingUnacknowledged,
                AnswersRow::FinalUnacknowledged => AnswerState::FinalUnacknowledged,
                AnswersRow::Acknowledged => AnswerState::Acknowledged,
            },
            needs_undo: row.needs_undo,
        })
    }
}
