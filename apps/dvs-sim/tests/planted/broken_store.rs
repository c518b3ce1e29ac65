//! Stores that do not do what they say.

use async_trait::async_trait;
use dvs_core::CoreParts;
use dvs_domain::failure::Failure;
use dvs_domain::names::VolumeName;
use dvs_domain::ports::{Created, DestroyError, Destroyed, Probe, SharedStore, Source, VolumeStore};
use dvs_domain::volume::{Entry, StoreDescription, Usage, Volume};
use futures::future::join_all;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    DestroysNothing,
    GivesAnother,
    AskedTwice,
    CreatesAgain,
    AsksForMany,
    NeedsTheLast,
}

struct BrokenStore {
    store: Arc<dyn VolumeStore>,
    /// The last of all stores.
    last: Arc<dyn VolumeStore>,
    fault: Fault,
    created: Mutex<Option<Volume>>,
}

pub(crate) fn broken(parts: CoreParts, fault: Fault) -> CoreParts {
    let Some(last) = parts.stores.last().cloned() else { return parts };
    let broken = |store| -> Arc<dyn VolumeStore> {
        Arc::new(BrokenStore { store, last: Arc::clone(&last), fault, created: Mutex::default() })
    };
    CoreParts { stores: parts.stores.into_iter().map(broken).collect(), ..parts }
}

#[async_trait]
impl VolumeStore for BrokenStore {
    fn describe(&self) -> StoreDescription {
        self.store.describe()
    }

    async fn create(&self, volume: &Volume) -> Result<Created, Failure> {
        match self.fault {
            Fault::AskedTwice => {
                let (created, _) = tokio::join!(self.store.create(volume), self.store.create(volume));
                created
            }
            Fault::CreatesAgain => {
                let before =
                    self.created.lock().unwrap_or_else(PoisonError::into_inner).replace(volume.clone());
                if let Some(before) = before {
                    let _unasked = self.store.create(&before).await;
                }
                self.store.create(volume).await
            }
            _ => self.store.create(volume).await,
        }
    }

    async fn destroy(&self, name: &VolumeName, source: Option<&Source>) -> Result<Destroyed, DestroyError> {
        match self.fault {
            Fault::DestroysNothing => Ok(Destroyed::Gone),
            _ => self.store.destroy(name, source).await,
        }
    }

    async fn look_up(&self, name: &VolumeName) -> Result<Option<Entry>, Failure> {
        if self.fault == Fault::NeedsTheLast {
            self.last.look_up(name).await?;
        }
        self.store.look_up(name).await
    }

    async fn list(&self) -> Result<Vec<Entry>, Failure> {
        self.store.list().await
    }

    async fn usage(&self, name: &VolumeName) -> Result<Usage, Failure> {
        self.store.usage(name).await
    }

    async fn source(&self, name: &VolumeName) -> Result<Source, Failure> {
        match self.fault {
            Fault::GivesAnother => {
                let first = self.store.list().await?.first().map(|entry| entry.name().clone());
                self.store.source(first.as_ref().unwrap_or(name)).await
            }
            Fault::AsksForMany => {
                let many =
                    (0..9).map(|number| VolumeName::new(format!("{name}-{number}")).expect("a plain name"));
                join_all(many.map(|name| async move { self.store.source(&name).await })).await;
                self.store.source(name).await
            }
            _ => self.store.source(name).await,
        }
    }

    async fn probe(&self) -> Probe {
        self.store.probe().await
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        self.store.shared()
    }
}
