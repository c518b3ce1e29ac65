//! One volume, one operation at a time: a lock for each name that is in use, and none for the others.

use dvs_domain::names::VolumeName;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::OwnedMutexGuard;

type NameLock = Arc<tokio::sync::Mutex<()>>;

/// The locks of all names in use.
#[derive(Default)]
pub(crate) struct NameLocks {
    by_name: Mutex<HashMap<VolumeName, NameLock>>,
}

/// A name that is locked, or waited for. Dropped, it lets the next one in.
pub(crate) struct NameGuard {
    locks: Arc<NameLocks>,
    name: VolumeName,
    held: Option<OwnedMutexGuard<()>>,
}

impl NameLocks {
    /// Waits until nobody else works on `name`.
    pub(crate) async fn lock(self: &Arc<Self>, name: &VolumeName) -> NameGuard {
        let lock = Arc::clone(self.by_name().entry(name.clone()).or_default());
        // Made before waiting, so that a caller who gives up waiting leaves no lock behind.
        let mut guard = NameGuard { locks: Arc::clone(self), name: name.clone(), held: None };
        guard.held = Some(lock.lock_owned().await);
        guard
    }

    fn by_name(&self) -> MutexGuard<'_, HashMap<VolumeName, NameLock>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for NameGuard {
    fn drop(&mut self) {
        let mut by_name = self.locks.by_name();
        self.held = None;
        if let Entry::Occupied(entry) = by_name.entry(self.name.clone())
            && Arc::strong_count(entry.get()) == 1
        {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    #[tokio::test]
    async fn one_at_a_time_and_nothing_stays() {
        let locks = Arc::new(NameLocks::default());
        let (a, b) = (VolumeName::new("a").unwrap(), VolumeName::new("b").unwrap());
        let first = locks.lock(&a).await;
        let other = locks.lock(&b).await;
        {
            let mut second = pin!(locks.lock(&a));
            let waits = poll_fn(|context| Poll::Ready(second.as_mut().poll(context).is_pending())).await;
            assert!(waits, "a name that is locked was locked again");
        }
        drop(first);
        drop(locks.lock(&a).await);
        drop(other);
        assert!(locks.by_name().is_empty(), "locks of unused names stay");
    }
}
