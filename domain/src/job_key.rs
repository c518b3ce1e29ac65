//! The identity of jobs.

use crate::names::{AttemptId, JobId, SenderId};
use std::fmt;

/// What a job asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobKind {
    /// Make a volume, and attach it.
    Create,
    /// Detach a volume, and destroy it.
    Delete,
}

impl JobKind {
    /// The word in topics, records and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
        }
    }
}

impl fmt::Display for JobKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A job's identity: sender + kind + the id that the sender chose. The specification's create and delete
/// examples share their id: they are two jobs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey {
    /// Who asked.
    pub sender: SenderId,
    /// For what.
    pub kind: JobKind,
    /// Under which id.
    pub id: JobId,
}

impl fmt::Display for JobKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} job `{}` of `{}`", self.kind, self.id, self.sender)
    }
}

/// Who has made a volume.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Maker {
    /// The job.
    pub job: JobKey,
    /// Its attempts. Absent in records of agents that did not record it: then no job takes the volume for its own.
    pub attempt: Option<AttemptId>,
}

impl fmt::Display for Maker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.job.fmt(formatter)
    }
}
