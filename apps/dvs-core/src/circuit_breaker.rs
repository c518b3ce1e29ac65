//! A circuit breaker around a store that may be out of reach. Each call of such a store waits for its time limit, and
//! holds one of the workers, which all stores share.
//!
//! - Closed: the last call has reached the store, or failed at once. Calls pass.
//! - Open: the last call has waited in vain. One call at a time passes, the probe; the others fail at once, as the last one
//!   did.
//! - Half-open: a probe runs that began when the breaker had been open for so long that its failure is out of date. The
//!   others wait for what the probe finds out.
//!
//! A probe that succeeds closes the breaker; one that fails opens it anew.

use async_trait::async_trait;
use dvs_domain::failure::{Failure, FailureCode, FailureReport};
use dvs_domain::names::VolumeName;
use dvs_domain::ports::{Created, DestroyError, Destroyed, Probe, SharedStore, Source, VolumeStore};
use dvs_domain::volume::{Entry, StoreDescription, Usage, Volume};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as ProbePermit};
use tokio::time::{Instant, timeout};

/// A failure that comes sooner does not open the breaker: it holds nobody up, and may be about one volume only.
const WAIT_MILLISECONDS_MIN: u64 = 1000;

/// After so long the failure of an open breaker is out of date; the others wait as long for the next probe.
const OPEN_MILLISECONDS: u64 = 5000;

/// A store behind a network. See the module.
pub(super) struct CircuitBreaker {
    store: Arc<dyn VolumeStore>,
    /// `None` while the breaker is closed.
    open: Mutex<Option<Open>>,
    /// Held by the probe.
    probe: AsyncMutex<()>,
}

/// The state of a breaker that is open or half-open.
struct Open {
    /// How the last call has failed.
    report: FailureReport,
    since: Instant,
    /// Whether the failure was out of date when the current probe began.
    is_half_open: bool,
}

impl Open {
    fn is_expired(&self) -> bool {
        Duration::from_millis(OPEN_MILLISECONDS) <= self.since.elapsed()
    }

    fn failure(&self) -> Failure {
        let failure = Failure::new(self.report.code, self.report.error.clone());
        match &self.report.hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }
}

impl CircuitBreaker {
    pub(super) fn new(store: Arc<dyn VolumeStore>) -> Self {
        Self { store, open: Mutex::default(), probe: AsyncMutex::default() }
    }

    /// A call that waits no longer than one operation may take.
    async fn call<T>(&self, call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let _permit = self.admit().await?;
        self.observe(call).await
    }

    /// A call about `name` that may take long because there is much to do: it must not be the probe. Looking up finds
    /// out first whether the store can be reached.
    async fn call_long<T, E: AsRef<Failure> + From<Failure>>(
        &self,
        name: &VolumeName,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let is_open = self.state().is_some();
        if is_open {
            self.look_up(name).await?;
        }
        self.observe(call).await
    }

    /// Opens the breaker if the call waits in vain, and closes it otherwise.
    async fn observe<T, E: AsRef<Failure>>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let begun = Instant::now();
        let result = call.await;
        let in_vain = result.as_ref().err().map(AsRef::as_ref).filter(|failure| {
            failure.code() == FailureCode::StoreUnavailable
                && Duration::from_millis(WAIT_MILLISECONDS_MIN) <= begun.elapsed()
        });
        *self.state() = in_vain.map(|failure| Open {
            report: failure.report(),
            since: Instant::now(),
            is_half_open: false,
        });
        result
    }

    /// Lets a call pass: any while the breaker is closed, one as the probe otherwise. While it is half-open the others
    /// wait for the probe.
    async fn admit(&self) -> Result<Option<ProbePermit<'_, ()>>, Failure> {
        if let Some(admitted) = self.try_admit() {
            return admitted;
        }
        let permit = timeout(Duration::from_millis(OPEN_MILLISECONDS), self.probe.lock()).await;
        match (&*self.state(), permit) {
            (None, _) => Ok(None),
            (Some(open), Ok(permit)) if open.is_expired() => Ok(Some(permit)),
            (Some(open), _) => Err(open.failure()),
        }
    }

    /// Decides at once, or gives nothing while the breaker is half-open.
    fn try_admit(&self) -> Option<Result<Option<ProbePermit<'_, ()>>, Failure>> {
        match (&mut *self.state(), self.probe.try_lock()) {
            (None, _) => Some(Ok(None)),
            (Some(open), Ok(permit)) => {
                open.is_half_open = open.is_expired();
                Some(Ok(Some(permit)))
            }
            (Some(open), Err(_)) if open.is_half_open => None,
            (Some(open), Err(_)) => Some(Err(open.failure())),
        }
    }

    fn state(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl VolumeStore for CircuitBreaker {
    fn describe(&self) -> StoreDescription {
        self.store.describe()
    }

    async fn create(&self, volume: &Volume) -> Result<Created, Failure> {
        self.call(self.store.create(volume)).await
    }

    async fn destroy(&self, name: &VolumeName, source: Option<&Source>) -> Result<Destroyed, DestroyError> {
        self.call_long(name, self.store.destroy(name, source)).await
    }

    async fn look_up(&self, name: &VolumeName) -> Result<Option<Entry>, Failure> {
        self.call(self.store.look_up(name)).await
    }

    /// It may take long too, and names nothing to look up: who only lists holds no worker.
    async fn list(&self) -> Result<Vec<Entry>, Failure> {
        drop(self.admit().await?);
        self.observe(self.store.list()).await
    }

    async fn usage(&self, name: &VolumeName) -> Result<Usage, Failure> {
        self.call(self.store.usage(name)).await
    }

    async fn source(&self, name: &VolumeName) -> Result<Source, Failure> {
        self.call(self.store.source(name)).await
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
