//! What the tests share.
#![allow(dead_code, reason = "each test uses some of it")]

pub(crate) mod changes;
pub(crate) mod counting;
pub(crate) mod disk;
pub(crate) mod hostile;
pub(crate) mod script;
pub(crate) mod server;
pub(crate) mod xdr;

use dvs_domain::job::CreateRequest;
use dvs_domain::mount_point::MountPoint;
use dvs_domain::names::{NodeId, StoreName, VolumeName};
use dvs_domain::ports::VolumeStore;
use dvs_domain::size::VolumeSize;
use dvs_domain::time::Timestamp;
use dvs_domain::volume::Volume;
use dvs_store_nfs::{NfsStore, ThisNode};
use server::FolderServer;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use url::Url;

/// How long something may take that ends by itself soon, also where the test itself is stopped meanwhile.
pub(crate) const SOON: Duration = Duration::from_secs(300);

/// A server and the folder that it exports.
pub(crate) struct Ground {
    pub(crate) folder: TempDir,
    pub(crate) server: FolderServer,
}

impl Ground {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let server = FolderServer::start(folder.path());
        Self { folder, server }
    }

    /// The store as node `number` has it. Its limit is one that a slow machine does not exceed.
    pub(crate) fn store(&self, number: u8) -> NfsStore {
        self.store_with(number, "timeout=60")
    }

    pub(crate) fn store_with(&self, number: u8, options: &str) -> NfsStore {
        open(&self.server.url(options), number)
    }

    /// The store, after its contact with the server and the recovery that follows.
    pub(crate) async fn ready(&self, number: u8) -> NfsStore {
        let store = self.store(number);
        store.list().await.unwrap();
        recovered(&store).await;
        store
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Everything that is there but the two folders of the store.
    pub(crate) fn traces(&self) -> BTreeSet<String> {
        let mut traces = BTreeSet::new();
        add_all(self.folder.path(), &mut traces);
        let own = ["volumes", "volumes_metadata"].map(|folder| self.path(folder).display().to_string());
        traces.retain(|path| !own.contains(path));
        traces
    }
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

pub(crate) fn open(url: &str, number: u8) -> NfsStore {
    NfsStore::open(store_name(), &Url::parse(url).unwrap(), node(number)).unwrap()
}

pub(crate) fn node(number: u8) -> ThisNode {
    ThisNode { id: NodeId::new(format!("{number:032x}")).unwrap(), name: format!("node{number}") }
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

/// Waits until the store has no leftovers any more.
pub(crate) async fn recovered(store: &NfsStore) {
    let until = Instant::now() + SOON;
    while store.has_leftovers() {
        assert!(Instant::now() < until, "the recovery does not end");
        tokio::task::yield_now().await;
    }
}

/// Asks the store until it has no leftovers any more, also where recovery has just failed.
pub(crate) async fn recovered_in_the_end(store: &NfsStore) {
    let until = Instant::now() + SOON;
    while store.has_leftovers() {
        assert!(Instant::now() < until, "the recovery does not end");
        store.list().await.unwrap();
    }
}
