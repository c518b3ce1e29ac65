//! What the benchmark measures: the same volume made and deleted by a job through a real broker, by the
//! specification's commands in a shell, by the bare system calls, and by another build of the agent if one is named.
//! All in one run on one machine, in turn, so that whatever else the machine does affects all of them. Then how long
//! it takes until all volumes are attached after a reboot, and what a volume costs on a node that has thousands.

mod bare;
mod boot;
mod job;
mod loop_control;
mod report;
mod scale;
mod shell;
mod verdict;

pub use report::Report;
pub use verdict::Verdict;

use crate::agent::{self, Agent, Launch};
use crate::broker::Mosquitto;
use crate::client::Client;
use crate::scratch::Scratch;
use crate::wait::until;
use anyhow::{Context, Result};
use bare::Bare;
use job::{Jobs, SMALL};
use shell::Shell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How the benchmark is run.
#[derive(Clone, Debug, clap::Args)]
pub struct Plan {
    /// How often each way is measured alone
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// How often before that, without counting
    #[arg(long, default_value_t = 3)]
    pub warm_up: u32,
    /// How many at once
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub lanes: u32,
    /// How many volumes each lane makes and deletes, in each of its rounds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub pairs: u32,
    /// How many rounds of lanes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub lane_rounds: u32,
    /// How large the volumes are, in MiB
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u64).range(16..))]
    pub size: u64,
    /// With how many volumes the agent's memory is measured
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub volumes: u32,
    /// How many volumes come back after a reboot
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub boot_volumes: u32,
    /// How often that is measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub boot_rounds: u32,
    /// Another build of `dvs`, which is measured in the same rounds
    #[arg(long, value_name = "PROGRAM")]
    pub against: Option<PathBuf>,
    /// With how many attached volumes the cost of one is measured, in this order; the first is the one that the
    /// others are compared with
    #[arg(long, value_delimiter = ',', default_value = "100,1,1000,5000,100", value_parser = clap::value_parser!(u32).range(1..))]
    pub attached: Vec<u32>,
    /// How often a volume is made and deleted beside so many
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..))]
    pub attached_rounds: u32,
    /// How often an agent with so many is started again
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub restart_rounds: u32,
    /// How many loop devices that are bound to nothing the host gets at the end
    #[arg(long, default_value_t = 7000)]
    pub idle_devices: u32,
    /// Only this
    #[arg(long, value_enum)]
    pub only: Option<Section>,
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Section {
    /// Volumes made and deleted, and the agent's memory
    Jobs,
    /// Volumes that come back after a reboot
    Boot,
    /// What a volume costs beside thousands of others
    Scale,
}

impl Plan {
    /// Whether `section` is to be measured.
    #[must_use]
    pub fn wants(&self, section: Section) -> bool {
        self.only.is_none_or(|only| only == section)
    }
}

/// How a volume is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Dvs,
    /// By a job for the other build.
    Against,
    Shell,
    Bare,
}

impl Way {
    pub(crate) const COUNT: usize = 4;

    /// Those that are measured.
    pub(crate) fn all(plan: &Plan) -> impl DoubleEndedIterator<Item = Self> + use<> {
        let has_against = plan.against.is_some();
        [Self::Shell, Self::Against, Self::Dvs, Self::Bare]
            .into_iter()
            .filter(move |way| has_against || *way != Self::Against)
    }

    /// All of them in the order of `round`: each other time the other way round, so that none always comes after the
    /// same, and those that are compared follow each other: the machine has the same speed for both.
    fn in_round(round: u32, plan: &Plan) -> Vec<Self> {
        if round % 2 == 1 { Self::all(plan).rev().collect() } else { Self::all(plan).collect() }
    }
}

/// Writes what is still to be written: what one way has left is no other's work.
fn settle() {
    rustix::fs::sync();
}

/// Where everything is.
pub(crate) struct Place {
    /// For images.
    pub(crate) images: PathBuf,
    /// For mount points.
    pub(crate) mounts: PathBuf,
    /// How large the volumes are, in MiB.
    pub(crate) size: u64,
}

/// Runs the benchmark in the folders of `scratch`. Whoever drops this half-way ends the runtime, which waits for what
/// runs on threads, and clears `scratch` only then.
///
/// # Errors
/// When something is missing, or a volume could not be made or deleted in one of the ways.
pub async fn run(plan: &Plan, scratch: &Scratch) -> Result<Report> {
    let broker = Mosquitto::start(&scratch.folder.join("broker")).await?;
    let mut report = Report::new(plan);
    if plan.wants(Section::Jobs) {
        measure_jobs(plan, &broker, scratch, &mut report).await?;
    }
    if plan.wants(Section::Boot) {
        report.boots(boot::measure(plan, &broker, scratch).await?);
    }
    if plan.wants(Section::Scale) {
        report.levels(scale::measure(plan, &broker, scratch).await?);
    }
    Ok(report)
}

/// An agent that is measured, and who sends it jobs.
struct Measured {
    agent: Agent,
    /// How many it had when it was idle.
    threads: u64,
    jobs: Jobs,
    memory: Memory,
}

/// What an agent had in RAM, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) idle: u64,
    pub(crate) idle_afterwards: u64,
    pub(crate) with_volumes: u64,
}

impl Measured {
    async fn start(
        program: PathBuf,
        name: &str,
        broker: &Mosquitto,
        place: &Place,
        plan: &Plan,
    ) -> Result<Self> {
        let (agent, launch) = start_agent(program, broker, &place.images, name).await?;
        let memory = Memory { idle: resident_bytes(&agent)?, ..Memory::default() };
        let threads = status_of(&agent, "Threads:")?;
        let jobs = Jobs::connect(broker.address(), &launch.node, place.mounts.clone(), plan).await?;
        Ok(Self { agent, threads, jobs, memory })
    }

    async fn finish(mut self, plan: &Plan) -> Result<Memory> {
        rest(&self.agent, self.threads).await?;
        self.memory.idle_afterwards = resident_bytes(&self.agent)?;
        self.jobs.make_many(0..plan.volumes, SMALL).await?;
        self.memory.with_volumes = resident_bytes(&self.agent)?;
        self.jobs.delete_many(0..plan.volumes).await?;
        self.agent.stop().await?;
        Ok(self.memory)
    }
}

async fn measure_jobs(plan: &Plan, broker: &Mosquitto, scratch: &Scratch, report: &mut Report) -> Result<()> {
    let dvs_place = place(scratch, "bench", plan)?;
    let dvs = Measured::start(agent::program()?, "bench", broker, &dvs_place, plan).await?;
    let against = match &plan.against {
        Some(program) => {
            let place = place(scratch, "against", plan)?;
            Some(Measured::start(program.clone(), "against", broker, &place, plan).await?)
        }
        None => None,
    };
    let other = || against.as_ref().map(|against| &against.jobs).context("there is no other build");
    let (shell, bare) = (
        Arc::new(Shell::new(place(scratch, "shell", plan)?, plan.lanes)?),
        Arc::new(Bare::new(place(scratch, "bare", plan)?)?),
    );
    for round in 0..plan.warm_up + plan.rounds {
        for way in Way::in_round(round, plan) {
            let name = format!("alone-{round}");
            settle();
            let (create, delete) = match way {
                Way::Dvs => dvs.jobs.alone(&name).await?,
                Way::Against => other()?.alone(&name).await?,
                Way::Shell => shell.alone(&name).await?,
                Way::Bare => bare.alone(&name).await?,
            };
            if plan.warm_up <= round {
                report.alone(way, create, delete);
            }
        }
    }
    for round in 0..plan.lane_rounds {
        for way in Way::in_round(round, plan) {
            let name = format!("lanes-{round}");
            settle();
            let begun = Instant::now();
            match way {
                Way::Dvs => dvs.jobs.lanes(&name, plan).await?,
                Way::Against => other()?.lanes(&name, plan).await?,
                Way::Shell => shell.lanes(&name, plan).await?,
                Way::Bare => bare.lanes(&name, plan).await?,
            }
            report.lanes(way, f64::from(plan.lanes * plan.pairs) / begun.elapsed().as_secs_f64());
        }
    }
    report.memory(Way::Dvs, dvs.finish(plan).await?);
    if let Some(against) = against {
        report.memory(Way::Against, against.finish(plan).await?);
    }
    Ok(())
}

fn place(scratch: &Scratch, name: &str, plan: &Plan) -> Result<Place> {
    let place =
        Place { images: scratch.folder.join(name), mounts: scratch.mounts.join(name), size: plan.size };
    for folder in [&place.images, &place.mounts] {
        fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    Ok(place)
}

/// Starts an agent with everything of it in `folder`, and waits until it is online. Gives how it was started, too.
async fn start_agent(
    program: PathBuf,
    broker: &Mosquitto,
    folder: &Path,
    name: &str,
) -> Result<(Agent, Launch)> {
    const ONLINE_LIMIT: Duration = Duration::from_secs(30);
    let node = format!("{name}-{}", std::process::id());
    let store = folder.join("store");
    let launch = Launch {
        program,
        broker: broker.address(),
        broker_in_environment: false,
        node: node.clone(),
        state: folder.join("state"),
        // What the volumes may promise together is not what is measured.
        stores: vec![format!("loop=loop://{}?overcommit=1000", store.display())],
        mount_roots: Vec::new(),
        arguments: Vec::new(),
        // As its unit has it.
        environment: vec![("MALLOC_ARENA_MAX".to_owned(), "1".to_owned())],
        namespace: false,
        log: folder.join("agent.log"),
    };
    let watch =
        Client::connect(broker.address(), &format!("{name}-watch"), &[format!("docker/{node}/agent")])
            .await?;
    let mut agent = launch.start()?;
    let online = watch.until("the agent is online", ONLINE_LIMIT, |heard| {
        heard
            .iter()
            .any(|message| String::from_utf8_lossy(&message.payload).contains("\"online\""))
            .then_some(())
    });
    if let Err(error) = online.await {
        agent.check_running()?;
        return Err(error);
    }
    Ok((agent, launch))
}

/// Waits until the agent has no more threads than at its start: those that jobs needed end after a while.
async fn rest(agent: &Agent, threads: u64) -> Result<()> {
    const REST_LIMIT: Duration = Duration::from_secs(60);
    let rests = || Ok((status_of(agent, "Threads:")? <= threads).then_some(()));
    until("the agent rests", REST_LIMIT, rests).await
}

/// How much memory the agent has in RAM.
fn resident_bytes(agent: &Agent) -> Result<u64> {
    Ok(status_of(agent, "VmRSS:")? * 1024)
}

/// A figure of `/proc/<id>/status` (proc(5)).
fn status_of(agent: &Agent, key: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.id()))
        .context("cannot ask for the agent's status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .with_context(|| format!("no {key} is told"))?;
    line.trim().trim_end_matches("kB").trim().parse().with_context(|| format!("{key} is no number"))
}

/// Runs `work` for each lane on a thread of its own.
pub(crate) async fn on_threads<T: Send + Sync + 'static>(
    shared: &Arc<T>,
    lanes: u32,
    work: impl Fn(&T, u32) -> Result<()> + Send + Sync + 'static,
) -> Result<()> {
    let work = Arc::new(work);
    let running: Vec<_> = (0..lanes)
        .map(|lane| {
            let (shared, work) = (Arc::clone(shared), Arc::clone(&work));
            tokio::task::spawn_blocking(move || work(&shared, lane))
        })
        .collect();
    for lane in running {
        lane.await.context("a lane ended early")??;
    }
    Ok(())
}
