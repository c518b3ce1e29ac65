//! The ledger's decisions by example.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod examples;
mod forgetting;
mod lanes;
mod limits;
mod repeats;
mod restart;
mod support;
mod time;
