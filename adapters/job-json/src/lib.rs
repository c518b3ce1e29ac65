//! Payloads and topics to and from the domain: the only place that knows how a topic or a key is spelt.
//!
//! What arrives becomes a job or a refusal ([`decode`]), never a guess: contract.md section 2 lists what is
//! accepted. What is said becomes a topic and bytes ([`encode_answer`], [`encode_presence`]). The command line
//! as a sender uses the other direction of the same two ([`encode_job`], [`decode_answer`]).

mod decode;
mod document;
mod encode;
mod received_answer;
mod topics;

pub use decode::decode;
pub use document::{NESTING_MAX, PAYLOAD_BYTES_MAX, PEEK_BYTES_MAX};
pub use encode::{ANSWER_TEXT_CHARACTERS_MAX, Presence, encode_answer, encode_job, encode_presence};
pub use received_answer::{ReceivedAnswer, decode_answer};
pub use topics::{TopicWords, Topics};

/// `text` as it may stand in a message: control characters escaped, and cut.
fn shown(text: &str) -> String {
    const CHARACTERS_MAX: usize = 80;
    let mut shown: String = text.chars().take(CHARACTERS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(CHARACTERS_MAX).is_some() {
        shown.push('…');
    }
    shown
}
