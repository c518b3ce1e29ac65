//! The NFSv3 client: files and directories of one export, reached by handles, in user space.
//!
//! A reply can be lost and the call be sent again. So a caller must not take [`Fault::Exists`] or [`Fault::NotFound`]
//! as proof that somebody else was at work.

mod calls;
mod connections;
mod contact;
mod dial;
mod error;
mod framed;
mod procedure;
mod shape;
mod types;
mod wire;

pub(crate) use calls::{Calls, Client};
pub(crate) use connections::CONNECTIONS_MAX;
pub(crate) use error::{ClientError, Fault};
pub(crate) use types::{Attributes, Found, Handle, Listed, Name, Owner};
