//! The whole core of the agent in a world of its own: a broker, stores, mounts, a journal, containers and a clock
//! that are all made up, and in which everything goes wrong that can. One number, the seed, decides what and when,
//! so that the same seed gives the same log, byte for byte.
//!
//! - `scenario`: what happens from outside, made from the seed;
//! - `world`: what there is, and what the fakes change;
//! - `fakes`: the ports, over the world;
//! - `agent`: the agent's start, as the composition root does it;
//! - `driver` and `plot`: lets time pass, cuts the agent off, starts it again, heals everything at the end;
//! - `checks`: the promises, each with a name;
//! - `shrink`: a failing scenario gets as short as it can be.
//!
//! It knows the core and the ports, and no adapter but `job-json`, so that what senders hear is what they would read.

mod agent;
mod checks;
mod defects;
mod driver;
mod fakes;
mod plot;
mod promise;
mod random;
mod report;
mod scenario;
mod shrink;
mod wiring;
mod world;

pub use promise::Promise;
pub use report::{Counts, Report, Violation};

pub use wiring::Wiring;

use scenario::Scenario;

/// Runs the scenario of `seed`.
#[must_use]
pub fn run(seed: u64, with_log: bool) -> Report {
    run_with(seed, with_log, Wiring::default())
}

/// Likewise, with other ports for the core.
#[must_use]
pub fn run_with(seed: u64, with_log: bool, wiring: Wiring) -> Report {
    driver::run(&Scenario::of(seed), with_log, wiring)
}

/// The shortest scenario that was found to break the same promise as `seed`, with its log.
#[must_use]
pub fn shortest(seed: u64, promise: Promise) -> Report {
    shrink::shrink(&Scenario::of(seed), promise)
}
