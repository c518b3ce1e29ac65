//! Jobs are acknowledged after they were taken, in order; what was not is delivered again.

use crate::support::{
    CREATE, FakeBroker, Gate, Mosquitto, TestIntake, Watcher, away, bad_request, config, connected, create,
    door, eventually, first_times, log,
};
use dvs_domain::ports::JobIntake;
use dvs_mqtt_rumqttc::MqttDoor;
use std::sync::Arc;

#[tokio::test]
async fn real_arrivals_are_taken_in_order() {
    let Some(broker) = Mosquitto::start("real_arrivals_are_taken_in_order") else { return };
    let intake = TestIntake::open();
    let (_answers, _handle) = door(broker.port(), &intake).await;
    let watcher = Watcher::at(broker.port()).await;
    let payloads: Vec<Vec<u8>> = (0..300).map(create).collect();
    watcher.publish(CREATE, false, &payloads).await;
    let taken = intake.until(|taken| taken.len() >= 300).await;
    assert_eq!(taken, (0..300).map(|id: usize| id.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn real_a_job_that_was_not_taken_is_delivered_again() {
    let Some(broker) = Mosquitto::start("real_a_job_that_was_not_taken_is_delivered_again") else { return };
    let watcher = Watcher::at(broker.port()).await;
    let blocked = TestIntake::blocked();
    let (_, handle) = door(broker.port(), &blocked).await;
    watcher.publish(CREATE, false, &[create(1)]).await;
    blocked.until_begun(1).await;
    drop(handle);

    let closed = TestIntake::open();
    closed.close();
    let (_, handle) = door(broker.port(), &closed).await;
    closed.until_begun(1).await;
    handle.stop().await;

    let open = TestIntake::open();
    let (_, handle) = door(broker.port(), &open).await;
    open.until(|taken| *taken == ["1"]).await;
    handle.stop().await;

    let later = TestIntake::open();
    let (_, _handle) = door(broker.port(), &later).await;
    watcher.publish(CREATE, false, &[create(2)]).await;
    assert_eq!(
        later.until(|taken| !taken.is_empty()).await,
        ["2"],
        "what was acknowledged never comes again"
    );
}

#[tokio::test]
async fn real_a_job_taken_on_a_lost_connection_is_delivered_again_and_then_acknowledged() {
    let test = "real_a_job_taken_on_a_lost_connection_is_delivered_again_and_then_acknowledged";
    let Some(broker) = Mosquitto::start(test) else { return };
    let gate = Gate::to(broker.port()).await;
    let watcher = Watcher::at(broker.port()).await;
    let intake = TestIntake::blocked();
    let (_, handle) = door(gate.port(), &intake).await;
    watcher.publish(CREATE, false, &[create(1), create(2)]).await;
    intake.until_begun(1).await;
    gate.shut();
    away(&handle, "").await;
    gate.open();
    connected(&handle).await;
    intake.unblock();
    let taken = intake.until(|taken| taken.len() >= 4).await;
    assert_eq!(taken, ["1", "2", "1", "2"], "repeats come in order; the core knows them");
    handle.stop().await;
    let later = TestIntake::open();
    let (_, _handle) = door(broker.port(), &later).await;
    watcher.publish(CREATE, false, &[create(3)]).await;
    assert_eq!(later.until(|taken| !taken.is_empty()).await, ["3"]);
}

#[tokio::test]
async fn real_jobs_sent_while_the_agent_was_away_arrive_when_it_returns() {
    let Some(broker) = Mosquitto::start("real_jobs_sent_while_the_agent_was_away_arrive_when_it_returns")
    else {
        return;
    };
    let watcher = Watcher::at(broker.port()).await;
    let (_, handle) = door(broker.port(), &TestIntake::open()).await;
    handle.stop().await;
    watcher.publish(CREATE, false, &[create(1), create(2)]).await;
    let intake = TestIntake::open();
    let (_, _handle) = door(broker.port(), &intake).await;
    assert_eq!(intake.until(|taken| taken.len() >= 2).await, ["1", "2"]);
}

#[tokio::test]
async fn real_the_door_subscribes_at_every_connect() {
    let Some(mut broker) = Mosquitto::start("real_the_door_subscribes_at_every_connect") else { return };
    let intake = TestIntake::open();
    let (_, handle) = door(broker.port(), &intake).await;
    for id in 0..3 {
        broker.kill();
        away(&handle, "").await;
        broker.start_again();
        connected(&handle).await;
        let watcher = Watcher::at(broker.port()).await;
        watcher.publish(CREATE, false, &[create(id)]).await;
        intake.until(|taken| taken.len() > id).await;
    }
}

#[tokio::test]
async fn real_a_retained_job_is_refused() {
    let Some(broker) = Mosquitto::start("real_a_retained_job_is_refused") else { return };
    let watcher = Watcher::at(broker.port()).await;
    watcher.publish(CREATE, true, &[create(1)]).await;
    let intake = TestIntake::open();
    let (_, _handle) = door(broker.port(), &intake).await;
    assert_eq!(intake.until(|taken| !taken.is_empty()).await, ["unknown-topic"]);
    // To a client that is there already the same message comes without the flag: it is new.
    watcher.publish(CREATE, true, &[create(2)]).await;
    assert_eq!(intake.until(|taken| taken.len() >= 2).await, ["unknown-topic", "2"]);
}

#[tokio::test]
async fn real_jobs_at_qos_0_and_on_other_leaves_arrive_too() {
    let Some(broker) = Mosquitto::start("real_jobs_at_qos_0_and_on_other_leaves_arrive_too") else { return };
    let watcher = Watcher::at(broker.port()).await;
    let intake = TestIntake::open();
    let (_, _handle) = door(broker.port(), &intake).await;
    watcher.publish_at_qos_0(CREATE, &String::from_utf8(create(7)).unwrap()).await;
    intake.until(|taken| *taken == ["7"]).await;
    watcher.publish("docker/n1/volumes", false, &[create(8)]).await;
    watcher.publish("docker/n1/volumes/resize", false, &[create(9)]).await;
    intake.until(|taken| *taken == ["7", "unknown-topic", "unknown-topic"]).await;
}

#[tokio::test]
async fn jobs_that_came_in_together_with_the_end_of_the_connection_are_taken() {
    let publish = |quality: u8, packet_id: &[u8], id| {
        let topic_length = u16::try_from(CREATE.len()).unwrap().to_be_bytes();
        let body = [&topic_length[..], CREATE.as_bytes(), packet_id, &create(id)].concat();
        let length =
            [u8::try_from(body.len() % 128).unwrap() | 0x80, u8::try_from(body.len() / 128).unwrap()];
        [&[0x30 | quality << 1][..], &length, &body].concat()
    };
    // The last is what it says to the presence, at once with its goodbye. Nobody would deliver the first job again,
    // and a broker that is going may forget the other.
    let last = [publish(0, &[], 1), publish(1, &[0, 7], 2)].concat();
    let answers = vec![vec![0x20, 2, 0, 0], vec![0x90, 3, 0, 1, 1], last];
    let broker = FakeBroker::that_answers(answers, true).await;
    let intake = TestIntake::open();
    let started = MqttDoor::start(config(broker.port()), Arc::clone(&intake) as Arc<dyn JobIntake>);
    let (_answers, _handle) = started.unwrap();
    let taken = intake.until(|taken| taken.len() >= 6).await;
    assert_eq!(taken[..6], ["1", "2"].repeat(3), "at each of three connections");
}

#[tokio::test]
async fn real_huge_payloads_are_refused_and_do_not_come_again() {
    let Some(broker) = Mosquitto::start("real_huge_payloads_are_refused_and_do_not_come_again") else {
        return;
    };
    let watcher = Watcher::at(broker.port()).await;
    let intake = TestIntake::open();
    let (_, handle) = door(broker.port(), &intake).await;
    for (index, bytes) in [64 * 1024 + 1, 2 << 20, 10 << 20].into_iter().enumerate() {
        watcher.publish(CREATE, false, &[vec![b'x'; bytes]]).await;
        watcher.publish(CREATE, false, &[create(index)]).await;
        let expected: Vec<String> = (0..=index).flat_map(|id| [bad_request(), id.to_string()]).collect();
        // A message behind a huge one may be delivered twice: its connection was renewed.
        let without_repeats = |taken: &[String]| {
            let mut taken = taken.to_vec();
            taken.dedup();
            taken
        };
        intake.until(|taken| without_repeats(taken) == expected).await;
    }
    connected(&handle).await;
    handle.stop().await;
    let later = TestIntake::open();
    let (_, _handle) = door(broker.port(), &later).await;
    watcher.publish(CREATE, false, &[create(99)]).await;
    let taken = later.until(|taken| taken.contains(&"99".to_owned())).await;
    assert!(!taken.contains(&bad_request()), "{taken:?}");
}

#[tokio::test]
async fn real_more_than_there_is_room_for_waits_at_the_broker() {
    let test = "real_more_than_there_is_room_for_waits_at_the_broker";
    let lines = |_: &std::path::Path| "allow_anonymous true\nmax_inflight_messages 0\n".to_owned();
    let Some(broker) = Mosquitto::start_with(test, lines) else { return };
    let (log, _guard) = log();
    let watcher = Watcher::at(broker.port()).await;
    let intake = TestIntake::blocked();
    let (_, handle) = door(broker.port(), &intake).await;
    let count = 2 * TestIntake::ROOM;
    let payloads: Vec<Vec<u8>> = (0..count).map(create).collect();
    watcher.publish(CREATE, false, &payloads).await;
    eventually("there is no room", || match log.lines_with("faster than they can be written down") {
        1.. => Ok(()),
        _ => Err(log.text()),
    })
    .await;
    intake.unblock();
    let last = (count - 1).to_string();
    let taken = intake.until(|taken| taken.contains(&last)).await;
    assert_eq!(first_times(&taken), (0..count).map(|id| id.to_string()).collect::<Vec<_>>());
    connected(&handle).await;
}

#[tokio::test]
async fn real_the_door_does_not_wait_for_a_broker() {
    let Some(mut broker) = Mosquitto::start("real_the_door_does_not_wait_for_a_broker") else { return };
    broker.kill();
    let intake = TestIntake::open();
    let (_, handle) =
        MqttDoor::start(config(broker.port()), Arc::clone(&intake) as Arc<dyn JobIntake>).unwrap();
    away(&handle, "refused").await;
    broker.start_again();
    connected(&handle).await;
}

#[tokio::test]
async fn real_arrivals_do_not_wait_for_each_other() {
    let Some(broker) = Mosquitto::start("real_arrivals_do_not_wait_for_each_other") else { return };
    let watcher = Watcher::at(broker.port()).await;
    let blocked = TestIntake::blocked();
    let (_, _handle) = door(broker.port(), &blocked).await;
    watcher.publish(CREATE, false, &[create(1), create(2), create(3)]).await;
    blocked.until_begun(3).await;
    blocked.unblock();
    assert_eq!(blocked.until(|taken| taken.len() >= 3).await, ["1", "2", "3"]);
}
