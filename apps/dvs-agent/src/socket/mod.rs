//! The agent's socket: HTTP with JSON over a Unix socket that only its owner may open (0600).
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | version, node, stores, whether the broker is connected |
//! | `GET /v1/volumes` | every volume of this node |
//! | `GET /v1/volumes/NAME` or `/v1/volumes/STORE/NAME` | one |
//! | `POST /v1/volumes/STORE/NAME/release/NODE` | the claims of a dead node on one, which are removed |
//!
//! A failure is `{"code":…,"error":…,"hint":…}` with the status of its code.

mod client;
mod server;
mod view;

pub use client::{SocketError, get, post};
pub use server::{Status, serve};
pub use view::{ClaimView, FailureView, Figures, VolumeView};
