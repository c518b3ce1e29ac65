//! How the core is put together with the ports of this world. A test puts a broken one in the place of one of them, and
//! so shows what the checks find.

use dvs_core::CoreParts;
use dvs_domain::job::Answer;
use dvs_domain::ports::{Answers, JobIntake};
use dvs_job_json::{Topics, encode_answer};
use std::sync::Arc;

/// Wraps the way back to senders; the intake is told which answers the broker has.
pub type WrapAnswers = fn(Arc<dyn Answers>, Arc<dyn JobIntake>) -> Arc<dyn Answers>;

/// What lies between the core and the fakes. By default nothing.
#[derive(Clone, Copy)]
pub struct Wiring {
    /// The parts of the core.
    pub parts: fn(CoreParts) -> CoreParts,
    /// Where doors hand in what arrives.
    pub intake: fn(Arc<dyn JobIntake>) -> Arc<dyn JobIntake>,
    /// The way back to senders.
    pub answers: WrapAnswers,
    /// Topic and payload of an answer.
    pub encode: fn(&Topics, &Answer) -> (String, Vec<u8>),
    /// Whether the store binds a loop device for each source, also for an image that has one.
    pub binds_each_time: bool,
}

impl Default for Wiring {
    fn default() -> Self {
        Self {
            parts: |parts| parts,
            intake: |intake| intake,
            answers: |answers, _| answers,
            encode: encode_answer,
            binds_each_time: false,
        }
    }
}
