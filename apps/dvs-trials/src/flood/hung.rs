//! The job that hangs: what it is told, and what others are told that are about the same volume.

use super::Plan;
use crate::client::Message;
use crate::clock;
use crate::sender::{End, Job, Sender, Wish};
use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long undoing may take once the system call has returned.
const UNDO_LIMIT: Duration = Duration::from_secs(20);
const SIZE: u64 = 4;

/// See the module.
pub(super) struct Hung {
    sender: Sender,
    job: Job,
    /// A job about the same volume that waits behind it.
    behind: Job,
    at: PathBuf,
    limit: Duration,
    promised: Duration,
    hang: Duration,
}

/// How it went.
#[derive(Debug)]
pub(super) struct Seen {
    /// From `PENDING` to `timeout`.
    pub(super) answered: Duration,
    /// From `PENDING` until its volume could be made by another job.
    pub(super) released: Duration,
}

/// What makes the first image hang that is allocated: this is the only job that asks for that.
pub(super) fn failpoint(plan: &Plan) -> String {
    format!("loop.allocate=1*sleep({})", plan.hang().as_millis())
}

impl Hung {
    /// Sends it, and waits until it is `PENDING`.
    pub(super) async fn begin(plan: &Plan, broker: SocketAddr, node: &str, mounts: &Path) -> Result<Self> {
        let mut sender = Sender::connect(broker, node, "hung").await?;
        let at = mounts.join("hung");
        let job = sender.job(wish(&at));
        let behind = sender.job(Wish::Delete { at: Some(at.clone()), name: None });
        for job in [&job, &behind] {
            sender.send(job).await?;
            sender.word_of(job, plan.answer_limit()).await?;
        }
        let (limit, promised, hang) = (plan.job_limit(), plan.answer_limit(), plan.hang());
        Ok(Self { sender, job, behind, at, limit, promised, hang })
    }

    pub(super) async fn run(mut self) -> Result<Seen> {
        let end = self.sender.end_within(&self.job, self.promised).await?;
        ensure!(end == End::Failed("timeout".to_owned()), "the job that hangs was answered {end}");
        let answered = self.answered_after()?;
        ensure!(
            self.limit <= answered && answered <= self.promised,
            "the job that hangs was answered after {:.1} s, not after {} to {} s",
            answered.as_secs_f64(),
            self.limit.as_secs(),
            self.promised.as_secs()
        );
        // Its own time limit may come at the same tick.
        self.expect(&self.behind, &["busy", "timeout"]).await?;
        let next = self.sender.job(wish(&self.at));
        self.sender.send(&next).await?;
        self.expect(&next, &["busy"]).await?;
        let released = self.wait_until_released().await?;
        self.sender.check_order(&self.job)?;
        Ok(Seen { answered, released })
    }

    async fn expect(&self, job: &Job, codes: &[&str]) -> Result<()> {
        let end = self.sender.end_within(job, self.promised).await?;
        let is_expected = matches!(&end, End::Failed(code) if codes.contains(&code.as_str()));
        ensure!(is_expected, "{job}, while an operation on its volume hangs, was answered {end}");
        Ok(())
    }

    /// Creates the volume again and again, until the lane is free.
    async fn wait_until_released(&mut self) -> Result<Duration> {
        let limit = self.hang + UNDO_LIMIT;
        loop {
            let again = self.sender.job(wish(&self.at));
            let end = self.sender.done(&again).await?;
            let passed = self.since_pending()?;
            match end {
                End::Done => {
                    let delete = self.sender.job(Wish::Delete { at: Some(self.at.clone()), name: None });
                    let end = self.sender.done(&delete).await?;
                    ensure!(end == End::Done, "{delete} was answered {end}");
                    ensure!(
                        self.hang <= passed,
                        "the lane was free after {passed:?}, before the call returned"
                    );
                    return Ok(passed);
                }
                End::Failed(code) if code == "busy" && passed < limit => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                end => ensure!(false, "{again}, {passed:?} after PENDING, was answered {end}"),
            }
        }
    }

    /// From `PENDING` on the topic of answers, which must be all that was said there, to the failure.
    fn answered_after(&self) -> Result<Duration> {
        let messages = self.sender.messages_about(&self.job);
        let (failed, answers): (Vec<_>, Vec<_>) =
            messages.iter().partition(|message| message.topic.ends_with("/jobs/failed"));
        let is_pending =
            |message: &&Message| String::from_utf8_lossy(&message.payload).contains("\"PENDING\"");
        ensure!(answers.iter().all(is_pending), "the job that hangs was answered {answers:?}");
        let (pending, failed) = answers.first().zip(failed.first()).context("PENDING and a failure")?;
        Ok(Duration::from_nanos(failed.at - pending.at))
    }

    fn since_pending(&self) -> Result<Duration> {
        let words = self.sender.answers_to(&self.job);
        let (pending, _) = words.first().context("it was PENDING")?;
        Ok(Duration::from_nanos(clock::now() - pending))
    }
}

fn wish(at: &Path) -> Wish {
    Wish::Create { at: Some(at.to_owned()), name: None, size: SIZE, more: &[("provision", "thick")] }
}
