//! One list of containers for all who ask an engine at the same time. Who comes while it lists waits, and shares the
//! next list with all who wait: so everybody's list was begun after the question for it, as if nobody else had asked.

use crate::container::Container;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

/// The lists of one engine.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// How many were begun.
    begun: AtomicU64,
    /// Who holds this lists. The last list is kept for those who waited meanwhile.
    last: Mutex<Option<Listed>>,
}

#[derive(Debug)]
struct Listed {
    number: u64,
    containers: Vec<Container>,
}

impl Listing {
    /// The containers of a list that was begun after this call: by `list`, unless somebody else has begun it. Who gives
    /// up, or whose list fails, leaves it to the next to list.
    ///
    /// # Errors
    /// What `list` says.
    pub(crate) async fn fresh<E>(
        &self,
        list: impl Future<Output = Result<Vec<Container>, E>>,
    ) -> Result<Vec<Container>, E> {
        let wanted = self.begun.load(Ordering::SeqCst) + 1;
        let mut last = self.last.lock().await;
        if let Some(listed) = last.as_ref().filter(|listed| wanted <= listed.number) {
            return Ok(listed.containers.clone());
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let containers = list.await?;
        *last = Some(Listed { number, containers: containers.clone() });
        Ok(containers)
    }
}
