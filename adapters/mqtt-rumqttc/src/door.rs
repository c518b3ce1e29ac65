//! The front door: keeps a connection to the broker for as long as the agent runs.

use crate::backoff::Backoff;
use crate::config::MqttConfig;
use crate::connection::{self, Ended, Shared};
use crate::outbox::{Message, Outbox};
use crate::reason::Reason;
use crate::report::{ConnectionState, Report};
use async_trait::async_trait;
use dvs_domain::failure::Failure;
use dvs_domain::job::Answer;
use dvs_domain::ledger::AnswerId;
use dvs_domain::ports::{Answers, JobIntake};
use dvs_job_json::{Topics, encode_answer};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// How long stopping may take: for acknowledgements and answers to reach the broker.
pub const STOP_SECONDS_MAX: u64 = 5;

/// Where jobs come in from the broker.
pub struct MqttDoor;

impl MqttDoor {
    /// Begins to connect, and goes on doing so for ever; what arrives goes to `intake`. Needs a tokio runtime.
    /// Does not wait for the broker.
    ///
    /// # Errors
    /// `bad-request` for settings that cannot be used, also for unreadable certificates.
    pub fn start(
        config: MqttConfig,
        intake: Arc<dyn JobIntake>,
    ) -> Result<(MqttAnswers, MqttHandle), Failure> {
        config.check()?;
        let report = Report::new(config.access.broker.clone(), config.client_id.clone());
        let state = report.watch();
        let topics = config.topics.clone();
        let outbox = Arc::new(Outbox::default());
        let (leave, leave_by) = watch::channel(None);
        let shared =
            Shared { config, outbox: Arc::clone(&outbox), intake, report: Mutex::new(report), leave_by };
        let keeper = tokio::spawn(keep_connected(Arc::new(shared)));
        Ok((MqttAnswers { topics, outbox }, MqttHandle { state, leave, keeper }))
    }
}

/// Tells senders. Each answer is sent again on every new connection until the broker has acknowledged it; the
/// order of the first sends is the order of the calls.
#[derive(Clone)]
pub struct MqttAnswers {
    topics: Topics,
    outbox: Arc<Outbox>,
}

#[async_trait]
impl Answers for MqttAnswers {
    async fn send(&self, id: AnswerId, answer: &Answer) {
        let (topic, payload) = encode_answer(&self.topics, answer);
        self.outbox.put(id, Message { topic, payload });
    }
}

/// Holds the door open. Dropping it is like losing power: the broker notices and publishes the last will.
pub struct MqttHandle {
    state: watch::Receiver<ConnectionState>,
    leave: watch::Sender<Option<Instant>>,
    keeper: JoinHandle<()>,
}

impl MqttHandle {
    /// How the connection is, now and whenever that changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.clone()
    }

    /// Accepts nothing more, acknowledges what is recorded, sends what is in the outbox, says that the agent is gone, and
    /// disconnects; all within [`STOP_SECONDS_MAX`]. What the broker has not acknowledged by then never is.
    pub async fn stop(mut self) {
        let by = Instant::now() + Duration::from_secs(STOP_SECONDS_MAX);
        self.leave.send_replace(Some(by));
        // The connection keeps to the limit itself; the moment more is for its last words.
        let _ = timeout_at(by + Duration::from_millis(500), &mut self.keeper).await;
    }
}

impl Drop for MqttHandle {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

async fn keep_connected(shared: Arc<Shared>) {
    let mut backoff = Backoff::default();
    let mut leave_by = shared.leave_by.clone();
    loop {
        match connect_once(&shared).await {
            Ended::Left => break,
            Ended::Renewed => {}
            Ended::Lost { reason, held } => {
                shared.report(|report| report.away(&reason, held));
                let wait = backoff.after(held, reason.kind == crate::reason::ReasonKind::Refused);
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    Ok(_) = leave_by.wait_for(Option::is_some) => break,
                }
            }
        }
    }
    shared.report(Report::stopped);
}

/// Nothing that a broker sends may end the agent, nor a defect of the library that reads it.
async fn connect_once(shared: &Arc<Shared>) -> Ended {
    let mut connection = AbortOnDrop(tokio::spawn(connection::run(Arc::clone(shared))));
    match (&mut connection.0).await {
        Ok(ended) => ended,
        Err(_) => Ended::Lost { reason: Reason::trouble("the MQTT client broke down"), held: None },
    }
}

struct AbortOnDrop(JoinHandle<Ended>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
