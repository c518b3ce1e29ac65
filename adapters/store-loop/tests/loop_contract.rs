//! The loop store keeps the promises of every store.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use dvs_domain::names::StoreName;
use dvs_store_contract::FolderBench;
use dvs_store_loop::LoopStore;
use std::sync::Arc;
use url::Url;

const BENCH: FolderBench = FolderBench {
    open: |folder, state| {
        let url = Url::parse(&format!("loop://{}?overcommit=100", folder.display())).unwrap();
        Arc::new(LoopStore::open(StoreName::new("loop").unwrap(), &url, Some(state)).unwrap())
    },
    elsewhere: support::bound_below,
    // Each before it changes something.
    ways_to_fail: &[
        "loop.reserve",
        "loop.stage",
        "loop.image",
        "loop.format",
        "loop.own",
        "loop.record",
        "loop.attach",
        "loop.publish",
        "loop.published",
    ],
    fail_next_create: |step| fail::cfg(step, "1*return(internal)").unwrap(),
};

#[tokio::test(flavor = "multi_thread")]
async fn loop_store_keeps_the_promises() {
    if support::can_run("loop_store_keeps_the_promises") {
        dvs_store_contract::all(&BENCH).await;
    }
}
