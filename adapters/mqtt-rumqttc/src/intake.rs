//! From the broker to the core: arrivals in order, several under way, acknowledged in order after they were taken.

use dvs_domain::ports::{IntakeClosed, JobIntake};
use dvs_job_json::{PEEK_BYTES_MAX, Topics, decode};
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use rumqttc::{AsyncClient, Publish};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// How many bytes of arrivals wait to be taken. What exceeds it stays with the broker, which delivers it again.
pub const INTAKE_BYTES_MAX: u32 = 8 * 1024 * 1024;

/// How many arrivals are on their way to the core at once: it records what comes together in one go.
const TAKING_MAX: usize = 64;
/// What a message takes in memory beside its topic and payload.
const MESSAGE_BYTES: usize = 256;
/// A connection that has carried a larger message keeps that much memory for its next one, so it is renewed.
const RENEWING_BYTES: usize = PEEK_BYTES_MAX;

/// The end of the queue at which connections put in what arrives. Never waits.
pub(crate) struct Intake {
    queue: mpsc::UnboundedSender<Waiting>,
    room: Arc<Semaphore>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    /// It is in the queue.
    Queued,
    /// There is no room. The broker delivers it again on another connection, if it was sent at QoS 1.
    NoRoom,
}

struct Waiting {
    topic: String,
    payload: Vec<u8>,
    retained: bool,
    acknowledge: Acknowledge,
    _room: OwnedSemaphorePermit,
}

/// How to acknowledge a message on the connection that it came from.
struct Acknowledge {
    client: AsyncClient,
    publish: Publish,
    renew: bool,
}

impl Intake {
    pub(crate) fn new() -> (Self, IntakeQueue) {
        let (queue, receiver) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(INTAKE_BYTES_MAX as usize));
        (Self { queue, room }, IntakeQueue(receiver))
    }

    /// Queues `publish`, which came in on the connection of `client`.
    pub(crate) fn offer(&self, mut publish: Publish, client: &AsyncClient) -> Offered {
        // Enough to see that it is too large. Copied, because the original lies in the connection's buffer.
        let kept = publish.payload.len().min(PEEK_BYTES_MAX + 1);
        let payload = publish.payload[..kept].to_vec();
        let renew = publish.payload.len() > RENEWING_BYTES;
        publish.payload = Default::default();
        let topic = std::mem::take(&mut publish.topic);
        let bytes = u32::try_from(MESSAGE_BYTES + topic.len() + kept).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(bytes) else { return Offered::NoRoom };
        let retained = publish.retain;
        let acknowledge = Acknowledge { client: client.clone(), publish, renew };
        // When the queue's other end is gone the agent is stopping: the broker keeps the message.
        let _ = self.queue.send(Waiting { topic, payload, retained, acknowledge, _room: room });
        Offered::Queued
    }

    /// Waits until everything in the queue was taken.
    pub(crate) async fn drained(&self) {
        // The semaphore is never closed.
        let _ = self.room.acquire_many(INTAKE_BYTES_MAX).await;
    }
}

/// The other end of the queue.
pub(crate) struct IntakeQueue(mpsc::UnboundedReceiver<Waiting>);

impl IntakeQueue {
    /// Hands everything to `intake`, in order, until `stop` is set or `intake` takes nothing more.
    pub(crate) async fn run(
        mut self,
        topics: Topics,
        intake: Arc<dyn JobIntake>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut taking = FuturesOrdered::new();
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                Some(taken) = taking.next() => match taken {
                    Ok(waiting) => acknowledge(waiting).await,
                    Err(IntakeClosed) => return,
                },
                waiting = self.0.recv(), if taking.len() < TAKING_MAX => match waiting {
                    Some(waiting) => taking.push_back(take(&topics, intake.as_ref(), waiting)),
                    None => break,
                },
            }
        }
        // What is under way is acknowledged, if the core still takes it.
        while let Some(Ok(waiting)) = taking.next().await {
            acknowledge(waiting).await;
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await; // Nobody who could still set it: stopped as well.
}

/// Returns it once it is taken.
async fn take(topics: &Topics, intake: &dyn JobIntake, waiting: Waiting) -> Result<Waiting, IntakeClosed> {
    let arrival = decode(topics, &waiting.topic, &waiting.payload, waiting.retained);
    intake.take(arrival).await.map(|()| waiting)
}

async fn acknowledge(waiting: Waiting) {
    waiting.acknowledge.send().await;
}

impl Acknowledge {
    /// Nothing happens when the connection is gone: the broker delivers the message again.
    async fn send(self) {
        let _ = self.client.ack(&self.publish).await;
        if self.renew {
            let _ = self.client.disconnect().await;
        }
    }
}
