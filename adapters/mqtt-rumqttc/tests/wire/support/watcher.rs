//! Another client of the broker: hears everything, and publishes as senders do.

use super::eventually;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Received {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) retained: bool,
    pub(crate) qos: QoS,
}

#[derive(Default)]
struct Seen {
    heard: Vec<Received>,
    acknowledged: usize,
    subscribed: usize,
}

pub(crate) struct Watcher {
    client: AsyncClient,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Watcher {
    pub(crate) async fn at(port: u16) -> Self {
        Self::login(port, None).await
    }

    pub(crate) async fn login(port: u16, login: Option<(&str, &str)>) -> Self {
        let mut options = MqttOptions::new(Uuid::new_v4().simple().to_string(), "127.0.0.1", port);
        options.set_max_packet_size(16 << 20, 16 << 20);
        options.set_inflight(1000);
        if let Some((user, password)) = login {
            options.set_credentials(user, password);
        }
        let (client, mut events) = AsyncClient::new(options, 1000);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (subscriber, seeing) = (client.clone(), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        subscriber.try_subscribe("#", QoS::AtLeastOnce).unwrap();
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => seeing.lock().unwrap().subscribed += 1,
                    Ok(Event::Incoming(Packet::PubAck(_))) => seeing.lock().unwrap().acknowledged += 1,
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        let payload = String::from_utf8_lossy(&publish.payload).into_owned();
                        let (retained, qos) = (publish.retain, publish.qos);
                        seeing.lock().unwrap().heard.push(Received {
                            topic: publish.topic,
                            payload,
                            retained,
                            qos,
                        });
                    }
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        });
        let watcher = Self { client, seen, task };
        watcher.subscribed(1).await;
        watcher
    }

    /// Waits until it listens for the `times`th time.
    pub(crate) async fn subscribed(&self, times: usize) {
        eventually("the watcher listens", || {
            let subscribed = self.seen.lock().unwrap().subscribed;
            if subscribed >= times { Ok(()) } else { Err(format!("{subscribed} times")) }
        })
        .await;
    }

    /// What was heard on a topic so far.
    pub(crate) fn heard(&self, topic: &str) -> Vec<Received> {
        self.seen.lock().unwrap().heard.iter().filter(|heard| heard.topic == topic).cloned().collect()
    }

    pub(crate) fn payloads(&self, topic: &str) -> Vec<String> {
        self.heard(topic).into_iter().map(|heard| heard.payload).collect()
    }

    /// Waits until `enough` was heard on `topic`.
    pub(crate) async fn until(&self, topic: &str, enough: impl Fn(&[String]) -> bool) -> Vec<String> {
        eventually(topic, || {
            let payloads = self.payloads(topic);
            if enough(&payloads) { Ok(payloads) } else { Err(format!("{payloads:?}")) }
        })
        .await
    }

    /// Publishes at QoS 1, and waits for the broker's acknowledgement of everything so far.
    pub(crate) async fn publish(&self, topic: &str, retain: bool, payloads: &[Vec<u8>]) {
        let before = self.seen.lock().unwrap().acknowledged;
        for payload in payloads {
            self.client.publish(topic, QoS::AtLeastOnce, retain, payload.clone()).await.unwrap();
        }
        eventually("the broker acknowledges", || {
            let acknowledged = self.seen.lock().unwrap().acknowledged - before;
            if acknowledged >= payloads.len() { Ok(()) } else { Err(acknowledged.to_string()) }
        })
        .await;
    }

    pub(crate) async fn publish_at_qos_0(&self, topic: &str, payload: &str) {
        self.client.publish(topic, QoS::AtMostOnce, false, payload).await.unwrap();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}
