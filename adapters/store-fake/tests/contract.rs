//! The fake store keeps the promises of the store port.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use async_trait::async_trait;
use dvs_domain::failure::FailureCode;
use dvs_domain::names::{StoreName, VolumeName};
use dvs_domain::ports::VolumeStore;
use dvs_store_contract::{Bench, Place};
use dvs_store_fake::{Action, FakeStore};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use tempfile::TempDir;

/// Each step of a create that can be made to fail.
const STEPS: [&str; 4] = ["fake.directory", "fake.owner", "fake.record", "fake.publish"];
const BY_DEMAND: &str = "failing_next";

struct FakeBench;

struct FakePlace {
    around: TempDir,
    open: Mutex<Weak<FakeStore>>,
}

impl FakePlace {
    fn folder(&self) -> PathBuf {
        self.around.path().join("store")
    }

    fn away(&self) -> PathBuf {
        self.around.path().join("away")
    }
}

#[async_trait]
impl Bench for FakeBench {
    async fn place(&self) -> Box<dyn Place> {
        let around = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        Box::new(FakePlace { around, open: Mutex::new(Weak::new()) })
    }
}

#[async_trait]
impl Place for FakePlace {
    async fn open(&self) -> Arc<dyn VolumeStore> {
        let store = Arc::new(FakeStore::at(StoreName::new("try").unwrap(), &self.folder()).unwrap());
        *self.open.lock().unwrap() = Arc::downgrade(&store);
        store
    }

    async fn damage(&self, name: &VolumeName) {
        for copy in ["record", "record.copy"] {
            let path = self.folder().join("volumes").join(name.as_str()).join(copy);
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replacen("\"mebibytes\":8", "\"mebibytes\":9", 1)).unwrap();
        }
    }

    async fn make_unreachable(&self) {
        fs::rename(self.folder(), self.away()).unwrap();
    }

    async fn make_reachable(&self) {
        fs::rename(self.away(), self.folder()).unwrap();
    }

    async fn traces(&self) -> BTreeSet<String> {
        let mut traces = BTreeSet::new();
        add_all(&self.folder(), &mut traces);
        traces
    }

    fn ways_to_fail(&self) -> Vec<&'static str> {
        STEPS.into_iter().chain([BY_DEMAND]).collect()
    }

    async fn fail_next_create(&self, way: &'static str) {
        if way == BY_DEMAND {
            let open = self.open.lock().unwrap().upgrade().unwrap();
            open.failing_next(Action::Create, FailureCode::NoSpace);
        } else {
            fail::cfg(way, "1*return(no-space)").unwrap();
        }
    }
}

fn add_all(folder: &Path, traces: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            add_all(&entry.path(), traces);
        }
        traces.insert(entry.path().display().to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fake_store_keeps_every_promise() {
    dvs_store_contract::all(&FakeBench).await;
}
