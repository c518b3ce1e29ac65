//! The fake store keeps the promises of the store port.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use dvs_domain::names::StoreName;
use dvs_store_contract::FolderBench;
use dvs_store_fake::FakeStore;
use std::collections::BTreeSet;
use std::sync::Arc;
use url::Url;

const BENCH: FolderBench = FolderBench {
    open: |folder, state| {
        let url = Url::parse(&format!("fake://{}", folder.display())).unwrap();
        Arc::new(FakeStore::open(StoreName::new("try").unwrap(), &url, Some(state)).unwrap())
    },
    elsewhere: |_| BTreeSet::new(),
    ways_to_fail: &["fake.directory", "fake.owner", "fake.record", "fake.publish"],
    fail_next_create: |step| fail::cfg(step, "1*return(no-space)").unwrap(),
};

#[tokio::test(flavor = "multi_thread")]
async fn the_fake_store_keeps_every_promise() {
    dvs_store_contract::all(&BENCH).await;
}
