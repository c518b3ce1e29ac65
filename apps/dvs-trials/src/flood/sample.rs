//! What the agent needs, looked at once in a second, as an operator would.

use super::usage::{Sample, Samples};
use crate::agent::{Launch, without_settings};
use crate::process;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PERIOD: Duration = Duration::from_secs(1);
/// Volumes are listed at each of so many looks.
const LIST_AT_EACH: usize = 10;
/// How long a listing may take.
const LIST_LIMIT: Duration = Duration::from_secs(20);

/// See the module.
pub(super) struct Sampler {
    program: PathBuf,
    state: PathBuf,
    process: PathBuf,
    ended: Arc<AtomicU64>,
}

impl Sampler {
    pub(super) fn new(launch: &Launch, id: u32, ended: Arc<AtomicU64>) -> Self {
        let process = PathBuf::from(format!("/proc/{id}"));
        Self { program: launch.program.clone(), state: launch.state.clone(), process, ended }
    }

    pub(super) async fn run(&self, until: Instant) -> Result<Samples> {
        let mut samples = Samples::default();
        let (began, mut period) = (Instant::now(), tokio::time::interval(PERIOD));
        while Instant::now() < until {
            period.tick().await;
            samples.samples.push(self.look(began.elapsed()).context("the agent is gone")?);
            if samples.samples.len().is_multiple_of(LIST_AT_EACH) {
                let asked = Instant::now();
                list(&self.program, &self.state).await?;
                samples.slowest_list = samples.slowest_list.max(asked.elapsed());
            }
        }
        Ok(samples)
    }

    fn look(&self, at: Duration) -> Result<Sample> {
        let status = fs::read_to_string(self.process.join("status"))?;
        let number = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            number.with_context(|| format!("no {key} in {status}"))
        };
        Ok(Sample {
            at,
            ended: self.ended.load(Ordering::Relaxed),
            resident: number("VmRSS:")? * 1024,
            threads: number("Threads:")?,
            descriptors: fs::read_dir(self.process.join("fd"))?.count() as u64,
            journal: fs::metadata(self.state.join("journal"))?.len(),
        })
    }
}

/// What `dvs ls` lists, as JSON.
pub(super) async fn list(program: &PathBuf, state: &PathBuf) -> Result<String> {
    let mut command = Command::new(program);
    without_settings(&mut command);
    command.args(["ls", "--json", "--state"]).arg(state);
    let printed = process::run(&mut command, LIST_LIMIT).await?;
    ensure!(printed.code == Some(0), "`dvs ls` ended with {:?}: {}", printed.code, printed.err);
    Ok(printed.out)
}
