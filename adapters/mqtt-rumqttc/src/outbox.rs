//! Answers that the broker has not acknowledged yet, in the order in which they were given.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::{Notify, oneshot};

/// Numbers rise in the order of the calls, and are never used again.
pub(crate) type Number = u64;

/// One message for the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
}

/// What waits. It is as large as its callers let it be: each entry has somebody who waits for it.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    entries: Mutex<Entries>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Entries {
    next: Number,
    waiting: BTreeMap<Number, Entry>,
}

#[derive(Debug)]
struct Entry {
    message: Message,
    acknowledged: oneshot::Sender<()>,
}

impl Outbox {
    /// Puts `message` behind the others. Dropping the ticket takes it out again.
    pub(crate) fn put(self: &Arc<Self>, message: Message) -> Ticket {
        let (acknowledged, receiver) = oneshot::channel();
        let number = {
            let mut entries = self.entries();
            let number = entries.next;
            entries.next += 1;
            entries.waiting.insert(number, Entry { message, acknowledged });
            number
        };
        self.changed.notify_one();
        Ticket { outbox: Arc::clone(self), number, receiver }
    }

    /// The first message with at least this number.
    pub(crate) fn from(&self, number: Number) -> Option<(Number, Message)> {
        let entries = self.entries();
        let (number, entry) = entries.waiting.range(number..).next()?;
        Some((*number, entry.message.clone()))
    }

    /// The broker has this message.
    pub(crate) fn acknowledge(&self, number: Number) {
        let entry = self.entries().waiting.remove(&number);
        if let Some(entry) = entry {
            // Nobody listens when the ticket is dropped at this moment.
            let _ = entry.acknowledged.send(());
        }
    }

    /// Waits until a message was put in since the last call. For one listener.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resolves when the broker has acknowledged the message.
#[derive(Debug)]
pub(crate) struct Ticket {
    outbox: Arc<Outbox>,
    number: Number,
    receiver: oneshot::Receiver<()>,
}

impl Future for Ticket {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // The other end is dropped only after it has spoken, or together with this ticket.
        Pin::new(&mut self.receiver).poll(context).map(|_| ())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.outbox.entries().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str) -> Message {
        Message { topic: topic.to_owned(), payload: Vec::new() }
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

    #[tokio::test]
    async fn messages_stay_in_order_until_they_are_acknowledged() {
        let outbox = Arc::new(Outbox::default());
        let tickets: Vec<Ticket> = ["a", "b", "c"].map(|topic| outbox.put(message(topic))).into();
        assert_eq!(waiting(&outbox), ["a", "b", "c"]);
        outbox.acknowledge(1);
        outbox.acknowledge(1);
        outbox.acknowledge(99);
        assert_eq!(waiting(&outbox), ["a", "c"]);
        let mut tickets = tickets.into_iter();
        let (a, b) = (tickets.next().unwrap(), tickets.next().unwrap());
        b.await;
        drop(a);
        assert_eq!(waiting(&outbox), ["c"], "a dropped ticket takes its message out");
        let c = tickets.next().unwrap();
        outbox.acknowledge(2);
        c.await;
        assert!(waiting(&outbox).is_empty());
    }

    #[tokio::test]
    async fn a_message_put_in_while_nobody_listens_is_noticed_later() {
        let outbox = Arc::new(Outbox::default());
        let _ticket = outbox.put(message("a"));
        outbox.changed().await;
    }
}
