//! A flood of jobs beside one that hangs: senders send the next job as soon as the last one is answered. Every answer must
//! be as promised, the job that hangs is answered `timeout` in its time, old jobs are forgotten meanwhile, and what the
//! agent needs of memory, disk, descriptors and threads is bounded. Measured is from when as many jobs have ended as are
//! remembered at most: from then on nothing may grow.

mod hung;
mod leftovers;
mod markers;
mod report;
mod sample;
mod sender;
mod slot;
mod usage;

pub use report::Report;

use crate::agent::{self, Agent, Launch};
use crate::broker::Mosquitto;
use crate::client::{Client, Message};
use crate::random::Random;
use crate::scratch::Scratch;
use crate::wait::until;
use anyhow::{Context, Result, anyhow, ensure};
use hung::Hung;
use markers::Markers;
use sample::Sampler;
use sender::Tally;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long an agent may take until it is online.
const ONLINE_LIMIT: Duration = Duration::from_secs(30);
/// How long a job may take as deployed agents have it, in seconds.
const JOB_SECONDS: u64 = 100;
/// How much later than its time limit a job may be answered, in seconds: the contract promises 110 s with a limit of 100 s.
const ANSWER_SECONDS: u64 = 10;
/// How many jobs that have ended are remembered: as few as an agent can be configured to, so that a run reaches it.
const REMEMBERED: u64 = 10_000;
/// How long as many jobs may take.
const FILL_LIMIT: Duration = Duration::from_secs(300);

/// How the test is run.
#[derive(Clone, Debug, clap::Args)]
pub struct Plan {
    /// How long the flood lasts once as many jobs have ended as are remembered, in seconds
    #[arg(long, default_value_t = 180, value_parser = clap::value_parser!(u64).range(20..))]
    pub seconds: u64,
    /// What the order of jobs follows from; drawn and printed when it is not given
    #[arg(long)]
    pub seed: Option<u64>,
}

impl Plan {
    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// The time limit of a job: a run that is too short for the usual one has a shorter one.
    fn job_limit(&self) -> Duration {
        Duration::from_secs(JOB_SECONDS.min(self.seconds * 5 / 9))
    }

    /// When a job must have been answered, counted from `PENDING`.
    fn answer_limit(&self) -> Duration {
        self.job_limit() + Duration::from_secs(ANSWER_SECONDS)
    }

    /// How long the job hangs that hangs.
    fn hang(&self) -> Duration {
        self.job_limit() * 6 / 5
    }
}

/// The agent under test, and where it works.
struct Rig {
    launch: Launch,
    agent: Agent,
    mounts: PathBuf,
    stores: [PathBuf; 2],
}

/// Runs the test in the folders of `scratch`.
///
/// # Errors
/// The first promise that was not kept.
pub async fn run(plan: &Plan, seed: u64, scratch: &Scratch) -> Result<Report> {
    let broker = Mosquitto::start(&scratch.folder.join("broker")).await?;
    let mut rig = Rig::start(plan, &broker, scratch).await?;
    let flooded = flood(plan, seed, &broker, &mut rig).await;
    let report = flooded
        .map_err(|error| anyhow!("{error:#}\nthe agent's log ends with:\n{}", rig.agent.last_words()))?;
    let remembered = leftovers::check(rig, report.ended()).await.context("after everything was deleted")?;
    Ok(report.with_remembered(remembered))
}

async fn flood(plan: &Plan, seed: u64, broker: &Mosquitto, rig: &mut Rig) -> Result<Report> {
    let ended = Arc::new(AtomicU64::new(0));
    let (stop, stopped) = watch::channel(false);
    let mut random = Random::new(seed);
    let senders = sender::start(plan, broker.address(), rig, &mut random, &ended, &stopped).await?;
    let markers = Markers::connect(broker.address(), &rig.launch.node, Arc::clone(&ended)).await?;
    let sampler = Sampler::new(&rig.launch, rig.agent.id(), Arc::clone(&ended));
    let began = Instant::now();
    let measuring = async {
        let reached = || Ok((REMEMBERED <= ended.load(Ordering::Relaxed)).then_some(()));
        until("as many jobs have ended as are remembered", FILL_LIMIT, reached).await?;
        let filled = began.elapsed();
        let hung = Hung::begin(plan, broker.address(), &rig.launch.node, &rig.mounts).await?;
        let until = Instant::now() + plan.duration();
        let (samples, hung) = futures::try_join!(sampler.run(until), hung.run())?;
        stop.send_replace(true);
        Ok((filled, samples, hung))
    };
    let (markers, (filled, samples, hung), tally) =
        futures::try_join!(markers.run(stopped.clone()), measuring, finish(senders))?;
    rig.agent.check_running()?;
    let time = began.elapsed();
    let usage = usage::judge(&samples, plan.duration())?;
    let (limit, promised) = (plan.job_limit(), plan.answer_limit());
    Ok(Report { seed, limit, promised, filled, time, tally, markers, hung, usage, remembered: 0 })
}

/// Waits until every sender has sent its last job and had its answers.
async fn finish(senders: Vec<tokio::task::JoinHandle<Result<Tally>>>) -> Result<Tally> {
    let mut all = Tally::default();
    let senders = senders.into_iter().map(async |sender| sender.await.context("a sender panicked")?);
    for tally in futures::future::try_join_all(senders).await? {
        all.add(&tally);
    }
    Ok(all)
}

impl Rig {
    async fn start(plan: &Plan, broker: &Mosquitto, scratch: &Scratch) -> Result<Self> {
        let program = agent::program()?;
        ensure!(
            agent::has_failpoints(&program)?,
            "{} was built without the feature `failpoints`",
            program.display()
        );
        let folder = |name: &str| scratch.folder.join(name);
        let configuration = folder("dvs.toml");
        let limits = format!(
            "[limits]\njob_seconds = {}\nremembered_jobs = {REMEMBERED}\nremembered_jobs_max = {REMEMBERED}\n",
            plan.job_limit().as_secs()
        );
        fs::write(&configuration, limits).context("cannot write the agent's configuration")?;
        let stores = [folder("loop"), folder("fake")];
        let launch = Launch {
            program,
            broker: broker.address(),
            broker_in_environment: false,
            node: "flooded".to_owned(),
            state: folder("state"),
            stores: vec![
                format!("loop=loop://{}?overcommit=100", stores[0].display()),
                format!("fake=fake://{}", stores[1].display()),
            ],
            mount_roots: Vec::new(),
            arguments: vec!["--config".into(), configuration.into()],
            environment: vec![("FAILPOINTS".to_owned(), hung::failpoint(plan))],
            namespace: false,
            log: folder("agent.log"),
        };
        let presence = format!("docker/{}/agent", launch.node);
        let watch = Client::connect(broker.address(), "watch", &[presence]).await?;
        let mut agent = launch.start()?;
        let online = |message: &Message| String::from_utf8_lossy(&message.payload).contains("\"online\"");
        until("the agent is online", ONLINE_LIMIT, || {
            agent.check_running()?;
            Ok(watch.heard_since(0).iter().any(online).then_some(()))
        })
        .await?;
        Ok(Self { launch, agent, mounts: scratch.mounts.clone(), stores })
    }
}
