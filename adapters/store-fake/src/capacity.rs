//! What volumes take, and what is reserved for those that are being made. A thick volume counts as if it were allocated.

use crate::folder::Folder;
use crate::step::unreachable_at;
use dvs_domain::failure::Failure;
use dvs_domain::names::VolumeName;
use dvs_domain::overcommit::{Capacity, OvercommitRatio};
use dvs_domain::volume::{Entry, Provision, Volume, VolumeSpec};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// What statistics count blocks in, whatever the file system's own are (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// What is reserved for creates that are still running.
#[derive(Default)]
pub(crate) struct Reservations {
    running: Mutex<BTreeMap<VolumeName, VolumeSpec>>,
}

/// Space for a running create, given back when this is dropped.
pub(crate) struct Reservation {
    reservations: Arc<Reservations>,
    name: VolumeName,
}

impl Reservations {
    /// Reserves space for `volume`, unless that is more than the store has: `limit_bytes` where it is limited,
    /// else what the file system below has.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        folder: &Folder,
        limit_bytes: Option<u64>,
        overcommit: OvercommitRatio,
        volume: &Volume,
    ) -> Result<Reservation, Failure> {
        // Held while counting: of two creates at once the second sees what is reserved for the first.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let spec = &volume.spec;
        capacity(folder, limit_bytes, &running)?
            .admit(spec.size, spec.provision.unwrap_or(Provision::Thin), overcommit)
            .map_err(|refused| refused.at_step("reserve"))?;
        running.insert(spec.id.name.clone(), spec.clone());
        Ok(Reservation { reservations: Arc::clone(self), name: spec.id.name.clone() })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.reservations.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

fn capacity(
    folder: &Folder,
    limit_bytes: Option<u64>,
    running: &BTreeMap<VolumeName, VolumeSpec>,
) -> Result<Capacity, Failure> {
    let mut capacity = Capacity { free_bytes: 0, allocated_bytes: 0, promised_bytes: 0 };
    // What thick volumes would take and do not.
    let mut owed_bytes = 0;
    for spec in running.values() {
        capacity.promised_bytes += spec.size.bytes();
        if spec.provision == Some(Provision::Thick) {
            capacity.allocated_bytes += spec.size.bytes();
            owed_bytes += spec.size.bytes();
        }
    }
    for entry in folder.list()? {
        let Entry::Sound(volume) = entry else { continue };
        let name = &volume.spec.id.name;
        if running.contains_key(name) {
            continue; // Just published, and counted above.
        }
        let used_bytes = used_bytes(&folder.volume(name));
        let allocated_bytes = allocated_bytes(&volume.spec, used_bytes);
        capacity.promised_bytes += volume.spec.size.bytes();
        capacity.allocated_bytes += allocated_bytes;
        owed_bytes += allocated_bytes - used_bytes;
    }
    capacity.free_bytes = match limit_bytes {
        Some(limit_bytes) => limit_bytes.saturating_sub(capacity.allocated_bytes),
        None => {
            let below = rustix::fs::statvfs(folder.path())
                .map_err(|error| unreachable_at("ask for free space", folder.path(), error))?;
            (below.f_bavail * below.f_frsize).saturating_sub(owed_bytes)
        }
    };
    Ok(capacity)
}

/// What a volume with these bytes inside takes in the store.
pub(crate) fn allocated_bytes(spec: &VolumeSpec, used_bytes: u64) -> u64 {
    match spec.provision {
        Some(Provision::Thick) => used_bytes.max(spec.size.bytes()),
        Some(Provision::Thin) | None => used_bytes,
    }
}

/// What `du` shows for `tree`, as far as it can be read, without following links or other file systems.
pub(crate) fn used_bytes(tree: &Path) -> u64 {
    let mut total = 0;
    let mut counted_links = BTreeSet::new();
    let mut work = vec![tree.to_owned()];
    let Ok(device) = fs::symlink_metadata(tree).map(|top| top.dev()) else { return 0 };
    while let Some(path) = work.pop() {
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        let again = !found.is_dir() && found.nlink() > 1 && !counted_links.insert(found.ino());
        if found.dev() != device || again {
            continue;
        }
        total += found.blocks() * BLOCK_BYTES;
        if found.is_dir() {
            let Ok(entries) = fs::read_dir(&path) else { continue };
            work.extend(entries.flatten().map(|entry| entry.path()));
        }
    }
    total
}
