//! How long a node takes until all its volumes are back, as after a reboot: nothing is mounted, no image is bound. The
//! agent, from the start of its process until it says that it is ready, against the least that anybody could do: bind
//! each image and mount it, as many side by side. The directories are there for both.

use super::job::{Jobs, SMALL};
use super::{Plan, on_threads, start_agent};
use crate::agent::{self, Agent, Launch};
use crate::broker::Mosquitto;
use crate::machine;
use crate::notify::NotifySocket;
use crate::scratch::Scratch;
use anyhow::{Context, Result, ensure};
use dvs_store_loop::device;
use rustix::mount::{MountFlags, mount};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many volumes the bare calls bring back side by side: as many as the agent does.
const SIDE_BY_SIDE: u32 = 8;
const READY_LIMIT: Duration = Duration::from_secs(400);

/// What each round took.
#[derive(Clone, Debug, Default)]
pub(super) struct Boots {
    pub(super) dvs: Vec<Duration>,
    /// Of the other program, if there is one.
    pub(super) against: Vec<Duration>,
    pub(super) bare: Vec<Duration>,
}

/// A stopped agent and its volumes.
struct Stopped {
    launch: Launch,
    folder: PathBuf,
    mounts: PathBuf,
    pairs: Arc<Pairs>,
}

/// Images and mount points, one for each.
struct Pairs(Vec<(PathBuf, PathBuf)>);

/// Measures.
pub(super) async fn measure(plan: &Plan, broker: &Mosquitto, scratch: &Scratch) -> Result<Boots> {
    let dvs = Stopped::make("boot", agent::program()?, plan, broker, scratch).await?;
    let against = match &plan.against {
        Some(program) => Some(Stopped::make("boot-against", program.clone(), plan, broker, scratch).await?),
        None => None,
    };
    let mut boots = Boots::default();
    for round in 0..plan.boot_rounds {
        dvs.release()?;
        let begun = Instant::now();
        let lane = |pairs: &Pairs, lane| pairs.attach(lane as usize);
        on_threads(&dvs.pairs, SIDE_BY_SIDE, lane).await?;
        boots.bare.push(begun.elapsed());
        dvs.release()?;
        if let Some(against) = &against {
            boots.against.push(against.boot(round).await?);
            against.release()?;
        }
        boots.dvs.push(dvs.boot(round).await?);
        dvs.release()?;
    }
    Ok(boots)
}

impl Stopped {
    async fn make(
        name: &str,
        program: PathBuf,
        plan: &Plan,
        broker: &Mosquitto,
        scratch: &Scratch,
    ) -> Result<Self> {
        let (folder, mounts) = (scratch.folder.join(name), scratch.mounts.join(name));
        for folder in [&folder, &mounts] {
            fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let (agent, launch) = start_agent(program, broker, &folder, name).await?;
        let jobs = Jobs::connect(broker.address(), &launch.node, mounts.clone(), plan).await?;
        jobs.make_many(0..plan.boot_volumes, SMALL).await?;
        agent.stop().await?;
        let pairs = Arc::new(Pairs::below(&folder.join("store/volumes"), &mounts)?);
        ensure!(pairs.0.len() == plan.boot_volumes as usize, "there are only {} volumes", pairs.0.len());
        let stopped = Self { launch, folder, mounts, pairs };
        stopped.release()?;
        Ok(stopped)
    }

    fn release(&self) -> Result<()> {
        machine::release_below(&self.mounts)?;
        machine::release_below(&self.folder)
    }

    async fn boot(&self, round: u32) -> Result<Duration> {
        let (took, agent) = boot(&self.launch, &self.folder.join(format!("notify-{round}"))).await?;
        let mounted = machine::mounts_below(&self.mounts, None)?.len();
        ensure!(mounted == self.pairs.0.len(), "only {mounted} volumes are back when the agent is ready");
        agent.stop().await?;
        Ok(took)
    }
}

/// Starts the agent, whose service manager listens at `socket`, and waits until it is ready. Gives how long that took.
pub(super) async fn boot(launch: &Launch, socket: &Path) -> Result<(Duration, Agent)> {
    let manager = NotifySocket::bind(socket)?;
    let mut launch = launch.clone();
    launch.environment.push(manager.environment());
    let begun = Instant::now();
    let mut agent = launch.start()?;
    if let Err(error) = manager.ready(READY_LIMIT).await {
        agent.check_running()?;
        return Err(error);
    }
    Ok((begun.elapsed(), agent))
}

impl Pairs {
    /// The images of the volumes in the store's folder, and the mount points that they have left, in any order.
    fn below(volumes: &Path, mounts: &Path) -> Result<Self> {
        let paths_in = |folder: &Path| {
            let entries = fs::read_dir(folder).and_then(|entries| {
                entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>()
            });
            entries.with_context(|| format!("cannot list {}", folder.display()))
        };
        let images = paths_in(volumes)?.into_iter().map(|volume| volume.join("image"));
        Ok(Self(images.zip(paths_in(mounts)?).collect()))
    }

    fn attach(&self, lane: usize) -> Result<()> {
        for (image, point) in self.0.iter().skip(lane).step_by(SIDE_BY_SIDE as usize) {
            let file = File::options().read(true).write(true).open(image)?;
            let device = device::attach(&file).map_err(|failure| anyhow::anyhow!(failure.chain()))?;
            mount(device.path(), point, "ext4", MountFlags::NOSUID | MountFlags::NODEV, None)
                .with_context(|| format!("cannot mount {}", image.display()))?;
        }
        Ok(())
    }
}
