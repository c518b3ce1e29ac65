//! Lanes: which jobs must not run at the same time, and which job of a lane is first.

use crate::attachment::AttachmentTable;
use crate::job::{Job, JobRequest};
use crate::mount_point::MountPoint;
use crate::names::{StoreName, VolumeName};
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
    pub(super) fn of(job: &Job, default_store: &StoreName, attached: &AttachmentTable) -> Self {
        let target = job.request.target();
        let store = match (&job.request, &target.store) {
            (_, Some(store)) => Some(store.clone()),
            (JobRequest::Create(_), None) => Some(default_store.clone()),
            (JobRequest::Delete(_), None) => None,
        };
        let name = target.name();
        let there = target.mount_point().and_then(|mount_point| attached.at(mount_point));
        let named = attached
            .named(&name)
            .filter(|attachment| store.as_ref().is_none_or(|store| *store == attachment.volume.store));
        let mut lane = Self::default();
        lane.mount_points.extend(target.mount_point().cloned());
        for attachment in there.into_iter().chain(named) {
            lane.mount_points.insert(attachment.mount_point.clone());
            let volume = attachment.volume.clone();
            lane.volumes.insert((volume.name, Some(volume.store)));
        }
        lane.volumes.insert((name, store));
        lane
    }

    fn shares_volume(&self, other: &Self) -> bool {
        self.volumes.iter().any(|(name, store)| {
            other.volumes.iter().any(|(other_name, other_store)| {
                name == other_name && (store == other_store || store.is_none() || other_store.is_none())
            })
        })
    }
}

/// The lanes of jobs that wait, run or hang, by the numbers of the jobs. Finds those that meet a lane without looking
/// at the others.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: BTreeMap<u64, Lane>,
    by_mount_point: BTreeMap<MountPoint, BTreeSet<u64>>,
    by_name: BTreeMap<VolumeName, BTreeSet<u64>>,
}

impl Lanes {
    /// Adds to `lane` what the jobs may touch that name something of it: who follows them may find what they have made.
    pub(super) fn absorb_into(&self, lane: &mut Lane) {
        for other in self.naming_same(lane).iter().filter_map(|number| self.lanes.get(number)) {
            lane.mount_points.extend(other.mount_points.iter().cloned());
            lane.volumes.extend(other.volumes.iter().cloned());
        }
    }

    pub(super) fn insert(&mut self, number: u64, lane: Lane) {
        for mount_point in &lane.mount_points {
            self.by_mount_point.entry(mount_point.clone()).or_default().insert(number);
        }
        for (name, _) in &lane.volumes {
            self.by_name.entry(name.clone()).or_default().insert(number);
        }
        self.lanes.insert(number, lane);
    }

    /// Gives the jobs whose lanes have met the removed one.
    pub(super) fn remove(&mut self, number: u64) -> BTreeSet<u64> {
        let Some(lane) = self.lanes.remove(&number) else { return BTreeSet::new() };
        for mount_point in &lane.mount_points {
            remove_from(&mut self.by_mount_point, mount_point, number);
        }
        for (name, _) in &lane.volumes {
            remove_from(&mut self.by_name, name, number);
        }
        self.overlapping(&lane)
    }

    /// The jobs that meet the lane of the job `number`, itself too.
    pub(super) fn meeting(&self, number: u64) -> BTreeSet<u64> {
        self.lanes.get(&number).map(|lane| self.overlapping(lane)).unwrap_or_default()
    }

    /// Whether no job before it meets its lane.
    pub(super) fn is_first(&self, number: u64) -> bool {
        let Some(lane) = self.lanes.get(&number) else { return false };
        let is_at_or_after = |numbers: &BTreeSet<u64>| numbers.first().is_none_or(|first| *first >= number);
        let shares_none_before = |numbers: &BTreeSet<u64>| {
            let mut before = numbers.range(..number).filter_map(|number| self.lanes.get(number));
            !before.any(|other| other.shares_volume(lane))
        };
        lane.mount_points.iter().all(|there| self.around(there).all(is_at_or_after))
            && lane.volumes.iter().filter_map(|(name, _)| self.by_name.get(name)).all(shares_none_before)
    }

    /// The jobs that must not run at the same time as one with this lane, in order.
    pub(super) fn overlapping(&self, lane: &Lane) -> BTreeSet<u64> {
        let mut numbers = self.naming_same(lane);
        numbers.extend(lane.mount_points.iter().flat_map(|there| self.around(there)).flatten());
        numbers
    }

    /// The jobs at, above and below a mount point.
    fn around<'a>(&'a self, there: &'a MountPoint) -> impl Iterator<Item = &'a BTreeSet<u64>> {
        let nested = there.above_in(&self.by_mount_point).chain(there.below_in(&self.by_mount_point));
        self.by_mount_point.get(there).into_iter().chain(nested.map(|(_, numbers)| numbers))
    }

    /// The jobs that name the same mount point or volume; nested mount points are not the same.
    fn naming_same(&self, lane: &Lane) -> BTreeSet<u64> {
        let at_mount_point = lane.mount_points.iter().filter_map(|there| self.by_mount_point.get(there));
        let mut numbers: BTreeSet<u64> = at_mount_point.flatten().copied().collect();
        let of_name = lane.volumes.iter().filter_map(|(name, _)| self.by_name.get(name)).flatten();
        let of_volume =
            of_name.filter(|number| self.lanes.get(*number).is_some_and(|other| other.shares_volume(lane)));
        numbers.extend(of_volume);
        numbers
    }
}

fn remove_from<K: Ord>(index: &mut BTreeMap<K, BTreeSet<u64>>, key: &K, number: u64) {
    if let Some(numbers) = index.get_mut(key) {
        numbers.remove(&number);
        if numbers.is_empty() {
            index.remove(key);
        }
    }
}
