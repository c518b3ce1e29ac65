//! Identities of messages and answers.

use dvs_domain::failure::FailureReport;
use dvs_domain::job::{JobKey, Status};
use dvs_domain::names::{JobId, SenderId};
use std::fmt;

/// Index of a message in the order in which senders planned them.
pub(crate) type MessageNumber = usize;

/// A job's sender and id: what an answer shows of it.
pub(crate) type ShownId = (SenderId, Option<JobId>);

/// An answer with the job that it is about, which the wire shows only in part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SentAnswer {
    Pending(JobKey),
    Final(JobKey, Status),
    Refused(ShownId, FailureReport),
}

impl fmt::Display for SentAnswer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending(key) => write!(formatter, "PENDING of {key}"),
            Self::Final(key, Status::Failed(report)) => {
                write!(formatter, "FAILED of {key}: {} {}", report.code, report.error)
            }
            Self::Final(key, _) => write!(formatter, "DONE of {key}"),
            Self::Refused((sender, id), report) => {
                let id = id.as_ref().map_or("-", |id| id.as_str());
                write!(formatter, "refusal of `{id}` of `{sender}`: {} {}", report.code, report.error)
            }
        }
    }
}
