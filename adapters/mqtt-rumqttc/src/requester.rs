//! A sender for the command line: publishes one job, and hears how it goes.

use crate::access::{BrokerAccess, CONNECT_SECONDS_MAX, KEEP_ALIVE_SECONDS, set_network};
use crate::backoff::Backoff;
use crate::broker_url::BrokerUrl;
use crate::reason::{Reason, ReasonKind};
use dvs_domain::job::{Job, JobRequest, Status};
use dvs_domain::names::{JobId, SenderId};
use dvs_job_json::{ReceivedAnswer, Topics, decode_answer, encode_job};
use rumqttc::{AsyncClient, Event, EventLoop, Outgoing, Packet, QoS, SubscribeFilter, SubscribeReasonCode};
use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// Why a job could not be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequesterError {
    /// The broker cannot be reached, or does not answer.
    #[error("cannot reach the broker {broker}: {reason}")]
    Unreachable { broker: BrokerUrl, reason: String },
    /// The broker does not let the command in, or not do what it needs.
    #[error("the broker {broker} refuses: {reason}")]
    Refused { broker: BrokerUrl, reason: String },
}

/// Sends one job at a time, under a sender and a client id that nobody else has.
pub struct Requester {
    access: BrokerAccess,
    topics: Topics,
    sender: SenderId,
    client_id: String,
    link: Link,
    job: Option<Sent>,
}

/// The job that was sent, and the answers to it.
struct Sent {
    job: Job,
    unread: VecDeque<Status>,
    last: Option<Status>,
}

struct Link {
    client: AsyncClient,
    events: EventLoop,
    /// Whether the present job was published on this connection, and the broker has it.
    published: bool,
    /// Why this connection has ended. rumqttc would make another one, without its subscriptions.
    lost: Option<Reason>,
}

impl Requester {
    /// Connects, and listens for answers.
    ///
    /// # Errors
    /// When the broker cannot be reached or refuses: this is tried once.
    pub async fn connect(access: BrokerAccess, topics: Topics) -> Result<Self, RequesterError> {
        let sender = SenderId::new(Uuid::new_v4().to_string())
            .expect("36 characters of hexadecimal digits and `-` are a sender");
        // MQTT 3.1.1: every broker takes ids of 23 characters, letters and digits only.
        let client_id = format!("dvs{}", &Uuid::new_v4().simple().to_string()[..20]);
        let link = Link::open(&access, &topics, &sender, &client_id)
            .await
            .map_err(|reason| explain(&access.broker, reason))?;
        Ok(Self { access, topics, sender, client_id, link, job: None })
    }

    /// Publishes a job, and waits until the broker has it. Answers to an earlier job are dropped.
    ///
    /// # Errors
    /// When the broker is lost meanwhile: this is tried once.
    pub async fn send(&mut self, request: JobRequest) -> Result<JobId, RequesterError> {
        let id = JobId::new(Uuid::new_v4().to_string())
            .expect("36 hexadecimal digits and `-` are visible ASCII characters");
        let job = Job { sender: self.sender.clone(), id: id.clone(), request };
        self.job = Some(Sent { job, unread: VecDeque::new(), last: None });
        self.link.published = false;
        self.publish().await.map_err(|reason| explain(&self.access.broker, reason))?;
        Ok(id)
    }

    /// The next word about the job, `None` after the last one and when there is no job. Waits for as long as
    /// it takes, whatever becomes of the broker: the job is published again on a new connection, and the
    /// agent knows repeats. What counts is the caller's limit; giving up at any moment is safe.
    pub async fn next(&mut self) -> Option<Status> {
        let mut backoff = Backoff::default();
        let mut said = None;
        loop {
            let sent = self.job.as_mut()?;
            if matches!(sent.last, Some(Status::Done | Status::Failed(_))) {
                return None;
            }
            if let Some(status) = sent.unread.pop_front() {
                // The broker or the agent may say a word twice.
                if sent.last.as_ref() != Some(&status) {
                    sent.last = Some(status.clone());
                    return Some(status);
                }
            } else if let Err(reason) = self.listen().await {
                let wait = backoff.after(None, reason.kind == ReasonKind::Refused);
                if said.as_ref() != Some(&reason.text) {
                    tracing::warn!(
                        "no connection to the broker {}: {}; trying again",
                        self.access.broker,
                        reason.text
                    );
                    said = Some(reason.text);
                }
                sleep(wait).await;
            }
        }
    }

    /// One event of a connection on which the job was published; makes such a connection first if need be.
    async fn listen(&mut self) -> Result<(), Reason> {
        if self.link.lost.is_some() {
            self.link = Link::open(&self.access, &self.topics, &self.sender, &self.client_id).await?;
        }
        if !self.link.published {
            return self.publish().await;
        }
        self.step().await.map(drop)
    }

    /// Publishes the job on the present connection.
    async fn publish(&mut self) -> Result<(), Reason> {
        let Some(sent) = &self.job else { return Ok(()) };
        let (topic, payload) = encode_job(&self.topics, &sent.job);
        // The queue has room: only one job at a time goes through it.
        let _ = self.link.client.try_publish(topic, QoS::AtLeastOnce, false, payload);
        let mut packet_id = None;
        let published = within_limit(async {
            loop {
                match self.step().await? {
                    Event::Outgoing(Outgoing::Publish(sent)) => packet_id = Some(sent),
                    Event::Incoming(Packet::PubAck(ack)) if Some(ack.pkid) == packet_id => return Ok(()),
                    _ => {}
                }
            }
        })
        .await;
        match &published {
            Ok(()) => self.link.published = true,
            // Also a connection that only stays silent is of no use any more.
            Err(reason) => _ = self.link.lost.get_or_insert_with(|| reason.clone()),
        }
        published
    }

    /// One event of the connection; answers to the job are kept.
    async fn step(&mut self) -> Result<Event, Reason> {
        let event = self.link.step().await?;
        if let (Event::Incoming(Packet::Publish(publish)), Some(sent)) = (&event, &mut self.job) {
            match decode_answer(&publish.payload) {
                // A refusal without an id is about this job too: nobody else has this sender.
                Some(ReceivedAnswer { job, status }) if job.as_ref().is_none_or(|id| *id == sent.job.id) => {
                    sent.unread.push_back(status);
                }
                _ => {}
            }
        }
        Ok(event)
    }
}

impl Link {
    async fn open(
        access: &BrokerAccess,
        topics: &Topics,
        sender: &SenderId,
        client_id: &str,
    ) -> Result<Self, Reason> {
        const REQUESTS_MAX: usize = 16;
        let options =
            access.options(client_id, KEEP_ALIVE_SECONDS).map_err(|failure| Reason::unusable(&failure))?;
        let (client, mut events) = AsyncClient::new(options, REQUESTS_MAX);
        set_network(&mut events);
        let mut link = Self { client, events, published: false, lost: None };
        within_limit(async {
            loop {
                match link.step().await? {
                    Event::Incoming(Packet::ConnAck(_)) => {
                        let filter = |topic| SubscribeFilter::new(topic, QoS::AtLeastOnce);
                        let filters = [filter(topics.answers(sender)), filter(topics.failures(sender))];
                        let _ = link.client.try_subscribe_many(filters);
                    }
                    Event::Incoming(Packet::SubAck(ack)) => {
                        if ack.return_codes.contains(&SubscribeReasonCode::Failure) {
                            return Err(Reason::refused("it does not allow to read the answers"));
                        }
                        return Ok(());
                    }
                    _ => {}
                }
            }
        })
        .await?;
        Ok(link)
    }

    async fn step(&mut self) -> Result<Event, Reason> {
        if let Some(reason) = &self.lost {
            return Err(reason.clone());
        }
        self.events.poll().await.map_err(|error| {
            let reason = Reason::from(&error);
            self.lost = Some(reason.clone());
            reason
        })
    }
}

async fn within_limit(work: impl Future<Output = Result<(), Reason>>) -> Result<(), Reason> {
    match timeout(Duration::from_secs(CONNECT_SECONDS_MAX), work).await {
        Ok(result) => result,
        Err(_) => Err(Reason::trouble("it does not answer")),
    }
}

fn explain(broker: &BrokerUrl, reason: Reason) -> RequesterError {
    let (broker, Reason { text: reason, kind }) = (broker.clone(), reason);
    match kind {
        ReasonKind::Refused => RequesterError::Refused { broker, reason },
        ReasonKind::Trouble | ReasonKind::Closed => RequesterError::Unreachable { broker, reason },
    }
}
