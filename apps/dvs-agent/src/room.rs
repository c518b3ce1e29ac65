//! Stores that run out of room. What is written into a thin volume then fails without any call of DVS, so somebody has
//! to look at the file systems below.

use crate::late_store::LocalKind;
use dvs_domain::names::StoreName;
use rustix::fs::statvfs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::Url;

/// How often it is looked.
const LOOK_EVERY_SECONDS: u64 = 5;
/// A file system is short of room when less than this is free, and less than that part of it.
const SHORT_MEBIBYTES: u64 = 256;
const SHORT_PERCENT: u64 = 5;

const BYTES_PER_MEBIBYTE: u64 = 1 << 20;

/// What is free in a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) free_bytes: u64,
    pub(crate) total_bytes: u64,
}

impl Room {
    /// What is free in the file system of `folder`.
    pub(crate) fn of(folder: &Path) -> rustix::io::Result<Self> {
        let stat = statvfs(folder)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Self { free_bytes: bytes(stat.f_bavail), total_bytes: bytes(stat.f_blocks) })
    }

    /// Whether writes into thin volumes fail, or soon will.
    pub(crate) fn is_short(&self) -> bool {
        self.free_mebibytes() < SHORT_MEBIBYTES
            && u128::from(self.free_bytes) * 100 < u128::from(self.total_bytes) * u128::from(SHORT_PERCENT)
    }

    pub(crate) fn free_mebibytes(&self) -> u64 {
        self.free_bytes / BYTES_PER_MEBIBYTE
    }

    pub(crate) fn total_mebibytes(&self) -> u64 {
        self.total_bytes / BYTES_PER_MEBIBYTE
    }
}

/// The folder of this host that `url` names, if its store is in one.
pub(crate) fn folder_of(url: &Url) -> Option<PathBuf> {
    LocalKind::of(url).and_then(|_| url.to_file_path().ok())
}

/// Tells, for ever, which of `stores` become short of room, and which have room again.
pub(crate) async fn watch(stores: Vec<(StoreName, PathBuf)>) {
    let mut stores: Vec<_> = stores.into_iter().map(|(name, folder)| (name, folder, false)).collect();
    let mut interval = tokio::time::interval(Duration::from_secs(LOOK_EVERY_SECONDS));
    loop {
        interval.tick().await;
        for (name, folder, was_short) in &mut stores {
            let looked = folder.clone();
            let room = tokio::task::spawn_blocking(move || Room::of(&looked)).await;
            // A folder that cannot be looked at is told by whoever uses it.
            let Ok(Ok(room)) = room else { continue };
            if room.is_short() && !*was_short {
                tracing::warn!(
                    store = %name, free_mebibytes = room.free_mebibytes(), total_mebibytes = room.total_mebibytes(),
                    "short of room: writes to its thin volumes fail once nothing is free; deletes are accepted"
                );
            } else if !room.is_short() && *was_short {
                tracing::info!(store = %name, free_mebibytes = room.free_mebibytes(), "it has room again");
            }
            *was_short = room.is_short();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_short_when_little_of_it_is_free() {
        let room = |free: u64, total: u64| Room {
            free_bytes: free * BYTES_PER_MEBIBYTE,
            total_bytes: total * BYTES_PER_MEBIBYTE,
        };
        for (free, total, is_short) in [
            (0, 64, true),
            (3, 64, true),
            (4, 64, false),
            (255, 1 << 20, true),
            (257, 1 << 20, false),
            (200, 1000, false),
            (0, 0, false),
        ] {
            assert_eq!(room(free, total).is_short(), is_short, "{free} of {total} MiB");
        }
    }

    #[test]
    fn only_stores_in_folders_of_this_host_are_looked_at() {
        let folder = |url: &str| folder_of(&Url::parse(url).unwrap());
        assert_eq!(folder("loop:///var/lib/x?fs=xfs"), Some(PathBuf::from("/var/lib/x")));
        assert_eq!(folder("fake:///tmp/x"), Some(PathBuf::from("/tmp/x")));
        assert_eq!(folder("nfs://localhost/export"), None);
    }
}
