//! A file that can be read, while what is written to it stays in memory: so that a journal is checked, with
//! everything that the check would mend, without changing a byte of it.

use redb::StorageBackend;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is remembered of writes, in pieces of this size.
const PIECE_BYTES: u64 = 4096;

/// The file as it is, under what was written.
#[derive(Debug)]
pub(crate) struct Overlay {
    file: File,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    length: u64,
    /// How much of the file shows: less than it has, once it was made shorter.
    visible: u64,
    pieces: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    pub(crate) fn over(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let written = Written { length, visible: length, pieces: BTreeMap::new() };
        Ok(Self { file, written: Mutex::new(written) })
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The piece with that number as the file has it; zeros behind its end.
    fn file_piece(&self, number: u64, visible: u64) -> io::Result<Vec<u8>> {
        let mut piece = vec![0; PIECE_BYTES as usize];
        let begin = number * PIECE_BYTES;
        let there = visible.saturating_sub(begin).min(PIECE_BYTES) as usize;
        self.file.read_exact_at(&mut piece[..there], begin)?;
        Ok(piece)
    }

    /// Calls `each` with the number of every piece that the range touches, the range within the piece, and
    /// the range within the data.
    fn pieces(
        offset: u64,
        length: usize,
        mut each: impl FnMut(u64, std::ops::Range<usize>, std::ops::Range<usize>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut done = 0;
        while done < length {
            let position = offset + done as u64;
            let begin = (position % PIECE_BYTES) as usize;
            let count = (PIECE_BYTES as usize - begin).min(length - done);
            each(position / PIECE_BYTES, begin..begin + count, done..done + count)?;
            done += count;
        }
        Ok(())
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written();
        if offset + out.len() as u64 > written.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Self::pieces(offset, out.len(), |number, within, of_data| {
            match written.pieces.get(&number) {
                Some(piece) => out[of_data].copy_from_slice(&piece[within]),
                None => out[of_data].copy_from_slice(&self.file_piece(number, written.visible)?[within]),
            }
            Ok(())
        })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut written = self.written();
        if length < written.length {
            // What grows again later is zeros, so nothing behind the end may come back.
            let last = length / PIECE_BYTES;
            let mut piece = match written.pieces.remove(&last) {
                Some(piece) => piece,
                None => self.file_piece(last, written.visible)?,
            };
            piece[(length % PIECE_BYTES) as usize..].fill(0);
            written.pieces.split_off(&last);
            written.pieces.insert(last, piece);
            written.visible = written.visible.min(length);
        }
        written.length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written();
        let visible = written.visible;
        Self::pieces(offset, data.len(), |number, within, of_data| {
            let piece = match written.pieces.entry(number) {
                std::collections::btree_map::Entry::Occupied(there) => there.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => {
                    place.insert(self.file_piece(number, visible)?)
                }
            };
            piece[within].copy_from_slice(&data[of_data]);
            Ok(())
        })
    }

    /// The reserve's lock keeps everybody else out.
    fn try_lock_range(&self, _start: Bound<u64>, _end: Bound<u64>) -> Result<bool, redb::BackendError> {
        Ok(true)
    }

    fn unlock_range(&self, _start: Bound<u64>, _end: Bound<u64>) -> Result<(), redb::BackendError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(overlay: &Overlay, offset: u64, count: usize) -> io::Result<Vec<u8>> {
        let mut out = vec![0xee; count];
        overlay.read(offset, &mut out).map(|()| out)
    }

    #[test]
    fn writes_are_seen_and_the_file_stays_as_it_is() {
        let mut file = tempfile::tempfile().unwrap();
        let original: Vec<u8> = (0..10_000_u32).map(|at| at as u8 | 1).collect();
        file.write_all(&original).unwrap();
        let overlay = Overlay::over(file.try_clone().unwrap()).unwrap();

        assert_eq!(read(&overlay, 0, 10_000).unwrap(), original);
        assert!(read(&overlay, 9_999, 2).is_err(), "behind the end");
        overlay.write(4_000, &[0xaa; 5_000]).unwrap();
        let mut expected = original.clone();
        expected[4_000..9_000].fill(0xaa);
        assert_eq!(read(&overlay, 0, 10_000).unwrap(), expected);

        overlay.set_len(8_500).unwrap();
        overlay.set_len(20_000).unwrap();
        expected.truncate(8_500);
        expected.resize(20_000, 0);
        assert_eq!(read(&overlay, 0, 20_000).unwrap(), expected);
        overlay.write(19_990, &[7; 10]).unwrap();
        assert_eq!(read(&overlay, 19_985, 15).unwrap(), [[0; 5], [7; 5], [7; 5]].concat());

        let mut unchanged = vec![0; 10_000];
        file.read_exact_at(&mut unchanged, 0).unwrap();
        assert_eq!(unchanged, original);
        assert_eq!(file.metadata().unwrap().len(), 10_000);
    }
}
