//! What a sender did and was told, with the time of each, and what of that it knew at a moment.

use crate::sender::{End, Job, Wish};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where jobs must not mount.
pub(super) const REFUSED: &str = "/etc/volume";

/// Where a sender has volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: Option<PathBuf>,
    pub(super) name: Option<String>,
}

/// A volume, as its user knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Volume {
    pub(super) size: u64,
    pub(super) more: &'static [(&'static str, &'static str)],
    /// The files that were synced, and their content.
    pub(super) files: BTreeMap<String, String>,
}

/// What a sender knows at a moment. Places are numbers: of the sender's list.
#[derive(Clone, Debug, Default)]
pub(super) struct Knowledge {
    /// The volumes that were answered `DONE` and not deleted.
    pub(super) volumes: BTreeMap<usize, Volume>,
    /// The job that is not answered.
    pub(super) open: Option<Open>,
    /// A file that is not synced: it may be there, in any state.
    pub(super) unsynced: Option<(usize, String)>,
    pub(super) ended: Vec<Ended>,
}

/// A job that was sent and not answered.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) place: usize,
    pub(super) job: Job,
    pub(super) was_pending: bool,
}

/// A job that was answered.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) place: usize,
    pub(super) job: Job,
    pub(super) end: End,
}

/// What a sender did.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Asked {
        place: usize,
        job: Job,
        sent: u64,
        pending: Option<u64>,
        end: Option<(u64, End)>,
    },
    /// A file was written and synced into the volume at a place.
    Wrote {
        place: usize,
        file: String,
        text: String,
        began: u64,
        synced: u64,
    },
}

/// What a sender did, in order, after what it knew before.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) before: Knowledge,
    pub(super) events: Vec<Event>,
}

impl Volume {
    /// Whether the power may fail at a moment at which its file system, which has no journal, is in a state that no check
    /// repairs without asking.
    pub(super) fn is_without_journal(&self) -> bool {
        self.more.contains(&("fs", "ext2"))
    }
}

impl Knowledge {
    /// The place of a volume that its own user may have left damaged: a file was being written, without a journal.
    pub(super) fn fragile(&self) -> Option<usize> {
        let (place, _) = self.unsynced.as_ref()?;
        self.volumes.get(place).filter(|volume| volume.is_without_journal()).map(|_| *place)
    }

    /// What `job` must come to.
    pub(super) fn expected(&self, place: usize, job: &Job) -> End {
        match &job.wish {
            Wish::Create { at: Some(at), .. } if at == Path::new(REFUSED) => {
                End::Failed("forbidden-path".to_owned())
            }
            Wish::Create { size, .. }
                if self.volumes.get(&place).is_some_and(|there| there.size != *size) =>
            {
                End::Failed("conflict".to_owned())
            }
            _ => End::Done,
        }
    }

    /// Notes that `job` has come to `end`.
    pub(super) fn note_end(&mut self, place: usize, job: &Job, end: &End) {
        match (&job.wish, end) {
            (Wish::Create { size, more, .. }, End::Done) => {
                let made = Volume { size: *size, more, files: BTreeMap::new() };
                self.volumes.entry(place).or_insert(made);
            }
            (Wish::Delete { .. }, End::Done) => {
                self.volumes.remove(&place);
            }
            (_, End::Failed(_)) => {}
        }
        self.ended.push(Ended { place, job: job.clone(), end: end.clone() });
    }
}

impl History {
    /// What the sender knew right before `time`.
    pub(super) fn known_before(&self, time: u64) -> Knowledge {
        let mut known = self.before.clone();
        for event in &self.events {
            match event {
                Event::Asked { place, job, sent, pending, end } => {
                    if time <= *sent {
                        break;
                    }
                    match end {
                        Some((at, end)) if *at < time => {
                            known.open = None;
                            known.note_end(*place, job, end);
                        }
                        _ => {
                            let was_pending = pending.is_some_and(|at| at < time);
                            known.open = Some(Open { place: *place, job: job.clone(), was_pending });
                            break;
                        }
                    }
                }
                Event::Wrote { place, file, text, began, synced } => {
                    if *synced < time {
                        if let Some(volume) = known.volumes.get_mut(place) {
                            volume.files.insert(file.clone(), text.clone());
                        }
                    } else {
                        if *began < time {
                            known.unsynced = Some((*place, file.clone()));
                        }
                        break;
                    }
                }
            }
        }
        known
    }

    /// When the sender was told something: the moments at which that must be true.
    pub(super) fn told(&self) -> impl Iterator<Item = u64> {
        self.events
            .iter()
            .flat_map(|event| match event {
                Event::Asked { pending, end, .. } => [*pending, end.as_ref().map(|(at, _)| *at)],
                Event::Wrote { synced, .. } => [Some(*synced), None],
            })
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unfinished_write_into_a_volume_without_a_journal_may_damage_it() {
        let ext2: &[(&str, &str)] = &[("fs", "ext2"), ("provision", "thick")];
        let volume = |more| Volume { size: 8, more, files: BTreeMap::new() };
        let volumes = BTreeMap::from([(0, volume(ext2)), (1, volume(&[]))]);
        let fragile = |place| {
            let unsynced = Some((place, "file".to_owned()));
            Knowledge { volumes: volumes.clone(), unsynced, ..Knowledge::default() }.fragile()
        };
        assert_eq!([fragile(0), fragile(1), fragile(2)], [Some(0), None, None]);
        assert_eq!(Knowledge { volumes: volumes.clone(), ..Knowledge::default() }.fragile(), None);
    }
}
