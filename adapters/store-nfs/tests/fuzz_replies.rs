//! Bytes that come as an answer, of every call that is made, changed in every way: nothing panics, and nothing takes
//! more memory than an answer may. A short run with every test; `cargo xtask fuzz` makes it long.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests, which tell their figures")]

mod support;

use dvs_store_nfs::testing::counting::Counting;
use dvs_store_nfs::testing::decoding::{CALLS, GETPORT, decode};
use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use support::changes::{change, changed, fuzz_seconds};
use support::hostile::good;

#[global_allocator]
static MEMORY: Counting = Counting::new();

/// So many answers between two looks at the clock.
const CASES: u32 = 2000;
/// An answer of the largest size, what it is decoded to, and something for the test itself.
const BYTES_MAX: usize = 8 << 20;
/// An answer as a server would send it, in fragments of some length.
fn framed(answer: &[u8], fragment: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let pieces: Vec<&[u8]> = answer.chunks(fragment).collect();
    for (index, piece) in pieces.iter().enumerate() {
        let last = if index + 1 == pieces.len() { 0x8000_0000 } else { 0 };
        bytes.extend((u32::try_from(piece.len()).unwrap() | last).to_be_bytes());
        bytes.extend(*piece);
    }
    bytes
}

fn good_answer(call: u32) -> Vec<u8> {
    let head = [0, 1, 0, 0, 0, 0_u32].iter().flat_map(|word| word.to_be_bytes());
    // What a write has written is read from the call: here it was one byte.
    let asked = [0_u8; 128];
    let body = match call {
        GETPORT => 2049_u32.to_be_bytes().to_vec(),
        _ => good(call, &asked),
    };
    head.chain(body).collect()
}

#[test]
fn whatever_comes_as_an_answer_does_no_harm() {
    let until = Instant::now() + fuzz_seconds();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for call in CALLS {
        let whole = framed(&good_answer(call), usize::MAX);
        assert!(
            runtime.block_on(decode(call, whole, true)),
            "the answer to {call} that is changed must be a good one"
        );
    }
    let answer = (0..CALLS.len()).prop_map(|at| CALLS[at]);
    let fragment = prop_oneof![3 => Just(usize::MAX), 1 => 1..64_usize];
    let strategy = (
        answer,
        proptest::collection::vec(change(), 0..6),
        fragment,
        proptest::collection::vec(change(), 0..2),
        proptest::bool::weighted(0.95),
    );
    let (decoded, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut answers = 0_u64;
    while Instant::now() < until {
        let mut runner =
            TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
        let run = runner.run(&strategy, |(call, changes, fragment, outside, has_id)| {
            let answer = changes.iter().fold(good_answer(call), changed);
            let bytes = outside.iter().fold(framed(&answer, fragment), changed);
            MEMORY.forget_peak();
            let before = MEMORY.now();
            if runtime.block_on(decode(call, bytes, has_id)) {
                decoded.fetch_add(1, Ordering::Relaxed);
            }
            let taken = MEMORY.peak().saturating_sub(before);
            most.fetch_max(taken, Ordering::Relaxed);
            if taken < BYTES_MAX { Ok(()) } else { Err(TestCaseError::fail(format!("{taken} bytes"))) }
        });
        if let Err(failure) = run {
            panic!("{failure}");
        }
        answers += u64::from(CASES);
    }
    let (decoded, most) = (decoded.into_inner(), most.into_inner());
    eprintln!("{answers} answers, {decoded} of them decoded, at most {most} bytes for one");
    assert!(0 < decoded && (decoded as u64) < answers, "both must happen");
}
