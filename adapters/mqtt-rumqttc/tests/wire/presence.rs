//! Everybody can see whether the agent is there.

use crate::support::{Mosquitto, OFFLINE, ONLINE, PRESENCE, TestIntake, Watcher, connected, door};

#[tokio::test]
async fn real_presence_is_retained_and_the_last_will_says_that_the_agent_is_gone() {
    let test = "real_presence_is_retained_and_the_last_will_says_that_the_agent_is_gone";
    let Some(broker) = Mosquitto::start(test) else { return };
    let (_, handle) = door(broker.port(), &TestIntake::open()).await;
    let watcher = Watcher::at(broker.port()).await;
    watcher.until(PRESENCE, |heard| *heard == [ONLINE]).await;
    assert!(watcher.heard(PRESENCE)[0].retained, "{:?}", watcher.heard(PRESENCE));
    drop(handle);
    watcher.until(PRESENCE, |heard| *heard == [ONLINE, OFFLINE]).await;
    let later = Watcher::at(broker.port()).await;
    later.until(PRESENCE, |heard| *heard == [OFFLINE]).await;
}

#[tokio::test]
async fn real_a_stopped_agent_is_offline_at_once_and_says_so_once() {
    let test = "real_a_stopped_agent_is_offline_at_once_and_says_so_once";
    let Some(broker) = Mosquitto::start(test) else { return };
    let watcher = Watcher::at(broker.port()).await;
    let (_, handle) = door(broker.port(), &TestIntake::open()).await;
    handle.stop().await;
    let later = Watcher::at(broker.port()).await;
    later.until(PRESENCE, |heard| *heard == [OFFLINE]).await;
    let (_, handle) = door(broker.port(), &TestIntake::open()).await;
    watcher.until(PRESENCE, |heard| *heard == [ONLINE, OFFLINE, ONLINE]).await;
    drop(handle);
}

#[tokio::test]
async fn real_presence_is_told_again_to_a_broker_that_has_forgotten_it() {
    let test = "real_presence_is_told_again_to_a_broker_that_has_forgotten_it";
    let Some(mut broker) = Mosquitto::start(test) else { return };
    let (_, handle) = door(broker.port(), &TestIntake::open()).await;
    broker.kill();
    crate::support::away(&handle, "").await;
    broker.start_again();
    connected(&handle).await;
    let watcher = Watcher::at(broker.port()).await;
    watcher.until(PRESENCE, |heard| *heard == [ONLINE]).await;
}
