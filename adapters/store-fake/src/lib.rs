//! Volumes as plain directories: for trying DVS out without root, for tests, and as the example of a store.
//!
//! [`FakeStore`] keeps every promise of the store port, for real and on disk. What it cannot do without a
//! device it records as if it could: a size that nobody enforces, a file system that nobody made, room that
//! nobody took. [`LinkMounter`] makes its volumes visible for an ordinary user, by a symbolic link.
//!
//! A store is a folder with
//! - `volumes/<name>/`: `record` and `record.copy` (what was settled, with a checksum) and `data/` (what is
//!   attached);
//! - `staging/`: volumes that are being made, or removed. A volume is there from the rename out of it, and
//!   gone from the rename into it;
//! - `id`: which store this is, as the agent remembers it;
//! - `lock`: held by the one instance that works here.

mod capacity;
mod failpoint;
mod folder;
mod links;
mod options;
mod path;
mod record;
mod removal;
mod step;
mod store;

pub use links::LinkMounter;
pub use store::{Action, FakeStore};
