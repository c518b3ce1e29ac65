//! The agent: takes jobs and makes them true. [`run`] is the whole life of a process; [`compose`] is the only
//! place that chooses adapters.

pub mod check;
mod clock;
pub mod compose;
pub mod config;
mod daemon;
mod engines;
mod life;
pub mod lock;
mod node_id;
mod privileges;
mod reserved_paths;
pub mod socket;
mod space;

pub use life::{attach, run};
