//! Answers reach the broker, in order, whatever happens on the way.

use crate::support::{
    ANSWERS, Gate, Mosquitto, TestIntake, Watcher, answer, answer_id, connected, door, first_times,
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

fn pending(id: usize) -> String {
    format!(r#"{{"job":"{id}","jobId":"{id}","status":"PENDING"}}"#)
}

/// Gives answers in order.
async fn send(answers: &MqttAnswers, ids: std::ops::Range<usize>) {
    for id in ids {
        answers.send(answer_id(id), &answer(id, Status::Pending)).await;
    }
}

#[tokio::test]
async fn real_answers_go_out_in_order_at_qos_1_and_resolve() {
    let Some(broker) = Mosquitto::start("real_answers_go_out_in_order_at_qos_1_and_resolve") else { return };
    let watcher = Watcher::at(broker.port()).await;
    let intake = TestIntake::open();
    let (answers, _handle) = door(broker.port(), &intake).await;
    let count = INFLIGHT_MAX * 5;
    send(&answers, 0..count).await;
    intake.until_acknowledged(0..count).await;
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
    let intake = TestIntake::open();
    let (answers, _handle) = door(broker.port(), &intake).await;
    let report = FailureReport { code: FailureCode::NoSpace, error: "full".to_owned(), hint: None };
    answers.send(answer_id(1), &answer(1, Status::Failed(report))).await;
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
    let intake = TestIntake::open();
    let (answers, handle) = door(gate.port(), &intake).await;
    broker.freeze();
    send(&answers, 0..100).await;
    assert_eq!(intake.acknowledged(0..100), 0);
    gate.shut();
    broker.kill();
    broker.start_again();
    watcher.subscribed(2).await;
    assert!(watcher.heard(ANSWERS).is_empty(), "the broker has seen none of them");
    gate.open();
    intake.until_acknowledged(0..100).await;
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
    let intake = TestIntake::open();
    let (answers, _handle) = door(broker.port(), &intake).await;
    broker.freeze();
    send(&answers, 0..20).await;
    broker.thaw();
    intake.until_acknowledged(0..20).await;
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
    let intake = TestIntake::open();
    let (answers, handle) = door(gate.port(), &intake).await;
    for round in 0..4 {
        // Held first, so that some are under way and unacknowledged when the connection is cut.
        gate.hold();
        send(&answers, round * 50..(round + 1) * 50).await;
        gate.shut();
        crate::support::away(&handle, "").await;
        gate.open();
        connected(&handle).await;
    }
    intake.until_acknowledged(0..200).await;
    let heard = watcher.until(ANSWERS, |heard| (0..200).all(|id| heard.contains(&pending(id)))).await;
    assert_eq!(
        first_times(&heard),
        (0..200).map(pending).collect::<Vec<_>>(),
        "repeats never change the order"
    );
}

#[tokio::test]
async fn real_stopping_flushes_what_waits() {
    let Some(broker) = Mosquitto::start("real_stopping_flushes_what_waits") else { return };
    let watcher = Watcher::at(broker.port()).await;
    let intake = TestIntake::open();
    let (answers, handle) = door(broker.port(), &intake).await;
    let count = INFLIGHT_MAX * 3;
    send(&answers, 0..count).await;
    handle.stop().await;
    assert_eq!(intake.acknowledged(0..count), count, "when stopping has ended");
    watcher.until(ANSWERS, |heard| heard.len() >= count).await;
}

#[tokio::test]
async fn real_stopping_has_a_limit() {
    let Some(broker) = Mosquitto::start("real_stopping_has_a_limit") else { return };
    let gate = Gate::to(broker.port()).await;
    let intake = TestIntake::open();
    let (answers, handle) = door(gate.port(), &intake).await;
    gate.hold();
    send(&answers, 0..3).await;
    let begun = Instant::now();
    handle.stop().await;
    let limit = Duration::from_secs(dvs_mqtt_rumqttc::STOP_SECONDS_MAX + 2);
    assert!(begun.elapsed() < limit, "{:?}", begun.elapsed());
    assert_eq!(intake.acknowledged(0..3), 0);
}
