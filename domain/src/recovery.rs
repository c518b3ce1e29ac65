//! What a start does with what is on disk, before the agent says that it is ready. Together with the table of the
//! [`ledger`](crate::ledger), which is about jobs and answers, there is one rule for everything.
//!
//! Volumes, by each store when it is opened, and when it is asked for them:
//!
//! | in the store | a start |
//! |---|---|
//! | a staging name, being made | removes it: it never existed, and its job does it again or undoes it |
//! | a staging name, being removed | removes it: its end was decided |
//! | a finished record | takes it for a volume |
//! | one copy of the record missing or broken | takes the other, and writes the broken one anew |
//! | no copy of the record whole, or the content missing or of another size | lists it as damaged, with its name; touches nothing |
//! | content without a record | somebody's data: likewise |
//! | content bound to a device that nothing mounts | uses that device, never a second one |
//! | a file system that was not unmounted in order | has it checked; what cannot be mended without force is damaged |
//! | something that is not the store's | leaves it alone |
//!
//! Attachments, by [`rule`]:
//!
//! | cut-off job about it | its volume | a start |
//! |---|---|---|
//! | the create that has meant it | not looked at | leaves it to that job, which does it again or undoes it |
//! | none, or a delete: it was not decided | in order | attaches it; a delete is then decided afresh |
//! | a delete: it was decided | gone | leaves it to that job, which clears away |
//! | none | gone | guards its mount point |
//! | none, or a delete | damaged, or its store does not say | guards its mount point |
//! | any but that create, held by ids of Docker only, nothing mounted | any | forgets it: such holders are void after a reboot |
//!
//! Attaching finds the volume mounted and touches nothing, or mounts it, also over a guard; something foreign that is
//! mounted there stays. What is not attached is reported, with its reason.

use crate::attachment::{Attachment, Holder};
use crate::failure::FailureCode;
use crate::job::{JobKey, JobRequest, Target};
use crate::ledger::JobRecord;
use std::collections::BTreeSet;

/// What a start does with an attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Makes the volume visible.
    Attach,
    /// Lays the guard over its mount point, and reports it.
    Guard,
    /// Nothing: a job that a restart has cut off is about it.
    LeaveToJob,
    /// Removes the directories that were made for it, and remembers it no longer.
    Forget,
}

/// What a start knows of an attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    /// Which job about it a restart has cut off.
    pub cut_off: CutOff,
    /// How its volume is; not looked at when a create is to make it.
    pub volume: Option<VolumeHealth>,
    /// Whether only ids of Docker hold it, and nothing is mounted at its mount point.
    pub is_void: bool,
}

/// Which job about an attachment a restart has cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutOff {
    /// None.
    Nothing,
    /// The create that has meant it.
    Create,
    /// A delete.
    Delete,
}

/// How a volume is that should be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeHealth {
    /// It can be attached.
    InOrder,
    /// Its store does not have it.
    Gone,
    /// It is damaged.
    Damaged,
    /// Its store does not answer, is not configured any more, or could not give it.
    Unknown,
}

impl VolumeHealth {
    /// How the volume is whose store gave it, or answered with that code.
    #[must_use]
    pub fn of(refused: Option<FailureCode>) -> Self {
        match refused {
            None => Self::InOrder,
            Some(FailureCode::NotFound) => Self::Gone,
            Some(FailureCode::Damaged) => Self::Damaged,
            Some(_) => Self::Unknown,
        }
    }
}

/// What a start does: see the table in this module's documentation.
#[must_use]
pub fn rule(situation: Situation) -> Rule {
    match (situation.cut_off, situation.volume) {
        (CutOff::Create, _) => Rule::LeaveToJob,
        (CutOff::Nothing | CutOff::Delete, _) if situation.is_void => Rule::Forget,
        (CutOff::Nothing | CutOff::Delete, Some(VolumeHealth::InOrder)) => Rule::Attach,
        (CutOff::Delete, Some(VolumeHealth::Gone)) => Rule::LeaveToJob,
        (CutOff::Nothing | CutOff::Delete, _) => Rule::Guard,
    }
}

/// What jobs are about that a restart has cut off: done again, or undone, by those jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnresolvedJobs {
    creates: BTreeSet<JobKey>,
    deletes: Vec<Target>,
}

impl UnresolvedJobs {
    /// What `jobs` are about, as far as a restart has cut them off.
    #[must_use]
    pub fn of<'a>(jobs: impl IntoIterator<Item = &'a JobRecord>) -> Self {
        let mut unresolved = Self::default();
        for record in jobs {
            let cut_off = record.is_unresolved();
            match &record.job.request {
                JobRequest::Create(_) if cut_off => {
                    unresolved.creates.insert(record.key());
                }
                JobRequest::Delete(delete) if cut_off => {
                    unresolved.deletes.push(delete.target.clone());
                }
                JobRequest::Create(_) | JobRequest::Delete(_) => {}
            }
        }
        unresolved
    }

    /// Which of them is about this attachment.
    #[must_use]
    pub fn about(&self, attachment: &Attachment) -> CutOff {
        if self.is_being_made(attachment) {
            CutOff::Create
        } else if self.is_being_deleted(attachment) {
            CutOff::Delete
        } else {
            CutOff::Nothing
        }
    }

    /// Whether a create has meant this attachment that has not ended.
    #[must_use]
    pub fn is_being_made(&self, attachment: &Attachment) -> bool {
        attachment.holders.iter().any(|holder| match holder {
            Holder::Job(key) => self.creates.contains(key),
            Holder::Docker(_) => false,
        })
    }

    /// Whether a delete may have been decided of what is attached there.
    #[must_use]
    pub fn is_being_deleted(&self, attachment: &Attachment) -> bool {
        self.deletes.iter().any(|target| match target.mount_point() {
            Some(mount_point) => *mount_point == attachment.mount_point,
            None => target.given_name() == Some(&attachment.volume.name),
        })
    }
}
