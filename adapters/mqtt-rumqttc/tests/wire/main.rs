//! The door and the requester against a real Mosquitto: what goes over the wire, when, and what is left when
//! something breaks.

#![expect(clippy::unwrap_used, clippy::panic, reason = "also the helpers of tests may stop a test")]
#![expect(clippy::print_stderr, reason = "figures, and what could not run")]

mod answers;
mod arrivals;
mod presence;
mod requester;
mod support;
#[cfg(feature = "tls")]
mod tls;
mod trouble;
