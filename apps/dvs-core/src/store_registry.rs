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
    /// What each has listed when it last answered, or is known from the journal. For display; and a name that a silent
    /// store had is not given to another.
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

    fn has_seen(&self, volume: &VolumeId) -> bool {
        let last_seen = self.last_seen.lock().unwrap_or_else(PoisonError::into_inner);
        last_seen.get(&volume.store).is_some_and(|names| names.contains(&volume.name))
    }

    /// The volume called `name`: in `store`, or in whichever store has it when none is named.
    ///
    /// # Errors
    /// As `find_named`; `store-unavailable` also when no store that answers has the name, and one does not
    /// answer: it may have it.
    pub async fn find(
        &self,
        store: Option<&StoreName>,
        name: &VolumeName,
    ) -> Result<Option<(VolumeId, Entry)>, Failure> {
        if let Some(store) = store {
            let entry = self.get(store)?.look_up(name).await?;
            return Ok(entry.map(|entry| (VolumeId { store: store.clone(), name: name.clone() }, entry)));
        }
        match self.find_named(name).await? {
            (None, silent) if !silent.is_empty() => Err(untold(name, &silent)),
            (found, _) => Ok(found),
        }
    }

    /// The volume called `name`, in whichever store has it, and those that do not answer.
    ///
    /// # Errors
    /// `conflict` when two stores have the name, naming both; `store-unavailable` when one does not answer in which the
    /// name was last seen: a name that is taken never falls through to another store.
    pub(crate) async fn find_named(
        &self,
        name: &VolumeName,
    ) -> Result<(Option<(VolumeId, Entry)>, Vec<Silent>), Failure> {
        let asked = self.iter().map(|(store, adapter)| async move {
            (VolumeId { store: store.clone(), name: name.clone() }, adapter.look_up(name).await)
        });
        let (mut found, mut silent) = (Vec::new(), Vec::new());
        // All at once: together they take no longer than the slowest.
        for (id, answer) in join_all(asked).await {
            match answer {
                Ok(Some(entry)) => found.push((id, entry)),
                Ok(None) => {}
                Err(failure) => silent.push((id, failure)),
            }
        }
        if 1 < found.len() {
            let detail = format!("`{name}` may be {}", either(&found, ToString::to_string));
            return Err(Failure::new(FailureCode::Conflict, detail).with_hint(NAME_THE_STORE));
        }
        let (seen, unseen): (Vec<_>, Vec<_>) = silent.into_iter().partition(|(id, _)| self.has_seen(id));
        if !seen.is_empty() {
            return Err(untold(name, &seen));
        }
        Ok((found.pop(), unseen))
    }
}

/// A store that does not answer, as the volume that it may have, and why.
type Silent = (VolumeId, Failure);

fn untold(name: &VolumeName, silent: &[Silent]) -> Failure {
    let (stores, does) = (
        either(silent, |id| id.store.to_string()),
        if silent.len() == 1 { "store does" } else { "stores do" },
    );
    let detail = format!("cannot tell whether `{name}` is in {stores}: the {does} not answer");
    let causes: Vec<String> = silent.iter().map(|(_, failure)| failure.chain()).collect();
    let code = silent.first().map_or(FailureCode::StoreUnavailable, |(_, failure)| failure.code());
    Failure::new(code, detail)
        .caused_by(causes.join("; "))
        .with_hint(format!("make the store reachable, or {NAME_THE_STORE}"))
}

fn either<T>(volumes: &[(VolumeId, T)], text: impl Fn(&VolumeId) -> String) -> String {
    let each: Vec<String> = volumes.iter().map(|(id, _)| format!("`{}`", text(id))).collect();
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
        let store = FakeStore::at(StoreName::new(name).unwrap(), &folder.join(name));
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
        let found = stores.find(None, &name).await.unwrap();
        assert_eq!(found.map(|(id, _)| id.store.to_string()).as_deref(), Some("a"), "never seen in `b`");
        stores.list(&StoreName::new("b").unwrap()).await.unwrap();
        b.failing_next(Action::LookUp, FailureCode::StoreUnavailable);
        let refused = stores.find(None, &name).await.unwrap_err();
        assert_eq!(refused.code(), FailureCode::StoreUnavailable);
        let text = refused.chain();
        assert!(
            text.starts_with("cannot tell whether `data` is in `b`: the store does not answer"),
            "{text}"
        );
        assert!(refused.hint().unwrap().contains("`store`"), "{:?}", refused.hint());
        let free = VolumeName::new("free").unwrap();
        for store in [&a, &b] {
            store.failing_next(Action::LookUp, FailureCode::StoreUnavailable);
        }
        let (found, silent) = stores.find_named(&free).await.unwrap();
        assert_eq!((found, silent.len()), (None, 2), "a name never seen is free");
        for store in [&a, &b] {
            store.failing_next(Action::LookUp, FailureCode::StoreUnavailable);
        }
        let text = stores.find(None, &free).await.unwrap_err().chain();
        assert!(text.starts_with("cannot tell whether `free` is in `a` or `b`: the stores do not"), "{text}");
        let named = StoreName::new("a").unwrap();
        assert!(stores.find(Some(&named), &name).await.unwrap().is_some());
    }
}
