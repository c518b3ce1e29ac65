//! A real server to test against, and volumes on it.
#![allow(clippy::print_stderr, reason = "a test that cannot run says so")]

use dvs_domain::job::CreateRequest;
use dvs_domain::mount_point::MountPoint;
use dvs_domain::names::{NodeId, StoreName, VolumeName};
use dvs_domain::ports::VolumeStore;
use dvs_domain::size::VolumeSize;
use dvs_domain::time::Timestamp;
use dvs_domain::volume::Volume;
use dvs_store_nfs::{NfsStore, ThisNode};
use dvs_trials::nfs::ganesha::{self, ExportOptions, Ganesha};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use url::Url;

/// How long a recovery may take, also where the test itself is stopped meanwhile.
const SOON: Duration = Duration::from_secs(300);

/// A server, and the folder that it exports.
pub(crate) struct Real {
    pub(crate) server: Ganesha,
    around: TempDir,
}

impl Real {
    pub(crate) fn start(options: ExportOptions) -> Self {
        // On a disk: what is exported must have handles.
        let around = tempfile::Builder::new().prefix("dvs-test-").tempdir_in("/var/tmp").unwrap();
        let export = around.path().join("export");
        std::fs::create_dir(&export).unwrap();
        let server = Ganesha::start(&export, around.path(), options).unwrap();
        Self { server, around }
    }

    pub(crate) fn export(&self) -> PathBuf {
        self.around.path().join("export")
    }

    /// A new folder in the export.
    pub(crate) fn folder(&self) -> PathBuf {
        tempfile::Builder::new().prefix("place-").tempdir_in(self.export()).unwrap().keep()
    }

    /// The store in `folder`, as node `number` has it.
    pub(crate) fn store(&self, folder: &Path, number: u8, options: &str) -> NfsStore {
        let (address, ports) = self.server.address();
        let url = Url::parse(&format!("{address}{}?{ports}&{options}", folder.display())).unwrap();
        NfsStore::open(store_name(), &url, node(number)).unwrap()
    }
}

/// Whether a server can run here; says so if not.
pub(crate) fn can_run(test: &str) -> bool {
    match ganesha::cannot_run() {
        None => true,
        Some(reason) => {
            eprintln!("NOT RUN: {test}: {reason}");
            false
        }
    }
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

/// Everything below the folder of a store but its two folders.
pub(crate) fn traces(folder: &Path) -> BTreeSet<String> {
    let mut traces = BTreeSet::new();
    add_all(folder, &mut traces);
    for own in ["volumes", "volumes_metadata"] {
        traces.remove(&folder.join(own).display().to_string());
    }
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

/// Waits until the store has no leftovers any more.
pub(crate) async fn recovered(store: &NfsStore) {
    let until = Instant::now() + SOON;
    while store.has_leftovers() {
        assert!(Instant::now() < until, "the recovery does not end");
        tokio::task::yield_now().await;
    }
}
