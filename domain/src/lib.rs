//! The nouns and rules of DVS: no I/O, no clock, no runtime, no names of libraries.
//!
//! Two truths, one owner each: a **store** owns its volumes; the node's **journal** owns jobs and attachments.
//! The [`ledger`] decides what follows from an event, the agent performs it. Adapters translate, and decide
//! nothing: comparing two volumes ([`volume`]), deriving names and ordering nested paths ([`mount_point`]),
//! summing over-commit ([`overcommit`]) happen here and nowhere else.
//!
//! Where the invariants stand: the types of [`names`], [`mount_point`], [`size`] and [`volume`] have private
//! fields and one constructor; the ledger's are listed in [`ledger`] and tried in `tests/ledger_properties.rs`;
//! what a start does with everything on disk stands in [`recovery`], and is tried in `tests/recovery.rs`;
//! the stores' are the functions of the crate `dvs-store-contract`.

#![warn(missing_docs)]

pub mod attachment;
pub mod failure;
pub mod job;
mod job_key;
pub mod ledger;
pub mod mount_point;
pub mod names;
pub mod overcommit;
pub mod ports;
pub mod recovery;
pub mod size;
pub mod time;
pub mod user;
pub mod volume;
mod volume_options;
