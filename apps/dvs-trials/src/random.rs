//! Chance that can be had again: the same seed gives the same numbers on every machine.

use std::time::Duration;

/// A stream of numbers (SplitMix64, by Sebastiano Vigna, in the public domain).
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Whether something happens that happens once in `many` times.
    pub(crate) fn once_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    /// A time that is shorter than `limit`.
    pub(crate) fn within(&mut self, limit: Duration) -> Duration {
        let microseconds = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(self.below(microseconds))
    }

    /// A stream of its own, for somebody whose speed must not change the numbers of the others.
    pub(crate) fn fork(&mut self) -> Self {
        Self::new(self.next())
    }
}
