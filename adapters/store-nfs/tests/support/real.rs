//! A real server to test against.

use super::store_name;
use dvs_store_nfs::NfsStore;
use dvs_store_nfs::testing::ganesha::{self, ExportOptions, Ganesha};
use dvs_store_nfs::testing::node;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use url::Url;

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
        NfsStore::open(store_name(), &url, node(number).unwrap()).unwrap()
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
