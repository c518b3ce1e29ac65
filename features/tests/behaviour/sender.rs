//! A sender of jobs: what it hears, in order, and what that says.

use anyhow::{Context, Result, bail, ensure};
use dvs_trials::client::{Client, Message};
use serde_json::{Map, Value};
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Every code that a failure may have (contract, section 2).
const CODES: [&str; 16] = [
    "bad-request",
    "unknown-topic",
    "job-id-reused",
    "forbidden-path",
    "not-allowed",
    "no-such-store",
    "not-found",
    "conflict",
    "in-use",
    "no-space",
    "unsupported",
    "damaged",
    "store-unavailable",
    "timeout",
    "busy",
    "internal",
];

/// One who sends jobs, and listens to everything that is said to it.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) id: String,
    pub(crate) client: Client,
    /// What came over connections that were lost.
    before: Vec<Message>,
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// About which job; a refusal of a job without a usable id has none.
    pub(crate) id: Option<String>,
    pub(crate) word: Word,
    pub(crate) json: Map<String, Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Pending,
    Done,
    Failed,
}

#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) sender: String,
    /// Below `docker/<node>/`.
    pub(crate) topic: String,
    /// Its id, if the payload has one.
    pub(crate) id: Option<String>,
    pub(crate) payload: Vec<u8>,
    /// How many messages its sender had received before.
    pub(crate) mark: usize,
    pub(crate) at: Instant,
}

impl Sender {
    /// Connects, and subscribes before anything can be published.
    pub(crate) async fn connect(broker: SocketAddr, id: String, before: Vec<Message>) -> Result<Self> {
        let name = format!("{id}-{}", uuid::Uuid::new_v4().simple());
        let client = Client::connect(broker, &name, &[format!("docker/sip/{id}/#")]).await;
        Ok(Self { client: client.with_context(|| format!("sender `{id}`"))?, id, before })
    }

    /// How many messages it has heard.
    pub(crate) fn count(&self) -> usize {
        self.before.len() + self.client.count()
    }

    /// Everything since the first `skip` messages.
    pub(crate) fn heard_since(&self, skip: usize) -> Vec<Message> {
        let mut heard = self.before.clone();
        heard.extend(self.client.heard_since(0));
        heard.split_off(skip.min(heard.len()))
    }

    /// The answers since the first `skip` messages.
    pub(crate) fn answers_since(&self, skip: usize) -> Result<Vec<Answer>> {
        self.heard_since(skip).iter().map(|message| self.read(message)).collect()
    }

    /// Waits until `found` holds for the answers since the first `skip` messages.
    pub(crate) async fn until(
        &self,
        what: &str,
        limit: Duration,
        skip: usize,
        found: impl Fn(&[Answer]) -> bool,
    ) -> Result<()> {
        let already = self.before.len();
        let outcome = self.client.until(what, limit, |heard| {
            let all = self.before.iter().chain(heard).skip(skip.min(already + heard.len()));
            match all.map(|message| self.read(message)).collect::<Result<Vec<_>>>() {
                Ok(answers) => found(&answers).then_some(Ok(())),
                Err(error) => Some(Err(error)),
            }
        });
        outcome.await?
    }

    /// Reads an answer as strictly as the contract spells it.
    fn read(&self, message: &Message) -> Result<Answer> {
        let jobs = format!("docker/sip/{}/jobs", self.id);
        let on_failed = match message.topic.strip_prefix(&jobs) {
            Some("") => false,
            Some("/failed") => true,
            _ => bail!("`{}` is no topic for answers", message.topic),
        };
        let text = String::from_utf8_lossy(&message.payload);
        let json: Map<String, Value> =
            serde_json::from_slice(&message.payload).with_context(|| format!("no JSON object: {text}"))?;
        ensure!(!message.retained, "an answer is never retained: {text}");
        ensure!(json.get("job") == json.get("jobId"), "both ids are equal: {text}");
        let word = match (on_failed, json.get("status").and_then(Value::as_str)) {
            (false, Some("PENDING")) => Word::Pending,
            (false, Some("DONE")) => Word::Done,
            (true, Some("FAILED")) => Word::Failed,
            _ => bail!("not on `{}`: {text}", message.topic),
        };
        if word == Word::Failed {
            let code = json.get("code").and_then(Value::as_str).unwrap_or_default();
            ensure!(CODES.contains(&code), "`{code}` is no code of the contract: {text}");
            let reason = json.get("error").and_then(Value::as_str).unwrap_or_default();
            ensure!(!reason.is_empty(), "there is no reason: {text}");
        } else {
            ensure!(
                json.len() == 3 && json.contains_key("job"),
                "both ids, the word, and nothing else: {text}"
            );
        }
        let id = json.get("job").and_then(Value::as_str).map(str::to_owned);
        Ok(Answer { id, word, json })
    }
}

impl Answer {
    /// A text of the payload, empty if it is not there.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.json.get(key).and_then(Value::as_str).unwrap_or_default()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", Value::Object(self.json.clone()))
    }
}
