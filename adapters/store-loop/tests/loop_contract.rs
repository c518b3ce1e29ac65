//! The loop store keeps the promises of every store.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use async_trait::async_trait;
use dvs_domain::names::VolumeName;
use dvs_domain::ports::VolumeStore;
use dvs_store_contract::{Bench, Place};
use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

/// The steps of a create, each before it changes something.
const STEPS: [&str; 8] = [
    "loop.reserve",
    "loop.stage",
    "loop.image",
    "loop.format",
    "loop.own",
    "loop.record",
    "loop.publish",
    "loop.published",
];

struct LoopBench;

struct LoopPlace(support::Place);

#[async_trait]
impl Bench for LoopBench {
    async fn place(&self) -> Box<dyn Place> {
        Box::new(LoopPlace(support::Place::new()))
    }
}

#[async_trait]
impl Place for LoopPlace {
    async fn open(&self) -> Arc<dyn VolumeStore> {
        self.0.open()
    }

    async fn damage(&self, name: &VolumeName) {
        for record in ["record", "record.copy"] {
            fs::write(self.0.volume(name.as_str()).join(record), "{").unwrap();
        }
    }

    async fn make_unreachable(&self) {
        fs::rename(self.0.root(), self.0.folder.path().join("away")).unwrap();
    }

    async fn make_reachable(&self) {
        fs::rename(self.0.folder.path().join("away"), self.0.root()).unwrap();
    }

    async fn traces(&self) -> BTreeSet<String> {
        self.0.traces()
    }

    fn ways_to_fail(&self) -> Vec<&'static str> {
        STEPS.to_vec()
    }

    async fn fail_next_create(&self, way: &'static str) {
        fail::cfg(way, "1*return(internal)").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_store_keeps_the_promises() {
    if support::can_run("loop_store_keeps_the_promises") {
        dvs_store_contract::all(&LoopBench).await;
    }
}
