//! What the wire tests are made of: a real broker, a gate before it, another client, and an intake that
//! remembers.

mod fake;
mod gate;
mod log;
mod mosquitto;
mod watcher;

pub(crate) use fake::FakeBroker;
pub(crate) use gate::Gate;
pub(crate) use log::log;
pub(crate) use mosquitto::{Mosquitto, password_file};
pub(crate) use watcher::Watcher;

use dvs_domain::failure::FailureCode;
use dvs_domain::job::{Answer, Status};
use dvs_domain::ledger::{AnswerId, RefusalNumber};
use dvs_domain::names::{JobId, NodeName, SenderId, StoreName};
use dvs_domain::ports::{Arrival, JobIntake, NotQueued, Recorded};
use dvs_job_json::{Presence, TopicWords, Topics};
use dvs_mqtt_rumqttc::{
    BrokerAccess, BrokerUrl, ConnectionState, MqttAnswers, MqttConfig, MqttDoor, MqttHandle,
};
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub(crate) const CREATE: &str = "docker/n1/volumes/create";
pub(crate) const ANSWERS: &str = "docker/sip/s/jobs";
pub(crate) const PRESENCE: &str = "docker/n1/agent";
pub(crate) const ONLINE: &str = r#"{"state":"online","version":"1.2.3","stores":["loop"]}"#;
pub(crate) const OFFLINE: &str = r#"{"state":"offline"}"#;

/// Waits until `check` is content, and gives up with its last word.
pub(crate) async fn eventually<T>(what: &str, mut check: impl FnMut() -> Result<T, String>) -> T {
    let limit = Instant::now() + Duration::from_secs(30);
    loop {
        match check() {
            Ok(value) => return value,
            Err(last) if limit < Instant::now() => panic!("waited in vain: {what}: {last:.2000}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

/// A client that connects again as soon as it is thrown out, for ever.
pub(crate) async fn stay_connected(events: &mut rumqttc::EventLoop) {
    loop {
        if events.poll().await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Each word where it came first: what is delivered at QoS 1 may come twice.
pub(crate) fn first_times(words: &[String]) -> Vec<String> {
    let mut seen = HashSet::new();
    words.iter().filter(|word| seen.insert(*word)).cloned().collect()
}

pub(crate) fn topics() -> Topics {
    Topics::new(TopicWords::default(), NodeName::new("n1").unwrap()).unwrap()
}

pub(crate) fn access(port: u16) -> BrokerAccess {
    BrokerAccess::anonymous(BrokerUrl::parse(&format!("127.0.0.1:{port}")).unwrap())
}

pub(crate) fn config(port: u16) -> MqttConfig {
    let presence =
        Presence::Online { version: "1.2.3".to_owned(), stores: vec![StoreName::new("loop").unwrap()] };
    MqttConfig::new(access(port), topics(), presence)
}

/// A door that is connected.
pub(crate) async fn door(port: u16, intake: &Arc<TestIntake>) -> (MqttAnswers, MqttHandle) {
    let (answers, handle) = MqttDoor::start(config(port), Arc::clone(intake) as Arc<dyn JobIntake>).unwrap();
    connected(&handle).await;
    (answers, handle)
}

pub(crate) async fn connected(handle: &MqttHandle) {
    let state = handle.state();
    eventually("the door is connected", || match &*state.borrow() {
        ConnectionState::Connected { .. } => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// Waits until the door is away for a reason with these words.
pub(crate) async fn away(handle: &MqttHandle, words: &str) {
    let state = handle.state();
    eventually("the door is away", || match &*state.borrow() {
        ConnectionState::Away { reason, .. } if reason.contains(words) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

pub(crate) fn answer(id: usize, status: Status) -> Answer {
    Answer { sender: SenderId::new("s").unwrap(), job: Some(JobId::new(id.to_string()).unwrap()), status }
}

/// The payload of a create job.
pub(crate) fn create(id: usize) -> Vec<u8> {
    format!(r#"{{"job":"{id}","sipId":"s","mountPount":"/mnt/a","volumeSize":"5"}}"#).into_bytes()
}

/// Remembers what it records and which answers were acknowledged; can be made to wait, and to close.
pub(crate) struct TestIntake {
    taken: Mutex<Vec<Arrival>>,
    waiting: Mutex<VecDeque<(Arrival, Recorded)>>,
    acknowledged: Mutex<BTreeSet<AnswerId>>,
    begun: AtomicUsize,
    open: AtomicBool,
    closed: AtomicBool,
}

impl TestIntake {
    /// How many arrivals wait before there is no room.
    pub(crate) const ROOM: usize = 100;

    pub(crate) fn open() -> Arc<Self> {
        Self::new(true)
    }

    /// Records nothing until it is opened.
    pub(crate) fn blocked() -> Arc<Self> {
        Self::new(false)
    }

    fn new(open: bool) -> Arc<Self> {
        Arc::new(Self {
            taken: Mutex::default(),
            waiting: Mutex::default(),
            acknowledged: Mutex::default(),
            begun: AtomicUsize::new(0),
            open: AtomicBool::new(open),
            closed: AtomicBool::new(false),
        })
    }

    pub(crate) fn unblock(&self) {
        self.open.store(true, Ordering::SeqCst);
        self.record();
    }

    fn record(&self) {
        let mut waiting = self.waiting.lock().unwrap();
        while self.open.load(Ordering::SeqCst)
            && let Some((arrival, recorded)) = waiting.pop_front()
        {
            self.taken.lock().unwrap().push(arrival);
            recorded();
        }
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// How many messages it was offered.
    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    /// How many of these answers the broker has.
    pub(crate) fn acknowledged(&self, ids: std::ops::Range<usize>) -> usize {
        let acknowledged = self.acknowledged.lock().unwrap();
        ids.filter(|id| acknowledged.contains(&answer_id(*id))).count()
    }

    pub(crate) async fn until_acknowledged(&self, ids: std::ops::Range<usize>) {
        eventually("the broker has the answers", || match self.acknowledged(ids.clone()) {
            count if count == ids.len() => Ok(()),
            count => Err(count.to_string()),
        })
        .await;
    }

    /// The ids of jobs, and the codes of refusals, in order.
    pub(crate) fn taken(&self) -> Vec<String> {
        let word = |arrival: &Arrival| match arrival {
            Arrival::Job(job) => job.id.to_string(),
            Arrival::Refused(refusal) => refusal.report.code.to_string(),
        };
        self.taken.lock().unwrap().iter().map(word).collect()
    }

    pub(crate) async fn until(&self, enough: impl Fn(&[String]) -> bool) -> Vec<String> {
        eventually("the intake has recorded enough", || {
            let taken = self.taken();
            if enough(&taken) { Ok(taken) } else { Err(format!("{taken:?}")) }
        })
        .await
    }

    pub(crate) async fn until_begun(&self, times: usize) {
        eventually("the intake was asked", || {
            if self.begun() >= times { Ok(()) } else { Err(self.begun().to_string()) }
        })
        .await;
    }
}

impl JobIntake for TestIntake {
    fn offer(&self, arrival: Arrival, recorded: Recorded) -> Result<(), NotQueued> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        if self.closed.load(Ordering::SeqCst) {
            return Err(NotQueued::Stopping);
        }
        {
            let mut waiting = self.waiting.lock().unwrap();
            if waiting.len() >= Self::ROOM {
                return Err(NotQueued::Full);
            }
            waiting.push_back((arrival, recorded));
        }
        self.record();
        Ok(())
    }

    fn acknowledged(&self, id: AnswerId) {
        self.acknowledged.lock().unwrap().insert(id);
    }
}

/// The identity of the answer that [`answer`] gives.
pub(crate) fn answer_id(id: usize) -> AnswerId {
    AnswerId::Refusal(RefusalNumber(id as u64))
}

pub(crate) fn bad_request() -> String {
    FailureCode::BadRequest.to_string()
}
