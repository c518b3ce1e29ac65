//! A connection over which many slots send as fast as the agent answers, and what all their jobs came to.

use super::slot::{Kind, Progress, Slot, Word};
use super::{Plan, Rig};
use crate::random::Random;
use anyhow::{Context, Result, bail, ensure};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, Publish, QoS};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How many connections there are.
const SENDERS: usize = 4;
/// What the slots of a connection do.
const SLOTS: [(Kind, usize); 4] =
    [(Kind::Loop, 2), (Kind::Directory, 2), (Kind::Unattached, 8), (Kind::Absent, 16)];
/// So often there is an event, also while nothing is answered.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// More than all slots of a connection send at once.
const REQUESTS_MAX: usize = 1024;
const PACKET_BYTES_MAX: usize = 8 << 20;

/// What was sent, and what came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) messages: u64,
    /// Accepted jobs that ended.
    pub(super) jobs: u64,
    pub(super) repeats: u64,
    pub(super) refusals: u64,
    /// Words that came more than once.
    pub(super) again: u64,
    /// The longest time from a message to its answer.
    pub(super) slowest: Duration,
}

struct Sender {
    id: String,
    node: String,
    client: AsyncClient,
    events: EventLoop,
    slots: Vec<(Slot, Instant)>,
    ended: Arc<AtomicU64>,
    stop: watch::Receiver<bool>,
    limit: Duration,
    tally: Tally,
}

/// Starts them; they send until `stop` becomes true, then delete what they have created.
pub(super) async fn start(
    plan: &Plan,
    broker: SocketAddr,
    rig: &Rig,
    random: &mut Random,
    ended: &Arc<AtomicU64>,
    stop: &watch::Receiver<bool>,
) -> Result<Vec<JoinHandle<Result<Tally>>>> {
    let mut senders = Vec::new();
    for number in 0..SENDERS {
        let id = format!("flood-{number}");
        let mut options = MqttOptions::new(&id, broker.ip().to_string(), broker.port());
        options.set_keep_alive(KEEP_ALIVE).set_clean_session(true);
        options.set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
        let (client, events) = AsyncClient::new(options, REQUESTS_MAX);
        client.subscribe(format!("docker/sip/{id}/#"), QoS::AtLeastOnce).await.context("cannot subscribe")?;
        let kinds = SLOTS.iter().flat_map(|(kind, count)| std::iter::repeat_n(*kind, *count));
        let slot = |(slot, kind)| {
            let name = format!("{number}-{slot}");
            (Slot::new(kind, name, &id, &rig.mounts, random.fork()), Instant::now())
        };
        let sender = Sender {
            slots: kinds.enumerate().map(slot).collect(),
            id,
            node: rig.launch.node.clone(),
            client,
            events,
            ended: Arc::clone(ended),
            stop: stop.clone(),
            limit: plan.answer_limit(),
            tally: Tally::default(),
        };
        senders.push(tokio::spawn(sender.run()));
    }
    Ok(senders)
}

impl Sender {
    async fn run(mut self) -> Result<Tally> {
        loop {
            let event = self.events.poll().await;
            match event.with_context(|| format!("`{}` has lost the broker", self.id))? {
                Event::Incoming(Packet::SubAck(_)) => {
                    for slot in 0..self.slots.len() {
                        self.send_next(slot)?;
                    }
                }
                Event::Incoming(Packet::Publish(publish)) => self.on_answer(&publish)?,
                _ => {}
            }
            self.check_answered()?;
            if self.slots.iter().all(|(slot, _)| slot.is_idle()) && *self.stop.borrow() {
                return Ok(self.tally);
            }
        }
    }

    fn on_answer(&mut self, publish: &Publish) -> Result<()> {
        let (id, word) = read(publish)?;
        let index = self.slot_of(&id).with_context(|| format!("an answer to `{id}`, which was not sent"))?;
        let (slot, since) = &mut self.slots[index];
        let progress = slot.on_word(&id, &word).with_context(|| format!("sender `{}`", self.id))?;
        let counted = match progress {
            Progress::JobEnded => {
                self.ended.fetch_add(1, Ordering::Relaxed);
                &mut self.tally.jobs
            }
            Progress::Repeated => &mut self.tally.repeats,
            Progress::Refused => &mut self.tally.refusals,
            Progress::Again => &mut self.tally.again,
            Progress::Waiting => return Ok(()),
        };
        *counted += 1;
        if progress == Progress::Again {
            return Ok(());
        }
        self.tally.slowest = self.tally.slowest.max(since.elapsed());
        self.send_next(index)
    }

    fn send_next(&mut self, index: usize) -> Result<()> {
        let stops = *self.stop.borrow();
        let (slot, since) = &mut self.slots[index];
        *since = Instant::now();
        for message in slot.next(stops) {
            let topic = format!("docker/{}/volumes/{}", self.node, message.leaf);
            let sent = self.client.try_publish(topic, QoS::AtLeastOnce, false, message.payload);
            sent.context("the client has no room")?;
            self.tally.messages += 1;
        }
        Ok(())
    }

    /// Job ids begin with the numbers of the sender and of the slot.
    fn slot_of(&self, id: &str) -> Option<usize> {
        let slot = id.split('-').nth(1)?.parse().ok()?;
        (slot < self.slots.len()).then_some(slot)
    }

    /// Nothing may be lost.
    fn check_answered(&self) -> Result<()> {
        let late = self.slots.iter().find(|(slot, since)| !slot.is_idle() && self.limit < since.elapsed());
        match late {
            Some((slot, since)) => {
                bail!("no answer in {:.0} s to {}", since.elapsed().as_secs_f64(), slot.waits_for())
            }
            None => Ok(()),
        }
    }
}

/// The job that an answer is about, and its word. A failure has a topic of its own.
fn read(publish: &Publish) -> Result<(String, Word)> {
    let answer: Value = serde_json::from_slice(&publish.payload).context("an answer is no JSON")?;
    let text = |key: &str| answer[key].as_str().map(str::to_owned);
    let id = text("job").with_context(|| format!("an answer without a job: {answer}"))?;
    let word = match text("status").as_deref() {
        Some("PENDING") => Word::Pending,
        Some("DONE") => Word::Done,
        Some("FAILED") => Word::Failed(text("code").unwrap_or_default()),
        _ => bail!("an answer without a status: {answer}"),
    };
    let is_failure = matches!(word, Word::Failed(_));
    ensure!(publish.topic.ends_with("/jobs/failed") == is_failure, "{answer} came on {}", publish.topic);
    Ok((id, word))
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.jobs += other.jobs;
        self.repeats += other.repeats;
        self.refusals += other.refusals;
        self.again += other.again;
        self.slowest = self.slowest.max(other.slowest);
    }
}
