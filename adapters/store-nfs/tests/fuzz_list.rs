//! Bytes that lie on the export as the list that nodes share, changed in every way: nothing panics, nothing takes more
//! memory than a list may, and nothing is taken from what was changed. A short run with every test; `cargo xtask fuzz`
//! makes it long.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests, which tell their figures")]

mod support;

use dvs_store_nfs::testing::counting::Counting;
use dvs_store_nfs::testing::decoding::{list, taken_from_list};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use support::changes::{change, changed, fuzz_seconds};

#[global_allocator]
static MEMORY: Counting = Counting::new();

/// So many lists between two looks at the clock.
const CASES: u32 = 2000;
/// The volumes of each.
const VOLUMES: u32 = 4;
/// How long its checksum is, in bytes.
const CHECKSUM_BYTES: usize = 65;
/// Much more than a list of so few takes, also one with pieces that are there many times.
const BYTES_MAX: usize = 2 << 20;

#[test]
fn whatever_lies_there_as_a_list_does_no_harm() {
    let until = Instant::now() + fuzz_seconds();
    let whole = list(VOLUMES);
    assert_eq!(taken_from_list(whole.clone(), VOLUMES, false), Some(VOLUMES as usize));
    let said = whole[..whole.len() - CHECKSUM_BYTES].to_vec();
    assert_eq!(taken_from_list(said.clone(), VOLUMES, true), Some(VOLUMES as usize));
    let strategy = (proptest::collection::vec(change(), 1..6), proptest::bool::ANY);
    let (partly, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut lists = 0_u64;
    while Instant::now() < until {
        let mut runner =
            TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
        let run = runner.run(&strategy, |(changes, is_summed)| {
            let before = if is_summed { &said } else { &whole };
            let bytes = changes.iter().fold(before.clone(), changed);
            let is_same = bytes == *before;
            MEMORY.forget_peak();
            let memory = MEMORY.now();
            let taken = taken_from_list(bytes, VOLUMES, is_summed);
            let memory = MEMORY.peak().saturating_sub(memory);
            most.fetch_max(memory, Ordering::Relaxed);
            match taken {
                Some(_) if !is_summed && !is_same => {
                    Err(TestCaseError::fail("it was changed, and is believed"))
                }
                _ if BYTES_MAX < memory => Err(TestCaseError::fail(format!("{memory} bytes"))),
                Some(_) => {
                    partly.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
                None => Ok(()),
            }
        });
        if let Err(failure) = run {
            panic!("{failure}");
        }
        lists += u64::from(CASES);
    }
    let (partly, most) = (partly.into_inner(), most.into_inner());
    eprintln!("{lists} lists, of {partly} something is taken, at most {most} bytes for one");
    assert!(0 < partly && (partly as u64) < lists, "both must happen");
}
