//! Deterministic simulation of the agent: its core over a simulated broker, stores, mounts, journal, container engine and
//! clocks, with injected faults. The seed decides everything, so that one seed gives one log, byte for byte.
//!
//! - `scenario`: messages and faults, generated from the seed;
//! - `world`: the state of the environment;
//! - `fakes`: the ports, over the world; `wiring`: where tests replace them;
//! - `agent`: one process of the agent;
//! - `driver` and `phases`: advance time, kill and restart the agent, end all faults, delete everything;
//! - `promise` and `checks`: what must hold;
//! - `shrink`: makes a failing scenario shorter.
//!
//! It depends on no adapter but `job-json`: senders read the real payloads.

mod agent;
mod checks;
mod defects;
mod driver;
mod fakes;
mod phases;
mod promise;
mod random;
mod report;
mod scenario;
mod shrink;
mod wiring;
mod world;

pub use promise::Promise;
pub use report::{Counts, Report, Violation};

pub use wiring::{Wiring, WrapAnswers};

use scenario::Scenario;

/// Runs the scenario of `seed`.
#[must_use]
pub fn run(seed: u64, with_log: bool) -> Report {
    run_with(seed, with_log, Wiring::default())
}

/// Likewise, with other ports.
#[must_use]
pub fn run_with(seed: u64, with_log: bool, wiring: Wiring) -> Report {
    driver::run(&Scenario::of(seed), with_log, wiring)
}

/// Shrinks the scenario of `seed`, which breaks `promise`, and runs the result with its log.
#[must_use]
pub fn shortest(seed: u64, promise: Promise) -> Report {
    shrink::shrink(&Scenario::of(seed), promise)
}
