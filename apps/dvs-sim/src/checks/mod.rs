//! What must stay true, whatever goes wrong: the promises of contract.md sections 2 to 5, each with a name. Most are
//! checked at the very moment, inside the fakes; the others once all is quiet.

mod acts;
mod answers;
mod commits;
mod limits;
mod settled;

use crate::world::disk::Inode;
use crate::world::senders::ShownId;
use dvs_domain::failure::FailureReport;
use dvs_domain::job::{JobKey, Status};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::size::VolumeSize;
use dvs_domain::volume::VolumeId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub(crate) use settled::Stage;

/// What the checks remember: more than the agent does, and over all its lives.
#[derive(Debug, Default)]
pub(crate) struct Ghost {
    /// What senders have heard of each job.
    heard: BTreeMap<JobKey, Heard>,
    /// What must be true of each volume, and the order number of the job that made it so.
    expected: BTreeMap<VolumeId, (u64, Expected)>,
    /// How each job ended.
    outcomes: BTreeMap<JobKey, Ended>,
    /// Which volume each delete has decided the end of.
    decided: BTreeMap<JobKey, VolumeId>,
    /// When the engine last said that nobody uses a volume, in sequence; of this life.
    asked: BTreeMap<VolumeId, (u64, u64)>,
    /// What could not be recorded because a fault was put there.
    unrecorded: BTreeSet<ShownId>,
    /// Refusals that were on disk once.
    refused: BTreeSet<ShownId>,
    /// Images that were formatted, with the job that did.
    formatted: BTreeMap<Inode, JobKey>,
}

#[derive(Debug, Default)]
struct Heard {
    pending: bool,
    last: Option<Status>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    Present {
        size: VolumeSize,
        at: Option<MountPoint>,
    },
    /// Gone; `told` when a delete said `DONE`.
    Absent {
        told: bool,
    },
}

#[derive(Clone, Debug)]
struct Ended {
    done: bool,
}

/// One word to a sender, with what it is about: more than the wire shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Pending(JobKey),
    Final(JobKey, Status),
    Refused(ShownId, FailureReport),
}

impl fmt::Display for Word {
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
