//! The queue of future events. Events of the same time keep their order of insertion.

use super::ids::MessageNumber;
use std::collections::BTreeMap;

/// A future event.
#[derive(Clone, Debug)]
pub(crate) enum WorldEvent {
    Step(usize),
    /// A sender publishes, or publishes again.
    Publish(MessageNumber),
    /// A sender publishes again unless it has an answer.
    Retry(MessageNumber),
    /// The broker is back.
    BrokerBack,
    /// The agent is connected to the broker.
    Connected {
        life: u64,
    },
    /// A message reaches the agent.
    Delivered {
        connection: u64,
        delivery: u64,
    },
    /// The agent's acknowledgement reaches the broker.
    TakenAcknowledged {
        connection: u64,
        delivery: u64,
    },
    /// An answer reaches the broker.
    Answered {
        connection: u64,
        answer: u64,
    },
    /// The broker's acknowledgement of an answer reaches the agent.
    AnswerAcknowledged {
        connection: u64,
        answer: u64,
    },
}

#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    entries: BTreeMap<(u64, u64), WorldEvent>,
    next: u64,
    changed: bool,
}

impl EventQueue {
    pub(crate) fn put(&mut self, at: u64, event: WorldEvent) {
        self.entries.insert((at, self.next), event);
        self.next += 1;
        self.changed = true;
    }

    /// Time of the next event.
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.entries.keys().next().map(|(at, _)| *at)
    }

    /// Whether a message is still to be published.
    pub(crate) fn has_publishing(&self) -> bool {
        self.entries.values().any(|event| matches!(event, WorldEvent::Publish(_)))
    }

    /// The next event that is due at `now`.
    pub(crate) fn take_due(&mut self, now: u64) -> Option<WorldEvent> {
        let entry = self.entries.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}
