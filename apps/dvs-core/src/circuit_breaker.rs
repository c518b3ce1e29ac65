//! StoreRegistry that may be out of reach. Each call of such a store waits for its limit, and holds one of the workers, which
//! all stores share: so only one call at a time waits for it, and whoever else asks is told at once what the last one
//! was told, unless that is long ago.

use async_trait::async_trait;
use dvs_domain::failure::{Failure, FailureCode, FailureReport};
use dvs_domain::names::VolumeName;
use dvs_domain::ports::{Created, DestroyError, Destroyed, Probe, SharedStore, Source, VolumeStore};
use dvs_domain::volume::{Entry, StoreDescription, Usage, Volume};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex as Turns, MutexGuard as Turn};
use tokio::time::{Instant, timeout};

/// A failure that comes sooner holds nobody up. It may also be about one volume only.
const WAIT_MILLISECONDS_MIN: u64 = 1000;

/// A failure says nothing of the store any more after so long: then the others wait as long for what the next call
/// finds out.
const NEWS_MILLISECONDS: u64 = 5000;

/// A store behind a network. See the module.
pub(super) struct CircuitBreaker {
    store: Arc<dyn VolumeStore>,
    /// Why it cannot be reached, if the last call has waited for it in vain.
    away: Mutex<Option<Away>>,
    /// Whose turn it is to find out whether it can be reached again.
    turns: Turns<()>,
}

struct Away {
    report: FailureReport,
    since: Instant,
    /// Whether that was no news any more when the call began whose turn it is.
    was_old: bool,
}

impl Away {
    fn is_old(&self) -> bool {
        Duration::from_millis(NEWS_MILLISECONDS) <= self.since.elapsed()
    }

    fn told_again(&self) -> Failure {
        let failure = Failure::new(self.report.code, self.report.error.clone());
        match &self.report.hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }
}

impl CircuitBreaker {
    pub(super) fn new(store: Arc<dyn VolumeStore>) -> Self {
        Self { store, away: Mutex::default(), turns: Turns::default() }
    }

    /// A call that waits no longer than one operation may take.
    async fn ask<T>(&self, call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let _turn = self.turn().await?;
        self.heed(call).await
    }

    /// A call about `name` that may take long because there is much to do: it must not keep the turn. Looking up finds
    /// out first whether the store can be reached.
    async fn ask_long<T, E: AsRef<Failure> + From<Failure>>(
        &self,
        name: &VolumeName,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let is_away = self.away().is_some();
        if is_away {
            self.look_up(name).await?;
        }
        self.heed(call).await
    }

    async fn heed<T, E: AsRef<Failure>>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let begun = Instant::now();
        let result = call.await;
        let in_vain = result.as_ref().err().map(AsRef::as_ref).filter(|failure| {
            failure.code() == FailureCode::StoreUnavailable
                && Duration::from_millis(WAIT_MILLISECONDS_MIN) <= begun.elapsed()
        });
        *self.away() =
            in_vain.map(|failure| Away { report: failure.report(), since: Instant::now(), was_old: false });
        result
    }

    /// Nobody needs a turn while the store can be reached, as far as is known.
    async fn turn(&self) -> Result<Option<Turn<'_, ()>>, Failure> {
        if let Some(said) = self.turn_at_once() {
            return said;
        }
        let turn = timeout(Duration::from_millis(NEWS_MILLISECONDS), self.turns.lock()).await;
        match (&*self.away(), turn) {
            (None, _) => Ok(None),
            (Some(away), Ok(turn)) if away.is_old() => Ok(Some(turn)),
            (Some(away), _) => Err(away.told_again()),
        }
    }

    /// Likewise, unless it is worth waiting for what the call finds out whose turn it is.
    fn turn_at_once(&self) -> Option<Result<Option<Turn<'_, ()>>, Failure>> {
        match (&mut *self.away(), self.turns.try_lock()) {
            (None, _) => Some(Ok(None)),
            (Some(away), Ok(turn)) => {
                away.was_old = away.is_old();
                Some(Ok(Some(turn)))
            }
            (Some(away), Err(_)) if away.was_old => None,
            (Some(away), Err(_)) => Some(Err(away.told_again())),
        }
    }

    fn away(&self) -> MutexGuard<'_, Option<Away>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl VolumeStore for CircuitBreaker {
    fn describe(&self) -> StoreDescription {
        self.store.describe()
    }

    async fn create(&self, volume: &Volume) -> Result<Created, Failure> {
        self.ask(self.store.create(volume)).await
    }

    async fn destroy(&self, name: &VolumeName, source: Option<&Source>) -> Result<Destroyed, DestroyError> {
        self.ask_long(name, self.store.destroy(name, source)).await
    }

    async fn look_up(&self, name: &VolumeName) -> Result<Option<Entry>, Failure> {
        self.ask(self.store.look_up(name)).await
    }

    /// It may take long too, and names nothing to look up: who only lists holds no worker.
    async fn list(&self) -> Result<Vec<Entry>, Failure> {
        drop(self.turn().await?);
        self.heed(self.store.list()).await
    }

    async fn usage(&self, name: &VolumeName) -> Result<Usage, Failure> {
        self.ask(self.store.usage(name)).await
    }

    async fn source(&self, name: &VolumeName) -> Result<Source, Failure> {
        self.ask(self.store.source(name)).await
    }

    /// It is for showing, and holds no worker.
    async fn probe(&self) -> Probe {
        self.store.probe().await
    }

    /// What operators ask holds no worker.
    fn shared(&self) -> Option<&dyn SharedStore> {
        self.store.shared()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dvs_domain::names::StoreName;
    use dvs_store_contract::FolderBench;
    use dvs_store_fake::FakeStore;
    use std::collections::BTreeSet;
    use url::Url;

    const BENCH: FolderBench = FolderBench {
        open: |folder, state| {
            let url = Url::parse(&format!("fake://{}", folder.display())).unwrap();
            let store = FakeStore::open(StoreName::new("try").unwrap(), &url, Some(state)).unwrap();
            Arc::new(CircuitBreaker::new(Arc::new(store)))
        },
        elsewhere: |_| BTreeSet::new(),
        ways_to_fail: &[],
        fail_next_create: |_| {},
    };

    #[tokio::test(flavor = "multi_thread")]
    async fn a_store_behind_it_keeps_every_promise() {
        dvs_store_contract::all(&BENCH).await;
    }
}
