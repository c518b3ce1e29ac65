//! The command line as a sender, with an agent on the other side that answers as it is told.

use crate::support::{Gate, Mosquitto, access, config, connected, password_file, topics};
use dvs_domain::failure::{FailureCode, FailureReport};
use dvs_domain::job::{Answer, CreateRequest, JobRequest, Status};
use dvs_domain::ledger::AnswerId;
use dvs_domain::mount_point::MountPoint;
use dvs_domain::ports::{Answers, Arrival, JobIntake, NotQueued, Recorded};
use dvs_domain::size::VolumeSize;
use dvs_mqtt_rumqttc::{MqttAnswers, MqttDoor, MqttHandle, Requester, RequesterError};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// Answers every job with these words.
struct Agent {
    words: Vec<Status>,
    answers: OnceLock<MqttAnswers>,
    asked: Mutex<Vec<Arrival>>,
}

impl JobIntake for Agent {
    fn offer(&self, arrival: Arrival, recorded: Recorded) -> Result<(), NotQueued> {
        self.asked.lock().unwrap().push(arrival.clone());
        if let Arrival::Job(job) = arrival {
            let (words, answers) = (self.words.clone(), self.answers.get().cloned().unwrap());
            tokio::spawn(async move {
                for status in words {
                    let answer = Answer { sender: job.sender.clone(), job: Some(job.id.clone()), status };
                    answers.send(AnswerId::Final(job.key()), &answer).await;
                }
            });
        }
        recorded();
        Ok(())
    }

    fn acknowledged(&self, _: AnswerId) {}
}

async fn agent(port: u16, words: &[Status]) -> (Arc<Agent>, MqttHandle) {
    let agent = Arc::new(Agent { words: words.to_vec(), answers: OnceLock::new(), asked: Mutex::default() });
    let (answers, handle) = MqttDoor::start(config(port), Arc::clone(&agent) as Arc<dyn JobIntake>).unwrap();
    assert!(agent.answers.set(answers).is_ok());
    connected(&handle).await;
    (agent, handle)
}

fn request() -> JobRequest {
    let size = VolumeSize::from_mebibytes(5).unwrap();
    JobRequest::Create(CreateRequest::at(MountPoint::new("/mnt/a").unwrap(), size))
}

async fn next(requester: &mut Requester) -> Option<Status> {
    tokio::time::timeout(Duration::from_secs(30), requester.next()).await.unwrap()
}

#[tokio::test]
async fn real_a_requester_hears_how_its_job_goes() {
    let Some(broker) = Mosquitto::start("real_a_requester_hears_how_its_job_goes") else { return };
    let report = FailureReport { code: FailureCode::NoSpace, error: "full".to_owned(), hint: None };
    for words in [vec![Status::Pending, Status::Done], vec![Status::Pending, Status::Failed(report)]] {
        let (agent, handle) = agent(broker.port(), &words).await;
        let mut requester = Requester::connect(access(broker.port()), topics()).await.unwrap();
        assert_eq!(next(&mut requester).await, None, "no job yet");
        let id = requester.send(request()).await.unwrap();
        for word in words {
            assert_eq!(next(&mut requester).await, Some(word));
        }
        assert_eq!(next(&mut requester).await, None);
        let Arrival::Job(job) = agent.asked.lock().unwrap().remove(0) else { panic!() };
        assert_eq!((job.id, job.request), (id, request()));
        handle.stop().await;
    }
}

#[tokio::test]
async fn real_a_requester_survives_the_loss_of_the_broker() {
    let Some(mut broker) = Mosquitto::start("real_a_requester_survives_the_loss_of_the_broker") else {
        return;
    };
    let mut requester = Requester::connect(access(broker.port()), topics()).await.unwrap();
    requester.send(request()).await.unwrap();
    // Nobody has seen the job, and the broker forgets it.
    broker.kill();
    let impatient = tokio::time::timeout(Duration::from_millis(300), requester.next()).await;
    assert!(impatient.is_err(), "giving up is safe at any moment");
    broker.start_again();
    let (_agent, _handle) = agent(broker.port(), &[Status::Pending, Status::Done]).await;
    assert_eq!(next(&mut requester).await, Some(Status::Pending));
    assert_eq!(next(&mut requester).await, Some(Status::Done));
}

#[tokio::test]
async fn real_a_word_said_twice_is_heard_once() {
    let Some(broker) = Mosquitto::start("real_a_word_said_twice_is_heard_once") else { return };
    let gate = Gate::to(broker.port()).await;
    let (_agent, _handle) = agent(broker.port(), &[Status::Pending, Status::Pending, Status::Done]).await;
    let mut requester = Requester::connect(access(gate.port()), topics()).await.unwrap();
    requester.send(request()).await.unwrap();
    assert_eq!(next(&mut requester).await, Some(Status::Pending));
    assert_eq!(next(&mut requester).await, Some(Status::Done));
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_unreachable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    match Requester::connect(access(free), topics()).await {
        Err(error @ RequesterError::Unreachable { .. }) => {
            let text = error.to_string();
            assert!(
                text.starts_with(&format!("cannot reach the broker mqtt://127.0.0.1:{free}: ")),
                "{text}"
            );
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("connected to nothing"),
    }
}

#[tokio::test]
async fn real_a_broker_that_wants_a_password_refuses() {
    let started = Mosquitto::start_with("real_a_broker_that_wants_a_password_refuses", |folder| {
        let file = password_file(folder, "me", "word");
        format!("allow_anonymous false\npassword_file {}\n", file.display())
    });
    let Some(broker) = started else { return };
    let refused = Requester::connect(access(broker.port()), topics()).await;
    assert!(matches!(refused, Err(RequesterError::Refused { .. })));
}
