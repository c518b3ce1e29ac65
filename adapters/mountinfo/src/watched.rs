//! A table that is read again only when the kernel reports a change of it.

use crate::table::MountTable;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use std::fs::File;
use std::io::{self, Seek};
use std::sync::{Arc, Mutex, PoisonError};

/// The table of this process, shared by all who need it while it does not change.
#[derive(Debug, Default)]
pub(crate) struct WatchedTable(Mutex<Option<Watched>>);

#[derive(Debug)]
struct Watched {
    /// The kernel reports each change once per open file (poll(2), proc_pid_mountinfo(5)).
    file: File,
    table: Arc<MountTable>,
}

impl WatchedTable {
    /// The table as it is, or was after this call began.
    pub(crate) fn current(&self) -> io::Result<Arc<MountTable>> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken out, so that after an error nothing is left that may be outdated.
        let current = match shared.take() {
            Some(watched) => watched.brought_up_to_date()?,
            None => Watched::open()?,
        };
        let table = Arc::clone(&current.table);
        *shared = Some(current);
        Ok(table)
    }
}

impl Watched {
    fn open() -> io::Result<Self> {
        let mut file = File::open(MountTable::OWN)?;
        let table = Arc::new(MountTable::read_from(&mut file)?);
        Ok(Self { file, table })
    }

    fn brought_up_to_date(mut self) -> io::Result<Self> {
        // Asked before reading: a change during the reading is reported the next time.
        if has_changed(&self.file)? {
            self.file.rewind()?;
            self.table = Arc::new(MountTable::read_from(&mut self.file)?);
        }
        Ok(self)
    }
}

fn has_changed(file: &File) -> io::Result<bool> {
    let mut asked = [PollFd::new(file, PollFlags::PRI)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    retry_on_intr(|| poll(&mut asked, Some(&at_once)))?;
    Ok(asked[0].revents().intersects(PollFlags::PRI | PollFlags::ERR))
}
