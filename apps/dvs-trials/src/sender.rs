//! Who sends jobs, and what it is told of them, in order.

use crate::client::{Client, Message, Retain};
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How long a job may take, over kills and restarts. The contract promises an answer within 110 s, and none of these does
/// anything slow.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Create {
        at: Option<PathBuf>,
        name: Option<String>,
        size: u64,
        more: &'static [(&'static str, &'static str)],
    },
    Delete {
        at: Option<PathBuf>,
        name: Option<String>,
    },
}

impl Wish {
    fn kind(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Delete { .. } => "delete",
        }
    }
}

/// A job as it is sent, once or again.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) wish: Wish,
    payload: String,
}

/// What a job came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    Failed(String),
}

/// See the module.
pub(crate) struct Sender {
    client: Client,
    id: String,
    node: String,
    jobs: u64,
}

impl Sender {
    pub(crate) async fn connect(broker: SocketAddr, node: &str, id: &str) -> Result<Self> {
        let client = Client::connect(broker, id, &[format!("docker/sip/{id}/#")]).await?;
        Ok(Self { client, id: id.to_owned(), node: node.to_owned(), jobs: 0 })
    }

    /// Sends to the node `node` from now on, and forgets what was heard, also what is still on its way from whoever has
    /// ended.
    pub(crate) async fn turn_to(&mut self, node: &str) -> Result<()> {
        self.node = node.to_owned();
        let topic = format!("docker/sip/{}/fence", self.id);
        self.client.publish(&topic, node, Retain::No).await?;
        let is_fence = |message: &Message| message.topic == topic && message.payload == node.as_bytes();
        let fence = |heard: &[Message]| heard.iter().any(is_fence).then_some(());
        self.client.until("the sender's own message", ANSWER_LIMIT, fence).await?;
        self.forget();
        Ok(())
    }

    /// A job that was never sent before.
    pub(crate) fn job(&mut self, wish: Wish) -> Job {
        self.jobs += 1;
        let id = format!("job-{}", self.jobs);
        let mut payload = json!({ "job": id, "sipId": self.id });
        let (at, name) = match &wish {
            Wish::Create { at, name, size, more } => {
                payload["volumeSize"] = Value::from(*size);
                for (key, value) in *more {
                    payload[*key] = Value::from(*value);
                }
                (at, name)
            }
            Wish::Delete { at, name } => (at, name),
        };
        if let Some(at) = at {
            payload["mountPount"] = Value::from(at.display().to_string());
        }
        if let Some(name) = name {
            payload["name"] = Value::from(name.as_str());
        }
        Job { id, wish, payload: payload.to_string() }
    }

    /// Sends `job`; returns once the broker has it.
    pub(crate) async fn send(&self, job: &Job) -> Result<()> {
        let topic = format!("docker/{}/volumes/{}", self.node, job.wish.kind());
        self.client.publish(&topic, job.payload.clone(), Retain::No).await
    }

    /// Waits for the end of `job` among what was heard after the first `since` messages.
    pub(crate) async fn end_of(&self, job: &Job, since: usize) -> Result<End> {
        let what = format!("an answer to {job}");
        let end = |heard: &[Message]| ends(heard.get(since..).unwrap_or_default(), job).next();
        self.client.until(&what, ANSWER_LIMIT, end).await
    }

    /// Waits at most `limit` for the end of `job`.
    pub(crate) async fn end_within(&self, job: &Job, limit: Duration) -> Result<End> {
        let what = format!("an answer to {job}");
        self.client.until(&what, limit, |heard| ends(heard, job).next()).await
    }

    /// Waits at most `limit` for the first word about `job`.
    pub(crate) async fn word_of(&self, job: &Job, limit: Duration) -> Result<Option<End>> {
        let what = format!("a word about {job}");
        self.client.until(&what, limit, |heard| heard.iter().find_map(|message| word(message, job))).await
    }

    /// The messages about `job`, in order.
    pub(crate) fn messages_about(&self, job: &Job) -> Vec<Message> {
        let heard = self.client.heard_since(0);
        heard.into_iter().filter(|message| word(message, job).is_some()).collect()
    }

    /// Sends `job` and waits for its end.
    pub(crate) async fn done(&self, job: &Job) -> Result<End> {
        let since = self.count();
        self.send(job).await?;
        self.end_of(job, since).await
    }

    /// What was heard of `job`, and when: its end, or that it is pending.
    pub(crate) fn answers_to(&self, job: &Job) -> Vec<(u64, Option<End>)> {
        let heard = self.client.heard_since(0);
        heard.iter().filter_map(|message| Some((message.at, word(message, job)?))).collect()
    }

    /// Whether `job` has had an end.
    pub(crate) fn has_end(&self, job: &Job) -> bool {
        ends(&self.client.heard_since(0), job).next().is_some()
    }

    /// How many messages were heard.
    pub(crate) fn count(&self) -> usize {
        self.client.count()
    }

    /// Makes sure that what was heard of `job` has the contract's order: never `PENDING` after an end, and all ends
    /// alike.
    pub(crate) fn check_order(&self, job: &Job) -> Result<()> {
        let heard = self.client.heard_since(0);
        let words: Vec<_> = heard.iter().filter_map(|message| word(message, job)).collect();
        let first = words.iter().position(|word| word.is_some());
        let after = first.map_or(&[][..], |first| &words[first..]);
        let well = after.iter().all(|word| word.is_some() && *word == after[0]);
        ensure!(well, "{job} was answered out of order, or differently: {words:?}");
        Ok(())
    }

    /// Forgets what was heard.
    pub(crate) fn forget(&self) {
        self.client.forget();
    }
}

impl fmt::Display for Job {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.wish.kind(), self.payload)
    }
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => formatter.write_str("DONE"),
            Self::Failed(code) => write!(formatter, "FAILED ({code})"),
        }
    }
}

fn ends(heard: &[Message], job: &Job) -> impl Iterator<Item = End> {
    heard.iter().filter_map(|message| word(message, job)?)
}

/// What a message says of `job`, if it is about it: its end, or that it is pending.
#[expect(clippy::option_option, reason = "about another job, pending, or an end")]
fn word(message: &Message, job: &Job) -> Option<Option<End>> {
    let answer: Value = serde_json::from_slice(&message.payload).ok()?;
    if answer["job"] != job.id.as_str() {
        return None;
    }
    Some(match answer["status"].as_str() {
        Some("PENDING") => None,
        Some("DONE") => Some(End::Done),
        _ => Some(End::Failed(answer["code"].as_str().unwrap_or("without a code").to_owned())),
    })
}
