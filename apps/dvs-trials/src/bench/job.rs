//! Jobs through a real broker to a real agent, measured as their senders feel them: from the publish to `DONE`.
//! Everything that the agent says is on disk before it says it: job, volume, record, attachment.

use super::Plan;
use crate::client::{Client, Message, Retain};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The contract promises an answer within 110 s.
const ANSWER_LIMIT: Duration = Duration::from_secs(110);
/// The size in MiB of volumes that are made only to be many.
pub(super) const SMALL: u64 = 16;
/// How many volumes are requested at once: fewer than an agent lets wait.
const AT_ONCE: u32 = 100;

pub(super) struct Jobs {
    senders: Vec<Client>,
    /// The agent's node, which begins the names of the senders.
    node: String,
    mounts: PathBuf,
    size: u64,
    number: AtomicU64,
}

impl Jobs {
    /// Connects a sender for each lane.
    pub(super) async fn connect(
        broker: SocketAddr,
        node: &str,
        mounts: PathBuf,
        plan: &Plan,
    ) -> Result<Self> {
        let mut senders = Vec::new();
        for lane in 0..plan.lanes {
            let sender = sender_id(node, lane as usize);
            let filter = format!("docker/sip/{sender}/#");
            senders.push(Client::connect(broker, &sender, &[filter]).await?);
        }
        Ok(Self { senders, node: node.to_owned(), mounts, size: plan.size, number: AtomicU64::new(0) })
    }

    pub(super) async fn alone(&self, name: &str) -> Result<(Duration, Duration)> {
        self.pair(0, name).await
    }

    pub(super) async fn lanes(&self, name: &str, plan: &Plan) -> Result<()> {
        let lanes = (0..self.senders.len()).map(|lane| async move {
            for pair in 0..plan.pairs {
                self.pair(lane, &format!("{name}-{lane}-{pair}")).await?;
            }
            anyhow::Ok(())
        });
        futures::future::try_join_all(lanes).await.map(drop)
    }

    /// Makes the volumes of these numbers, each of `size` MiB.
    pub(super) async fn make_many(&self, numbers: Range<u32>, size: u64) -> Result<()> {
        self.many(numbers, "create", Some(size)).await
    }

    /// Deletes them again.
    pub(super) async fn delete_many(&self, numbers: Range<u32>) -> Result<()> {
        self.many(numbers, "delete", None).await
    }

    async fn pair(&self, lane: usize, name: &str) -> Result<(Duration, Duration)> {
        let sender = &self.senders[lane];
        sender.forget();
        let create = self.job(lane, "create", name, Some(self.size)).await?;
        let delete = self.job(lane, "delete", name, None).await?;
        Ok((create, delete))
    }

    async fn job(&self, lane: usize, kind: &str, name: &str, size: Option<u64>) -> Result<Duration> {
        let begun = Instant::now();
        let id = self.send(lane, kind, name, size).await?;
        self.wait(lane, &id).await.with_context(|| format!("{kind} {name}"))?;
        Ok(begun.elapsed())
    }

    async fn many(&self, numbers: Range<u32>, kind: &str, size: Option<u64>) -> Result<()> {
        let sender = &self.senders[0];
        let names: Vec<_> = numbers.map(|number| format!("many-{number}")).collect();
        for some in names.chunks(AT_ONCE as usize) {
            sender.forget();
            let mut sent = Vec::new();
            for name in some {
                sent.push(self.send(0, kind, name, size).await?);
            }
            for id in sent {
                self.wait(0, &id).await?;
            }
        }
        Ok(())
    }

    async fn send(&self, lane: usize, kind: &str, name: &str, size: Option<u64>) -> Result<String> {
        let id = self.number.fetch_add(1, Ordering::Relaxed).to_string();
        let sender = sender_id(&self.node, lane);
        let mut job = json!({ "job": id, "sipId": sender, "mountPount": self.mounts.join(name) });
        if let Some(size) = size {
            job["volumeSize"] = Value::from(size);
        }
        let topic = format!("docker/{}/volumes/{kind}", self.node);
        self.senders[lane].send(&topic, job.to_string(), Retain::No).await?;
        Ok(id)
    }

    /// Waits for the end of a job, which must be a good one.
    async fn wait(&self, lane: usize, id: &str) -> Result<()> {
        let end = |message: &Message| {
            let answer: Value = serde_json::from_slice(&message.payload).ok()?;
            (answer["job"] == id && answer["status"] != "PENDING").then_some(answer)
        };
        let sender = &self.senders[lane];
        let answer = sender.until("DONE", ANSWER_LIMIT, |heard| heard.iter().rev().find_map(end)).await?;
        if answer["status"] != "DONE" {
            bail!("the agent answered {answer}");
        }
        Ok(())
    }
}

fn sender_id(node: &str, lane: usize) -> String {
    format!("{node}-sender-{lane}")
}
