//! The agent: takes jobs and makes them true. [`run`] is the whole life of a process; [`core`] is the part that
//! knows ports only, [`compose`] the only part that knows which adapters there are.

pub mod check;
pub mod compose;
pub mod config;
pub mod core;
mod daemon;
mod drawn_id;
mod engines;
mod failpoint;
mod late_store;
mod life;
pub mod lock;
mod node_id;
mod places;
mod room;
pub mod socket;
mod store_id;

pub use life::{attach, run};
