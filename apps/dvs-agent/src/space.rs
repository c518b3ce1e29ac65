//! Stores that run out of space. What is written into a thin volume then fails without any call of DVS, so the agent
//! watches the file systems below.

use dvs_domain::ports::{Space, VolumeStore};
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked.
const LOOK_EVERY_SECONDS: u64 = 5;
/// A file system is short of space when less than this is free, and less than that part of it.
const SHORT_MEBIBYTES: u64 = 256;
const SHORT_PERCENT: u64 = 5;

const BYTES_PER_MEBIBYTE: u64 = 1 << 20;

/// Whether writes into thin volumes fail, or soon will.
pub(crate) fn is_short(space: Space) -> bool {
    mebibytes(space.free_bytes) < SHORT_MEBIBYTES
        && u128::from(space.free_bytes) * 100 < u128::from(space.total_bytes) * u128::from(SHORT_PERCENT)
}

/// For showing.
pub(crate) fn mebibytes(bytes: u64) -> u64 {
    bytes / BYTES_PER_MEBIBYTE
}

/// Logs, for ever, which of `stores` become short of space, and which have space again. A server that nodes share has
/// others who watch it.
pub(crate) async fn watch(stores: Vec<Arc<dyn VolumeStore>>) {
    let local = stores.into_iter().filter(|store| !store.describe().is_shared);
    let mut stores: Vec<_> = local.map(|store| (store, false)).collect();
    let mut interval = tokio::time::interval(Duration::from_secs(LOOK_EVERY_SECONDS));
    loop {
        interval.tick().await;
        for (store, was_short) in &mut stores {
            // A store that cannot be reached is reported by whoever uses it.
            let Ok(space) = store.probe().await.space else { continue };
            let (name, free) = (store.describe().name, mebibytes(space.free_bytes));
            if is_short(space) && !*was_short {
                tracing::warn!(
                    store = %name, free_mebibytes = free, total_mebibytes = mebibytes(space.total_bytes),
                    "short of space: writes to its thin volumes fail once nothing is free; deletes are accepted"
                );
            } else if !is_short(space) && *was_short {
                tracing::info!(store = %name, free_mebibytes = free, "it has space again");
            }
            *was_short = is_short(space);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_short_when_little_of_it_is_free() {
        let space = |free: u64, total: u64| Space {
            free_bytes: free * BYTES_PER_MEBIBYTE,
            total_bytes: total * BYTES_PER_MEBIBYTE,
        };
        for (free, total, expected) in [
            (0, 64, true),
            (3, 64, true),
            (4, 64, false),
            (255, 1 << 20, true),
            (257, 1 << 20, false),
            (200, 1000, false),
            (0, 0, false),
        ] {
            assert_eq!(is_short(space(free, total)), expected, "{free} of {total} MiB");
        }
    }
}
