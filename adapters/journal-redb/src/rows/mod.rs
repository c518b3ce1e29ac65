//! What is written: one JSON object per row, with a version. The words are fixed, and read back through the
//! domain's constructors, so that nothing comes out of a journal that could not have come in.

mod attachment;
mod job;
mod refusal;

use dvs_domain::attachment::Attachment;
use dvs_domain::failure::{BoxError, Failure, FailureCode, FailureReport};
use dvs_domain::job::{JobKey, JobKind, Refusal};
use dvs_domain::ledger::JobRecord;
use dvs_domain::names::{JobId, SenderId, StoreName, VolumeName};
use dvs_domain::volume::VolumeId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version of what is written.
const VERSION: u32 = 1;

/// The key of a job's row. No sender has a `/`, and no kind has one, so two jobs never share a key.
pub(crate) fn job_key(key: &JobKey) -> String {
    format!("{}/{}/{}", key.sender, key.kind, key.id)
}

/// A job's row.
pub(crate) fn write_job(record: &JobRecord) -> Vec<u8> {
    to_json(&job::JobRow::from(record))
}

/// Reads a job's row.
pub(crate) fn read_job(json: &[u8]) -> Result<JobRecord, BoxError> {
    from_json::<job::JobRow>(json)?.try_into()
}

/// A refusal's row.
pub(crate) fn write_refusal(refusal: &Refusal) -> Vec<u8> {
    to_json(&refusal::RefusalRow::from(refusal))
}

/// Reads a refusal's row.
pub(crate) fn read_refusal(json: &[u8]) -> Result<Refusal, BoxError> {
    from_json::<refusal::RefusalRow>(json)?.try_into()
}

/// An attachment's row.
pub(crate) fn write_attachment(attachment: &Attachment) -> Vec<u8> {
    to_json(&attachment::AttachmentRow::from(attachment))
}

/// Reads an attachment's row.
pub(crate) fn read_attachment(json: &[u8]) -> Result<Attachment, BoxError> {
    from_json::<attachment::AttachmentRow>(json)?.try_into()
}

fn to_json(row: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(row).expect("a row of strings, numbers and lists has a JSON form")
}

/// The version is looked at first: what a newer version has written need not look like a row at all.
fn from_json<T: DeserializeOwned>(json: &[u8]) -> Result<T, BoxError> {
    #[derive(Deserialize)]
    struct Versioned {
        v: u32,
    }
    let Versioned { v } = serde_json::from_slice(json)?;
    if v != VERSION {
        return Err(format!("it has version {v}, this program knows {VERSION}").into());
    }
    Ok(serde_json::from_slice(json)?)
}

/// A volume's identity.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VolumeRow {
    store: String,
    name: String,
}

impl From<&VolumeId> for VolumeRow {
    fn from(id: &VolumeId) -> Self {
        Self { store: id.store.to_string(), name: id.name.to_string() }
    }
}

impl TryFrom<VolumeRow> for VolumeId {
    type Error = Failure;

    fn try_from(row: VolumeRow) -> Result<Self, Failure> {
        Ok(Self { store: StoreName::new(row.store)?, name: VolumeName::new(row.name)? })
    }
}

/// A job's identity.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyRow {
    sender: String,
    kind: KindRow,
    id: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum KindRow {
    Create,
    Delete,
}

impl From<&JobKey> for KeyRow {
    fn from(key: &JobKey) -> Self {
        let kind = match key.kind {
            JobKind::Create => KindRow::Create,
            JobKind::Delete => KindRow::Delete,
        };
        Self { sender: key.sender.to_string(), kind, id: key.id.to_string() }
    }
}

impl TryFrom<KeyRow> for JobKey {
    type Error = Failure;

    fn try_from(row: KeyRow) -> Result<Self, Failure> {
        let kind = match row.kind {
            KindRow::Create => JobKind::Create,
            KindRow::Delete => JobKind::Delete,
        };
        Ok(Self { sender: SenderId::new(row.sender)?, kind, id: JobId::new(row.id)? })
    }
}

/// Why something failed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReportRow {
    code: String,
    error: String,
    hint: Option<String>,
}

impl From<&FailureReport> for ReportRow {
    fn from(report: &FailureReport) -> Self {
        Self { code: report.code.to_string(), error: report.error.clone(), hint: report.hint.clone() }
    }
}

impl TryFrom<ReportRow> for FailureReport {
    type Error = BoxError;

    fn try_from(row: ReportRow) -> Result<Self, BoxError> {
        let code = FailureCode::from_word(&row.code)
            .ok_or_else(|| format!("`{}` is no failure code", row.code.escape_debug()))?;
        Ok(Self { code, error: row.error, hint: row.hint })
    }
}

#[cfg(test)]
mod tests;
