//! The MQTT client of DVS, over rumqttc: the front door through which jobs arrive and answers leave
//! ([`MqttDoor`]), and a sender for the command line ([`Requester`]).
//!
//! rumqttc moves packets; nothing that DVS promises depends on its memory. It forgets subscriptions and
//! unacknowledged publishes when a broker lost the session, and can reconnect in a loop for ever, so each
//! connection is a fresh client that is thrown away when it breaks. What stays is ours:
//! - `outbox`: answers until the broker has acknowledged them, handed to every new connection in order;
//! - `arrivals`: what the core has not recorded yet, in order; a message is acknowledged after it was recorded, on the
//!   connection that it came from. If that is gone the broker delivers it again, and the core knows repeats;
//! - `backoff` and `report`: when to come back, and saying what changed once.
//!
//! The task that drives a connection (`connection`) never waits for the intake or for an answer.

mod access;
mod arrivals;
mod backoff;
mod broker_url;
mod config;
mod connection;
mod door;
mod outbox;
mod reason;
mod report;
mod requester;
#[cfg(feature = "tls")]
mod tls;
mod tls_files;

pub use access::{BrokerAccess, CONNECT_SECONDS_MAX, Credentials, KEEP_ALIVE_SECONDS};
pub use backoff::{BACKOFF_MILLISECONDS_MAX, BACKOFF_MILLISECONDS_MIN, HELD_SECONDS_MIN};
pub use broker_url::BrokerUrl;
pub use config::MqttConfig;
pub use connection::INFLIGHT_MAX;
pub use door::{MqttAnswers, MqttDoor, MqttHandle, STOP_SECONDS_MAX};
pub use report::ConnectionState;
pub use requester::{Requester, RequesterError};
pub use tls_files::TlsFiles;
