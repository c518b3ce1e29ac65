//! The store keeps the promises of every store.
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
use support::{Ground, recovered};

/// The calls of a create, up to the one that publishes the volume: a create that fails later has made it.
const CALLS: [&str; 5] = ["0", "1", "2", "3", "4"];

struct NfsBench;

#[async_trait]
impl Bench for NfsBench {
    async fn place(&self) -> Box<dyn Place> {
        Box::new(NfsPlace { ground: Ground::new(), opened: Mutex::default() })
    }
}

struct NfsPlace {
    ground: Ground,
    opened: Mutex<Vec<Arc<NfsStore>>>,
}

#[async_trait]
impl Place for NfsPlace {
    async fn open(&self) -> Arc<dyn VolumeStore> {
        let store = Arc::new(self.ground.store(1));
        self.opened.lock().unwrap().push(Arc::clone(&store));
        store
    }

    async fn damage(&self, name: &VolumeName) {
        let record = self.ground.path("volumes_metadata").join(name.as_str()).join("record");
        let text = fs::read_to_string(&record).unwrap();
        fs::write(&record, text.replace("\"mebibytes\": 8", "\"mebibytes\": 9")).unwrap();
    }

    async fn make_unreachable(&self) {
        self.ground.server.script().go_away();
    }

    async fn make_reachable(&self) {
        self.ground.server.script().revive();
    }

    async fn put_another(&self) -> bool {
        false
    }

    async fn take_another_away(&self) {}

    async fn traces(&self) -> BTreeSet<String> {
        self.ground.traces()
    }

    fn ways_to_fail(&self) -> Vec<&'static str> {
        CALLS.to_vec()
    }

    async fn fail_next_create(&self, way: &'static str) {
        // No call of the recovery must be refused in place of one of the create.
        let opened = self.opened.lock().unwrap().clone();
        for store in opened {
            recovered(&store).await;
        }
        self.ground.server.script().refuse_after(way.parse().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_keeps_every_promise() {
    dvs_store_contract::all(&NfsBench).await;
}
