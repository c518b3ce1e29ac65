//! What is known of volumes from lists before this one. It is believed as long as the folder of a volume is as it was,
//! however old it is, and read again a few volumes at a time: a record that was written over where it lies leaves its
//! folder as it was.

use crate::entry::State;
use crate::target::Attributes;
use dvs_domain::names::VolumeName;
use dvs_domain::volume::Volume;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

/// So many records at most are read again by one list, of those that are known.
const AGAIN_MAX: usize = 32;
/// What was read in this time is not read again.
const AGAIN_SECONDS: u64 = 60;
/// After so long the second of a change is over on any server.
const SETTLED_SECONDS: u64 = 2;

/// Which folder or file something is, and as of when: its number on the server, and the time of its last change by the
/// server's clock (`ctime`). Nobody can set that time, and it moves with whatever is put in, taken out, or made anew,
/// also under a number that was used before. Nodes need not agree with the server about the time: it is only compared
/// with itself. Two changes in one tick of that clock look like one. That is enough to show something by, and to decide
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edition {
    pub(super) file: u64,
    pub(super) changed: (u32, u32),
}

impl Edition {
    pub(super) fn of(attributes: &Attributes) -> Self {
        Self { file: attributes.file, changed: attributes.changed }
    }

    /// Whether it may change once more without another edition, on a server that counts whole seconds, when it is
    /// `now` there.
    fn is_unsettled(&self, now: (u32, u32)) -> bool {
        self.changed.1 == 0 && now.0 <= self.changed.0
    }
}

/// What the process knows of the volumes of a store.
#[derive(Default)]
pub(crate) struct Listing {
    known: Mutex<HashMap<VolumeName, Known>>,
    /// The posted list that was read last.
    heeded: Mutex<Option<Edition>>,
    /// When this process last began to post a list. Held as long as it does.
    posted_at: Arc<tokio::sync::Mutex<Option<Instant>>>,
    /// Among volumes that are due at once none is always the last.
    lots: RandomState,
}

struct Known {
    edition: Edition,
    volume: Volume,
    read_at: Instant,
    ground: Ground,
}

/// What knowledge rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ground {
    /// The record was read.
    Read,
    /// It was read in the second in which its folder was changed, on a server that counts no finer.
    ReadAtOnce,
    /// Another node has posted it.
    Posted,
}

impl Listing {
    pub(super) fn believed(&self, name: &VolumeName, edition: Edition) -> Option<Volume> {
        let known = self.known();
        known.get(name).filter(|known| known.edition == edition).map(|known| known.volume.clone())
    }

    pub(super) fn is_believed(&self, name: &VolumeName, edition: Edition) -> bool {
        self.known().get(name).is_some_and(|known| known.edition == edition)
    }

    /// The record of a volume was read, when it was `now` on the server.
    pub(super) fn remember(&self, name: &VolumeName, edition: Edition, volume: &Volume, now: (u32, u32)) {
        let mut known = self.known();
        let settled = Duration::from_secs(SETTLED_SECONDS);
        // Where nothing has changed since, the server tells no later time.
        let is_settled = !edition.is_unsettled(now)
            || known
                .get(name)
                .is_some_and(|known| known.edition == edition && settled <= known.read_at.elapsed());
        let ground = if is_settled { Ground::Read } else { Ground::ReadAtOnce };
        known
            .insert(name.clone(), Known { edition, volume: volume.clone(), read_at: Instant::now(), ground });
    }

    /// Another node has posted these.
    pub(super) fn hear(&self, posted: HashMap<VolumeName, (Edition, Volume)>) {
        let read_at = Instant::now();
        let known = posted.into_iter().map(|(name, (edition, volume))| {
            (name, Known { edition, volume, read_at, ground: Ground::Posted })
        });
        self.known().extend(known);
    }

    /// Whoever looked up `name` has found something else than is known, if so: then that is known no more.
    pub(crate) fn correct(&self, name: &VolumeName, found: &State) {
        let mut known = self.known();
        let is_so = |known: &Known| matches!(found, State::Sound(sound) if sound.volume == known.volume);
        if known.get(name).is_some_and(|known| !is_so(known)) {
            known.remove(name);
        }
    }

    pub(super) fn keep_only<T>(&self, names: &BTreeMap<VolumeName, T>) {
        self.known().retain(|name, _| names.contains_key(name));
    }

    /// Which of the known volumes are read again now: of those for which it is time the ones that nobody here has read,
    /// then the ones that were read longest ago.
    pub(super) fn due(&self) -> HashSet<VolumeName> {
        let again = Duration::from_secs(AGAIN_SECONDS);
        let known = self.known();
        let mut due: Vec<_> = known
            .iter()
            .filter(|(_, known)| again <= known.read_at.elapsed())
            .map(|(name, known)| {
                (known.ground == Ground::Read, known.read_at, self.lots.hash_one(name), name)
            })
            .collect();
        due.sort_unstable();
        due.into_iter().take(AGAIN_MAX).map(|(.., name)| name.clone()).collect()
    }

    /// What can be posted.
    pub(super) fn to_post(&self) -> Vec<(Edition, Volume)> {
        let known = self.known();
        let sure = known.values().filter(|known| known.ground != Ground::ReadAtOnce);
        sure.map(|known| (known.edition, known.volume.clone())).collect()
    }

    /// Whether this posted list is the one that was read last.
    pub(super) fn has_heeded(&self, list: Edition) -> bool {
        *self.heeded.lock().unwrap_or_else(PoisonError::into_inner) == Some(list)
    }

    pub(super) fn heeded(&self, list: Edition) {
        *self.heeded.lock().unwrap_or_else(PoisonError::into_inner) = Some(list);
    }

    /// The turn to post a list, unless this process is doing so already.
    pub(super) fn turn_to_post(&self) -> Option<OwnedMutexGuard<Option<Instant>>> {
        Arc::clone(&self.posted_at).try_lock_owned().ok()
    }

    #[cfg(feature = "testing")]
    pub(crate) fn is_posting(&self) -> bool {
        self.posted_at.try_lock().is_err()
    }

    fn known(&self) -> MutexGuard<'_, HashMap<VolumeName, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::sample;

    const NOW: (u32, u32) = (7, 0);

    fn names(listing: &Listing) -> Vec<String> {
        let mut names: Vec<String> = listing.due().into_iter().map(|name| name.to_string()).collect();
        names.sort();
        names
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_here_has_read_well_is_read_again_first_and_then_what_is_oldest() {
        let listing = Listing::default();
        let mut volumes = sample::volumes(100).into_iter().map(|(_, volume)| volume);
        let mut learn = |count: usize, changed| {
            let volumes: Vec<Volume> = volumes.by_ref().take(count).collect();
            for volume in &volumes {
                let edition = Edition { file: 1, changed };
                listing.remember(&volume.spec.id.name, edition, volume, NOW);
            }
            let mut names: Vec<String> =
                volumes.iter().map(|volume| volume.spec.id.name.to_string()).collect();
            names.sort();
            (names, volumes)
        };
        let (old, _) = learn(AGAIN_MAX - 7, (6, 0));
        tokio::time::advance(Duration::from_secs(1)).await;
        let (new, _) = learn(AGAIN_MAX, (6, 0));
        tokio::time::advance(Duration::from_secs(1)).await;
        let (mut doubtful, _) = learn(3, (7, 0));
        let (posted, volumes) = learn(4, (5, 0));
        let edition = Edition { file: 1, changed: (5, 0) };
        let name = |volume: &Volume| volume.spec.id.name.clone();
        listing.hear(volumes.into_iter().map(|volume| (name(&volume), (edition, volume))).collect());
        doubtful.extend(posted);

        assert_eq!(listing.to_post().len(), old.len() + new.len() + 4, "all but what may have changed since");
        tokio::time::advance(Duration::from_secs(AGAIN_SECONDS - 3)).await;
        assert!(listing.due().is_empty());
        tokio::time::advance(Duration::from_secs(3)).await;
        let mut expected = [old, doubtful].concat();
        expected.sort();
        assert_eq!(names(&listing), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn volumes_that_were_all_changed_in_the_last_second_keep_no_other_from_being_read_again() {
        let listing = Listing::default();
        let mut volumes = sample::volumes(AGAIN_MAX as u32 + 2);
        let (_, older) = volumes.pop().unwrap();
        let older_edition = Edition { file: 1, changed: (6, 0) };
        listing.remember(&older.spec.id.name, older_edition, &older, NOW);
        let last = Edition { file: 1, changed: NOW };
        for list in 0..3 {
            let due = listing.due();
            for (_, volume) in &volumes {
                let name = &volume.spec.id.name;
                if list == 0 || due.contains(name) {
                    listing.remember(name, last, volume, NOW);
                }
            }
            tokio::time::advance(Duration::from_secs(AGAIN_SECONDS)).await;
        }
        assert!(listing.due().contains(&older.spec.id.name));
        assert_eq!(listing.to_post().len(), AGAIN_MAX + 2, "the second is over");
    }

    #[test]
    fn only_where_seconds_are_counted_a_second_hides_a_change() {
        let changed = |seconds, nanoseconds| Edition { file: 1, changed: (seconds, nanoseconds) };
        assert!(changed(7, 0).is_unsettled((7, 0)));
        assert!(changed(8, 0).is_unsettled((7, 0)), "its clock was set back");
        assert!(!changed(7, 0).is_unsettled((8, 0)));
        assert!(!changed(7, 1).is_unsettled((7, 1)));
    }
}
