//! The agent as a child process: how it is started, and how it ends.

use crate::process::Process;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// Names the program to test.
pub const PROGRAM_VARIABLE: &str = "DVS_BIN";

/// How long an agent may take to stop: longer than it gives its own jobs.
pub const STOP_LIMIT: Duration = Duration::from_secs(40);

/// The program to test.
///
/// # Errors
/// When [`PROGRAM_VARIABLE`] names none.
pub fn program() -> Result<PathBuf> {
    let program = std::env::var_os(PROGRAM_VARIABLE).filter(|named| !named.is_empty());
    let program = program.with_context(|| {
        format!("{PROGRAM_VARIABLE} must name the program `dvs`; `cargo xtask e2e` builds it and sets it")
    })?;
    let program = PathBuf::from(program);
    let program = program.canonicalize().with_context(|| format!("there is no {}", program.display()))?;
    Ok(program)
}

/// How an agent is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its broker.
    pub broker: SocketAddr,
    /// Whether it learns of its broker from the environment, not from a flag.
    pub broker_in_environment: bool,
    /// Its node's name.
    pub node: String,
    /// Its state folder.
    pub state: PathBuf,
    /// Its stores, as `NAME=URL`; the first is the default.
    pub stores: Vec<String>,
    /// What else it may mount below.
    pub mount_roots: Vec<PathBuf>,
    /// Further arguments.
    pub arguments: Vec<OsString>,
    /// Further environment.
    pub environment: Vec<(String, String)>,
    /// Whether it gets a mount namespace of its own, whose mounts nobody else sees.
    pub namespace: bool,
    /// Where its output goes.
    pub log: PathBuf,
}

/// An agent that was started. Dropping it kills it.
#[derive(Debug)]
pub struct Agent {
    process: Process,
}

impl Launch {
    /// Starts it. Does not wait until it is ready.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self) -> Result<Agent> {
        Ok(Agent { process: Process::start(&mut self.command(), &self.log)? })
    }

    /// The command that starts it.
    #[must_use]
    pub fn command(&self) -> Command {
        self.command_with(&[])
    }

    /// The same with `words` before all options: a subcommand that takes the agent's.
    #[must_use]
    pub fn command_with(&self, words: &[String]) -> Command {
        let mut command = if self.namespace {
            // `unshare` becomes the agent: the process id is the agent's.
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "--"]).arg(&self.program);
            command
        } else {
            Command::new(&self.program)
        };
        without_settings(&mut command);
        command.args(words);
        if self.broker_in_environment {
            command.env("MQTT_BROKER", self.broker.to_string());
        } else {
            command.arg("-b").arg(self.broker.to_string());
        }
        command.arg("--node").arg(&self.node).arg("--state").arg(&self.state);
        for store in &self.stores {
            command.arg("--store").arg(store);
        }
        for root in &self.mount_roots {
            command.arg("--mount-root").arg(root);
        }
        command.args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The ids of the processes that run with this state folder, whoever started them.
    ///
    /// # Errors
    /// When processes cannot be listed.
    pub fn running(&self) -> Result<Vec<Pid>> {
        let (program, state) = (self.program.as_os_str().as_bytes(), self.state.as_os_str().as_bytes());
        let mut running = Vec::new();
        for entry in std::fs::read_dir("/proc").context("cannot list /proc")? {
            let process = entry.context("cannot list /proc")?;
            let id = process.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
            // What has ended meanwhile has no command line.
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let mut words = line.split(|byte| *byte == 0);
            if let Some(id) = id
                && words.next() == Some(program)
                && words.any(|word| word == state)
            {
                running.push(id);
            }
        }
        Ok(running)
    }
}

impl Agent {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Makes sure that it runs.
    ///
    /// # Errors
    /// When it has ended, with the end of its log.
    pub fn check_running(&mut self) -> Result<()> {
        match self.process.ended()? {
            None => Ok(()),
            Some(status) => bail!("the agent ended with {status}; its log ends with:\n{}", self.last_words()),
        }
    }

    /// Sends it `signal`.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.ended()
    }

    /// Asks it to stop, as a service manager does, and does not wait.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn ask_to_stop(&self) -> Result<()> {
        self.process.signal(Signal::TERM)
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        self.process.wait(STOP_LIMIT).await.context("the agent, asked to stop")
    }

    /// Asks it to stop and waits until it has, which must be a good end.
    ///
    /// # Errors
    /// When it does not in time, or ends badly.
    pub async fn stop(mut self) -> Result<()> {
        self.check_running()?;
        self.ask_to_stop()?;
        match self.wait().await? {
            status if status.success() => Ok(()),
            status => bail!("the agent, asked to stop, ended with {status}:\n{}", self.last_words()),
        }
    }

    /// Kills it.
    pub fn kill(self) {
        drop(self);
    }

    /// The end of its log.
    #[must_use]
    pub fn last_words(&self) -> String {
        self.process.last_words()
    }
}

/// Keeps from `command` what the environment says of brokers and container engines: a test names its own.
pub fn without_settings(command: &mut Command) {
    for variable in ["MQTT_BROKER", "DOCKER_HOST", "CONTAINER_HOST"] {
        command.env_remove(variable);
    }
    command.env("NO_COLOR", "1");
}

/// Whether `program` was built so that its steps can be made to fail.
///
/// # Errors
/// When it cannot be read.
pub fn has_failpoints(program: &Path) -> Result<bool> {
    // The name of the variable stands in every program that reads it, and in no other.
    const VARIABLE: &[u8] = b"FAILPOINTS";
    let bytes = std::fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    Ok(bytes.windows(VARIABLE.len()).any(|window| window == VARIABLE))
}
