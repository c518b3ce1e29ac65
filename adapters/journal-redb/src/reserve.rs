//! Room for a full disk: a file beside the journal that holds nothing. What must succeed on a full disk is
//! tried again without it; what accepts something new is refused until it is there again.
//!
//! The file is also what keeps a second agent out, before it looks at the journal.

use crate::failpoint::between;
use dvs_domain::failure::{Failure, FailureCode};
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock, fstatvfs};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How much room is kept: some thousand deletes, each accepted, finished and forgotten.
pub(crate) const RESERVE_BYTES: u64 = 4 * 1024 * 1024;

/// What statistics count blocks in, whatever the file system's own are (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// The room that is kept.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    file: File,
    is_held: bool,
    /// Whether it has been said that there is no room.
    is_told: bool,
}

impl Reserve {
    /// Opens the reserve of the journal at `journal`, and takes the lock. Whether there is room for it comes
    /// later: a full disk does not keep the agent from starting.
    pub(crate) fn open(journal: &Path) -> Result<Self, Failure> {
        let mut path = journal.as_os_str().to_owned();
        path.push(".reserve");
        let path = PathBuf::from(path);
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| failed("open the reserve", &path, error))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
            Errno::WOULDBLOCK => in_use(journal),
            errno => failed("lock the reserve", &path, errno.into()),
        })?;
        let is_held = file.metadata().is_ok_and(|found| found.blocks() * BLOCK_BYTES >= RESERVE_BYTES);
        Ok(Self { path, file, is_held, is_told: false })
    }

    /// Whether the room is kept.
    pub(crate) fn is_held(&self) -> bool {
        self.is_held
    }

    /// Takes the room again, if it is free by now. Says once that it is not.
    pub(crate) fn renew(&mut self) {
        if self.is_held {
            return;
        }
        let error = match self.allocate() {
            Ok(()) => {
                self.is_held = true;
                self.is_told = false;
                return;
            }
            Err(error) => error,
        };
        // Part of it would be of no use here, and is of use elsewhere.
        let _ = self.file.set_len(0);
        if !std::mem::replace(&mut self.is_told, true) {
            tracing::warn!(
                reserve = %self.path.display(), %error,
                "no room is kept for a full disk: nothing new is accepted until there is some"
            );
        }
    }

    /// Gives the room to the journal.
    pub(crate) fn release(&mut self) -> Result<(), Failure> {
        self.is_held = false;
        // Without the sync some file systems keep the blocks until their own next commit.
        self.file
            .set_len(0)
            .and_then(|()| self.file.sync_all())
            .map_err(|error| failed("release the reserve", &self.path, error))
    }

    fn allocate(&self) -> io::Result<()> {
        let below = fstatvfs(&self.file)?;
        if below.f_bfree.saturating_mul(below.f_frsize) < RESERVE_BYTES {
            return Err(io::ErrorKind::StorageFull.into()); // Asked before every commit, so it is cheap.
        }
        between("journal.reserve");
        match fallocate(&self.file, FallocateFlags::empty(), 0, RESERVE_BYTES) {
            // Where it cannot be allocated it is written.
            Err(Errno::OPNOTSUPP) => {
                static PIECE: [u8; 64 * 1024] = [0; 64 * 1024];
                for offset in (0..RESERVE_BYTES).step_by(PIECE.len()) {
                    self.file.write_all_at(&PIECE, offset)?;
                }
            }
            allocated => allocated?,
        }
        between("journal.reserve-sync");
        self.file.sync_all()
    }
}

/// The failure of a journal that another agent has open.
pub(crate) fn in_use(journal: &Path) -> Failure {
    Failure::new(FailureCode::Busy, format!("journal `{}` is in use by another agent", journal.display()))
        .with_hint("stop the other agent, or give this one a state folder of its own with `--state`")
}

fn failed(step: &'static str, path: &Path, error: io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FailureCode::NoSpace,
        _ => FailureCode::Internal,
    };
    Failure::new(code, format!("`{}`", path.display())).caused_by(error).at_step(step)
}
