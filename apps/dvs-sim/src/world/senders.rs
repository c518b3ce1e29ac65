//! Senders: they publish jobs, receive answers, and publish again what got no answer.

use super::World;
use super::event_queue::WorldEvent;
use super::ids::{MessageNumber, SentAnswer, ShownId};
use crate::scenario::{Body, Planned};
use dvs_domain::job::{Job, JobKey};
use dvs_domain::ports::Arrival;
use dvs_job_json::{decode, encode_job};
use std::collections::BTreeSet;

/// Retry interval of a sender whose broker is away, in milliseconds.
const RETRY_MILLISECONDS: u64 = 700;

#[derive(Debug, Default)]
pub(crate) struct Senders {
    messages: Vec<Message>,
    /// Jobs whose final answer was received.
    ended: BTreeSet<JobKey>,
    /// Refusals that were received.
    refused: BTreeSet<ShownId>,
}

#[derive(Debug)]
struct Message {
    topic: String,
    payload: Vec<u8>,
    retained: bool,
    /// What the agent decodes from it.
    meaning: Arrival,
    patience_milliseconds: Option<u64>,
    published: u64,
    /// Whether the agent has acknowledged it.
    acknowledged: bool,
}

impl Senders {
    /// What the agent decodes from a message.
    pub(crate) fn meaning(&self, message: MessageNumber) -> &Arrival {
        &self.messages[message].meaning
    }

    pub(crate) fn wire(&self, message: MessageNumber) -> (&str, &[u8], bool) {
        let message = &self.messages[message];
        (&message.topic, &message.payload, message.retained)
    }

    pub(crate) fn note_acknowledged(&mut self, message: MessageNumber) {
        self.messages[message].acknowledged = true;
    }

    /// Messages without an answer that must have one by the end: those that are repeated until they have one, and those
    /// that the agent has acknowledged.
    pub(crate) fn unanswered(&self) -> Vec<String> {
        let insisted = |message: &&Message| message.acknowledged || message.patience_milliseconds.is_some();
        let published = self.messages.iter().filter(|message| 0 < message.published);
        let waiting = published.filter(insisted).filter(|message| !self.is_answered(message));
        waiting.map(|message| String::from_utf8_lossy(&message.payload).into_owned()).collect()
    }

    /// Whether a refusal with this sender and id was received.
    pub(crate) fn was_refused(&self, shown: &ShownId) -> bool {
        self.refused.contains(shown)
    }

    fn is_answered(&self, message: &Message) -> bool {
        match &message.meaning {
            Arrival::Job(job) => self.job_is_answered(job),
            Arrival::Refused(refusal) => match refusal.sender.clone() {
                Some(sender) => self.refused.contains(&(sender, refusal.job.clone())),
                None => true,
            },
        }
    }

    fn job_is_answered(&self, job: &Job) -> bool {
        self.ended.contains(&job.key()) || self.refused.contains(&(job.sender.clone(), Some(job.id.clone())))
    }
}

impl World {
    /// Adds a message, to be published later.
    pub(crate) fn plan(&mut self, planned: &Planned) -> MessageNumber {
        let (topic, payload, retained) = match &planned.body {
            Body::Job(job) => {
                let (topic, payload) = encode_job(&self.topics, job);
                (topic, payload, false)
            }
            Body::Noise { topic, payload, retained } => {
                ((*topic).to_owned(), payload.clone().into_bytes(), *retained)
            }
        };
        let meaning = decode(&self.topics, &topic, &payload, retained);
        let patience_milliseconds = planned.patience_milliseconds;
        self.senders.messages.push(Message {
            topic,
            payload,
            retained,
            meaning,
            patience_milliseconds,
            published: 0,
            acknowledged: false,
        });
        self.senders.messages.len() - 1
    }

    pub(crate) fn publish(&mut self, number: MessageNumber) {
        let now = self.now();
        if self.broker.is_away() {
            return self.event_queue.put(now + RETRY_MILLISECONDS, WorldEvent::Publish(number));
        }
        let message = &mut self.senders.messages[number];
        message.published += 1;
        if 1 < message.published {
            self.counts.repeats += 1;
        } else {
            self.counts.jobs += 1;
        }
        let text = String::from_utf8_lossy(&message.payload).into_owned();
        let leaf = message.topic.rsplit('/').next().unwrap_or_default().to_owned();
        if let Some(patience) = message.patience_milliseconds {
            self.event_queue.put(now + patience, WorldEvent::Retry(number));
        }
        self.log(format_args!("message {number} is published: {leaf} {text}"));
        self.enqueue(number);
    }

    pub(super) fn retry_unanswered(&mut self, number: MessageNumber) {
        if !self.senders.is_answered(&self.senders.messages[number]) {
            self.publish(number);
        }
    }

    /// Delivers an answer to its sender.
    pub(super) fn receive_answer(&mut self, sent: &SentAnswer, topic: &str, payload: &[u8]) {
        self.counts.answers += 1;
        self.check_received(sent, topic, payload);
        match sent {
            SentAnswer::Pending(_) => {}
            SentAnswer::Final(key, _) => {
                self.senders.ended.insert(key.clone());
            }
            SentAnswer::Refused(shown, _) => {
                self.senders.refused.insert(shown.clone());
            }
        }
    }
}
