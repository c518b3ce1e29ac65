//! Stores that may be out of reach. Each call of such a store waits for its limit, and holds one of the workers, which
//! all stores share: so only one call at a time waits for it, and whoever else asks is told at once what the last one
//! was told.

use async_trait::async_trait;
use dvs_domain::failure::{Failure, FailureCode, FailureReport};
use dvs_domain::names::VolumeName;
use dvs_domain::ports::{Created, Destroyed, SharedStore, Source, TakenBack, VolumeStore};
use dvs_domain::volume::{Entry, StoreDescription, Usage, Volume};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex as Turns, MutexGuard as Turn};
use tokio::time::Instant;

/// A failure that comes sooner holds nobody up. It may also be about one volume only.
const WAIT_MILLISECONDS_MIN: u64 = 1000;

/// A store behind a network. See the module.
pub(super) struct FarStore {
    store: Arc<dyn VolumeStore>,
    /// Why it cannot be reached, if the last call has waited for it in vain.
    away: Mutex<Option<FailureReport>>,
    /// Whose turn it is to find out whether it can be reached again.
    turns: Turns<()>,
}

impl FarStore {
    pub(super) fn new(store: Arc<dyn VolumeStore>) -> Self {
        Self { store, away: Mutex::default(), turns: Turns::default() }
    }

    async fn ask<T>(&self, call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let _turn = self.turn()?;
        let begun = Instant::now();
        let result = call.await;
        let in_vain = result.as_ref().err().filter(|failure| {
            failure.code() == FailureCode::StoreUnavailable
                && Duration::from_millis(WAIT_MILLISECONDS_MIN) <= begun.elapsed()
        });
        *self.away() = in_vain.map(Failure::report);
        result
    }

    /// Nobody needs a turn while the store can be reached, as far as is known.
    fn turn(&self) -> Result<Option<Turn<'_, ()>>, Failure> {
        match (&*self.away(), self.turns.try_lock()) {
            (None, _) => Ok(None),
            (Some(_), Ok(turn)) => Ok(Some(turn)),
            (Some(last), Err(_)) => Err(told_again(last)),
        }
    }

    fn away(&self) -> MutexGuard<'_, Option<FailureReport>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn told_again(last: &FailureReport) -> Failure {
    let failure = Failure::new(last.code, last.error.clone());
    match &last.hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

#[async_trait]
impl VolumeStore for FarStore {
    fn describe(&self) -> StoreDescription {
        self.store.describe()
    }

    async fn create(&self, volume: &Volume) -> Result<Created, Failure> {
        self.ask(self.store.create(volume)).await
    }

    async fn destroy(&self, name: &VolumeName) -> Result<Destroyed, Failure> {
        self.ask(self.store.destroy(name)).await
    }

    async fn take_back(&self, volume: &Volume) -> Result<TakenBack, Failure> {
        self.ask(self.store.take_back(volume)).await
    }

    async fn look_up(&self, name: &VolumeName) -> Result<Option<Entry>, Failure> {
        self.ask(self.store.look_up(name)).await
    }

    async fn list(&self) -> Result<Vec<Entry>, Failure> {
        self.ask(self.store.list()).await
    }

    async fn usage(&self, name: &VolumeName) -> Result<Usage, Failure> {
        self.ask(self.store.usage(name)).await
    }

    async fn source(&self, name: &VolumeName) -> Result<Source, Failure> {
        self.ask(self.store.source(name)).await
    }

    /// What operators ask holds no worker.
    fn shared(&self) -> Option<&dyn SharedStore> {
        self.store.shared()
    }
}
