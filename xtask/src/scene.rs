//! A folder with an agent that runs in it. However the demo ends, the agent is ended, what it attached is released,
//! and the folder removed.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::kernel::{self, Loop};
use crate::run::{self, SHORT};
use crate::sweep;

/// How long an agent may take until it listens, or to stop.
const AGENT_LIMIT: Duration = Duration::from_secs(20);

/// How many lines of the agent's log are shown when something breaks.
const LOG_LINES: usize = 20;

pub(crate) struct Scene {
    folder: PathBuf,
    agent: Option<Child>,
}

impl Scene {
    /// Makes a folder whose name begins with `name`, which [`sweep`] must know.
    pub(crate) fn set(name: &str) -> Result<Self> {
        let base = sweep::temporary_folder();
        let folder = tempfile::Builder::new()
            .prefix(name)
            .tempdir_in(&base)
            .with_context(|| format!("cannot make a folder in {}", base.display()))?
            .keep();
        Ok(Self { folder, agent: None })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts `agent`, with its log in the folder, and waits until `listens` is true.
    pub(crate) fn start(
        &mut self,
        agent: &mut Command,
        mut listens: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let log = self.log();
        let open = || File::options().create(true).append(true).open(&log);
        let (out, err) = open().and_then(|out| Ok((out, open()?))).context("cannot make the agent's log")?;
        let child = agent.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let child = child.with_context(|| format!("cannot start {}", run::told(agent)))?;
        let child = self.agent.insert(child);
        let ready = run::until(AGENT_LIMIT, || match child.try_wait()? {
            Some(status) => bail!("the agent ended with {status}"),
            None => listens(),
        })?;
        if !ready {
            bail!("the agent does not listen after {} s", AGENT_LIMIT.as_secs());
        }
        Ok(())
    }

    /// Asks the agent to stop, as a service manager does, and waits until it has.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let Some(agent) = &mut self.agent else { bail!("there is no agent to stop") };
        let id = agent.id().to_string();
        run::text(run::program("sh").args(["-c", "kill -TERM \"$1\"", "sh", &id]))?;
        let status = run::wait(agent, AGENT_LIMIT).context("cannot wait for the agent")?;
        self.agent = None;
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("the agent, asked to stop, ended with {status}"),
            None => bail!("the agent, asked to stop, did not within {} s", AGENT_LIMIT.as_secs()),
        }
    }

    /// The last lines that the agent wrote.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// What is mounted in the folder.
    pub(crate) fn mounts(&self) -> Result<Vec<PathBuf>> {
        kernel::mounts(|path| path.starts_with(&self.folder))
    }

    /// Which loop devices are backed by files in the folder.
    pub(crate) fn loops(&self) -> Result<Vec<Loop>> {
        kernel::loops(|path| path.starts_with(&self.folder))
    }

    /// Ends the agent, if it still runs, releases and removes everything.
    pub(crate) fn clear(&mut self) -> Result<()> {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().context("cannot end the agent")?;
            run::wait(&mut agent, SHORT).context("cannot wait for the agent")?;
        }
        kernel::release(|path| path.starts_with(&self.folder))?;
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.folder.display()))
            }
            _ => Ok(()),
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.join("agent.log")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            eprintln!("cannot tidy up {}: {error:#}", self.folder.display());
        }
    }
}

/// An address of this machine on which nothing listens at the moment.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot find a free port")?;
    listener.local_addr().context("cannot find a free port")
}
