//! Senders: they publish, hear, and repeat what got no answer.

use super::World;
use super::agenda::Happening;
use crate::checks::Word;
use crate::scenario::{Body, Planned};
use dvs_domain::job::{Job, JobKey};
use dvs_domain::names::{JobId, SenderId};
use dvs_domain::ports::Arrival;
use dvs_job_json::{decode, encode_job};
use std::collections::BTreeSet;

/// Which message, in the order in which senders thought of them.
pub(crate) type MessageNumber = usize;

/// A job's sender and id: what an answer shows of it.
pub(crate) type ShownId = (SenderId, Option<JobId>);

/// How long a sender waits before it tries an absent broker again, in milliseconds.
const RETRY_MILLISECONDS: u64 = 700;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Senders {
    messages: Vec<Message>,
    /// Jobs whose final word was heard.
    ended: BTreeSet<JobKey>,
    /// What was refused, by what the refusal shows.
    refused: BTreeSet<ShownId>,
}

#[derive(Debug)]
struct Message {
    topic: String,
    payload: Vec<u8>,
    retained: bool,
    /// What the agent will make of it.
    meaning: Arrival,
    patience_milliseconds: Option<u64>,
    published: u64,
    /// The agent said that it has it.
    acknowledged: bool,
}

impl Senders {
    /// What the agent will make of a message.
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

    /// The jobs that must have an answer once all is quiet, and have none: those whose sender insists, and
    /// those that the agent said it has.
    pub(crate) fn unanswered(&self) -> Vec<String> {
        let insisted = |message: &&Message| message.acknowledged || message.patience_milliseconds.is_some();
        let published = self.messages.iter().filter(|message| 0 < message.published);
        let waiting = published.filter(insisted).filter(|message| !self.is_answered(message));
        waiting.map(|message| String::from_utf8_lossy(&message.payload).into_owned()).collect()
    }

    /// Whether the broker has the refusal of what shows this.
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
    /// Somebody thinks of a message; it is published later.
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
            return self.agenda.put(now + RETRY_MILLISECONDS, Happening::Publish(number));
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
            self.agenda.put(now + patience, Happening::Impatient(number));
        }
        self.say(format_args!("message {number} is published: {leaf} {text}"));
        self.enqueue(number);
    }

    pub(super) fn be_impatient(&mut self, number: MessageNumber) {
        if !self.senders.is_answered(&self.senders.messages[number]) {
            self.publish(number);
        }
    }

    /// The broker passes an answer on to its sender.
    pub(super) fn hear(&mut self, word: &Word, topic: &str, payload: &[u8]) {
        self.counts.answers += 1;
        self.check_heard(word, topic, payload);
        match word {
            Word::Pending(_) => {}
            Word::Final(key, _) => {
                self.senders.ended.insert(key.clone());
            }
            Word::Refused(shown, _) => {
                self.senders.refused.insert(shown.clone());
            }
        }
    }
}
