//! Answers that the broker has not acknowledged yet, in the order in which they were given.

use dvs_domain::ledger::AnswerId;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Numbers rise in the order of the calls, and are never used again.
pub(crate) type Number = u64;

/// One message for the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
}

/// The answers that wait. The core bounds them: it has a job or a refusal for each.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    entries: Mutex<Entries>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Entries {
    next: Number,
    waiting: BTreeMap<Number, (AnswerId, Message)>,
}

impl Outbox {
    /// Puts `message`, the answer `id`, behind the others.
    pub(crate) fn put(&self, id: AnswerId, message: Message) {
        let mut entries = self.entries();
        let number = entries.next;
        entries.next += 1;
        entries.waiting.insert(number, (id, message));
        self.changed.notify_one();
    }

    /// The first message with at least this number.
    pub(crate) fn from(&self, number: Number) -> Option<(Number, Message)> {
        let entries = self.entries();
        let (number, (_, message)) = entries.waiting.range(number..).next()?;
        Some((*number, message.clone()))
    }

    /// The broker has this message. Gives the answer that it was, the first time.
    pub(crate) fn acknowledge(&self, number: Number) -> Option<AnswerId> {
        self.entries().waiting.remove(&number).map(|(id, _)| id)
    }

    /// Waits until a message was put in since the last call. For one listener.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dvs_domain::ledger::RefusalNumber;

    fn id(number: u64) -> AnswerId {
        AnswerId::Refusal(RefusalNumber(number))
    }

    fn put(outbox: &Outbox, number: u64) {
        outbox.put(id(number), Message { topic: number.to_string(), payload: Vec::new() });
    }

    fn waiting(outbox: &Outbox) -> Vec<String> {
        let mut topics = Vec::new();
        let mut next = 0;
        while let Some((number, message)) = outbox.from(next) {
            topics.push(message.topic);
            next = number + 1;
        }
        topics
    }

    #[test]
    fn messages_stay_in_order_until_they_are_acknowledged() {
        let outbox = Outbox::default();
        (7..10).for_each(|number| put(&outbox, number));
        assert_eq!(waiting(&outbox), ["7", "8", "9"]);
        assert_eq!(outbox.acknowledge(1), Some(id(8)));
        assert_eq!(outbox.acknowledge(1), None, "once");
        assert_eq!(outbox.acknowledge(99), None);
        assert_eq!(waiting(&outbox), ["7", "9"]);
    }

    #[tokio::test]
    async fn a_message_put_in_while_nobody_listens_is_noticed_later() {
        let outbox = Outbox::default();
        put(&outbox, 1);
        outbox.changed().await;
    }
}
