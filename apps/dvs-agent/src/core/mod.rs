//! The core of the agent: takes arrivals, asks the ledger, performs what it says. Knows ports only; which
//! adapters stand behind them is the composition root's business, and a test's.

mod admission;
mod control;
mod engine;
mod intake;
mod node;
mod reach;
mod start;
mod stores;
mod work;

pub use engine::{Engine, EngineLimits, EngineParts};
pub use intake::{Arrivals, Intake, intake};
pub use node::Node;
pub use start::Started;
pub use stores::Stores;
pub use work::Worker;
