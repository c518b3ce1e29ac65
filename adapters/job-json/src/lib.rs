//! Payloads and topics to and from the domain: the only place that knows how a topic or a key is spelt.
//!
//! [`decode`] turns a message into a job or a refusal; contract.md section 2 lists what is accepted.
//! [`encode_answer`] and [`encode_presence`] give the topic and payload of what the agent publishes. The command
//! line, as a sender, uses the opposite directions: [`encode_job`] and [`decode_answer`].

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

/// `text` for use in a message: control characters escaped, truncated.
fn shown(text: &str) -> String {
    const CHARACTERS_MAX: usize = 80;
    let mut shown: String = text.chars().take(CHARACTERS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(CHARACTERS_MAX).is_some() {
        shown.push('…');
    }
    shown
}
