//! Who uses a volume, asked of container engines: Docker's API, and Podman's where it is configured. Knows
//! containers, running and stopped, by what they have bound; what the kernel holds is somebody else's to find out.
//!
//! It is never guessed that nobody uses a volume: an engine that is configured and does not answer in time, or
//! whose answer cannot be read, is a failure. See [`ContainerEngines`].
//!
//! Bollard logs whole answers at its level `debug`, and a container's environment holds passwords: whoever sets
//! up logging keeps `bollard` at `info`.

mod connection;
mod container;
mod container_mounts;
mod conversation;
mod engine;
mod enquiry;
mod line;
mod links;
mod listing;
mod path;
mod users;

pub use engine::Engine;
pub use users::ContainerEngines;
