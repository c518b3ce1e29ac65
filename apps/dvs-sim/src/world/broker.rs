//! The broker, and the agent's connection to it: a persistent session at QoS 1. What is not acknowledged is sent again on
//! the next connection, in both directions and in order.

use super::World;
use super::event_queue::WorldEvent;
use super::ids::{MessageNumber, SentAnswer};
use std::collections::{BTreeMap, VecDeque};

/// Bounds of the client's reconnect delay, in milliseconds.
const CONNECT_MILLISECONDS: (u64, u64) = (5, 900);

#[derive(Default)]
pub(crate) struct Broker {
    is_away: bool,
    /// Number of the open connection.
    connection: Option<u64>,
    connections: u64,
    /// The broker's: messages that the agent has not acknowledged, in order.
    session: Vec<Delivery>,
    deliveries: u64,
    /// Arrival time of the last packet in each direction: none overtakes another.
    last_inward: u64,
    last_outward: u64,
    /// The agent's: messages that were delivered and that no door has taken.
    inbox: VecDeque<Arrived>,
    /// The agent's: answers that the broker has not acknowledged.
    outbox: BTreeMap<u64, Outgoing>,
    answers: u64,
    /// Answers between the agent and the broker.
    in_transit: VecDeque<u64>,
}

/// One message in the broker's session.
#[derive(Clone, Copy, Debug)]
struct Delivery {
    number: u64,
    message: MessageNumber,
}

/// A message that has reached the agent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    connection: u64,
    delivery: u64,
    pub(crate) message: MessageNumber,
}

struct Outgoing {
    sent: SentAnswer,
    topic: String,
    payload: Vec<u8>,
    acknowledged: Box<dyn FnOnce() + Send>,
}

impl Broker {
    pub(super) fn has_arrivals(&self) -> bool {
        !self.inbox.is_empty()
    }

    pub(crate) fn is_away(&self) -> bool {
        self.is_away
    }

    /// Whether no message and no answer is unacknowledged.
    pub(crate) fn is_quiet(&self) -> bool {
        self.session.is_empty() && self.inbox.is_empty() && self.outbox.is_empty()
    }

    pub(crate) fn next_arrival(&mut self) -> Option<Arrived> {
        self.inbox.pop_front()
    }
}

impl World {
    /// The agent's client starts to connect.
    pub(crate) fn connect(&mut self) {
        let at = self.now() + self.random.between(CONNECT_MILLISECONDS.0, CONNECT_MILLISECONDS.1);
        self.event_queue.put(at, WorldEvent::Connected { life: self.life.number });
    }

    pub(super) fn connected(&mut self, life: u64) {
        if life != self.life.number || self.life.working_since.is_none() || self.broker.connection.is_some() {
            return;
        }
        if self.broker.is_away {
            return self.connect();
        }
        self.broker.connections += 1;
        let connection = self.broker.connections;
        self.broker.connection = Some(connection);
        self.log(format_args!("broker: connection {connection} stands"));
        let unacknowledged = self.broker.session.clone();
        unacknowledged.into_iter().for_each(|delivery| self.deliver(delivery));
        let waiting: Vec<u64> = self.broker.outbox.keys().copied().collect();
        waiting.into_iter().for_each(|answer| self.transmit(answer));
    }

    /// Breaks the connection. Some of the answers in transit still arrive.
    pub(crate) fn disconnect(&mut self) {
        let Some(connection) = self.broker.connection.take() else { return };
        self.log(format_args!("broker: connection {connection} breaks"));
        let arrives = self.random.index(self.broker.in_transit.len() + 1);
        let in_transit = std::mem::take(&mut self.broker.in_transit);
        in_transit.into_iter().take(arrives).for_each(|answer| self.reach_broker(answer));
        if self.life.cut.is_none() {
            self.connect();
        }
    }

    /// Drops what the client had in memory.
    pub(crate) fn forget_client(&mut self) {
        self.disconnect();
        self.broker.inbox.clear();
        self.broker.outbox.clear();
    }

    pub(super) fn take_broker_away(&mut self, milliseconds: u64, forgets: bool) {
        self.log(format_args!(
            "broker goes away for {milliseconds} ms{}",
            if forgets { ", and forgets" } else { "" }
        ));
        self.disconnect();
        self.broker.is_away = true;
        if forgets {
            self.broker.session.clear();
        }
        let at = self.now() + milliseconds;
        self.event_queue.put(at, WorldEvent::BrokerBack);
    }

    pub(crate) fn bring_broker_back(&mut self) {
        if std::mem::take(&mut self.broker.is_away) {
            self.log(format_args!("broker is back"));
        }
    }

    /// Adds a message to the broker's session, and delivers it if the agent is connected.
    pub(super) fn enqueue(&mut self, message: MessageNumber) {
        let copies = if self.random.chance(5) { 2 } else { 1 };
        for _ in 0..copies {
            let delivery = Delivery { number: self.broker.deliveries, message };
            self.broker.deliveries += 1;
            self.broker.session.push(delivery);
            if self.broker.connection.is_some() {
                self.deliver(delivery);
            }
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        let Some(connection) = self.broker.connection else { return };
        let at = (self.now() + self.random.between(0, 20)).max(self.broker.last_inward);
        self.broker.last_inward = at;
        self.event_queue.put(at, WorldEvent::Delivered { connection, delivery: delivery.number });
    }

    pub(super) fn delivered(&mut self, connection: u64, number: u64) {
        if self.broker.connection != Some(connection) || self.life.working_since.is_none() {
            return;
        }
        let Some(delivery) = self.broker.session.iter().find(|delivery| delivery.number == number) else {
            return;
        };
        let message = delivery.message;
        self.broker.inbox.push_back(Arrived { connection, delivery: number, message });
        self.log(format_args!("message {message} reaches the agent"));
    }

    /// The agent acknowledges a message, on the connection that it came from.
    pub(crate) fn acknowledge(&mut self, arrived: Arrived) {
        self.log(format_args!("agent acknowledges message {}", arrived.message));
        self.check_acknowledged(arrived.message);
        let Arrived { connection, delivery, .. } = arrived;
        let at = self.now() + self.random.between(0, 20);
        self.event_queue.put(at, WorldEvent::TakenAcknowledged { connection, delivery });
    }

    pub(super) fn taken_acknowledged(&mut self, connection: u64, number: u64) {
        if self.broker.connection == Some(connection) {
            self.broker.session.retain(|delivery| delivery.number != number);
        }
    }

    /// Hands an answer to the client, which calls `acknowledged` once the broker has it.
    pub(crate) fn send(
        &mut self,
        sent: SentAnswer,
        topic: String,
        payload: Vec<u8>,
        acknowledged: Box<dyn FnOnce() + Send>,
    ) {
        let number = self.broker.answers;
        self.broker.answers += 1;
        self.broker.outbox.insert(number, Outgoing { sent, topic, payload, acknowledged });
        if self.broker.connection.is_some() {
            self.transmit(number);
        }
    }

    fn transmit(&mut self, answer: u64) {
        let Some(connection) = self.broker.connection else { return };
        let slow = if self.healed { 20 } else { 20 + self.scenario.delay_milliseconds };
        let at = (self.now() + self.random.between(0, slow)).max(self.broker.last_outward);
        self.broker.last_outward = at;
        self.broker.in_transit.push_back(answer);
        self.event_queue.put(at, WorldEvent::Answered { connection, answer });
    }

    pub(super) fn answered(&mut self, connection: u64, answer: u64) {
        if self.broker.connection != Some(connection) {
            return;
        }
        self.broker.in_transit.retain(|other| *other != answer);
        self.reach_broker(answer);
        let at = self.now() + self.random.between(0, 20);
        self.event_queue.put(at, WorldEvent::AnswerAcknowledged { connection, answer });
    }

    fn reach_broker(&mut self, answer: u64) {
        let Some(outgoing) = self.broker.outbox.get(&answer) else { return };
        let (sent, topic, payload) =
            (outgoing.sent.clone(), outgoing.topic.clone(), outgoing.payload.clone());
        self.log(format_args!("sender receives {sent}"));
        self.receive_answer(&sent, &topic, &payload);
    }

    pub(super) fn answer_acknowledged(&mut self, connection: u64, answer: u64) {
        if self.broker.connection != Some(connection) {
            return;
        }
        if let Some(outgoing) = self.broker.outbox.remove(&answer) {
            (outgoing.acknowledged)();
        }
    }
}
