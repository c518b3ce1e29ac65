//! Refusals whose answers wait.

use super::{ReportRow, VERSION};
use dvs_domain::failure::BoxError;
use dvs_domain::job::Refusal;
use dvs_domain::names::{JobId, SenderId};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RefusalRow {
    v: u32,
    sender: Option<String>,
    job: Option<String>,
    report: ReportRow,
}

impl From<&Refusal> for RefusalRow {
    fn from(refusal: &Refusal) -> Self {
        Self {
            v: VERSION,
            sender: refusal.sender.as_ref().map(ToString::to_string),
            job: refusal.job.as_ref().map(ToString::to_string),
            report: (&refusal.report).into(),
        }
    }
}

impl TryFrom<RefusalRow> for Refusal {
    type Error = BoxError;

    fn try_from(row: RefusalRow) -> Result<Self, BoxError> {
        Ok(Self {
            sender: row.sender.map(SenderId::new).transpose()?,
            job: row.job.map(JobId::new).transpose()?,
            report: row.report.try_into()?,
        })
    }
}
