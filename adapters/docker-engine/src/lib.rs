//! Which containers refer to a volume, running and stopped: from Docker's API, and Podman's where it is configured. What
//! holds a volume in the kernel is found out by other crates.
//!
//! That a volume has no user is never assumed: an engine that is configured and does not answer in time, or whose
//! answer cannot be read, is a failure. See [`ContainerEngines`].
//!
//! Bollard logs whole answers at its level `debug`, and a container's environment holds passwords: keep `bollard` at
//! `info` where logging is set up.

mod connection;
mod container;
mod container_mounts;
mod engine;
mod links;
mod listing;
mod path;
mod query;
mod session;
mod users;

pub use engine::Engine;
pub use users::ContainerEngines;
