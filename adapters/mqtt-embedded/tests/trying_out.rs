//! The embedded broker serves the door and the requester as any other broker does.

#![expect(clippy::unwrap_used, reason = "also the helpers of tests may stop a test")]

use dvs_domain::failure::FailureCode;
use dvs_domain::job::{Answer, DeleteRequest, JobRequest, Status, Target};
use dvs_domain::ledger::AnswerId;
use dvs_domain::mount_point::MountPoint;
use dvs_domain::names::NodeName;
use dvs_domain::ports::{Answers, Arrival, JobIntake, NotQueued, Recorded};
use dvs_job_json::{Presence, TopicWords, Topics};
use dvs_mqtt_embedded::{EmbeddedBroker, Reach};
use dvs_mqtt_rumqttc::{
    BrokerAccess, BrokerUrl, ConnectionState, MqttAnswers, MqttConfig, MqttDoor, MqttHandle, Requester,
};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn topics() -> Topics {
    Topics::new(TopicWords::default(), NodeName::new("n1").unwrap()).unwrap()
}

fn access(broker: EmbeddedBroker) -> BrokerAccess {
    BrokerAccess::anonymous(BrokerUrl::parse(&broker.addr().to_string()).unwrap())
}

/// Answers every job with `PENDING` and `DONE`.
#[derive(Default)]
struct Agent {
    answers: OnceLock<MqttAnswers>,
}

impl JobIntake for Agent {
    fn offer(&self, arrival: Arrival, recorded: Recorded) -> Result<(), NotQueued> {
        let Arrival::Job(job) = arrival else { return Ok(()) };
        let answers = self.answers.get().cloned().unwrap();
        tokio::spawn(async move {
            for status in [Status::Pending, Status::Done] {
                let answer = Answer { sender: job.sender.clone(), job: Some(job.id.clone()), status };
                answers.send(AnswerId::Final(job.key()), &answer).await;
            }
        });
        recorded();
        Ok(())
    }

    fn acknowledged(&self, _: AnswerId) {}
}

async fn agent(broker: EmbeddedBroker) -> MqttHandle {
    let agent = Arc::new(Agent::default());
    let config = MqttConfig::new(
        access(broker),
        topics(),
        Presence::Online { version: "1".to_owned(), stores: Vec::new() },
    );
    let (answers, handle) = MqttDoor::start(config, Arc::clone(&agent) as Arc<dyn JobIntake>).unwrap();
    assert!(agent.answers.set(answers).is_ok());
    let mut state = handle.state();
    let connected = state.wait_for(|state| matches!(state, ConnectionState::Connected { .. }));
    tokio::time::timeout(Duration::from_secs(20), connected).await.unwrap().unwrap();
    handle
}

async fn job_is_done(requester: &mut Requester) {
    let target = Target::new(None, None, Some(MountPoint::new("/mnt/a").unwrap())).unwrap();
    requester.send(JobRequest::Delete(DeleteRequest { target })).await.unwrap();
    for word in [Status::Pending, Status::Done] {
        let heard = tokio::time::timeout(Duration::from_secs(20), requester.next()).await.unwrap();
        assert_eq!(heard, Some(word));
    }
}

#[tokio::test]
async fn a_job_goes_through_and_the_agent_may_come_and_go() {
    let broker = EmbeddedBroker::start(any_port(), Reach::Loopback).await.unwrap();
    let mut requester = Requester::connect(access(broker), topics()).await.unwrap();
    for _ in 0..3 {
        let handle = agent(broker).await;
        for _ in 0..20 {
            job_is_done(&mut requester).await;
        }
        handle.stop().await;
    }
}

#[tokio::test]
async fn several_brokers_run_side_by_side() {
    let one = EmbeddedBroker::start(any_port(), Reach::Loopback).await.unwrap();
    let other = EmbeddedBroker::start(any_port(), Reach::Loopback).await.unwrap();
    assert_ne!(one.addr(), other.addr());
}

#[tokio::test]
async fn an_address_that_is_taken_is_a_conflict() {
    let taken = std::net::TcpListener::bind(any_port()).unwrap();
    let refused = EmbeddedBroker::start(taken.local_addr().unwrap(), Reach::Loopback).await.unwrap_err();
    assert_eq!(refused.code(), FailureCode::Conflict, "{}", refused.chain());
    assert!(refused.chain().contains("in use"), "{}", refused.chain());
}

#[tokio::test]
async fn others_are_let_in_only_on_request() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:1883"] {
        let refused = EmbeddedBroker::start(address.parse().unwrap(), Reach::Loopback).await.unwrap_err();
        assert_eq!(refused.code(), FailureCode::NotAllowed, "{address}");
    }
}
