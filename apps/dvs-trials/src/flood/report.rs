//! What was done, counted.

use super::hung::Seen as HungSeen;
use super::markers::Seen as MarkersSeen;
use super::sender::Tally;
use super::usage::{Halves, Usage};
use std::fmt;
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub struct Report {
    pub(super) seed: u64,
    /// The time limit of a job.
    pub(super) limit: Duration,
    /// When a job must be answered.
    pub(super) promised: Duration,
    /// How long as many jobs took as are remembered.
    pub(super) filled: Duration,
    /// How long the whole flood took.
    pub(super) time: Duration,
    pub(super) tally: Tally,
    pub(super) markers: MarkersSeen,
    pub(super) hung: HungSeen,
    pub(super) usage: Usage,
    /// How many jobs the journal remembers at the end.
    pub(super) remembered: usize,
}

impl Report {
    /// How many jobs ended at least.
    pub(super) fn ended(&self) -> u64 {
        self.tally.jobs
    }

    pub(super) fn with_remembered(self, remembered: usize) -> Self {
        Self { remembered, ..self }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, limit, promised, filled, time, tally, markers, hung, usage, remembered } = self;
        let Tally { messages, jobs, repeats, refusals, again, slowest } = tally;
        writeln!(
            formatter,
            "flood: {messages} messages with seed {seed} in {:.0} s: {jobs} jobs done ({:.0}/s, the first 10,000 in {:.0} s), {repeats} repeats with \
             the same answer, {refusals} refused as promised, {again} answers delivered twice; the slowest answer took {} ms",
            time.as_secs_f64(),
            *jobs as f64 / time.as_secs_f64(),
            filled.as_secs_f64(),
            slowest.as_millis()
        )?;
        writeln!(
            formatter,
            "flood: the job that hangs: `timeout` {:.1} s after PENDING (time limit {} s, promised within {} s), its mount \
             point free after {:.1} s",
            hung.answered.as_secs_f64(),
            limit.as_secs(),
            promised.as_secs(),
            hung.released.as_secs_f64()
        )?;
        let first = markers.first_forgotten.unwrap_or_default();
        writeln!(
            formatter,
            "flood: {} old jobs were forgotten, the first after {:.0} s, and {} younger ones were not; {remembered} are in the \
             journal at the end",
            markers.forgotten,
            first.as_secs_f64(),
            markers.remembered
        )?;
        let Usage { resident, threads, descriptors, journal, slowest_list } = usage;
        let mebibytes = |halves: &Halves| {
            let of = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            format!("{:.1} and {:.1} MiB", of(halves.first), of(halves.second))
        };
        let count = |halves: &Halves| format!("{} and {}", halves.first, halves.second);
        writeln!(
            formatter,
            "flood: the most in the first and the second half: resident {}, journal {}, {} threads, {} descriptors; the \
             slowest `dvs ls` took {} ms; nothing left",
            mebibytes(resident),
            mebibytes(journal),
            count(threads),
            count(descriptors),
            slowest_list.as_millis()
        )
    }
}
