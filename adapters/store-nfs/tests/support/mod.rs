//! What the tests share.
#![allow(dead_code, clippy::print_stderr, reason = "each test uses some of it; one that cannot run says so")]

pub(crate) mod changes;
pub(crate) mod hostile;
pub(crate) mod listing;
pub(crate) mod real;

use dvs_domain::job::CreateRequest;
use dvs_domain::mount_point::MountPoint;
use dvs_domain::names::{StoreName, VolumeName};
use dvs_domain::ports::VolumeStore;
use dvs_domain::size::VolumeSize;
use dvs_domain::time::Timestamp;
use dvs_domain::volume::Volume;
use dvs_store_nfs::NfsStore;
use dvs_store_nfs::testing::{FolderServer, is_list, node};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long something may take that ends by itself soon, also where the test itself is stopped meanwhile.
pub(crate) const SOON: Duration = Duration::from_secs(300);

/// A folder that stands for an export.
pub(crate) struct Ground {
    pub(crate) folder: TempDir,
    pub(crate) server: FolderServer,
}

impl Ground {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let server = FolderServer::new(folder.path());
        Self { folder, server }
    }

    /// The store as node `number` has it.
    pub(crate) fn store(&self, number: u8) -> NfsStore {
        self.store_with(number, "")
    }

    pub(crate) fn store_with(&self, number: u8, options: &str) -> NfsStore {
        self.server.store(&store_name(), &node(number).unwrap(), options).unwrap()
    }

    /// Everything that is there, without the two folders and shared lists.
    pub(crate) fn traces(&self) -> BTreeSet<String> {
        traces(self.folder.path())
    }
}

pub(crate) fn store_name() -> StoreName {
    StoreName::new("shared").unwrap()
}

pub(crate) fn named(name: &str) -> VolumeName {
    VolumeName::new(name).unwrap()
}

/// A volume as it would be asked for.
pub(crate) fn volume(store: &dyn VolumeStore, name: &str) -> Volume {
    let mount_point = MountPoint::new(format!("/mnt/{name}")).unwrap();
    let request = CreateRequest::at(mount_point, VolumeSize::from_mebibytes(8).unwrap());
    let spec = request.complete(&store.describe(), named(name)).unwrap();
    Volume { spec, made_by: None, made_at: Timestamp(7) }
}

/// Everything below `folder`, without the two folders of a store, and without lists that nodes share: nobody has asked for
/// those.
pub(crate) fn traces(folder: &Path) -> BTreeSet<String> {
    let mut traces = BTreeSet::new();
    add_all(folder, &mut traces);
    let is_trace = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or_default();
        name != "volumes" && name != "volumes_metadata" && !is_list(name)
    };
    traces.retain(|path| is_trace(path));
    traces
}

fn add_all(folder: &Path, traces: &mut BTreeSet<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            add_all(&entry.path(), traces);
        }
        traces.insert(entry.path().display().to_string());
    }
}

/// Waits until the store has nothing to clear away any more.
pub(crate) async fn tidy(store: &NfsStore) {
    let until = Instant::now() + SOON;
    while store.is_untidy() {
        assert!(Instant::now() < until, "the store does not come to an end of clearing away");
        tokio::task::yield_now().await;
    }
}

/// Asks the store until it has nothing to clear away any more, also where clearing away has just failed.
pub(crate) async fn tidy_in_the_end(store: &NfsStore) {
    let until = Instant::now() + SOON;
    while store.is_untidy() {
        assert!(Instant::now() < until, "the store does not come to an end of clearing away");
        store.list().await.unwrap();
    }
}
