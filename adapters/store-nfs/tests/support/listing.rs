//! Many volumes, and what listing them costs.

use super::{Ground, SOON, named, tidy, volume};
use dvs_domain::ports::VolumeStore;
use dvs_domain::volume::Entry;
use dvs_store_nfs::NfsStore;
use dvs_store_nfs::testing::is_list;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// After this a record is read again.
pub(crate) const BELIEVED: Duration = Duration::from_secs(60);
/// The calls by which both folders are listed, seven entries each: also with a list that is shared, and one that is
/// being written.
pub(crate) const PAGES: u64 = 58;

/// The calls by which a record is read: on a server two, to find it and to read it.
pub(crate) const RECORD_CALLS: u64 = 1;

/// An export with many volumes.
pub(crate) struct Many {
    pub(crate) ground: Ground,
}

impl Many {
    /// How many.
    pub(crate) const COUNT: u64 = 200;

    /// That nobody has listed.
    pub(crate) async fn new() -> Self {
        let ground = Ground::new();
        let store = ready(&ground, 9, "").await;
        for number in 0..Self::COUNT {
            store.create(&volume(&store, &format!("v{number:03}"))).await.unwrap();
        }
        Self { ground }
    }

    /// Of which node 1 has shared a list.
    pub(crate) async fn listed() -> Self {
        let many = Self::new().await;
        let store = many.ready(1).await;
        assert_eq!(many.list(&store).await.0, many.expected());
        assert!(shares(&store, &many.ground).await);
        many
    }

    /// The store as node `number` has it, when it has nothing to do.
    pub(crate) async fn ready(&self, number: u8) -> NfsStore {
        ready(&self.ground, number, "").await
    }

    /// What every list must give.
    pub(crate) fn expected(&self) -> Vec<Entry> {
        let store = self.ground.store(1);
        (0..Self::COUNT).map(|number| volume(&store, &format!("v{number:03}"))).map(sound).collect()
    }

    /// What `store` lists, and by how many calls.
    pub(crate) async fn list(&self, store: &NfsStore) -> (Vec<Entry>, u64) {
        let calls = store.calls();
        let listed = store.list().await.unwrap();
        (listed, store.calls() - calls)
    }

    /// The lists that are shared or being written.
    pub(crate) fn names_of_lists(&self) -> Vec<String> {
        let entries = fs::read_dir(self.ground.folder.path().join("volumes_metadata")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| is_list(name)).collect()
    }
}

fn sound(volume: dvs_domain::volume::Volume) -> Entry {
    Entry::Sound(Box::new(volume))
}

/// The store as node `number` has it, when it has nothing to do.
pub(crate) async fn ready(ground: &Ground, number: u8, options: &str) -> NfsStore {
    let store = ground.store_with(number, options);
    store.look_up(&named("none")).await.unwrap();
    if !options.contains("ro=1") {
        tidy(&store).await;
    }
    store
}

/// Waits until `store` does not write the list that nodes share any more.
pub(crate) async fn is_done(store: &NfsStore) {
    let until = Instant::now() + SOON;
    while store.is_posting() {
        assert!(Instant::now() < until, "the store does not come to an end of sharing its list");
        tokio::task::yield_now().await;
    }
}

/// Whether a list is shared when `store` has done with that.
pub(crate) async fn shares(store: &NfsStore, ground: &Ground) -> bool {
    is_done(store).await;
    ground.folder.path().join("volumes_metadata/.list").is_file()
}

/// By what a list that is shared can be told from another.
pub(crate) fn posted(ground: &Ground) -> (u64, i64, i64) {
    let list = fs::metadata(ground.folder.path().join("volumes_metadata/.list")).unwrap();
    (list.ino(), list.ctime(), list.ctime_nsec())
}
