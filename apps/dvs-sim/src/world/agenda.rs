//! What will happen in the world, and when. Things of the same moment happen in the order in which they were put in.

use super::senders::MessageNumber;
use std::collections::BTreeMap;

/// Something that will happen.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// A step of the scenario.
    Step(usize),
    /// A sender publishes, or asks again.
    Publish(MessageNumber),
    /// A sender looks whether it has an answer.
    Impatient(MessageNumber),
    /// The broker is there again.
    BrokerBack,
    /// The agent's connection to the broker stands.
    Connected { life: u64 },
    /// A message reaches the agent.
    Delivered { connection: u64, delivery: u64 },
    /// The agent's acknowledgement reaches the broker.
    TakenAcknowledged { connection: u64, delivery: u64 },
    /// An answer reaches the broker.
    Answered { connection: u64, answer: u64 },
    /// The broker's acknowledgement of an answer reaches the agent.
    AnswerAcknowledged { connection: u64, answer: u64 },
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    entries: BTreeMap<(u64, u64), Happening>,
    next: u64,
    changed: bool,
}

impl Agenda {
    pub(crate) fn put(&mut self, at: u64, happening: Happening) {
        self.entries.insert((at, self.next), happening);
        self.next += 1;
        self.changed = true;
    }

    /// When the next thing happens.
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.entries.keys().next().map(|(at, _)| *at)
    }

    /// Whether a sender is still about to publish something.
    pub(crate) fn has_publishing(&self) -> bool {
        self.entries.values().any(|happening| matches!(happening, Happening::Publish(_)))
    }

    /// The next thing that is due at `now`.
    pub(crate) fn take_due(&mut self, now: u64) -> Option<Happening> {
        let entry = self.entries.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}
