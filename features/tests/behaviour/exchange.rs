//! What is sent, and what is answered to it.

use crate::sender::{Answer, Sender, Sent, Word};
use crate::world::World;
use anyhow::{Context, Result, ensure};
use dvs_trials::client::Retain;
use dvs_trials::wait::until;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long a job may take here. The contract promises an answer within 110 s.
const ANSWER_LIMIT: Duration = Duration::from_secs(100);
/// Begins the ids of the jobs that only mark a point in time.
const FENCE: &str = "fence-";

impl World {
    /// The id of the current sender, whether or not it is connected.
    pub(crate) fn sender_id(&self) -> String {
        self.senders.get(&self.current).map_or_else(|| self.id_of(&self.current), |sender| sender.id.clone())
    }

    /// The sender with this key; it connects when it is first needed.
    pub(crate) async fn sender(&mut self, key: &str) -> Result<&Sender> {
        if !self.senders.contains_key(key) {
            let sender = Sender::connect(self.launch.broker, self.id_of(key), Vec::new()).await?;
            self.senders.insert(key.to_owned(), sender);
        }
        self.senders.get(key).context("the sender is connected")
    }

    /// Connects every sender anew, after its broker has gone; what it has heard stays heard.
    pub(crate) async fn reconnect(&mut self) -> Result<()> {
        let broker = self.launch.broker;
        for sender in self.senders.values_mut() {
            let heard = sender.heard_since(0);
            *sender = Sender::connect(broker, sender.id.clone(), heard).await?;
        }
        self.watch = Some(self.watcher().await?);
        Ok(())
    }

    /// Publishes a payload for the current sender. Returns once the broker has it.
    pub(crate) async fn publish(&mut self, topic: &str, payload: Vec<u8>, retain: Retain) -> Result<()> {
        let number = self.hand_over(topic, payload, retain).await?;
        let current = self.current.clone();
        self.sender(&current).await?.client.acknowledged(number).await
    }

    /// Publishes payloads all at once. Returns once the broker has them all.
    pub(crate) async fn publish_all(&mut self, jobs: Vec<(&'static str, Value)>) -> Result<()> {
        let mut last = 0;
        for (topic, payload) in jobs {
            last = self.hand_over(topic, payload.to_string().into_bytes(), Retain::No).await?;
        }
        let current = self.current.clone();
        self.sender(&current).await?.client.acknowledged(last).await
    }

    /// The payload of a job with a new id.
    pub(crate) fn job(&self, name: &str, size: Option<u64>) -> Value {
        let id = format!("job-{}", self.jobs.len());
        let mut job = json!({ "job": id, "sipId": self.sender_id(), "mountPount": self.at(name) });
        if let Some(size) = size {
            job["volumeSize"] = Value::from(size.to_string());
        }
        job
    }

    /// The last job that was sent.
    pub(crate) fn last(&self) -> Result<Sent> {
        self.jobs.last().cloned().context("no job was sent")
    }

    /// Waits until each job since the last such step has its end, and nothing more can come of them.
    pub(crate) async fn settle(&mut self) -> Result<Vec<Sent>> {
        if self.batch.end < self.jobs.len() {
            self.batch = self.batch.end..self.jobs.len();
        }
        let jobs = self.jobs[self.batch.clone()].to_vec();
        ensure!(!jobs.is_empty(), "no job was sent");
        for job in &jobs {
            self.ended(job).await?;
        }
        let senders: BTreeSet<_> = jobs.iter().map(|job| job.sender.clone()).collect();
        for sender in senders {
            self.fence(&sender).await?;
        }
        self.note_volumes()?;
        Ok(jobs)
    }

    /// Sends each job since the last step about answers again that has no end, as its sender does.
    pub(crate) async fn send_unanswered(&self) -> Result<()> {
        let done = self.done()?;
        let jobs = self.jobs[self.batch.end..].iter();
        self.send_again(jobs.filter(|job| !done.contains(&(job.sender.clone(), job.id.clone())))).await
    }

    /// Sends `jobs` as they were sent before.
    pub(crate) async fn send_again(&self, jobs: impl Iterator<Item = &Sent>) -> Result<()> {
        for job in jobs {
            let sender = self.senders.get(&job.sender).context("the job has a sender")?;
            let topic = format!("docker/{}/{}", self.launch.node, job.topic);
            sender.client.publish(&topic, job.payload.clone(), Retain::No).await?;
        }
        Ok(())
    }

    /// Waits until `count` of the jobs since the last step about answers are DONE.
    pub(crate) async fn done_within(&self, count: usize, limit: Duration) -> Result<()> {
        let what = format!("{count} jobs are DONE");
        let enough = || Ok((count <= self.done()?.len()).then_some(()));
        let waited = until(&what, limit, enough).await;
        waited.with_context(|| format!("{} are", self.done().map_or(0, |done| done.len())))
    }

    /// Which jobs since the last step about answers are DONE, by sender and id.
    fn done(&self) -> Result<BTreeSet<(String, Option<String>)>> {
        let jobs = &self.jobs[self.batch.end..];
        let ids: BTreeSet<_> = jobs.iter().map(|job| (job.sender.clone(), job.id.clone())).collect();
        let mut done = BTreeSet::new();
        for (key, sender) in &self.senders {
            let answers = sender.answers_since(0)?.into_iter();
            let words = answers.filter(|answer| answer.word == Word::Done);
            done.extend(words.map(|answer| (key.clone(), answer.id)).filter(|id| ids.contains(id)));
        }
        Ok(done)
    }

    /// Waits until `job` has its end.
    pub(crate) async fn ended(&self, job: &Sent) -> Result<()> {
        let sender = self.senders.get(&job.sender).context("the job has a sender")?;
        let ended = |answers: &[Answer]| {
            answers.iter().any(|answer| self.is_of(answer, job) && answer.word != Word::Pending)
        };
        let what = format!("an end of job `{}`", job.id.as_deref().unwrap_or("without id"));
        sender.until(&what, ANSWER_LIMIT, job.mark, ended).await
    }

    /// Waits until `job` has its PENDING.
    pub(crate) async fn pending(&self, job: &Sent) -> Result<()> {
        let sender = self.senders.get(&job.sender).context("the job has a sender")?;
        let pending = |answers: &[Answer]| {
            answers.iter().any(|answer| self.is_of(answer, job) && answer.word == Word::Pending)
        };
        sender.until("PENDING", ANSWER_LIMIT, job.mark, pending).await
    }

    /// The answers to `job`, in order.
    pub(crate) fn answers(&self, job: &Sent) -> Result<Vec<Answer>> {
        let sender = self.senders.get(&job.sender).context("the job has a sender")?;
        let answers = sender.answers_since(job.mark)?;
        Ok(answers.into_iter().filter(|answer| self.is_of(answer, job)).collect())
    }

    /// Sends a job that changes nothing, and waits for its end: what was answered before has come by then.
    pub(crate) async fn fence(&mut self, key: &str) -> Result<()> {
        let id = format!("{FENCE}{}", self.fences);
        self.fences += 1;
        let topic = format!("docker/{}/volumes/delete", self.launch.node);
        let sender = self.sender(key).await?;
        let fence = json!({ "job": id, "sipId": sender.id, "name": "no-such-volume" });
        let mark = sender.count();
        sender.client.publish(&topic, fence.to_string(), Retain::No).await?;
        let ended = |answers: &[Answer]| {
            answers.iter().any(|answer| answer.id.as_deref() == Some(&id) && answer.word != Word::Pending)
        };
        sender.until("an answer to a job that changes nothing", ANSWER_LIMIT, mark, ended).await
    }

    async fn hand_over(&mut self, topic: &str, payload: Vec<u8>, retain: Retain) -> Result<u64> {
        let full = format!("docker/{}/{topic}", self.launch.node);
        let key = self.current.clone();
        let sender = self.sender(&key).await?;
        let mark = sender.count();
        let number = sender.client.send(&full, payload.clone(), retain).await?;
        let id = id_in(&payload);
        self.jobs.push(Sent { sender: key, topic: topic.to_owned(), id, payload, mark, at: Instant::now() });
        Ok(number)
    }

    /// Whether `answer` belongs to `job`: by its id, or, where either has none, because it is no other job's.
    fn is_of(&self, answer: &Answer, job: &Sent) -> bool {
        match (&answer.id, &job.id) {
            (Some(answered), Some(sent)) => answered == sent,
            (Some(answered), None) => !answered.starts_with(FENCE) && !self.is_known(answered),
            (None, _) => true,
        }
    }

    fn is_known(&self, id: &str) -> bool {
        self.jobs.iter().any(|job| job.id.as_deref() == Some(id))
    }
}

/// The id in a payload, if it can be read.
fn id_in(payload: &[u8]) -> Option<String> {
    let json: Map<String, Value> = serde_json::from_slice(payload).ok()?;
    let (one, other) = (json.get("job"), json.get("jobId"));
    let id = match (one, other) {
        (Some(one), Some(other)) if one != other => return None,
        (one, other) => one.or(other)?.as_str()?,
    };
    let usable = (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    usable.then(|| id.to_owned())
}
