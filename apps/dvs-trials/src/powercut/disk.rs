//! A disk in memory that records its writes and flushes in order, and what is left of it when the power fails: all that
//! was flushed, and a drawn part of what was not.

use crate::random::Random;
use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// What a disk writes as one: a write that the power cuts off is there in whole sectors.
const SECTOR_BYTES: usize = 512;
/// How the content is kept.
const BLOCK_BYTES: usize = 4096;
/// The most that a log takes: more than any run writes.
const LOG_BYTES_MAX: u64 = 1 << 30;
/// Of the unflushed writes that are kept, one in so many is torn.
const TORN_ONCE_IN: u64 = 4;
/// How many shares of unflushed writes a cut may keep: none, a quarter, … all.
const SHARES: u64 = 5;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Disk {
    bytes: u64,
    /// The content before the first entry of the log.
    base: Content,
    now: Content,
    log: Vec<Logged>,
    log_bytes: u64,
}

/// An entry of the log, and when it was made, on the monotonic clock.
#[derive(Clone, Debug)]
struct Logged {
    at: u64,
    entry: Entry,
}

#[derive(Clone, Debug)]
enum Entry {
    Write {
        offset: u64,
        bytes: Arc<[u8]>,
    },
    /// Reads as zeros afterwards.
    Clear {
        offset: u64,
        length: u64,
    },
    Flush,
}

/// Where and how the power fails.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// How many entries of the log were made before.
    pub(super) position: usize,
    /// What the part of unflushed writes that is kept follows from.
    pub(super) seed: u64,
    /// How many of the last flushes the disk ignored, as a disk that lies.
    pub(super) ignored_flushes: usize,
    /// Whether all unflushed writes are kept.
    pub(super) keeps_all: bool,
}

/// What a cut has done to the writes that were not flushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unflushed {
    pub(super) writes: usize,
    pub(super) kept: usize,
    pub(super) torn: usize,
}

impl Disk {
    pub(super) fn new(bytes: u64) -> Self {
        Self { bytes, ..Self::default() }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let left = usize::try_from(self.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        self.now.read(offset, length.min(left))
    }

    /// # Errors
    /// When the write is beyond the end, or the log is full.
    pub(super) fn write(&mut self, at: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        ensure!(offset + bytes.len() as u64 <= self.bytes, "a write beyond the end of the disk");
        let bytes: Arc<[u8]> = bytes.into();
        self.now.write(offset, &bytes, 0..bytes.len());
        self.log_bytes += bytes.len() as u64;
        ensure!(self.log_bytes <= LOG_BYTES_MAX, "the log is full");
        self.log.push(Logged { at, entry: Entry::Write { offset, bytes } });
        Ok(())
    }

    pub(super) fn clear(&mut self, at: u64, offset: u64, length: u64) {
        self.now.clear(offset, length);
        self.log.push(Logged { at, entry: Entry::Clear { offset, length } });
    }

    pub(super) fn flush(&mut self, at: u64) {
        self.log.push(Logged { at, entry: Entry::Flush });
    }

    /// Begins the log anew: what was written before is never lost.
    pub(super) fn seal(&mut self) {
        self.base = self.now.clone();
        self.log.clear();
        self.log_bytes = 0;
    }

    /// When each entry was made, and whether it is a flush.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, bool)> {
        self.log.iter().map(|logged| (logged.at, matches!(logged.entry, Entry::Flush)))
    }

    /// The disk as it is found after `cut`.
    pub(super) fn after(&self, cut: Cut) -> (Self, Unflushed) {
        let before = &self.log[..cut.position.min(self.log.len())];
        let flushes =
            before.iter().enumerate().rev().filter(|(_, logged)| matches!(logged.entry, Entry::Flush));
        let flushed = flushes.map(|(at, _)| at).nth(cut.ignored_flushes).unwrap_or(0);
        let (durable, window) = before.split_at(flushed);
        let mut base = self.base.clone();
        for logged in durable {
            base.apply(&logged.entry);
        }
        let mut random = Random::new(cut.seed);
        let share = random.below(SHARES);
        let mut unflushed = Unflushed::default();
        for logged in window {
            if matches!(logged.entry, Entry::Flush) {
                continue;
            }
            unflushed.writes += 1;
            if !cut.keeps_all && share <= random.below(SHARES - 1) {
                continue;
            }
            unflushed.kept += 1;
            match &logged.entry {
                Entry::Write { offset, bytes } if !cut.keeps_all && random.once_in(TORN_ONCE_IN) => {
                    unflushed.torn += 1;
                    let mut is_kept = false;
                    for start in (0..bytes.len()).step_by(SECTOR_BYTES) {
                        if !ends_superblock(*offset, bytes, start) {
                            is_kept = random.once_in(2);
                        }
                        if is_kept {
                            base.write(*offset, bytes, start..bytes.len().min(start + SECTOR_BYTES));
                        }
                    }
                }
                entry => base.apply(entry),
            }
        }
        let disk = Self { bytes: self.bytes, now: base.clone(), base, log: Vec::new(), log_bytes: 0 };
        (disk, unflushed)
    }
}

/// Whether the sector at `start` of `bytes`, which are for `offset`, is the second half of the superblock of an ext file
/// system. No ext survives a superblock that is torn in two, whatever is done above it: that is kept or lost as a whole.
fn ends_superblock(offset: u64, bytes: &[u8], start: usize) -> bool {
    /// Where the second half is in a block, and the magic number in the first (the kernel's ext4 documentation).
    const SECOND_HALF: u64 = 1536;
    const MAGIC_AT: usize = 0x38;
    const MAGIC: [u8; 2] = [0x53, 0xef];
    let first_half = start.checked_sub(SECTOR_BYTES).map(|first| &bytes[first..start]);
    (offset + start as u64) % BLOCK_BYTES as u64 == SECOND_HALF
        && first_half.is_some_and(|half| half[MAGIC_AT..].starts_with(&MAGIC))
}

/// Blocks by their number; one that is not there is zeros.
#[derive(Clone, Debug, Default)]
struct Content {
    blocks: BTreeMap<u64, Block>,
}

/// A block: a part of a write.
#[derive(Clone, Debug)]
struct Block {
    of: Arc<[u8]>,
    start: usize,
}

impl Block {
    fn bytes(&self) -> &[u8] {
        &self.of[self.start..self.start + BLOCK_BYTES]
    }
}

impl Content {
    fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Write { offset, bytes } => self.write(*offset, bytes, 0..bytes.len()),
            Entry::Clear { offset, length } => self.clear(*offset, *length),
            Entry::Flush => {}
        }
    }

    fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut read = vec![0; length];
        for (number, within, part) in parts(offset, 0..length) {
            if let Some(block) = self.blocks.get(&number) {
                let length = part.len();
                read[part].copy_from_slice(&block.bytes()[within..within + length]);
            }
        }
        read
    }

    /// Writes `part` of `bytes`, which as a whole are for `offset`.
    fn write(&mut self, offset: u64, bytes: &Arc<[u8]>, part: Range<usize>) {
        for (number, within, part) in parts(offset, part) {
            let block = if part.len() == BLOCK_BYTES {
                Block { of: Arc::clone(bytes), start: part.start }
            } else {
                let mut changed = self
                    .blocks
                    .get(&number)
                    .map_or_else(|| vec![0; BLOCK_BYTES], |block| block.bytes().to_vec());
                changed[within..within + part.len()].copy_from_slice(&bytes[part]);
                Block { of: changed.into(), start: 0 }
            };
            self.blocks.insert(number, block);
        }
    }

    fn clear(&mut self, offset: u64, length: u64) {
        let block = BLOCK_BYTES as u64;
        let (first, end) = (offset.div_ceil(block), (offset + length) / block);
        let whole: Vec<u64> = if first < end {
            self.blocks.range(first..end).map(|(number, _)| *number).collect()
        } else {
            Vec::new()
        };
        for number in whole {
            self.blocks.remove(&number);
        }
        // The parts of blocks at both ends.
        let zeros: Arc<[u8]> = vec![0; BLOCK_BYTES].into();
        for edge in [offset..(first * block).min(offset + length), (end * block).max(offset)..offset + length]
        {
            let length = edge.end.saturating_sub(edge.start);
            if 0 < length && length < block {
                self.write(edge.start, &zeros, 0..usize::try_from(length).unwrap_or(0));
            }
        }
    }
}

/// Cuts `part` of what is for `offset` at the ends of blocks: the number of each block, where in it the piece begins, and
/// the piece.
fn parts(offset: u64, part: Range<usize>) -> impl Iterator<Item = (u64, usize, Range<usize>)> {
    let mut next = part.start;
    std::iter::from_fn(move || {
        if part.end <= next {
            return None;
        }
        let at = offset + next as u64;
        let within = usize::try_from(at % BLOCK_BYTES as u64).unwrap_or(0);
        let end = part.end.min(next + BLOCK_BYTES - within);
        let piece = next..end;
        next = end;
        Some((at / BLOCK_BYTES as u64, within, piece))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTOR: u64 = SECTOR_BYTES as u64;

    fn cut(position: usize, seed: u64) -> Cut {
        Cut { position, seed, ignored_flushes: 0, keeps_all: false }
    }

    /// A sector of ones, a flush, then a write of 16 sectors of twos over it.
    fn disk() -> Disk {
        let mut disk = Disk::new(1 << 20);
        disk.write(1, SECTOR, &[1; SECTOR_BYTES]).unwrap();
        disk.flush(2);
        disk.write(3, 0, &[2; 16 * SECTOR_BYTES]).unwrap();
        disk
    }

    #[test]
    fn what_was_written_is_read() {
        let mut disk = disk();
        assert_eq!(disk.read(SECTOR - 1, 2), [2, 2]);
        assert_eq!(disk.read(16 * SECTOR - 1, 2), [2, 0]);
        disk.clear(4, SECTOR, 12 * SECTOR);
        assert_eq!(disk.read(SECTOR - 1, 2), [2, 0]);
        assert_eq!(disk.read(13 * SECTOR - 1, 2), [0, 2]);
        assert_eq!(disk.read((1 << 20) - 1, 8), [0], "nothing is beyond the end");
        assert!(disk.write(5, (1 << 20) - 1, &[0; 2]).is_err());
    }

    #[test]
    fn what_was_flushed_is_always_there_and_nothing_of_what_came_later() {
        for seed in 0..100 {
            let (after, unflushed) = disk().after(cut(2, seed));
            assert_eq!(unflushed, Unflushed::default());
            assert_eq!(after.read(0, 3 * SECTOR_BYTES)[SECTOR_BYTES..2 * SECTOR_BYTES], [1; SECTOR_BYTES]);
            assert_eq!(after.read(0, SECTOR_BYTES), [0; SECTOR_BYTES]);
        }
    }

    #[test]
    fn what_was_not_flushed_is_there_or_not_or_in_whole_sectors() {
        let (mut whole, mut none, mut torn) = (0, 0, 0);
        for seed in 0..200 {
            let (after, unflushed) = disk().after(cut(3, seed));
            let read = after.read(0, 16 * SECTOR_BYTES);
            let sectors: Vec<&[u8]> = read.chunks(SECTOR_BYTES).collect();
            assert!(
                sectors.iter().all(|sector| sector.iter().all(|byte| *byte == sector[0])),
                "torn in a sector"
            );
            assert_ne!(sectors[1][0], 0, "what was flushed is lost");
            let twos = sectors.iter().filter(|sector| sector[0] == 2).count();
            match (unflushed.kept, unflushed.torn) {
                (0, 0) => none += usize::from(twos == 0),
                (1, 0) => whole += usize::from(twos == 16),
                _ => torn += usize::from(twos < 16),
            }
        }
        assert!(20 < whole && 20 < none && 5 < torn, "{whole} {none} {torn}");
    }

    #[test]
    fn a_superblock_is_never_torn() {
        let mut disk = Disk::new(1 << 20);
        let mut block = [1; BLOCK_BYTES];
        block[1024 + 0x38..1024 + 0x3a].copy_from_slice(&[0x53, 0xef]);
        disk.write(1, 0, &block).unwrap();
        let mut torn = 0;
        for seed in 0..200 {
            let (after, unflushed) = disk.after(cut(1, seed));
            assert_eq!(after.read(1024, 1), after.read(2047, 1), "torn");
            torn += unflushed.torn;
        }
        assert!(5 < torn, "{torn}");
    }

    #[test]
    fn ignored_flushes_lose_what_was_flushed() {
        let lossy = |seed| Cut { ignored_flushes: 1, ..cut(2, seed) };
        let lost = (0..50).filter(|seed| disk().after(lossy(*seed)).0.read(SECTOR, 1) == [0]).count();
        assert!(10 < lost && lost < 50, "{lost}");
        let kept = Cut { keeps_all: true, ..lossy(1) };
        assert_eq!(disk().after(kept).0.read(SECTOR, 1), [1]);
    }

    #[test]
    fn the_log_begins_anew_when_it_is_sealed() {
        let mut disk = disk();
        disk.seal();
        assert_eq!(disk.entries().count(), 0);
        disk.flush(9);
        assert_eq!(disk.entries().collect::<Vec<_>>(), [(9, true)]);
        assert_eq!(disk.after(cut(0, 1)).0.read(0, 1), [2]);
    }
}
