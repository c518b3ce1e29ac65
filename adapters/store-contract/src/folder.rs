//! A bench for stores in a folder of this host, whose volumes have a record and a copy of it.

use crate::{Bench, Place};
use async_trait::async_trait;
use dvs_domain::names::VolumeName;
use dvs_domain::ports::VolumeStore;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// Stores in folders.
pub struct FolderBench {
    /// The store in the folder that is given first, as the agent has it whose state folder is given second.
    pub open: fn(&Path, &Path) -> Arc<dyn VolumeStore>,
    /// What a store in this folder has made elsewhere, such as loop devices.
    pub elsewhere: fn(&Path) -> BTreeSet<String>,
    /// The failpoints of a create. None where the store is built without them.
    pub ways_to_fail: &'static [&'static str],
    /// Makes the next create fail at this failpoint.
    pub fail_next_create: fn(&'static str),
}

struct Folder {
    around: TempDir,
    open: fn(&Path, &Path) -> Arc<dyn VolumeStore>,
    elsewhere: fn(&Path) -> BTreeSet<String>,
    ways_to_fail: &'static [&'static str],
    fail_next_create: fn(&'static str),
}

impl Folder {
    fn store(&self) -> PathBuf {
        self.around.path().join("store")
    }

    fn away(&self) -> PathBuf {
        self.around.path().join("away")
    }

    async fn opened(&self, state: &str) -> Arc<dyn VolumeStore> {
        let store = (self.open)(&self.store(), &self.around.path().join(state));
        // A start of the agent lists each store, and one that is away has to open later.
        let _ = store.list().await;
        store
    }
}

#[async_trait]
impl Bench for FolderBench {
    async fn place(&self) -> Box<dyn Place> {
        let around = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let Self { open, elsewhere, ways_to_fail, fail_next_create } = *self;
        Box::new(Folder { around, open, elsewhere, ways_to_fail, fail_next_create })
    }
}

#[async_trait]
impl Place for Folder {
    async fn open(&self) -> Arc<dyn VolumeStore> {
        self.opened("state").await
    }

    async fn damage(&self, name: &VolumeName) {
        for copy in ["record", "record.copy"] {
            let path = self.store().join("volumes").join(name.as_str()).join(copy);
            let text = fs::read_to_string(&path).unwrap();
            let changed = text.replacen("\"mebibytes\": 8", "\"mebibytes\": 9", 1);
            assert_ne!(changed, text, "the record is laid out otherwise");
            fs::write(&path, changed).unwrap();
        }
    }

    async fn make_unreachable(&self) {
        fs::rename(self.store(), self.away()).unwrap();
    }

    async fn make_reachable(&self) {
        assert!(!self.store().exists(), "something was made in the place of the store");
        fs::rename(self.away(), self.store()).unwrap();
    }

    async fn put_another(&self) -> bool {
        drop(self.opened("state of another").await);
        true
    }

    async fn take_another_away(&self) {
        fs::remove_dir_all(self.store()).unwrap();
    }

    async fn traces(&self) -> BTreeSet<String> {
        let mut traces = (self.elsewhere)(self.around.path());
        add_all(&self.store(), &mut traces);
        traces
    }

    fn ways_to_fail(&self) -> Vec<&'static str> {
        self.ways_to_fail.to_vec()
    }

    async fn fail_next_create(&self, way: &'static str) {
        (self.fail_next_create)(way);
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
