//! Results of runs.

use crate::promise::Promise;
use std::fmt;
use std::ops::AddAssign;

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The promise.
    pub promise: Promise,
    /// How it was broken.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.promise, self.what)
    }
}

/// How much happened. A run in which one of these is zero proves nothing about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub(crate) jobs: u64,
    pub(crate) repeats: u64,
    pub(crate) accepted: u64,
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) answers: u64,
    pub(crate) formatted: u64,
    pub(crate) forgotten: u64,
    pub(crate) failures: u64,
    pub(crate) lives: u64,
    pub(crate) crashes: u64,
    pub(crate) reboots: u64,
    pub(crate) stops: u64,
    pub(crate) clock_steps: u64,
    pub(crate) pauses: u64,
}

impl Counts {
    /// Each count with its label.
    #[must_use]
    pub fn each(&self) -> [(&'static str, u64); 15] {
        [
            ("messages published", self.jobs),
            ("repeats", self.repeats),
            ("jobs accepted", self.accepted),
            ("done", self.done),
            ("failed", self.failed),
            ("answers heard", self.answers),
            ("volumes formatted", self.formatted),
            ("jobs forgotten", self.forgotten),
            ("failures and hangs injected", self.failures),
            ("starts", self.lives),
            ("crashes", self.crashes),
            ("reboots", self.reboots),
            ("stops", self.stops),
            ("steps of the wall clock", self.clock_steps),
            ("pauses of the process", self.pauses),
        ]
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.jobs += other.jobs;
        self.repeats += other.repeats;
        self.accepted += other.accepted;
        self.done += other.done;
        self.failed += other.failed;
        self.answers += other.answers;
        self.formatted += other.formatted;
        self.forgotten += other.forgotten;
        self.failures += other.failures;
        self.lives += other.lives;
        self.crashes += other.crashes;
        self.reboots += other.reboots;
        self.stops += other.stops;
        self.clock_steps += other.clock_steps;
        self.pauses += other.pauses;
    }
}

/// Result of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The first broken promise.
    pub violation: Option<Violation>,
    /// How much has happened.
    pub counts: Counts,
    /// One line per event, if they were asked for.
    pub log: Vec<String>,
}
