//! What must stay true, whatever fails: see [`Promise`](crate::Promise). Most is checked at the very moment, by the
//! fakes; the rest once no work is left.

mod answers;
mod commits;
mod limits;
mod operations;
mod quiesced;

pub(crate) use quiesced::Stage;
