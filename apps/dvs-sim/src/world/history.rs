//! What the checks keep of a whole run: more than the agent does, and over all its lives.

use super::clock::Stamp;
use super::disk::Inode;
use super::ids::ShownId;
use crate::scenario::STORES;
use dvs_domain::job::{JobKey, Status};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::size::VolumeSize;
use dvs_domain::volume::VolumeId;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(crate) struct History {
    /// The answers that senders received about each job.
    pub(crate) received: BTreeMap<JobKey, Received>,
    /// When each job was accepted, and when it ended.
    pub(crate) accepted: BTreeMap<JobKey, Stamp>,
    pub(crate) ended: BTreeMap<JobKey, Stamp>,
    /// What must be true of each volume, and the order number of the job that made it so.
    pub(crate) expected: BTreeMap<VolumeId, (u64, Expected)>,
    /// Jobs that ended with `DONE`.
    pub(crate) done: BTreeSet<JobKey>,
    /// Jobs that failed.
    pub(crate) failed: BTreeSet<JobKey>,
    /// The volume whose end each delete has decided.
    pub(crate) decided: BTreeMap<JobKey, VolumeId>,
    /// When the engine last reported no user of a volume: its place in the sequence, and the life.
    pub(crate) asked: BTreeMap<VolumeId, (u64, u64)>,
    /// Every volume that was ever made.
    pub(crate) made: BTreeSet<VolumeId>,
    /// Until when each store was away, and the engine or any call unavailable.
    pub(crate) away_until: [u64; STORES.len()],
    pub(crate) unavailable_until: u64,
    /// What could not be recorded because the journal was made to fail.
    pub(crate) unrecorded: BTreeSet<ShownId>,
    /// Refusals that were on disk once.
    pub(crate) refused: BTreeSet<ShownId>,
    /// Directories that a foreign mount has kept from being removed with their attachment.
    pub(crate) kept_directories: BTreeSet<MountPoint>,
    /// Images that were formatted, for which job and when.
    pub(crate) formatted: BTreeMap<Inode, (JobKey, u64)>,
}

#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) pending: bool,
    pub(crate) last: Option<Status>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Present {
        size: VolumeSize,
        at: Option<MountPoint>,
    },
    /// Gone; `told` when a delete was answered `DONE`.
    Absent {
        told: bool,
    },
}
