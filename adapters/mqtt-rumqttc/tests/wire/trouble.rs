//! A broker that does not want this client: reported once, and not stormed.

use crate::support::{
    FakeBroker, Gate, Mosquitto, TestIntake, Watcher, access, away, config, connected, door, eventually, log,
    password_file, stay_connected,
};
use dvs_domain::ports::JobIntake;
use dvs_mqtt_rumqttc::{BACKOFF_MILLISECONDS_MIN, BrokerUrl, ConnectionState, Credentials, MqttDoor};
use rumqttc::{AsyncClient, MqttOptions};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn real_another_client_with_the_same_id_is_reported_once_and_fought_slower_and_slower() {
    let test = "real_another_client_with_the_same_id_is_reported_once_and_fought_slower_and_slower";
    let Some(broker) = Mosquitto::start(test) else { return };
    let (log, _guard) = log();
    let gate = Gate::to(broker.port()).await;
    let (_, handle) = door(gate.port(), &TestIntake::open()).await;
    let mut options = MqttOptions::new("dvs-n1", "127.0.0.1", broker.port());
    options.set_clean_session(false);
    let (_client, mut events) = AsyncClient::new(options, 10);
    // Returns at once, as many clients do.
    let other = tokio::spawn(async move { stay_connected(&mut events).await });
    away(&handle, "another client probably uses the id `dvs-n1`").await;
    let came = eventually("a sixth attempt", || {
        let came = gate.came();
        if came.len() >= 6 { Ok(came) } else { Err(came.len().to_string()) }
    })
    .await;
    other.abort();
    assert_eq!(log.lines_with("another client"), 1, "{}", log.text());
    assert_eq!(log.lines_with("closed the connection"), 1, "{}", log.text());
    for (index, times) in came.windows(2).take(5).enumerate() {
        let least = Duration::from_millis(BACKOFF_MILLISECONDS_MIN / 2) * (1 << index);
        let waited = times[1] - times[0];
        assert!(waited >= least, "attempt {index}: {waited:?} is less than {least:?}");
    }
}

#[tokio::test]
async fn real_a_wrong_password_is_reported_without_it_and_tried_slowly() {
    let test = "real_a_wrong_password_is_reported_without_it_and_tried_slowly";
    let started = Mosquitto::start_with(test, |folder| {
        let file = password_file(folder, "me", "right-word");
        format!("allow_anonymous false\npassword_file {}\n", file.display())
    });
    let Some(broker) = started else { return };
    let (log, _guard) = log();
    let gate = Gate::to(broker.port()).await;
    let start = |credentials| {
        let mut config = config(gate.port());
        config.access.credentials = credentials;
        assert!(!format!("{config:?}").contains("-word"));
        MqttDoor::start(config, TestIntake::open() as Arc<dyn JobIntake>).unwrap().1
    };
    for credentials in [None, Some(Credentials::new("me", "wrong-word"))] {
        let handle = start(credentials);
        away(&handle, "user and password").await;
        handle.stop().await;
    }
    assert_eq!(gate.came().len(), 2);
    assert_eq!(log.lines_with("user and password"), 2, "{}", log.text());
    assert!(!log.text().contains("-word"), "{}", log.text());
    let handle = start(Some(Credentials::new("me", "right-word")));
    connected(&handle).await;
    let _watcher = Watcher::login(broker.port(), Some(("me", "right-word"))).await;
}

#[tokio::test]
async fn a_broker_that_forbids_reading_is_reported() {
    // Mosquitto allows every subscription, and then delivers nothing: it cannot play this part.
    let answers = vec![vec![0x20, 2, 0, 0], vec![0x90, 3, 0, 1, 0x80]];
    for hangs_up in [false, true] {
        let broker = FakeBroker::that_answers(answers.clone(), hangs_up).await;
        let (_, handle) =
            MqttDoor::start(config(broker.port()), TestIntake::open() as Arc<dyn JobIntake>).unwrap();
        away(&handle, "does not allow this client to read `docker/n1/volumes/#`").await;
    }
}

#[tokio::test]
async fn what_is_no_broker_is_reported() {
    for nonsense in
        [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[0xff; 64], &[0x20, 2, 0, 77], &[0x30, 0], &[]]
    {
        let broker = FakeBroker::that_answers(vec![nonsense.to_vec()], true).await;
        let (_, handle) =
            MqttDoor::start(config(broker.port()), TestIntake::open() as Arc<dyn JobIntake>).unwrap();
        away(&handle, "").await;
    }
}

#[tokio::test]
async fn nonsense_in_the_middle_of_a_connection_is_survived() {
    let welcome = [&[0x20, 2, 0, 0][..], &[0x90, 3, 0, 1, 1]].map(<[u8]>::to_vec);
    // An acknowledgement of nothing, a job without a packet id, a packet for servers, a topic that is no text.
    for nonsense in [&[0x40, 2, 1, 1][..], &[0x32, 4, 0, 0, 0, 0], &[0x82, 2, 0, 1], &[0x30, 3, 0, 1, 0xff]] {
        let answers = welcome.iter().cloned().chain([nonsense.to_vec()]).collect();
        let broker = FakeBroker::that_answers(answers, false).await;
        let intake = TestIntake::open();
        let (_, handle) =
            MqttDoor::start(config(broker.port()), Arc::clone(&intake) as Arc<dyn JobIntake>).unwrap();
        away(&handle, "").await;
        assert!(intake.taken().is_empty());
    }
}

#[tokio::test]
async fn real_a_broker_that_falls_silent_is_left() {
    let Some(broker) = Mosquitto::start("real_a_broker_that_falls_silent_is_left") else { return };
    let gate = Gate::to(broker.port()).await;
    let mut config = config(gate.port());
    config.keep_alive_seconds = 1;
    let (_, handle) = MqttDoor::start(config, TestIntake::open() as Arc<dyn JobIntake>).unwrap();
    connected(&handle).await;
    gate.hold();
    away(&handle, "silent").await;
}

#[tokio::test]
async fn real_losing_and_finding_the_broker_is_logged_once_each() {
    let Some(broker) = Mosquitto::start("real_losing_and_finding_the_broker_is_logged_once_each") else {
        return;
    };
    let (log, _guard) = log();
    let gate = Gate::to(broker.port()).await;
    let (_, handle) = door(gate.port(), &TestIntake::open()).await;
    gate.shut();
    eventually("several attempts", || {
        let came = gate.came().len();
        if came >= 5 { Ok(()) } else { Err(came.to_string()) }
    })
    .await;
    gate.open();
    connected(&handle).await;
    handle.stop().await;
    for (words, times) in
        [("connected to the broker", 1), ("closed the connection", 1), ("left the broker", 1)]
    {
        assert_eq!(log.lines_with(words), times, "{words}: {}", log.text());
    }
    assert_eq!(log.text().lines().count(), 3, "{}", log.text());
}

#[tokio::test]
async fn stopping_while_the_broker_is_away_ends_at_once() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (_, handle) = MqttDoor::start(config(free), TestIntake::open() as Arc<dyn JobIntake>).unwrap();
    away(&handle, "refused").await;
    let state = handle.state();
    tokio::time::timeout(Duration::from_secs(2), handle.stop()).await.unwrap();
    assert_eq!(*state.borrow(), ConnectionState::Stopped);
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_at_start() {
    let mut no_id = config(1883);
    no_id.client_id = String::new();
    let mut no_keep_alive = config(1883);
    no_keep_alive.keep_alive_seconds = 0;
    for config in [no_id, no_keep_alive] {
        assert!(MqttDoor::start(config, TestIntake::open() as Arc<dyn JobIntake>).is_err());
    }
    assert_eq!(access(1883).broker.to_string(), "mqtt://127.0.0.1:1883");
}

#[tokio::test]
async fn an_ipv6_address_is_reached() {
    let Ok(listener) = tokio::net::TcpListener::bind("[::1]:0").await else {
        eprintln!("NOT RUN: an_ipv6_address_is_reached: this host has no IPv6");
        return;
    };
    let port = listener.local_addr().unwrap().port();
    for address in [format!("[::1]:{port}"), format!("mqtt://[::1]:{port}")] {
        let mut config = config(port);
        config.access.broker = BrokerUrl::parse(&address).unwrap();
        let (_, _handle) = MqttDoor::start(config, TestIntake::open() as Arc<dyn JobIntake>).unwrap();
        tokio::time::timeout(Duration::from_secs(10), listener.accept()).await.unwrap().unwrap();
    }
}
