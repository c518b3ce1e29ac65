//! Replies to every call of the store, changed in every way: nothing panics, every operation ends, and none takes more
//! memory than a reply may. A short run with every test; `cargo xtask fuzz` makes it long.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests, which tell their figures")]

mod support;

use dvs_domain::ports::{SharedStore, VolumeStore};
use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use support::changes::{change, fuzz_seconds};
use support::counting::Counting;
use support::hostile::{HostileServer, MNT, Misbehaviour};
use support::{named, open, volume};

#[global_allocator]
static MEMORY: Counting = Counting::new();

/// Cases between two looks at the clock.
const CASES: u32 = 50;
/// The procedures whose replies are changed.
const CALLS: [u32; 14] = [1, 3, 5, 6, 7, 8, 9, 10, 12, 13, 14, 17, 18, MNT];
/// The replies of the calls in parallel, what they are decoded to, and something for the test itself.
const BYTES_MAX: usize = 16 << 20;

/// How many operations fail on a server whose replies to `call` are changed so.
async fn failures(call: u32, how: Misbehaviour) -> usize {
    let server = HostileServer::start().await;
    let store = open(&server.url(), 1);
    if call != MNT {
        store.list().await.unwrap();
    }
    server.misbehave(Some(call), how);
    let (made, named) = (volume(&store, "b"), named("a"));
    usize::from(store.create(&made).await.is_err())
        + usize::from(store.destroy(&named, None).await.is_err())
        + usize::from(store.list().await.is_err())
        + usize::from(store.usage(&named).await.is_err())
        + usize::from(store.enter(&named).await.is_err())
        + usize::from(store.claims(&named).await.is_err())
}

#[test]
fn whatever_comes_as_a_reply_does_no_harm() {
    let until = Instant::now() + fuzz_seconds();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fragment = prop_oneof![3 => Just(usize::MAX), 1 => 1..64_usize];
    let strategy = (
        (0..CALLS.len()).prop_map(|at| CALLS[at]),
        proptest::collection::vec(change(), 1..6),
        fragment,
        proptest::collection::vec(change(), 0..2),
    );
    let (failed, worked, most) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let mut cases = 0_u64;
    while Instant::now() < until {
        let mut runner =
            TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
        let run = runner.run(&strategy, |(call, changes, fragment, outside)| {
            MEMORY.forget_peak();
            let before = MEMORY.now();
            let how = Misbehaviour::Changed(changes, fragment, outside);
            let failures = runtime.block_on(failures(call, how));
            failed.fetch_add(failures, Ordering::Relaxed);
            worked.fetch_add(6 - failures, Ordering::Relaxed);
            let taken = MEMORY.peak().saturating_sub(before);
            most.fetch_max(taken, Ordering::Relaxed);
            if taken < BYTES_MAX { Ok(()) } else { Err(TestCaseError::fail(format!("{taken} bytes"))) }
        });
        if let Err(failure) = run {
            panic!("{failure}");
        }
        cases += u64::from(CASES);
    }
    let (failed, worked, most) = (failed.into_inner(), worked.into_inner(), most.into_inner());
    eprintln!(
        "{cases} cases: {failed} operations failed, {worked} worked, at most {most} bytes for one case"
    );
    assert!(0 < failed && 0 < worked, "both must happen");
}
