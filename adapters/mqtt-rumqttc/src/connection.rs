//! One connection to the broker, from the first packet to the last. It never waits for anything but the
//! network: arrivals go into the core's queue, answers come out of the outbox.

use crate::access::{CONNECT_SECONDS_MAX, set_network};
use crate::arrivals::Arrivals;
use crate::config::MqttConfig;
use crate::outbox::{Number, Outbox};
use crate::reason::Reason;
use crate::report::Report;
use dvs_domain::ports::{JobIntake, NotQueued};
use dvs_job_json::{Presence, encode_presence};
use rumqttc::{
    AsyncClient, Event, EventLoop, LastWill, MqttOptions, Outgoing, Packet, QoS, SubAck, SubscribeReasonCode,
};
use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How many answers are under way to the broker at once.
pub const INFLIGHT_MAX: usize = 64;

/// Room in the queue to rumqttc for answers, acknowledgements and one subscription.
const REQUESTS_MAX: usize = 256;
/// How long a broker may take to hang up after goodbye.
const CLOSE_SECONDS_MAX: u64 = 1;
/// How long a connection with an arrival for which the core had no room waits before it is made anew.
const RENEW_MILLISECONDS: u64 = 100;
/// More than ever is under way: rumqttc would hold back acknowledgements too.
const RUMQTTC_INFLIGHT_MAX: u16 = 256;

/// What outlives a connection.
pub(crate) struct Shared {
    pub(crate) config: MqttConfig,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) intake: Arc<dyn JobIntake>,
    pub(crate) report: Mutex<Report>,
    /// Until when to say goodbye, once that is asked for.
    pub(crate) leave_by: watch::Receiver<Option<Instant>>,
}

impl Shared {
    pub(crate) fn report<T>(&self, act: impl FnOnce(&mut Report) -> T) -> T {
        act(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// As it was asked to.
    Left,
    /// To be made anew at once.
    Renewed,
    /// By itself.
    Lost { reason: Reason, held: Option<Duration> },
}

/// Connects, and stays until the end.
pub(crate) async fn run(shared: Arc<Shared>) -> Ended {
    let options = match options(&shared.config) {
        Ok(options) => options,
        Err(reason) => return Ended::Lost { reason, held: None },
    };
    let (client, mut events) = AsyncClient::new(options, REQUESTS_MAX);
    set_network(&mut events);
    Connection {
        shared: &shared,
        client,
        stage: Stage::Connecting,
        made_at: None,
        arrivals: Arrivals::new(),
        overflowed: None,
        renewing: false,
        warned: false,
        next: 0,
        handed: VecDeque::new(),
        sent: HashMap::new(),
    }
    .drive(&mut events)
    .await
}

/// The settings of a connection. The session outlives it: the broker keeps what arrives while nobody is here.
pub(crate) fn options(config: &MqttConfig) -> Result<MqttOptions, Reason> {
    let mut options = config
        .access
        .options(&config.client_id, config.keep_alive_seconds)
        .map_err(|failure| Reason::unusable(&failure))?;
    options.set_clean_session(false);
    options.set_manual_acks(true);
    options.set_inflight(RUMQTTC_INFLIGHT_MAX);
    options.set_last_will(LastWill::new(
        config.topics.presence(),
        encode_presence(&Presence::Offline),
        QoS::AtLeastOnce,
        true,
    ));
    Ok(options)
}

struct Connection<'s> {
    shared: &'s Shared,
    client: AsyncClient,
    stage: Stage,
    made_at: Option<Instant>,
    arrivals: Arrivals,
    /// Since when the core has no room: nothing later may overtake what it had no room for, so nothing more is
    /// accepted on this connection.
    overflowed: Option<Instant>,
    /// Whether this connection is about to end, to get again what there was no room for.
    renewing: bool,
    warned: bool,
    /// The first message of the outbox that was not handed over on this connection.
    next: Number,
    /// What was handed to rumqttc and has no packet id yet, in order.
    handed: VecDeque<Item>,
    /// What the broker has not acknowledged, by packet id.
    sent: HashMap<u16, Item>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    Subscribing {
        by: Instant,
    },
    Ready,
    /// What is in the outbox still goes out, and then that the agent is gone.
    Leaving {
        by: Instant,
        announced: bool,
    },
    /// Goodbye is being said.
    Left {
        by: Instant,
    },
    /// Goodbye was said. The broker hangs up: who does so with something unread may take back what was sent
    /// last, such as acknowledgements.
    Closing {
        by: Instant,
        renew: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    Answer(Number),
    Presence,
}

impl Connection<'_> {
    async fn drive(mut self, events: &mut EventLoop) -> Ended {
        let mut leave_by = self.shared.leave_by.clone();
        loop {
            let event = {
                // Polling is never given up half-way: a packet could be lost in it.
                let mut poll = pin!(events.poll());
                loop {
                    let (deadline, renew_at) = (self.deadline(), self.renew_at());
                    tokio::select! {
                        event = &mut poll => break event,
                        () = self.shared.outbox.changed() => self.hand_over(),
                        () = self.arrivals.recorded() => self.acknowledge(),
                        () = sleep_until(renew_at), if self.overflowed.is_some() && !self.renewing => self.acknowledge(),
                        by = leave(&mut leave_by), if !self.is_leaving() => {
                            if self.stage != Stage::Ready {
                                return Ended::Left;
                            }
                            self.stage = Stage::Leaving { by, announced: false };
                            self.hand_over();
                        }
                        () = sleep_until(deadline) => return self.overdue(),
                    }
                }
            };
            match event {
                Ok(event) => {
                    if let ControlFlow::Break(ended) = self.on(event) {
                        return ended;
                    }
                    self.hand_over();
                }
                Err(error) => {
                    // The broker's last words may have come in together with the end. Jobs are among them: those at
                    // QoS 0 never come again, the others not from a broker that forgets.
                    for event in std::mem::take(&mut events.state.events) {
                        if let Event::Incoming(Packet::PubAck(_) | Packet::SubAck(_) | Packet::Publish(_)) =
                            event
                            && let ControlFlow::Break(ended) = self.on(event)
                        {
                            return ended;
                        }
                    }
                    return self.lost((&error).into());
                }
            }
        }
    }

    fn on(&mut self, event: Event) -> ControlFlow<Ended> {
        match event {
            Event::Incoming(Packet::ConnAck(_)) => {
                self.made_at = Some(Instant::now());
                self.stage =
                    Stage::Subscribing { by: Instant::now() + Duration::from_secs(CONNECT_SECONDS_MAX) };
                // The queue is empty: nothing was put in before this.
                let _ = self.client.try_subscribe(self.shared.config.topics.subscription(), QoS::AtLeastOnce);
            }
            Event::Incoming(Packet::SubAck(ack)) => return self.subscribed(&ack),
            Event::Incoming(Packet::Publish(publish)) if self.overflowed.is_none() && !self.is_leaving() => {
                // What was sent at QoS 0 does not come again, so nothing has to wait for it.
                let comes_again = publish.qos != QoS::AtMostOnce;
                let (topics, intake) = (&self.shared.config.topics, self.shared.intake.as_ref());
                if self.arrivals.offer(publish, topics, intake) == Err(NotQueued::Full) {
                    if !self.warned {
                        tracing::warn!("messages arrive faster than they can be written down");
                    }
                    self.warned = true;
                    self.overflowed = comes_again.then(Instant::now);
                }
            }
            Event::Incoming(Packet::PubAck(ack)) => self.acknowledged(ack.pkid),
            Event::Outgoing(Outgoing::Publish(packet_id)) => {
                if let Some(item) = self.handed.pop_front() {
                    self.sent.insert(packet_id, item);
                }
            }
            Event::Outgoing(Outgoing::Disconnect) => {
                let by = Instant::now() + Duration::from_secs(CLOSE_SECONDS_MAX);
                self.stage = match self.stage {
                    Stage::Left { by: limit } => Stage::Closing { by: by.min(limit), renew: false },
                    _ => Stage::Closing { by, renew: true },
                };
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn subscribed(&mut self, ack: &SubAck) -> ControlFlow<Ended> {
        if ack.return_codes.contains(&SubscribeReasonCode::Failure) {
            let subscription = self.shared.config.topics.subscription();
            let reason = Reason::refused(format!("it does not allow this client to read `{subscription}`"));
            return ControlFlow::Break(self.lost(reason));
        }
        if matches!(self.stage, Stage::Subscribing { .. }) {
            self.stage = Stage::Ready;
            self.announce(&self.shared.config.presence);
            self.shared.report(|report| report.connected());
        }
        ControlFlow::Continue(())
    }

    /// Gives rumqttc as much of the outbox as may be under way; when leaving and all is said, says goodbye.
    fn hand_over(&mut self) {
        if !matches!(self.stage, Stage::Ready | Stage::Leaving { .. }) {
            return;
        }
        self.acknowledge();
        while self.handed.len() + self.sent.len() < INFLIGHT_MAX {
            let Some((number, message)) = self.shared.outbox.from(self.next) else { break };
            let accepted =
                self.client.try_publish(message.topic, QoS::AtLeastOnce, false, message.payload).is_ok();
            if !accepted {
                return; // No room at the moment. The next event comes back here.
            }
            self.handed.push_back(Item::Answer(number));
            self.next = number + 1;
        }
        if let Stage::Leaving { by, announced } = self.stage
            && !self.arrivals.has_recorded()
            && self.handed.is_empty()
            && self.sent.is_empty()
        {
            if announced {
                if self.client.try_disconnect().is_ok() {
                    self.stage = Stage::Left { by };
                }
            } else {
                self.stage = Stage::Leaving { by, announced: self.announce(&Presence::Offline) };
            }
        }
    }

    fn announce(&mut self, presence: &Presence) -> bool {
        let topic = self.shared.config.topics.presence();
        let accepted =
            self.client.try_publish(topic, QoS::AtLeastOnce, true, encode_presence(presence)).is_ok();
        if accepted {
            self.handed.push_back(Item::Presence);
        }
        accepted
    }

    fn acknowledged(&mut self, packet_id: u16) {
        if let Some(Item::Answer(number)) = self.sent.remove(&packet_id)
            && let Some(id) = self.shared.outbox.acknowledge(number)
        {
            self.shared.intake.acknowledged(id);
        }
    }

    /// Acknowledges what is recorded. A connection that had no room, or has carried a large message, then ends in good
    /// order; the next one gets what was not acknowledged.
    fn acknowledge(&mut self) {
        let was_large = self.arrivals.acknowledge(&self.client);
        let has_waited =
            self.overflowed.is_some() && self.arrivals.is_empty() && self.renew_at() <= Instant::now();
        if (was_large || has_waited) && !self.renewing && !self.is_leaving() {
            self.renewing = self.client.try_disconnect().is_ok();
        }
    }

    fn renew_at(&self) -> Instant {
        self.overflowed.unwrap_or_else(Instant::now) + Duration::from_millis(RENEW_MILLISECONDS)
    }

    fn is_leaving(&self) -> bool {
        matches!(self.stage, Stage::Leaving { .. } | Stage::Left { .. } | Stage::Closing { .. })
    }

    fn deadline(&self) -> Instant {
        match self.stage {
            Stage::Subscribing { by }
            | Stage::Leaving { by, .. }
            | Stage::Left { by }
            | Stage::Closing { by, .. } => by,
            // rumqttc has its own limits for connecting, for sending, and for a broker that falls silent.
            Stage::Connecting | Stage::Ready => Instant::now() + Duration::from_secs(3600),
        }
    }

    fn overdue(&self) -> Ended {
        match self.stage {
            // Without a goodbye: the broker then publishes the last will.
            Stage::Leaving { .. } => Ended::Left,
            _ => self.lost(Reason::trouble("it does not answer the subscription")),
        }
    }

    fn lost(&self, reason: Reason) -> Ended {
        match self.stage {
            Stage::Left { .. } | Stage::Closing { renew: false, .. } => Ended::Left,
            Stage::Closing { renew: true, .. } => Ended::Renewed,
            _ => Ended::Lost { reason, held: self.made_at.map(|made_at| made_at.elapsed()) },
        }
    }
}

/// Resolves when the connection is to be left.
async fn leave(leave_by: &mut watch::Receiver<Option<Instant>>) -> Instant {
    let by = leave_by.wait_for(Option::is_some).await.ok().and_then(|by| *by);
    match by {
        Some(by) => by,
        // Nobody is left who could ask.
        None => std::future::pending().await,
    }
}
