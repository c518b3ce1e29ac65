//! What the features and the benchmark share: a broker, an agent, an MQTT client of their own, a folder to work in,
//! and eyes for what the machine really has mounted. Nothing here asks DVS what it thinks that it did.

pub mod agent;
pub mod bench;
pub mod broker;
pub mod client;
mod clock;
pub mod crash;
pub mod docker;
pub mod flood;
mod ground;
pub mod machine;
pub mod namespace;
pub mod nfs;
pub mod notify;
pub mod powercut;
pub mod process;
mod random;
pub mod scratch;
mod sender;
mod truth;
pub mod wait;
