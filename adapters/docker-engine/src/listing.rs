//! One list of containers for all who ask an engine at the same time. A caller that comes during a
//! request waits, and shares the next list with all who wait: each list was requested after the question that it answers. On 8 lanes this takes an
//! engine a tenth of the work.

use crate::container::Container;
use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// The lists of one engine.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// How many were requested.
    begun: AtomicU64,
    /// How many callers wait for their turn.
    waiting: AtomicUsize,
    /// Locked by the task that is listing. The last list is kept as long as a caller waits who may share it.
    last: Mutex<Option<Listed>>,
}

#[derive(Debug)]
struct Listed {
    number: u64,
    containers: Vec<Container>,
}

impl Listing {
    /// The containers of a list that was requested after this call began: by `list`, unless another caller has requested
    /// it. A caller that is cancelled, or whose list fails, leaves it to the next to list; one that does not get its turn
    /// within `patience` lists beside the others.
    ///
    /// # Errors
    /// Those of `list`.
    pub(crate) async fn fresh<E>(
        &self,
        list: impl Future<Output = Result<Vec<Container>, E>>,
        patience: Duration,
    ) -> Result<Vec<Container>, E> {
        let waits = Waits::new(&self.waiting);
        let wanted = self.begun.load(Ordering::SeqCst) + 1;
        let turn = timeout(patience, self.last.lock()).await;
        drop(waits);
        let Ok(mut last) = turn else { return list.await };
        let (number, containers) = match last.take() {
            Some(listed) if wanted <= listed.number => (listed.number, listed.containers),
            _ => (self.begun.fetch_add(1, Ordering::SeqCst) + 1, list.await?),
        };
        if 0 < self.waiting.load(Ordering::SeqCst) {
            *last = Some(Listed { number, containers: containers.clone() });
        }
        Ok(containers)
    }
}

/// Counts a caller as waiting as long as this lives.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
