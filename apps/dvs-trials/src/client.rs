//! An MQTT client of the tests' own, so that nothing of DVS judges DVS. It subscribes before it publishes, and keeps
//! every message in the order in which the broker sent it.

use crate::clock;
use anyhow::{Context, Result, bail};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS, SubscribeFilter};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long the broker may take for one acknowledgement.
const BROKER_LIMIT: Duration = Duration::from_secs(20);
/// Larger than any payload that a scenario sends.
const PACKET_BYTES_MAX: usize = 8 << 20;
/// How many requests may wait in the client.
const REQUESTS_MAX: usize = 1024;

/// A message as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// Whether the broker had kept it.
    pub retained: bool,
    /// When it came, on the monotonic clock in nanoseconds.
    pub at: u64,
}

/// Whether the broker keeps a message for later subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retain {
    /// It does.
    Yes,
    /// It does not.
    No,
}

/// A client that is connected.
#[derive(Debug)]
pub struct Client {
    mqtt: AsyncClient,
    published: AtomicU64,
    state: watch::Receiver<State>,
    forget: watch::Sender<State>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    heard: Vec<Message>,
    connected: bool,
    subscribed: bool,
    acknowledged: u64,
    lost: Option<String>,
}

impl Client {
    /// Connects as `name`, a new one to the broker, and subscribes to `filters`, if there are any, with QoS 1.
    ///
    /// # Errors
    /// When the broker does not take it in time.
    pub async fn connect(broker: SocketAddr, name: &str, filters: &[String]) -> Result<Self> {
        let mut options = MqttOptions::new(name, broker.ip().to_string(), broker.port());
        options.set_keep_alive(Duration::from_secs(30)).set_clean_session(true);
        options.set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
        let (mqtt, mut events) = AsyncClient::new(options, REQUESTS_MAX);
        let mut network = events.network_options();
        network.set_tcp_nodelay(true);
        events.set_network_options(network);
        let (sender, state) = watch::channel(State::default());
        let task = tokio::spawn(listen(events, sender.clone()));
        let client = Self { mqtt, published: AtomicU64::new(0), state, forget: sender, task };
        client.wait("the connection", BROKER_LIMIT, |state| state.connected.then_some(())).await?;
        if !filters.is_empty() {
            let filters = filters.iter().map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce));
            client.mqtt.subscribe_many(filters).await.context("cannot subscribe")?;
            client.wait("the subscription", BROKER_LIMIT, |state| state.subscribed.then_some(())).await?;
        }
        Ok(client)
    }

    /// Publishes with QoS 1, and returns once the broker has it.
    ///
    /// # Errors
    /// When the broker does not acknowledge it in time.
    pub async fn publish(&self, topic: &str, payload: impl Into<Vec<u8>>, retain: Retain) -> Result<()> {
        let number = self.send(topic, payload, retain).await?;
        self.acknowledged(number).await
    }

    /// Publishes with QoS 1 and returns at once; the number is for [`Client::acknowledged`].
    ///
    /// # Errors
    /// When the client has ended.
    pub async fn send(&self, topic: &str, payload: impl Into<Vec<u8>>, retain: Retain) -> Result<u64> {
        let retain = retain == Retain::Yes;
        let sent = self.mqtt.publish(topic, QoS::AtLeastOnce, retain, payload).await;
        sent.with_context(|| format!("cannot publish to `{topic}`"))?;
        Ok(self.published.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Waits until the broker has the first `number` messages.
    ///
    /// # Errors
    /// When it has not in time.
    pub async fn acknowledged(&self, number: u64) -> Result<()> {
        let done = |state: &State| (number <= state.acknowledged).then_some(());
        self.wait("the broker's acknowledgement", BROKER_LIMIT, done).await
    }

    /// How many messages came so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.state.borrow().heard.len()
    }

    /// Every message since the first `skip`.
    #[must_use]
    pub fn heard_since(&self, skip: usize) -> Vec<Message> {
        self.state.borrow().heard.get(skip..).unwrap_or_default().to_vec()
    }

    /// Waits until `found` gives something for the messages that came so far.
    ///
    /// # Errors
    /// When it has not within `limit`, with what came; `what` names what was awaited.
    pub async fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        mut found: impl FnMut(&[Message]) -> Option<T>,
    ) -> Result<T> {
        self.wait(what, limit, |state| found(&state.heard)).await
    }

    /// Forgets what came so far.
    pub fn forget(&self) {
        self.forget.send_modify(|state| state.heard.clear());
    }

    async fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        mut found: impl FnMut(&State) -> Option<T>,
    ) -> Result<T> {
        let mut state = self.state.clone();
        let mut result = None;
        let waited = tokio::time::timeout(
            limit,
            state.wait_for(|state| {
                result = found(state);
                result.is_some() || state.lost.is_some()
            }),
        )
        .await;
        if let Some(result) = result {
            return Ok(result);
        }
        match waited {
            Ok(_) => {
                let lost = self.state.borrow().lost.clone().unwrap_or_default();
                bail!("{what}: the broker was lost: {lost}")
            }
            Err(_) => bail!("{what}: not within {} s. Heard so far:\n{}", limit.as_secs(), self.told()),
        }
    }

    /// The messages so far as lines, the last of many.
    fn told(&self) -> String {
        const LINES: usize = 12;
        let state = self.state.borrow();
        let heard = &state.heard;
        let lines: Vec<_> =
            heard[heard.len().saturating_sub(LINES)..].iter().map(Message::to_string).collect();
        if lines.is_empty() { "  nothing".to_owned() } else { lines.join("\n") }
    }
}

impl std::fmt::Display for Message {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "  {} {}", self.topic, String::from_utf8_lossy(&self.payload))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(mut events: EventLoop, state: watch::Sender<State>) {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::Publish(publish))) => state.send_modify(|state| {
                state.heard.push(Message {
                    topic: publish.topic.clone(),
                    payload: publish.payload.to_vec(),
                    retained: publish.retain,
                    at: clock::now(),
                });
            }),
            Ok(Event::Incoming(Packet::PubAck(_))) => state.send_modify(|state| state.acknowledged += 1),
            Ok(Event::Incoming(Packet::ConnAck(_))) => state.send_modify(|state| state.connected = true),
            Ok(Event::Incoming(Packet::SubAck(_))) => state.send_modify(|state| state.subscribed = true),
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
            Ok(_) => {}
            // A client that came back would have missed messages without knowing: what it heard proves nothing.
            Err(error) => {
                state.send_modify(|state| state.lost = Some(error.to_string()));
                return;
            }
        }
    }
}
