//! The stores of this node, and which of them a job means.

use super::circuit_breaker::CircuitBreaker;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::{StoreName, VolumeName};
use dvs_domain::ports::VolumeStore;
use dvs_domain::volume::{Entry, VolumeId};
use futures::future::join_all;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// What to do about a name that may be one of several.
const NAME_THE_STORE: &str =
    "name the store too: with the job's key `store`, or as `STORE/NAME` on the command line";

/// The stores of this node, in the order in which they were configured. The first is the default.
pub struct StoreRegistry {
    default: StoreName,
    stores: Vec<(StoreName, Arc<dyn VolumeStore>)>,
    /// What each has listed when it last answered. For showing; it decides nothing.
    last_seen: Mutex<HashMap<StoreName, BTreeSet<VolumeName>>>,
}

impl StoreRegistry {
    /// The stores of this node.
    ///
    /// # Errors
    /// `bad-request` when there is none, or two have the same name.
    pub fn new(stores: Vec<Arc<dyn VolumeStore>>) -> Result<Self, Failure> {
        let stores: Vec<_> =
            stores.into_iter().map(|store| (store.describe().name, bounded(store))).collect();
        for (index, (name, _)) in stores.iter().enumerate() {
            if stores[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(Failure::new(FailureCode::BadRequest, format!("two stores are called `{name}`")));
            }
        }
        match stores.first() {
            Some((default, _)) => Ok(Self { default: default.clone(), stores, last_seen: Mutex::default() }),
            None => Err(Failure::new(FailureCode::BadRequest, "no store is configured")
                .with_hint("add one with `--store NAME=URL`")),
        }
    }

    /// The store of jobs that name none.
    #[must_use]
    pub fn default_name(&self) -> &StoreName {
        &self.default
    }

    /// Names and stores, the default first.
    pub fn iter(&self) -> impl Iterator<Item = (&StoreName, &Arc<dyn VolumeStore>)> {
        self.stores.iter().map(|(name, store)| (name, store))
    }

    /// The store called `name`.
    ///
    /// # Errors
    /// `no-such-store`, naming those that there are.
    pub fn get(&self, name: &StoreName) -> Result<&Arc<dyn VolumeStore>, Failure> {
        self.stores.iter().find(|(known, _)| known == name).map(|(_, store)| store).ok_or_else(|| {
            let known: Vec<String> = self.stores.iter().map(|(known, _)| format!("`{known}`")).collect();
            let detail = format!("no store is called `{name}`; there are {}", known.join(", "));
            Failure::new(FailureCode::NoSuchStore, detail)
        })
    }

    /// What `store` lists, remembered for when it does not answer.
    ///
    /// # Errors
    /// As [`VolumeStore::list`], and `no-such-store`.
    pub async fn list(&self, store: &StoreName) -> Result<Vec<Entry>, Failure> {
        let entries = self.get(store)?.list().await?;
        let names = entries.iter().map(|entry| entry.name().clone()).collect();
        self.last_seen.lock().unwrap_or_else(PoisonError::into_inner).insert(store.clone(), names);
        Ok(entries)
    }

    /// `volume` was just made, or is gone.
    pub fn saw(&self, volume: &VolumeId, is_there: bool) {
        let mut last_seen = self.last_seen.lock().unwrap_or_else(PoisonError::into_inner);
        let names = last_seen.entry(volume.store.clone()).or_default();
        if is_there {
            names.insert(volume.name.clone());
        } else {
            names.remove(&volume.name);
        }
    }

    /// What `store` has listed when it last answered.
    pub fn last_seen(&self, store: &StoreName) -> BTreeSet<VolumeName> {
        let last_seen = self.last_seen.lock().unwrap_or_else(PoisonError::into_inner);
        last_seen.get(store).cloned().unwrap_or_default()
    }

    /// The volume called `name`: in `store`, or in whichever store has it when none is named.
    ///
    /// # Errors
    /// `conflict` when two stores have the name, naming both; `store-unavailable` when one does not answer, naming it:
    /// it may have the name, and a name never falls through to another store.
    pub async fn find(
        &self,
        store: Option<&StoreName>,
        name: &VolumeName,
    ) -> Result<Option<(VolumeId, Entry)>, Failure> {
        if let Some(store) = store {
            let entry = self.get(store)?.look_up(name).await?;
            return Ok(entry.map(|entry| (VolumeId { store: store.clone(), name: name.clone() }, entry)));
        }
        let asked = self.iter().map(|(store, adapter)| async move {
            (VolumeId { store: store.clone(), name: name.clone() }, adapter.look_up(name).await)
        });
        let (mut found, mut silent) = (Vec::new(), Vec::new());
        // All at once: together they take no longer than the slowest.
        for (id, said) in join_all(asked).await {
            match said {
                Ok(Some(entry)) => found.push((id, entry)),
                Ok(None) => {}
                Err(failure) => silent.push((id, failure)),
            }
        }
        if 1 < found.len() {
            let detail = format!("`{name}` may be {}", either(&found));
            return Err(Failure::new(FailureCode::Conflict, detail).with_hint(NAME_THE_STORE));
        }
        match silent.first() {
            None => Ok(found.pop()),
            // What it has listed before may be gone, and may not be all.
            Some((_, first)) => {
                let detail = format!("`{name}` may be {}, and nobody can say now", either(&silent));
                let causes: Vec<String> = silent.iter().map(|(_, failure)| failure.chain()).collect();
                Err(Failure::new(first.code(), detail)
                    .caused_by(causes.join("; "))
                    .with_hint(format!("make the store reachable, or {NAME_THE_STORE}")))
            }
        }
    }
}

fn either<T>(volumes: &[(VolumeId, T)]) -> String {
    let each: Vec<String> = volumes.iter().map(|(id, _)| format!("`{id}`")).collect();
    each.join(" or ")
}

/// `store`, whose failing holds up no other.
fn bounded(store: Arc<dyn VolumeStore>) -> Arc<dyn VolumeStore> {
    if store.shared().is_some() { Arc::new(CircuitBreaker::new(store)) } else { store }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dvs_domain::job::CreateRequest;
    use dvs_domain::mount_point::MountPoint;
    use dvs_domain::size::VolumeSize;
    use dvs_domain::time::Timestamp;
    use dvs_domain::volume::Volume;
    use dvs_store_fake::{Action, FakeStore};

    async fn store(folder: &std::path::Path, name: &str) -> Arc<FakeStore> {
        let store = FakeStore::at(StoreName::new(name).unwrap(), &folder.join(name)).unwrap();
        let size = VolumeSize::from_mebibytes(1).unwrap();
        let request = CreateRequest::at(MountPoint::new("/mnt/x").unwrap(), size);
        let spec = request.complete(&store.describe(), VolumeName::new("data").unwrap()).unwrap();
        store.create(&Volume { spec, made_by: None, made_at: Timestamp(0) }).await.unwrap();
        Arc::new(store)
    }

    #[tokio::test]
    async fn a_bare_name_never_falls_through_to_another_store() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let (a, b) = (store(folder.path(), "a").await, store(folder.path(), "b").await);
        let stores = StoreRegistry::new(vec![a.clone(), b.clone()]).unwrap();
        let name = VolumeName::new("data").unwrap();
        let refused = stores.find(None, &name).await.unwrap_err();
        assert_eq!(refused.code(), FailureCode::Conflict);
        assert_eq!(refused.chain(), "`data` may be `a/data` or `b/data`");
        b.failing_next(Action::LookUp, FailureCode::StoreUnavailable);
        let refused = stores.find(None, &name).await.unwrap_err();
        assert_eq!(refused.code(), FailureCode::StoreUnavailable);
        assert!(
            refused.chain().starts_with("`data` may be `b/data`, and nobody can say now: "),
            "{}",
            refused.chain()
        );
        assert!(refused.hint().unwrap().contains("`store`"), "{:?}", refused.hint());
        for store in [&a, &b] {
            store.failing_next(Action::LookUp, FailureCode::StoreUnavailable);
        }
        let refused = stores.find(None, &name).await.unwrap_err();
        assert!(
            refused.chain().starts_with("`data` may be `a/data` or `b/data`, and nobody"),
            "{}",
            refused.chain()
        );
        let named = StoreName::new("a").unwrap();
        assert!(stores.find(Some(&named), &name).await.unwrap().is_some());
    }
}
