//! The agent: takes jobs and makes them true. [`run`] is the whole life of a process; [`compose`] is the only
//! place that chooses adapters.

pub mod check;
mod clock;
pub mod compose;
pub mod config;
mod daemon;
mod engines;
mod late_store;
mod life;
pub mod lock;
mod node_id;
mod privileges;
mod random_id;
mod reserved_paths;
mod room;
pub mod socket;
mod store_id;

pub use life::{attach, run};
