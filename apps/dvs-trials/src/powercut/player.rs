//! Who sends jobs while the disk records, and writes into the volumes.

use super::history::{Event, History, Knowledge, Place, REFUSED};
use crate::clock;
use crate::ground::Ground;
use crate::process::text;
use crate::random::Random;
use crate::sender::{Sender, Wish};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

const SIZE: u64 = 8;
const OTHER_SIZE: u64 = 9;
/// How much is written into a file, in bytes.
const FILE_BYTES: usize = 6000;

/// What creates ask for besides.
const KINDS: [&[(&str, &str)]; 4] =
    [&[], &[("fs", "ext2")], &[("provision", "thick")], &[("fs", "ext2"), ("provision", "thick")]];

/// See the module.
pub(super) struct Player {
    pub(super) sender: Sender,
    pub(super) places: Vec<Place>,
    pub(super) history: History,
    random: Random,
    files: u64,
}

impl Player {
    pub(super) async fn new(
        broker: SocketAddr,
        ground: &Ground,
        run: u64,
        number: usize,
        random: Random,
    ) -> Result<Self> {
        let id = format!("power-{run}-{number}");
        let sender = Sender::connect(broker, &ground.launch.node, &id).await?;
        let mounted = |at: &str| Place { at: Some(ground.at(at)), name: None };
        let places = vec![
            mounted(&format!("shared/{number}/deep")),
            mounted(&format!("own-{number}")),
            Place { at: None, name: Some(format!("named-{number}")) },
        ];
        Ok(Self { sender, places, history: History::default(), random, files: 0 })
    }

    /// Has `jobs` jobs done, one after the other.
    pub(super) async fn play(&mut self, jobs: usize) -> Result<()> {
        let mut known = Knowledge::default();
        for _ in 0..jobs {
            let place = usize::try_from(self.random.below(self.places.len() as u64))?;
            self.write_some(&mut known, place).await?;
            let wish = self.next_wish(&known, place);
            let job = self.sender.job(wish);
            let expected = known.expected(place, &job);
            let sent = clock::now();
            self.history.events.push(Event::Asked {
                place,
                job: job.clone(),
                sent,
                pending: None,
                end: None,
            });
            let end = self.sender.done(&job).await?;
            ensure!(end == expected, "{job} came to {end}, and not to {expected}, before any cut");
            known.note_end(place, &job, &end);
        }
        Ok(())
    }

    /// Notes when each job was answered.
    pub(super) fn note_answers(&mut self) {
        for event in &mut self.history.events {
            if let Event::Asked { job, pending, end, .. } = event {
                for (at, answer) in self.sender.answers_to(job) {
                    match answer {
                        None if pending.is_none() => *pending = Some(at),
                        Some(answer) if end.is_none() => *end = Some((at, answer)),
                        _ => {}
                    }
                }
            }
        }
    }

    /// Mostly what changes something; sometimes what is so already, or what must be refused.
    fn next_wish(&mut self, known: &Knowledge, place: usize) -> Wish {
        let Place { at, name } = self.places[place].clone();
        match known.volumes.get(&place) {
            Some(there) if self.random.once_in(6) => {
                let size = if self.random.once_in(2) { OTHER_SIZE } else { there.size };
                Wish::Create { at, name, size, more: there.more }
            }
            None if self.random.once_in(12) => {
                Wish::Create { at: Some(PathBuf::from(REFUSED)), name: None, size: SIZE, more: &[] }
            }
            None if !self.random.once_in(8) => {
                let kind = usize::try_from(self.random.below(KINDS.len() as u64)).unwrap_or(0);
                Wish::Create { at, name, size: SIZE, more: KINDS[kind] }
            }
            Some(_) | None => Wish::Delete { at, name },
        }
    }

    /// Writes and syncs a file into the volume at `place`, every other time that there is one.
    async fn write_some(&mut self, known: &mut Knowledge, place: usize) -> Result<()> {
        let (Some(at), true) = (&self.places[place].at, known.volumes.contains_key(&place)) else {
            return Ok(());
        };
        if self.random.once_in(2) {
            return Ok(());
        }
        self.files += 1;
        let file = format!("file-{}", self.files);
        let text = format!("{file} ").repeat(FILE_BYTES / file.len());
        let began = clock::now();
        let (folder, name, content) = (at.clone(), file.clone(), text.clone());
        tokio::task::spawn_blocking(move || write_durably(&folder, &name, &content)).await??;
        self.history.events.push(Event::Wrote { place, file, text, began, synced: clock::now() });
        Ok(())
    }

    /// Sends the open job of `known` again, unless it was accepted, and waits for its end, which must be the right one.
    /// Gives the moment at which the sender was told something of it.
    pub(super) async fn have_ended(&self, known: &mut Knowledge) -> Result<u64> {
        let Some(open) = known.open.clone() else { return Ok(u64::MAX) };
        if !open.was_pending {
            self.sender.send(&open.job).await?;
        }
        let end = self.sender.end_of(&open.job, 0).await?;
        let expected = known.expected(open.place, &open.job);
        ensure!(end == expected, "{} came to {end}, and not to {expected}", open.job);
        known.open = None;
        known.note_end(open.place, &open.job, &end);
        Ok(self.sender.answers_to(&open.job).first().map_or(u64::MAX, |(at, _)| *at))
    }

    /// Makes sure that no job was answered otherwise than before: those that `had_ended` before the cut not even with
    /// `PENDING`.
    pub(super) fn check_ended(&self, known: &Knowledge, had_ended: usize) -> Result<()> {
        for (number, ended) in known.ended.iter().enumerate() {
            self.sender.check_order(&ended.job)?;
            for (_, answer) in self.sender.answers_to(&ended.job) {
                match answer {
                    Some(again) => {
                        ensure!(
                            again == ended.end,
                            "{} came to {}, and then to {again}",
                            ended.job,
                            ended.end
                        );
                    }
                    None => ensure!(had_ended <= number, "{} is pending after its end", ended.job),
                }
            }
        }
        Ok(())
    }

    /// Sends one of the jobs again that nothing came after at their place: it must come to the same.
    pub(super) async fn ask_again(&self, known: &Knowledge, random: &mut Random) -> Result<bool> {
        let place = usize::try_from(random.below(self.places.len() as u64))?;
        let Some(last) = known.ended.iter().rfind(|ended| ended.place == place) else { return Ok(false) };
        let again = self.sender.done(&last.job).await?;
        ensure!(again == last.end, "{}, sent again, came to {again}, before to {}", last.job, last.end);
        Ok(true)
    }

    /// Makes sure that the files that were synced into the volumes are there, and nothing else, but in those that are
    /// `guarded`.
    pub(super) fn check_files(&self, known: &Knowledge, guarded: &BTreeSet<PathBuf>) -> Result<()> {
        for (place, volume) in &known.volumes {
            let Some(at) = self.places[*place].at.as_ref().filter(|at| !guarded.contains(*at)) else {
                continue;
            };
            for (file, text) in &volume.files {
                let path = at.join(file);
                let found = fs::read(&path)
                    .with_context(|| format!("cannot read {}, which was synced", path.display()))?;
                ensure!(found == text.as_bytes(), "{} is not what was synced", path.display());
            }
            for found in fs::read_dir(at).with_context(|| format!("cannot list {}", at.display()))? {
                let name = found.context("cannot list a volume")?.file_name().to_string_lossy().into_owned();
                let is_unsynced = known.unsynced.as_ref() == Some(&(*place, name.clone()));
                ensure!(is_unsynced || volume.files.contains_key(&name), "{name} is in {}", at.display());
            }
        }
        Ok(())
    }

    /// Makes sure that the file systems of volumes that are not attached are whole: nobody has mounted them yet.
    pub(super) fn check_unattached(&self, known: &Knowledge, store: &Path) -> Result<()> {
        for place in known.volumes.keys() {
            if let Place { at: None, name: Some(name) } = &self.places[*place] {
                let image = store.join("volumes").join(name).join("image");
                text("e2fsck", [Path::new("-fn"), &image])?;
            }
        }
        Ok(())
    }
}

fn write_durably(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    let written = File::create_new(&path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written
        .and_then(|()| File::open(folder)?.sync_all())
        .with_context(|| format!("cannot write {}", path.display()))
}
