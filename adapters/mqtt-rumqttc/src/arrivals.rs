//! From the broker to the core: messages are decoded here, queued in the core, and acknowledged in the order of arrival
//! once the core has recorded them.

use dvs_domain::ports::{JobIntake, NotQueued};
use dvs_job_json::{PEEK_BYTES_MAX, Topics, decode};
use rumqttc::{AsyncClient, Publish};
use std::collections::VecDeque;
use tokio::sync::mpsc;

/// A connection that has carried a larger message keeps that much memory for its next one, so it is renewed.
const RENEWING_BYTES: usize = PEEK_BYTES_MAX;

/// The messages of one connection that are not acknowledged. The broker delivers them again when the connection ends.
pub(crate) struct Arrivals {
    waiting: VecDeque<Waiting>,
    /// The number of the first of them.
    first: u64,
    recorded: mpsc::UnboundedReceiver<u64>,
    recorded_in: mpsc::UnboundedSender<u64>,
}

struct Waiting {
    publish: Publish,
    is_large: bool,
    is_recorded: bool,
}

impl Arrivals {
    pub(crate) fn new() -> Self {
        let (recorded_in, recorded) = mpsc::unbounded_channel(); // As long as `waiting`, which the core's queue bounds.
        Self { waiting: VecDeque::new(), first: 0, recorded, recorded_in }
    }

    /// Hands `publish` to the core.
    pub(crate) fn offer(
        &mut self,
        mut publish: Publish,
        topics: &Topics,
        intake: &dyn JobIntake,
    ) -> Result<(), NotQueued> {
        let arrival = decode(topics, &publish.topic, &publish.payload, publish.retain);
        let number = self.first + self.waiting.len() as u64;
        let recorded = self.recorded_in.clone();
        let recorded = move || {
            let _gone = recorded.send(number); // Without the connection the broker delivers the message again.
        };
        intake.offer(arrival, Box::new(recorded))?;
        let is_large = publish.payload.len() > RENEWING_BYTES;
        publish.payload = Default::default(); // It lies in the connection's buffer.
        self.waiting.push_back(Waiting { publish, is_large, is_recorded: false });
        Ok(())
    }

    /// Waits until the core has recorded another one.
    pub(crate) async fn recorded(&mut self) {
        if let Some(number) = self.recorded.recv().await {
            self.note(number);
        }
    }

    /// Acknowledges what is recorded, as far as `client` has room. Says whether a large message was among it.
    pub(crate) fn acknowledge(&mut self, client: &AsyncClient) -> bool {
        while let Ok(number) = self.recorded.try_recv() {
            self.note(number);
        }
        let mut was_large = false;
        while self.has_recorded()
            && let Some(waiting) = self.waiting.front()
            && client.try_ack(&waiting.publish).is_ok()
        {
            was_large |= waiting.is_large;
            self.waiting.pop_front();
            self.first += 1;
        }
        was_large
    }

    /// Whether the next acknowledgement can be sent.
    pub(crate) fn has_recorded(&self) -> bool {
        self.waiting.front().is_some_and(|waiting| waiting.is_recorded)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn note(&mut self, number: u64) {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(waiting) = index.and_then(|index| self.waiting.get_mut(index)) {
            waiting.is_recorded = true;
        }
    }
}
