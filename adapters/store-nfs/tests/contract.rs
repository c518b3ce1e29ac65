//! The store keeps the promises of every store, over a folder of this host.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use async_trait::async_trait;
use dvs_domain::names::VolumeName;
use dvs_domain::ports::VolumeStore;
use dvs_store_contract::{Bench, Place};
use dvs_store_nfs::NfsStore;
use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, Mutex};
use support::{Ground, tidy};

/// The calls of a create that may be refused: the contact is made already.
const CALLS: [&str; 6] = ["0", "1", "2", "3", "4", "5"];

struct FolderBench;

#[async_trait]
impl Bench for FolderBench {
    async fn place(&self) -> Box<dyn Place> {
        Box::new(FolderPlace { ground: Ground::new(), opened: Mutex::default() })
    }
}

struct FolderPlace {
    ground: Ground,
    opened: Mutex<Vec<Arc<NfsStore>>>,
}

#[async_trait]
impl Place for FolderPlace {
    async fn open(&self) -> Arc<dyn VolumeStore> {
        let store = Arc::new(self.ground.store(1));
        self.opened.lock().unwrap().push(Arc::clone(&store));
        store
    }

    async fn damage(&self, name: &VolumeName) {
        let record = self.ground.folder.path().join("volumes_metadata").join(name.as_str()).join("record");
        let text = fs::read_to_string(&record).unwrap();
        fs::write(&record, text.replace("\"mebibytes\": 8", "\"mebibytes\": 9")).unwrap();
    }

    async fn make_unreachable(&self) {
        self.ground.server.script().go_away();
    }

    async fn make_reachable(&self) {
        self.ground.server.script().revive();
    }

    async fn traces(&self) -> BTreeSet<String> {
        self.ground.traces()
    }

    fn ways_to_fail(&self) -> Vec<&'static str> {
        CALLS.to_vec()
    }

    async fn fail_next_create(&self, way: &'static str) {
        // What clears away meanwhile must not be refused in the place of the create.
        let opened = self.opened.lock().unwrap().clone();
        for store in opened {
            tidy(&store).await;
        }
        self.ground.server.script().refuse_after(way.parse().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_keeps_every_promise_over_a_folder() {
    dvs_store_contract::all(&FolderBench).await;
}
