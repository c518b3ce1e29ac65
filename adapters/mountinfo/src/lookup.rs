//! Single mounts, and those below which a lookup may block, at a cost that does not depend on how many mounts there are.

use crate::mount::Mount;
use crate::system_calls::{UniqueId, mount_of, mounts_since};
use crate::table::MountTable;
use crate::watched::WatchedTable;
use rustix::io::Errno;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// The mounts of this process's mount namespace.
#[derive(Debug, Default)]
pub struct Mounts {
    never_single: bool,
    table: WatchedTable,
    blocking: Mutex<Blocking>,
}

/// The mounts below which a lookup may block, among those that were listed until now.
#[derive(Debug, Default)]
struct Blocking {
    /// The newest mount that was looked at. Ids rise, and are never given again.
    last: Option<UniqueId>,
    ids: Vec<UniqueId>,
}

impl Mounts {
    /// Looks up single mounts where the kernel can (Linux 6.13).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks up mounts in the whole table, read when it has changed, as on an older kernel. For tests.
    #[must_use]
    pub fn by_table_only() -> Self {
        Self { never_single: true, ..Self::default() }
    }

    /// The mount whose id in the table is `id`, and `unique` where the kernel has such ids; `None` when it is gone.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn get(&self, id: u64, unique: Option<UniqueId>) -> io::Result<Option<Mount>> {
        if let Some(unique) = unique.filter(|_| !self.never_single) {
            match mount_of(unique) {
                // The two ids were asked for one after the other: in between the mount may have been replaced.
                Ok(mount) if mount.id != id => return Ok(None),
                Ok(mount) if !mount.source.as_os_str().is_empty() => return Ok(Some(mount)),
                Err(Errno::NOENT) => return Ok(None),
                // The mount has no source, or the kernel does not return it, or a system call filter refuses.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(self.table()?.get(id).cloned())
    }

    /// The whole table, read again if it has changed.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn table(&self) -> io::Result<Arc<MountTable>> {
        self.table.current()
    }

    /// The mount points below which a lookup may wait for a server or a process.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn blocking(&self) -> io::Result<Vec<PathBuf>> {
        if !self.never_single
            && let Ok(found) = self.blocking_singly()
        {
            return Ok(found);
        }
        let table = self.table()?;
        let blocking = table.mounts().iter().filter(|mount| mount.may_block());
        Ok(blocking.map(|mount| mount.mount_point.clone()).collect())
    }

    /// Looks at the mounts that are new, and again at those that block: they may have been moved or unmounted.
    fn blocking_singly(&self) -> rustix::io::Result<Vec<PathBuf>> {
        let mut known = self.blocking.lock().unwrap_or_else(PoisonError::into_inner);
        let new = mounts_since(known.last)?;
        for id in &new {
            if mount_if_there(*id)?.is_some_and(|mount| mount.may_block()) {
                known.ids.push(*id);
            }
            known.last = Some(*id);
        }
        let mut found = Vec::with_capacity(known.ids.len());
        let mut there = Vec::with_capacity(known.ids.len());
        for id in &known.ids {
            if let Some(mount) = mount_if_there(*id)? {
                found.push(mount.mount_point);
                there.push(*id);
            }
        }
        known.ids = there;
        Ok(found)
    }
}

fn mount_if_there(id: UniqueId) -> rustix::io::Result<Option<Mount>> {
    match mount_of(id) {
        Ok(mount) => Ok(Some(mount)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}
