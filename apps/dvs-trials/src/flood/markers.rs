//! Jobs by which it shows what the agent remembers: each has made a volume that another job has deleted. Sent again, one
//! that is remembered is refused with `job-id-reused`; one that is forgotten is a new job.

use super::REMEMBERED;
use crate::sender::{End, Job, Sender, Wish};
use anyhow::{Result, ensure};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often one is added, and others are asked for.
const PERIOD: Duration = Duration::from_secs(1);
/// How long after so many later jobs as are remembered one may still be known.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(3);
/// The count here runs behind the agent's by what is under way.
const UNDER_WAY_MAX: u64 = 1000;
const SIZE: u64 = 4;
const IN_STORE: &[(&str, &str)] = &[("store", "fake")];

/// See the module.
pub(super) struct Markers {
    sender: Sender,
    /// How many jobs have ended in all.
    ended: Arc<AtomicU64>,
    began: Instant,
    known: VecDeque<Marker>,
    seen: Seen,
}

struct Marker {
    job: Job,
    wish: Wish,
    /// How many jobs had ended when it had.
    ended_as: u64,
    /// Since when more have ended after it than are remembered.
    beyond_since: Option<Instant>,
}

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// How often one was asked for that was remembered, as it must be.
    pub(super) remembered: u64,
    /// How many were forgotten, as they must be.
    pub(super) forgotten: u64,
    /// When the first of them was asked for.
    pub(super) first_forgotten: Option<Duration>,
}

impl Markers {
    pub(super) async fn connect(broker: SocketAddr, node: &str, ended: Arc<AtomicU64>) -> Result<Self> {
        let sender = Sender::connect(broker, node, "markers").await?;
        Ok(Self { sender, ended, began: Instant::now(), known: VecDeque::new(), seen: Seen::default() })
    }

    /// Adds one in each period and asks for others, until `stop` becomes true.
    pub(super) async fn run(mut self, stop: watch::Receiver<bool>) -> Result<Seen> {
        let mut period = tokio::time::interval(PERIOD);
        while !*stop.borrow() {
            period.tick().await;
            self.sender.forget();
            self.add().await?;
            self.ask_for_a_remembered_one().await?;
            self.ask_for_a_forgotten_one().await?;
        }
        ensure!(
            0 < self.seen.forgotten && 0 < self.seen.remembered,
            "no job became old enough to be forgotten: {} jobs ended, and {REMEMBERED} are remembered",
            self.ended.load(Ordering::Relaxed)
        );
        Ok(self.seen)
    }

    async fn add(&mut self) -> Result<()> {
        let name = Some(format!("marker-{}", self.began.elapsed().as_millis()));
        let create = Wish::Create { at: None, name: name.clone(), size: SIZE, more: IN_STORE };
        let job = self.sender.job(create);
        self.expect(&job, &End::Done).await?;
        let ended_as = self.ended.fetch_add(1, Ordering::Relaxed) + 1;
        let wish = Wish::Delete { at: None, name };
        self.delete(wish.clone()).await?;
        self.known.push_back(Marker { job, wish, ended_as, beyond_since: None });
        Ok(())
    }

    async fn delete(&mut self, wish: Wish) -> Result<()> {
        let job = self.sender.job(wish);
        self.expect(&job, &End::Done).await?;
        self.ended.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The oldest of those that must be remembered.
    async fn ask_for_a_remembered_one(&mut self) -> Result<()> {
        let ended = self.ended.load(Ordering::Relaxed);
        let is_young = |marker: &&Marker| ended - marker.ended_as <= REMEMBERED - UNDER_WAY_MAX;
        if let Some(marker) = self.known.iter().find(is_young) {
            let later = ended - marker.ended_as;
            self.expect_after(&marker.job, &End::Failed("job-id-reused".to_owned()), later).await?;
            self.seen.remembered += 1;
        }
        Ok(())
    }

    /// The oldest one, once it must be forgotten: it is worked on again.
    async fn ask_for_a_forgotten_one(&mut self) -> Result<()> {
        let ended = self.ended.load(Ordering::Relaxed);
        for marker in &mut self.known {
            if REMEMBERED <= ended - marker.ended_as {
                marker.beyond_since.get_or_insert_with(Instant::now);
            }
        }
        let is_due =
            |marker: &Marker| marker.beyond_since.is_some_and(|since| FORGOTTEN_WITHIN <= since.elapsed());
        if !self.known.front().is_some_and(is_due) {
            return Ok(());
        }
        let Some(marker) = self.known.pop_front() else { return Ok(()) };
        self.expect_after(&marker.job, &End::Done, ended - marker.ended_as).await?;
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.delete(marker.wish).await?;
        self.seen.forgotten += 1;
        self.seen.first_forgotten.get_or_insert(self.began.elapsed());
        Ok(())
    }

    async fn expect_after(&self, job: &Job, expected: &End, later: u64) -> Result<()> {
        let end = self.sender.done(job).await?;
        ensure!(
            end == *expected,
            "{job}, sent again after {later} later jobs, came to {end}, not {expected}"
        );
        Ok(())
    }

    async fn expect(&self, job: &Job, expected: &End) -> Result<()> {
        let end = self.sender.done(job).await?;
        ensure!(end == *expected, "{job} came to {end}, not {expected}");
        Ok(())
    }
}
