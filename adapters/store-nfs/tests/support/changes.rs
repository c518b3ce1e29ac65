//! Changes of bytes that are decoded, for fuzzing.

use proptest::prelude::{Strategy, any, prop_oneof};
use std::time::Duration;

/// How long a run is, in seconds, unless it is said.
const SECONDS_DEFAULT: u64 = 2;
/// Numbers at which decoders break.
const NUMBERS: [u32; 14] =
    [0, 1, 2, 3, 4, 64, 65, 255, 1024, 0xffff, 0x0003_ffff, 0x7fff_ffff, 0x8000_0000, u32::MAX];

/// One change of some bytes.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Word(usize, u32),
    Bit(usize, u8),
    Cut(usize),
    Insert(usize, Vec<u32>),
    Repeat(usize, usize, usize),
}

pub(crate) fn change() -> impl Strategy<Value = Change> {
    let number = prop_oneof![(0..NUMBERS.len()).prop_map(|at| NUMBERS[at]), any::<u32>()];
    let place = || 0..80_usize;
    prop_oneof![
        (place(), number.clone()).prop_map(|(at, word)| Change::Word(at, word)),
        (0..320_usize, 0..8_u8).prop_map(|(at, bit)| Change::Bit(at, bit)),
        (0..320_usize).prop_map(Change::Cut),
        (place(), proptest::collection::vec(number, 1..8)).prop_map(|(at, words)| Change::Insert(at, words)),
        (place(), 1..20_usize, 1..200_usize).prop_map(|(at, words, times)| Change::Repeat(at, words, times)),
    ]
}

pub(crate) fn changed(mut bytes: Vec<u8>, change: &Change) -> Vec<u8> {
    match change {
        Change::Word(at, word) => {
            if let Some(place) = bytes.get_mut(at * 4..at * 4 + 4) {
                place.copy_from_slice(&word.to_be_bytes());
            }
        }
        Change::Bit(at, bit) => {
            if let Some(byte) = bytes.get_mut(*at) {
                *byte ^= 1 << bit;
            }
        }
        Change::Cut(at) => bytes.truncate(*at),
        Change::Insert(at, words) => {
            let at = (at * 4).min(bytes.len());
            let words = words.iter().flat_map(|word| word.to_be_bytes());
            bytes.splice(at..at, words);
        }
        Change::Repeat(at, words, times) => {
            let (from, to) = ((at * 4).min(bytes.len()), ((at + words) * 4).min(bytes.len()));
            let piece = bytes[from..to].repeat(*times);
            bytes.splice(to..to, piece);
        }
    }
    bytes
}

/// How long a run is.
pub(crate) fn fuzz_seconds() -> Duration {
    let seconds = std::env::var("DVS_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(SECONDS_DEFAULT))
}
