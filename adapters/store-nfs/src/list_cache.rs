//! Records from earlier listings. A record is valid while the metadata folder of its volume is unchanged. It serves to
//! list, and decides nothing.

use crate::client::Attributes;
use crate::volume_state::VolumeState;
use dvs_domain::names::VolumeName;
use dvs_domain::volume::Volume;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How many known records one listing reads again: a record that was overwritten in place leaves its folder unchanged.
const RECHECKS_MAX: usize = 32;
/// A record is not read again sooner.
const RECHECK_AFTER: Duration = Duration::from_secs(60);

/// Which state of a folder a record belongs to: inode number and `ctime`. No client can set that time, and every entry
/// that is added or removed changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Revision {
    file: u64,
    changed: (u32, u32),
}

impl Revision {
    pub(crate) fn of(attributes: &Attributes) -> Self {
        Self { file: attributes.file, changed: attributes.changed }
    }

    /// Whether the folder may change again within the same revision, because the server counts whole seconds.
    fn is_ambiguous(self, now: (u32, u32)) -> bool {
        self.changed.1 == 0 && now.0 <= self.changed.0
    }
}

#[derive(Default)]
pub(crate) struct ListCache {
    known: Mutex<HashMap<VolumeName, Known>>,
}

struct Known {
    revision: Revision,
    volume: Volume,
    read_at: Instant,
}

impl ListCache {
    /// Forgets all volumes but `names`, and those whose record is to be read again now.
    pub(crate) fn prepare<T>(&self, names: &BTreeMap<VolumeName, T>) {
        let mut known = self.known();
        known.retain(|name, _| names.contains_key(name));
        let mut due: Vec<_> = known
            .iter()
            .filter(|(_, known)| RECHECK_AFTER <= known.read_at.elapsed())
            .map(|(name, known)| (known.read_at, name.clone()))
            .collect();
        due.sort_unstable();
        for (_, name) in due.into_iter().take(RECHECKS_MAX) {
            known.remove(&name);
        }
    }

    pub(crate) fn get(&self, name: &VolumeName, revision: Revision) -> Option<Volume> {
        let known = self.known();
        known.get(name).filter(|known| known.revision == revision).map(|known| known.volume.clone())
    }

    /// Keeps a record that was read when the server's clock showed `now`.
    pub(crate) fn put(&self, name: &VolumeName, revision: Revision, volume: &Volume, now: (u32, u32)) {
        if !revision.is_ambiguous(now) {
            let known = Known { revision, volume: volume.clone(), read_at: Instant::now() };
            self.known().insert(name.clone(), known);
        }
    }

    /// Forgets `name` if a look-up found something else.
    pub(crate) fn correct(&self, name: &VolumeName, found: &VolumeState) {
        let mut known = self.known();
        let is_same =
            |known: &Known| matches!(found, VolumeState::Sound(sound) if sound.volume == known.volume);
        if known.get(name).is_some_and(|known| !is_same(known)) {
            known.remove(name);
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<VolumeName, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_ambiguous_only_within_the_second_of_a_server_that_counts_seconds() {
        let changed = |seconds, nanoseconds| Revision { file: 1, changed: (seconds, nanoseconds) };
        assert!(changed(7, 0).is_ambiguous((7, 0)));
        assert!(changed(8, 0).is_ambiguous((7, 0)), "its clock was set back");
        assert!(!changed(7, 0).is_ambiguous((8, 0)));
        assert!(!changed(7, 1).is_ambiguous((7, 1)));
    }
}
