//! The core of the agent: takes requests, asks the ledger, performs what it decides. It knows ports only;
//! [`Core::open`] is the only assembly, and whoever calls it chooses the adapters.

mod admission;
mod attachment_registry;
mod circuit_breaker;
mod core;
mod engine;
pub mod failpoint;
mod intake;
mod job_control;
mod reattach;
mod store_registry;
mod work;

pub use attachment_registry::AttachmentRegistry;
pub use core::{Core, CoreParts};
pub use engine::EngineLimits;
pub use intake::Intake;
pub use reattach::Started;
pub use store_registry::StoreRegistry;

use work::Worker;
