//! A node of a test that kills agents or cuts their power: an agent that is started and killed, with folders of its own.

use crate::agent::{Agent, Launch};
use crate::client::{Client, Message};
use crate::process::last_lines;
use crate::scratch::Scratch;
use crate::wait::until;
use anyhow::{Context, Result};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How long an agent may take until it is online.
const ONLINE_LIMIT: Duration = Duration::from_secs(30);

/// What all nodes of a run share.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) program: PathBuf,
    pub(crate) broker: SocketAddr,
    pub(crate) folder: PathBuf,
    pub(crate) mounts: PathBuf,
}

/// See the module.
pub(crate) struct Ground {
    pub(crate) launch: Launch,
    pub(crate) folder: PathBuf,
    pub(crate) store: PathBuf,
    pub(crate) mounts: PathBuf,
    agent: Option<Agent>,
    watch: Client,
}

impl Stage {
    pub(crate) fn new(program: PathBuf, broker: SocketAddr, scratch: &Scratch) -> Self {
        Self { program, broker, folder: scratch.folder.clone(), mounts: scratch.mounts.clone() }
    }
}

impl Ground {
    /// Lays out the node `name`: no agent runs yet.
    pub(crate) async fn lay(stage: &Stage, name: &str) -> Result<Self> {
        let (folder, mounts) = (stage.folder.join(name), stage.mounts.join(name));
        for folder in [&folder, &mounts] {
            fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let log = folder.join("agent.log");
        Self::in_folders(stage, name, folder, mounts, log).await
    }

    /// A node whose store and state are in `folder` and whose mount points are in `mounts`; both are there.
    pub(crate) async fn in_folders(
        stage: &Stage,
        name: &str,
        folder: PathBuf,
        mounts: PathBuf,
        log: PathBuf,
    ) -> Result<Self> {
        let store = folder.join("store");
        let launch = Launch {
            program: stage.program.clone(),
            broker: stage.broker,
            broker_in_environment: false,
            node: format!("crash-{name}"),
            state: folder.join("state"),
            stores: vec![format!("loop=loop://{}?overcommit=100", store.display())],
            mount_roots: Vec::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            namespace: false,
            log,
        };
        let presence = format!("docker/{}/agent", launch.node);
        let watch = Client::connect(stage.broker, &format!("watch-{name}"), &[presence]).await?;
        Ok(Self { launch, folder, store, mounts, agent: None, watch })
    }

    /// A path below the node's folder for mount points.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.mounts.join(name)
    }

    /// Starts the agent, with failpoints as the environment variable spells them. Does not wait.
    pub(crate) fn start(&mut self, failpoints: &str) -> Result<()> {
        self.kill();
        self.watch.forget();
        self.launch.environment = match failpoints {
            "" => Vec::new(),
            failpoints => vec![("FAILPOINTS".to_owned(), failpoints.to_owned())],
        };
        self.agent = Some(self.launch.start()?);
        Ok(())
    }

    /// Starts the agent, and waits until it is online.
    pub(crate) async fn start_plainly(&mut self) -> Result<()> {
        self.start("")?;
        self.online().await
    }

    /// Waits until the agent, just started, is online.
    pub(crate) async fn online(&mut self) -> Result<()> {
        until("the agent is online", ONLINE_LIMIT, || {
            if let Some(agent) = &mut self.agent {
                agent.check_running()?;
            }
            Ok(is_online(&self.watch).then_some(()))
        })
        .await
    }

    /// Whether the agent has been online since its last start.
    pub(crate) fn was_online(&self) -> bool {
        is_online(&self.watch)
    }

    /// Whether the agent is dead, or there is none.
    pub(crate) fn is_dead(&mut self) -> Result<bool> {
        match &mut self.agent {
            Some(agent) => Ok(agent.ended()?.is_some()),
            None => Ok(true),
        }
    }

    /// Kills the agent, if there is one, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.agent = None;
    }

    /// Kills the agent, which was online, and waits until the broker has nothing more of it.
    pub(crate) async fn kill_heard(&mut self) -> Result<()> {
        self.kill();
        let offline = |message: &Message| String::from_utf8_lossy(&message.payload).contains("\"offline\"");
        let gone = |heard: &[Message]| heard.iter().any(offline).then_some(());
        self.watch.until("the broker has noticed the agent's end", ONLINE_LIMIT, gone).await
    }

    /// Asks the agent to stop, which must end well.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        self.agent.take().context("no agent runs")?.stop().await
    }

    /// The end of the agent's log.
    pub(crate) fn last_words(&self) -> String {
        last_lines(&self.launch.log)
    }
}

fn is_online(watch: &Client) -> bool {
    let online = |payload: &[u8]| String::from_utf8_lossy(payload).contains("\"online\"");
    // What the broker kept is of an agent that was there before.
    watch.heard_since(0).iter().any(|message| !message.retained && online(&message.payload))
}
