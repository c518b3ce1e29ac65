//! What a server does only after everybody has given up.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use dvs_domain::failure::FailureCode;
use dvs_domain::ports::VolumeStore;
use dvs_store_nfs::NfsStore;
use dvs_store_nfs::testing::node;
use support::hostile::{HostileServer, Misbehaviour, WRITE};
use support::{store_name, volume};
use url::Url;

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_given_up_does_not_arrive_later() {
    let server = HostileServer::start_narrow();
    let port = server.address.port();
    let url = Url::parse(&format!("nfs://127.0.0.1:{port}/export?mountport={port}&timeout=1")).unwrap();
    let store = NfsStore::open(store_name(), &url, node(1).unwrap()).unwrap();
    store.create(&volume(&store, "a")).await.unwrap();
    // The record is more than the server takes at once: the rest is still here when nobody waits any more.
    server.misbehave(Some(WRITE), Misbehaviour::ReadsLater);
    let failure = store.create(&volume(&store, "b")).await.unwrap_err();
    assert_eq!(failure.code(), FailureCode::StoreUnavailable, "{}", failure.chain());
    server.behave();
    assert!(!server.has_come_whole().await, "the server got the whole call after all");
}
