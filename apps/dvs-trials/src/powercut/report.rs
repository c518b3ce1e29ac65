//! What was done, counted.

use super::mounted::Below;
use std::fmt;
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub struct Report {
    below: Below,
    seed: u64,
    pub(super) cuts: Cuts,
}

/// Cuts, and what was looked at after them.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    pub(super) cuts: u32,
    pub(super) runs: u64,
    pub(super) jobs: u64,
    pub(super) writes: u64,
    pub(super) unflushed: u64,
    pub(super) lost: u64,
    pub(super) torn: u64,
    pub(super) volumes: u64,
    pub(super) damaged: u64,
    pub(super) open: u64,
    pub(super) repeats: u64,
    pub(super) again: u64,
    pub(super) time: Duration,
}

/// A setting whose outcome is known, and what was found.
#[derive(Debug)]
pub struct Control {
    pub(super) name: &'static str,
    pub(super) below: Below,
    pub(super) cuts: Cuts,
    pub(super) found: Option<String>,
}

impl Report {
    pub(super) fn new(below: Below, seed: u64) -> Self {
        Self { below, seed, cuts: Cuts::default() }
    }
}

impl fmt::Display for Control {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, below, cuts, found } = self;
        let found = found.as_deref().unwrap_or("nothing to be found");
        write!(
            formatter,
            "powercut: {below}: control: {name}: after {} cuts in {:.1} s: {found}",
            cuts.cuts,
            cuts.time.as_secs_f64()
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { below, seed, .. } = self;
        let Cuts { cuts, runs, jobs, writes, unflushed, lost, torn, again, .. } = &self.cuts;
        let Cuts { volumes, damaged, open, repeats, time, .. } = &self.cuts;
        writeln!(
            formatter,
            "powercut: {below}: {cuts} cuts with seed {seed} in {runs} runs of {jobs} jobs and {writes} writes and flushes, \
             {unflushed} writes not flushed, {lost} of them lost, {torn} torn, \
             {again} followed by a cut while the agent started; {volumes} volumes found as answered, \
             {damaged} of them damaged by an unfinished write into an ext2, {open} \
             jobs that were under way answered, {repeats} repeats with the same result, nothing left; {:.1} cuts/s",
            f64::from(*cuts) / time.as_secs_f64().max(0.001)
        )
    }
}
