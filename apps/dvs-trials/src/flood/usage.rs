//! Whether what the agent needs is bounded: in the second half of the flood it must not need more than in the first.

use super::REMEMBERED;
use anyhow::{Result, ensure};
use std::fmt;
use std::time::Duration;

/// One look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    pub(super) at: Duration,
    /// How many jobs had ended.
    pub(super) ended: u64,
    /// Resident memory, in bytes.
    pub(super) resident: u64,
    pub(super) threads: u64,
    /// Open file descriptors.
    pub(super) descriptors: u64,
    /// The journal's file, in bytes.
    pub(super) journal: u64,
}

/// All looks.
#[derive(Debug, Default)]
pub(super) struct Samples {
    pub(super) samples: Vec<Sample>,
    /// The longest time that a listing of volumes took.
    pub(super) slowest_list: Duration,
}

/// The most of something in each half.
#[derive(Clone, Copy, Debug)]
pub(super) struct Halves {
    pub(super) first: u64,
    pub(super) second: u64,
}

/// What was needed.
#[derive(Debug)]
pub(super) struct Usage {
    pub(super) resident: Halves,
    pub(super) threads: Halves,
    pub(super) descriptors: Halves,
    pub(super) journal: Halves,
    pub(super) slowest_list: Duration,
}

/// How much more the second half may need than the first: a part of it, and something besides.
#[derive(Clone, Copy)]
struct Margin {
    percent: u64,
    besides: u64,
}

const RESIDENT: Margin = Margin { percent: 5, besides: 1 << 20 };
const JOURNAL: Margin = Margin { percent: 5, besides: 0 };
/// Those of jobs that run at the moment: eight at once, each with a thread and a few descriptors.
const THREADS: Margin = Margin { percent: 0, besides: 16 };
const DESCRIPTORS: Margin = Margin { percent: 0, besides: 32 };

/// Judges what was looked at in a flood that lasted for `duration`.
pub(super) fn judge(seen: &Samples, duration: Duration) -> Result<Usage> {
    let half = duration / 2;
    let (first, second): (Vec<Sample>, Vec<Sample>) =
        seen.samples.iter().partition(|sample| sample.at < half);
    let (before, after) =
        (first.first().map_or(0, |sample| sample.ended), second.last().map_or(0, |sample| sample.ended));
    ensure!(
        REMEMBERED <= before && before < after,
        "from {before} to {after} jobs had ended: too few, {REMEMBERED} are remembered"
    );
    let most = |of: fn(&Sample) -> u64| Halves {
        first: first.iter().map(of).max().unwrap_or(0),
        second: second.iter().map(of).max().unwrap_or(0),
    };
    let usage = Usage {
        resident: most(|sample| sample.resident),
        threads: most(|sample| sample.threads),
        descriptors: most(|sample| sample.descriptors),
        journal: most(|sample| sample.journal),
        slowest_list: seen.slowest_list,
    };
    for (what, halves, margin) in [
        ("bytes of resident memory", usage.resident, RESIDENT),
        ("bytes of the journal's file", usage.journal, JOURNAL),
        ("threads", usage.threads, THREADS),
        ("file descriptors", usage.descriptors, DESCRIPTORS),
    ] {
        ensure!(halves.are_bounded(margin), "{what} grow: {halves}");
    }
    Ok(usage)
}

impl Halves {
    fn are_bounded(self, margin: Margin) -> bool {
        self.second <= self.first + self.first * margin.percent / 100 + margin.besides
    }
}

impl fmt::Display for Halves {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "at most {} in the first half, {} in the second", self.first, self.second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred seconds with 1,000 jobs in each, changed by `change`.
    fn judged(change: fn(&mut Sample)) -> Result<Usage, String> {
        let samples = (0..100).map(|second| {
            let mut sample = Sample {
                at: Duration::from_secs(second),
                ended: REMEMBERED + second * 1000,
                resident: 50 << 20,
                threads: 20,
                descriptors: 40,
                journal: 30 << 20,
            };
            change(&mut sample);
            sample
        });
        let seen = Samples { samples: samples.collect(), ..Samples::default() };
        judge(&seen, Duration::from_secs(100)).map_err(|error| error.to_string())
    }

    #[test]
    fn whatever_grows_is_told() {
        assert!(judged(|_| {}).is_ok());
        for (change, told) in [
            (
                (|sample| sample.resident += sample.ended * 1500) as fn(&mut Sample),
                "bytes of resident memory",
            ),
            (|sample| sample.journal += sample.ended * 500, "bytes of the journal's file"),
            (|sample| sample.threads += sample.ended / 1000, "threads"),
            (|sample| sample.descriptors += sample.ended / 1000, "file descriptors"),
            (|sample| sample.ended /= 10, "too few"),
        ] {
            let problem = judged(change).unwrap_err();
            assert!(problem.contains(told), "{problem}");
        }
    }
}
