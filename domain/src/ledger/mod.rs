//! To come.
mod record;
pub use record::{AnswerState, Finished, JobRecord, Outcome, Phase, RefusalNumber};
