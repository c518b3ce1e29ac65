//! One scenario: its agent, its senders, its folders, and the jobs that it has sent.

use crate::identity::Identity;
use crate::sender::{Sender, Sent};
use crate::stage::{Stage, Store};
use anyhow::{Context, Result, bail, ensure};
use dvs_trials::agent::{Agent, Launch};
use dvs_trials::broker::Mosquitto;
use dvs_trials::client::Client;
use dvs_trials::docker::DockerEngine;
use dvs_trials::machine::{self, Mount};
use dvs_trials::nfs::DroppingPort;
use dvs_trials::nfs::ganesha::Ganesha;
use dvs_trials::process::{Printed, Process};
use dvs_trials::wait::until;
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an agent may take until it says that it is online.
const ONLINE_LIMIT: Duration = Duration::from_secs(30);
/// The sender of a scenario that names none.
const SOMEBODY: &str = "sender";

#[derive(cucumber::World)]
#[world(init = Self::new)]
pub(crate) struct World {
    pub(crate) launch: Launch,
    pub(crate) agent: Option<Agent>,
    /// A broker that may be taken away, for scenarios that do.
    pub(crate) own_broker: Option<Mosquitto>,
    pub(crate) senders: BTreeMap<String, Sender>,
    /// Who sends what no step says otherwise of.
    pub(crate) current: String,
    /// Every job that was sent, in order.
    pub(crate) jobs: Vec<Sent>,
    /// The jobs that the last step about answers was about.
    pub(crate) batch: Range<usize>,
    /// What the scenario itself has made below its mount folder.
    pub(crate) own_paths: BTreeSet<PathBuf>,
    /// Where it has mounted something itself.
    pub(crate) own_mounts: Vec<PathBuf>,
    /// What each volume was when it was first seen.
    pub(crate) seen: BTreeMap<PathBuf, Identity>,
    /// By what volumes are known again that appeared while a broker was away: what was recorded, and what is there.
    pub(crate) noted: BTreeMap<PathBuf, (String, Identity)>,
    /// What was heard of the agent, and when, as another client took its id.
    pub(crate) thrown_out: Option<(usize, Instant)>,
    /// How long it was away each time after that.
    pub(crate) absences: Vec<Duration>,
    /// What the store's folder held before the first job.
    pub(crate) store_before: Option<Vec<PathBuf>>,
    pub(crate) programs: Vec<Process>,
    /// A Docker engine of the scenario's own.
    pub(crate) docker: Option<DockerEngine>,
    /// Where it keeps a volume of its own.
    pub(crate) docker_place: Option<String>,
    /// One that takes connections and says nothing.
    pub(crate) silent_docker: Option<UnixListener>,
    pub(crate) printed: Option<Printed>,
    pub(crate) written: Option<(u64, std::io::Result<()>)>,
    /// What was mounted when the agent said that it is ready.
    pub(crate) when_ready: Vec<Mount>,
    /// What a file held before it was damaged.
    pub(crate) saved: Option<Vec<u8>>,
    /// How many files of a volume are on disk for certain.
    pub(crate) confirmed: u8,
    /// The sum of an image's bytes.
    pub(crate) image_sum: Option<Vec<u8>>,
    /// One who listens to everything, and how much it had heard when that began.
    pub(crate) listener: Option<(Client, usize)>,
    pub(crate) folder: PathBuf,
    pub(crate) mounts: PathBuf,
    /// Who listens to what the agent says of itself.
    pub(crate) watch: Option<Client>,
    pub(crate) server: Option<Arc<Ganesha>>,
    pub(crate) other: Option<(Launch, Agent)>,
    /// When the job was sent that is awaited with a clock.
    pub(crate) sent_at: Option<Instant>,
    /// A port at which packets are dropped.
    pub(crate) dropping: Option<DroppingPort>,
    /// How many jobs only marked a point in time.
    pub(crate) fences: usize,
    token: String,
}

/// Why a step failed: everything, in one text, because the runner prints no causes.
#[derive(Debug)]
pub(crate) struct Broken(anyhow::Error);

pub(crate) type Step = Result<(), Broken>;

impl From<anyhow::Error> for Broken {
    fn from(error: anyhow::Error) -> Self {
        Self(error)
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#}", self.0)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("World").field("node", &self.launch.node).finish_non_exhaustive()
    }
}

impl World {
    async fn new() -> Result<Self> {
        let stage = Stage::get();
        let token = format!("{}-s{}", stage.run, stage.next_scenario());
        let (folder, mounts) = (stage.folder.join(&token), stage.mounts.join(&token));
        for folder in [&folder, &mounts] {
            fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let mut launch = Launch {
            program: stage.program.clone(),
            broker: stage.broker,
            broker_in_environment: false,
            node: format!("node-{token}"),
            state: folder.join("state"),
            stores: Vec::new(),
            mount_roots: vec![stage.mounts.clone()],
            arguments: Vec::new(),
            environment: Vec::new(),
            namespace: false,
            log: folder.join("agent.log"),
        };
        if stage.mounts_really {
            launch.mount_roots.clear(); // What the contract allows by itself is enough.
        }
        let mut world = Self {
            launch,
            agent: None,
            own_broker: None,
            senders: BTreeMap::new(),
            current: SOMEBODY.to_owned(),
            jobs: Vec::new(),
            batch: 0..0,
            own_paths: BTreeSet::new(),
            own_mounts: Vec::new(),
            seen: BTreeMap::new(),
            noted: BTreeMap::new(),
            thrown_out: None,
            absences: Vec::new(),
            store_before: None,
            programs: Vec::new(),
            docker: None,
            docker_place: None,
            silent_docker: None,
            printed: None,
            written: None,
            when_ready: Vec::new(),
            saved: None,
            confirmed: 0,
            image_sum: None,
            listener: None,
            folder,
            mounts,
            watch: None,
            server: None,
            other: None,
            sent_at: None,
            dropping: None,
            fences: 0,
            token,
        };
        world.launch.stores = vec![format!("{}={}", stage.store, world.store_url())];
        Ok(world)
    }

    /// Where the store keeps its volumes.
    pub(crate) fn store_folder(&self) -> PathBuf {
        self.folder.join("store").join("volumes-here")
    }

    /// Where a Docker engine of the scenario's own has its files.
    pub(crate) fn docker_folder(&self) -> PathBuf {
        self.folder.join("docker")
    }

    /// The store as the agent is told of it.
    pub(crate) fn store_url(&self) -> String {
        format!("{}://{}", Stage::get().store, self.store_folder().display())
    }

    /// A file that takes what is free on the small file system of the state or the store.
    pub(crate) fn filler(&self) -> Result<PathBuf> {
        let small = machine::mounts_below(&self.folder, None)?.into_iter().next();
        Ok(small.context("there is no small file system")?.point.join("filler"))
    }

    pub(crate) fn configuration_file(&self) -> PathBuf {
        self.folder.join("dvs.toml")
    }

    /// The process in whose mount namespace to look; `None` for this one.
    pub(crate) fn namespace(&self) -> Option<u32> {
        self.agent.as_ref().filter(|_| self.launch.namespace).map(Agent::id)
    }

    /// A name in a feature, as a path: relative ones lie in the scenario's own mount folder.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.mounts.join(name) // An absolute one replaces it.
    }

    /// The path of `name` as the agent sees it.
    pub(crate) fn seen_at(&self, name: &str) -> PathBuf {
        machine::seen_by(&self.at(name), self.namespace())
    }

    /// Starts the agent, and waits until it says that it is online.
    pub(crate) async fn start_agent(&mut self) -> Result<()> {
        self.start_agent_and_then(async |_| Ok(())).await
    }

    /// Likewise, with something to do before.
    pub(crate) async fn start_agent_and_then(
        &mut self,
        first: impl AsyncFnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        ensure!(self.agent.is_none(), "the agent runs already");
        if self.watch.is_none() {
            self.watch = Some(self.watcher().await?);
        }
        let mark = self.watch.as_ref().map_or(0, Client::count);
        self.agent = Some(self.launch.start()?);
        first(self).await?;
        self.online_after(mark).await?;
        if self.store_before.is_none() {
            self.store_before = Some(machine::paths_below(&self.store_folder())?);
        }
        Ok(())
    }

    /// Waits until the agent says that it is online, after the first `mark` words of it.
    pub(crate) async fn online_after(&mut self, mark: usize) -> Result<()> {
        let watch = self.watch.as_ref().context("nobody watches the agent")?;
        let is_online = |payload: &[u8]| {
            serde_json::from_slice::<Value>(payload).is_ok_and(|presence| presence["state"] == "online")
        };
        let online = watch.until("the agent is online", ONLINE_LIMIT, |heard| {
            heard.iter().skip(mark).any(|message| is_online(&message.payload)).then_some(())
        });
        if let Err(error) = online.await {
            self.agent()?.check_running()?;
            return Err(error);
        }
        Ok(())
    }

    /// Waits until the agent on the other node answers.
    pub(crate) async fn other_is_online(&mut self) -> Result<()> {
        let (launch, _) = self.other.as_ref().context("there is no other agent")?;
        let socket = launch.state.join("agent.sock");
        let answers = || Ok(std::os::unix::net::UnixStream::connect(&socket).is_ok().then_some(()));
        until("the other agent answers", ONLINE_LIMIT, answers).await
    }

    /// Stops the agent, which must end well.
    pub(crate) async fn stop_agent(&mut self) -> Result<()> {
        self.agent.take().context("no agent runs")?.stop().await
    }

    pub(crate) fn agent(&mut self) -> Result<&mut Agent> {
        self.agent.as_mut().context("no agent runs")
    }

    /// The end of the agent's log.
    pub(crate) fn last_words(&self) -> String {
        fs::read_to_string(&self.launch.log).map_or_else(
            |_| "(there is none)".to_owned(),
            |log| {
                const LINES: usize = 30;
                let lines: Vec<_> = log.lines().collect();
                lines[lines.len().saturating_sub(LINES)..].join("\n")
            },
        )
    }

    /// Ends everything that the scenario has started, and removes everything that it has made.
    pub(crate) fn clear(&mut self) -> Result<()> {
        self.programs.clear();
        self.docker = None;
        self.silent_docker = None;
        self.agent = None;
        self.other = None;
        self.server = None;
        self.own_broker = None;
        for process in self.launch.running()? {
            // One that has just ended is gone, which is what is wanted.
            let _ = kill_process(process, Signal::KILL);
        }
        machine::release_below(&self.mounts)?;
        machine::release_below(&self.folder)?;
        for folder in [&self.mounts, &self.folder] {
            if let Err(error) = fs::remove_dir_all(folder) {
                bail!("cannot remove {}: {error}", folder.display());
            }
        }
        // Few scenarios have one; without, there is nothing to remove.
        let _ = fs::remove_file(self.folder.with_extension("below"));
        Ok(())
    }

    /// The id of the sender with this key, which no other scenario has.
    pub(crate) fn id_of(&self, key: &str) -> String {
        format!("{key}-{}", self.token)
    }

    /// Listens to what the agent says of itself.
    pub(crate) async fn watcher(&self) -> Result<Client> {
        let (name, topic) = (format!("watch-{}", self.token), format!("docker/{}/agent", self.launch.node));
        Client::connect(self.launch.broker, &name, &[topic]).await
    }

    /// The broker that the scenario's own agent uses.
    pub(crate) fn use_broker(&mut self, broker: Mosquitto) {
        let address: SocketAddr = broker.address();
        self.launch.broker = address;
        self.own_broker = Some(broker);
    }

    /// Whether the run is about the loop store.
    pub(crate) fn is_loop() -> bool {
        Stage::get().store == Store::Loop
    }
}
