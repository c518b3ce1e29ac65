//! A tree without an end, on a server that has more in every directory: removing it takes no more memory than any other
//! tree, and holds up nobody for long.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use dvs_domain::failure::FailureCode;
use dvs_domain::ports::VolumeStore;
use std::time::{Duration, Instant};
use support::counting::Counting;
use support::hostile::{HostileServer, Misbehaviour, READDIRPLUS, RMDIR, listing};
use support::{named, node, open, volume};

#[global_allocator]
static MEMORY: Counting = Counting::new();

const NOT_EMPTY: u32 = 66;
/// So many calls are let be made.
const CALLS: u64 = 6000;
/// Much less than those calls would take if each were remembered.
const BYTES_MAX: usize = 1 << 20;
/// How long an operation may take here, and one second for a slow machine.
const LIMIT: Duration = Duration::from_secs(1 + 1);
/// How long all the calls may take.
const SOON: Duration = Duration::from_secs(25);

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_without_an_end_takes_neither_memory_nor_the_time_of_others() {
    let server = HostileServer::start().await;
    let store = open(&server.url(), 1);
    // What this node was removing, and in it the same again, and so on.
    let gone = format!(".gone-{}-{}-a", node(1).id, "0".repeat(32));
    let body = Misbehaviour::Body(listing(&[(gone.as_bytes(), 1)], true));
    server.misbehave(Some(READDIRPLUS), body);
    server.also_misbehave(RMDIR, Misbehaviour::Status(NOT_EMPTY));
    store.look_up(&named("b")).await.unwrap();
    let (began, before) = (Instant::now(), server.calls());
    while server.calls() < before + 100 {
        assert!(began.elapsed() < SOON, "{} calls", server.calls() - before);
        tokio::task::yield_now().await;
    }

    let memory = MEMORY.now();
    MEMORY.forget_peak();
    let asked = Instant::now();
    let busy = tokio::time::timeout(LIMIT, store.create(&volume(&store, "a"))).await.unwrap().unwrap_err();
    assert_eq!(busy.code(), FailureCode::Busy, "after {:?}: {}", asked.elapsed(), busy.chain());
    while server.calls() < before + CALLS {
        assert!(began.elapsed() < SOON, "{} calls", server.calls() - before);
        tokio::task::yield_now().await;
    }
    let peak = MEMORY.peak().saturating_sub(memory);
    assert!(peak < BYTES_MAX, "{peak} bytes");
}
