//! Lanes: which jobs must not run at the same time.

use crate::job::{Job, JobRequest};
use crate::mount_point::MountPoint;
use crate::names::{StoreName, VolumeName};
use crate::volume::VolumeId;
use std::collections::{BTreeMap, BTreeSet};

/// The mount points and volumes that a job may touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lane {
    mount_points: BTreeSet<MountPoint>,
    /// Names with their store; `None` where a bare name may mean any store.
    volumes: BTreeSet<(VolumeName, Option<StoreName>)>,
}

impl Lane {
    /// The lane of `job`: what it names, and what is attached there.
    pub(super) fn of(
        job: &Job,
        default_store: &StoreName,
        attached: &BTreeMap<MountPoint, VolumeId>,
    ) -> Self {
        let target = job.request.target();
        let store = match (&job.request, &target.store) {
            (_, Some(store)) => Some(store.clone()),
            (JobRequest::Create(_), None) => Some(default_store.clone()),
            (JobRequest::Delete(_), None) => None,
        };
        let mut lane = Self::default();
        lane.mount_points.extend(target.mount_point().cloned());
        lane.volumes.insert((target.name(), store));
        for (mount_point, volume) in attached {
            let attachment = Self {
                mount_points: BTreeSet::from([mount_point.clone()]),
                volumes: BTreeSet::from([(volume.name.clone(), Some(volume.store.clone()))]),
            };
            if attachment.names_same(&lane) {
                lane.absorb(&attachment);
            }
        }
        lane
    }

    /// Whether two jobs must not run at the same time.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.mount_points.iter().any(|mine| other.mount_points.iter().any(|theirs| mine.overlaps(theirs)))
            || self.shares_volume(other)
    }

    /// Takes over what `other` may touch: a job that follows another one may find what that one has made.
    pub(super) fn absorb(&mut self, other: &Self) {
        self.mount_points.extend(other.mount_points.iter().cloned());
        self.volumes.extend(other.volumes.iter().cloned());
    }

    /// Whether both name the same mount point or volume; nested mount points are not the same.
    pub(super) fn names_same(&self, other: &Self) -> bool {
        !self.mount_points.is_disjoint(&other.mount_points) || self.shares_volume(other)
    }

    fn shares_volume(&self, other: &Self) -> bool {
        self.volumes.iter().any(|(name, store)| {
            other.volumes.iter().any(|(other_name, other_store)| {
                name == other_name && (store == other_store || store.is_none() || other_store.is_none())
            })
        })
    }
}
