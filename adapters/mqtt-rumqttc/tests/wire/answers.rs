//! Answers reach the broker, in order, whatever happens on the way.

use crate::support::{
    ANSWERS, Gate, Mosquitto, TestIntake, Watcher, answer, connected, door, eventually, first_times,
};
use dvs_domain::failure::{FailureCode, FailureReport};
use dvs_domain::job::Status;
use dvs_domain::ports::Answers;
use dvs_mqtt_rumqttc::{INFLIGHT_MAX, MqttAnswers};
use rumqttc::QoS;
use rustix::net::{getpeername, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

fn pending(id: usize) -> String {
    format!(r#"{{"job":"{id}","jobId":"{id}","status":"PENDING"}}"#)
}

/// Gives answers in order, and a task for each that ends when it is acknowledged.
async fn publish(answers: &MqttAnswers, ids: std::ops::Range<usize>) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    for id in ids {
        let answers = answers.clone();
        tasks.push(tokio::spawn(async move { answers.publish(&answer(id, Status::Pending)).await }));
        // On a runtime with one thread the task gets to the outbox now.
        tokio::task::yield_now().await;
    }
    tasks
}

async fn all(tasks: Vec<JoinHandle<()>>) {
    for task in tasks {
        tokio::time::timeout(Duration::from_secs(30), task).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn real_answers_go_out_in_order_at_qos_1_and_resolve() {
    let Some(broker) = Mosquitto::start("real_answers_go_out_in_order_at_qos_1_and_resolve") else { return };
    let watcher = Watcher::at(broker.port()).await;
    let (answers, _handle) = door(broker.port(), &TestIntake::open()).await;
    let count = INFLIGHT_MAX * 5;
    all(publish(&answers, 0..count).await).await;
    let heard = watcher.until(ANSWERS, |heard| heard.len() >= count).await;
    assert_eq!(heard, (0..count).map(pending).collect::<Vec<_>>());
    for heard in watcher.heard(ANSWERS) {
        assert_eq!((heard.retained, heard.qos), (false, QoS::AtLeastOnce));
    }
}

#[tokio::test]
async fn real_failures_go_to_their_own_topic() {
    let Some(broker) = Mosquitto::start("real_failures_go_to_their_own_topic") else { return };
    let watcher = Watcher::at(broker.port()).await;
    let (answers, _handle) = door(broker.port(), &TestIntake::open()).await;
    let report = FailureReport { code: FailureCode::NoSpace, error: "full".to_owned(), hint: None };
    answers.publish(&answer(1, Status::Failed(report))).await;
    let failed = watcher.until("docker/sip/s/jobs/failed", |heard| !heard.is_empty()).await;
    assert_eq!(failed, [r#"{"job":"1","jobId":"1","status":"FAILED","code":"no-space","error":"full"}"#]);
    assert!(watcher.heard(ANSWERS).is_empty());
}

/// Nagle's algorithm together with a delayed acknowledgement would cost 40 ms for each answer.
#[tokio::test]
async fn real_a_small_packet_is_sent_at_once() {
    let Some(broker) = Mosquitto::start("real_a_small_packet_is_sent_at_once") else { return };
    let (_answers, handle) = door(broker.port(), &TestIntake::open()).await;
    connected(&handle).await;
    assert_eq!(no_delay_of_connections_to(broker.port()), [true]);
}

/// Of each connection of this process to a port of this host, whether its packets are sent at once.
fn no_delay_of_connections_to(port: u16) -> Vec<bool> {
    let this = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).unwrap();
    let numbers = std::fs::read_dir("/proc/self/fd").unwrap();
    let numbers = numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers
        .filter_map(|number| rustix::process::pidfd_getfd(&this, number, PidfdGetfdFlags::empty()).ok())
        .filter(|socket| {
            let peer = getpeername(socket).ok().flatten().map(SocketAddr::try_from);
            peer.is_some_and(|peer| peer.is_ok_and(|peer| peer.port() == port))
        })
        .map(|socket| sockopt::tcp_nodelay(socket).unwrap())
        .collect()
}

#[tokio::test]
async fn real_what_a_frozen_broker_lost_is_sent_again() {
    let Some(mut broker) = Mosquitto::start("real_what_a_frozen_broker_lost_is_sent_again") else { return };
    let gate = Gate::to(broker.port()).await;
    let watcher = Watcher::at(broker.port()).await;
    let (answers, handle) = door(gate.port(), &TestIntake::open()).await;
    broker.freeze();
    let tasks = publish(&answers, 0..100).await;
    assert!(tasks.iter().all(|task| !task.is_finished()));
    gate.shut();
    broker.kill();
    broker.start_again();
    watcher.subscribed(2).await;
    assert!(watcher.heard(ANSWERS).is_empty(), "the broker has seen none of them");
    gate.open();
    all(tasks).await;
    assert_eq!(
        watcher.until(ANSWERS, |heard| heard.len() >= 100).await,
        (0..100).map(pending).collect::<Vec<_>>()
    );
    connected(&handle).await;
}

#[tokio::test]
async fn real_a_thawed_broker_gets_every_answer_once() {
    let Some(broker) = Mosquitto::start("real_a_thawed_broker_gets_every_answer_once") else { return };
    let watcher = Watcher::at(broker.port()).await;
    let (answers, _handle) = door(broker.port(), &TestIntake::open()).await;
    broker.freeze();
    let tasks = publish(&answers, 0..20).await;
    broker.thaw();
    all(tasks).await;
    assert_eq!(
        watcher.until(ANSWERS, |heard| heard.len() >= 20).await,
        (0..20).map(pending).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn real_answers_survive_any_number_of_cut_connections() {
    let Some(broker) = Mosquitto::start("real_answers_survive_any_number_of_cut_connections") else { return };
    let gate = Gate::to(broker.port()).await;
    let watcher = Watcher::at(broker.port()).await;
    let (answers, handle) = door(gate.port(), &TestIntake::open()).await;
    let mut tasks = Vec::new();
    for round in 0..4 {
        // Held first, so that some are under way and unacknowledged when the connection is cut.
        gate.hold();
        tasks.extend(publish(&answers, round * 50..(round + 1) * 50).await);
        gate.shut();
        crate::support::away(&handle, "").await;
        gate.open();
        connected(&handle).await;
    }
    all(tasks).await;
    let heard = watcher.until(ANSWERS, |heard| (0..200).all(|id| heard.contains(&pending(id)))).await;
    assert_eq!(
        first_times(&heard),
        (0..200).map(pending).collect::<Vec<_>>(),
        "repeats never change the order"
    );
}

#[tokio::test]
async fn real_a_dropped_answer_is_not_sent() {
    let Some(broker) = Mosquitto::start("real_a_dropped_answer_is_not_sent") else { return };
    let gate = Gate::to(broker.port()).await;
    let watcher = Watcher::at(broker.port()).await;
    let (answers, handle) = door(gate.port(), &TestIntake::open()).await;
    gate.shut();
    crate::support::away(&handle, "").await;
    let mut tasks = publish(&answers, 0..3).await;
    let dropped = tasks.remove(1);
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    gate.open();
    all(tasks).await;
    assert_eq!(watcher.until(ANSWERS, |heard| heard.len() >= 2).await, [pending(0), pending(2)]);
}

#[tokio::test]
async fn real_stopping_flushes_what_waits() {
    let Some(broker) = Mosquitto::start("real_stopping_flushes_what_waits") else { return };
    let watcher = Watcher::at(broker.port()).await;
    let (answers, handle) = door(broker.port(), &TestIntake::open()).await;
    let count = INFLIGHT_MAX * 3;
    let tasks = publish(&answers, 0..count).await;
    handle.stop().await;
    assert!(tasks.iter().all(JoinHandle::is_finished), "all are acknowledged when stopping has ended");
    watcher.until(ANSWERS, |heard| heard.len() >= count).await;
}

#[tokio::test]
async fn real_stopping_has_a_limit() {
    let Some(broker) = Mosquitto::start("real_stopping_has_a_limit") else { return };
    let gate = Gate::to(broker.port()).await;
    let (answers, handle) = door(gate.port(), &TestIntake::open()).await;
    gate.hold();
    let tasks = publish(&answers, 0..3).await;
    let begun = Instant::now();
    handle.stop().await;
    let limit = Duration::from_secs(dvs_mqtt_rumqttc::STOP_SECONDS_MAX + 2);
    assert!(begun.elapsed() < limit, "{:?}", begun.elapsed());
    assert!(tasks.iter().all(|task| !task.is_finished()));
    tasks.iter().for_each(JoinHandle::abort);
    eventually("the tasks have ended", || {
        if tasks.iter().all(JoinHandle::is_finished) { Ok(()) } else { Err(String::new()) }
    })
    .await;
}
