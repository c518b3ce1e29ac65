//! The store on a real NFSv3 server: nfs-ganesha.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use async_trait::async_trait;
use dvs_domain::names::VolumeName;
use dvs_domain::ports::VolumeStore;
use dvs_store_contract::{Bench, Place};
use dvs_store_nfs::testing::ganesha::ExportOptions;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use support::real::{Real, can_run};

struct RealBench(Arc<Real>);

#[async_trait]
impl Bench for RealBench {
    async fn place(&self) -> Box<dyn Place> {
        let folder = self.0.folder();
        Box::new(RealPlace { real: Arc::clone(&self.0), folder })
    }
}

struct RealPlace {
    real: Arc<Real>,
    folder: PathBuf,
}

#[async_trait]
impl Place for RealPlace {
    async fn open(&self) -> Arc<dyn VolumeStore> {
        Arc::new(self.real.store(&self.folder, 1, "uid=0"))
    }

    async fn damage(&self, name: &VolumeName) {
        let record = self.folder.join("volumes_metadata").join(name.as_str()).join("record");
        fs::write(record, "{").unwrap();
    }

    async fn make_unreachable(&self) {
        self.real.server.cut();
    }

    async fn make_reachable(&self) {
        self.real.server.mend();
    }

    async fn traces(&self) -> BTreeSet<String> {
        support::traces(&self.folder)
    }

    fn ways_to_fail(&self) -> Vec<&'static str> {
        Vec::new() // Those are tried over a folder.
    }

    async fn fail_next_create(&self, _: &'static str) {}
}

impl Drop for RealPlace {
    fn drop(&mut self) {
        self.real.server.mend();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_server_keeps_every_promise() {
    if can_run("real_server_keeps_every_promise") {
        dvs_store_contract::all(&RealBench(Arc::new(Real::start(ExportOptions::default())))).await;
    }
}
