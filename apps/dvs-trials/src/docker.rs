//! A Docker engine of a scenario's own: never the machine's, which others use and which cannot be stopped. It runs in
//! a network namespace of its own, without which it would take the other engine's bridge away, and sees the mounts
//! that the scenario sees.

use crate::process::{Process, text};
use crate::wait::until;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Made of nothing but Debian's static busybox: no registry is needed.
pub const IMAGE: &str = "dvs-test/busybox:debian";

/// Where Debian has the engine; an ordinary user's `PATH` lacks the folder.
const ENGINE: &str = "/usr/sbin/dockerd";
/// Where Debian's `busybox-static` is; `busybox` without libraries runs as well.
const BUSYBOX: [&str; 2] = ["/usr/bin/busybox", "/bin/busybox"];
/// How long an engine may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long it may take to stop its containers and itself.
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// The engine. Dropping it removes its containers and ends it.
#[derive(Debug)]
pub struct DockerEngine {
    process: Option<Process>,
    folder: PathBuf,
}

impl DockerEngine {
    /// Why none can run here, if so.
    #[must_use]
    pub fn why_not() -> Option<String> {
        if !rustix::process::geteuid().is_root() {
            return Some("a Docker engine needs root".to_owned());
        }
        if !Path::new(ENGINE).exists() {
            return Some(format!("there is no {ENGINE}; install Debian's `docker.io`"));
        }
        for (program, arguments) in
            [("docker", ["--version"].as_slice()), ("unshare", &["--net", "--", "true"])]
        {
            if let Err(error) = text(program, arguments) {
                return Some(format!("{error:#}"));
            }
        }
        busybox().is_none().then(|| "there is no busybox; install Debian's `busybox-static`".to_owned())
    }

    /// Where an engine with its files in `folder` listens.
    #[must_use]
    pub fn socket_in(folder: &Path) -> PathBuf {
        folder.join("docker.sock")
    }

    /// Starts one with its files in `folder`, waits until it answers, and gives it [`IMAGE`].
    ///
    /// # Errors
    /// When it does not answer in time, or takes no image.
    pub async fn start(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut engine = Self { process: None, folder: folder.to_owned() };
        engine.run().await?;
        let tree = folder.join("tree");
        fs::create_dir_all(tree.join("bin")).context("cannot make a folder for an image")?;
        let busybox = busybox().context("there is no busybox")?;
        fs::copy(busybox, tree.join("bin/busybox")).context("cannot copy busybox")?;
        let archive = folder.join("image.tar");
        text("tar", [OsStr::new("-C"), tree.as_ref(), "-cf".as_ref(), archive.as_ref(), ".".as_ref()])?;
        engine.docker([OsStr::new("import"), archive.as_ref(), IMAGE.as_ref()])?;
        Ok(engine)
    }

    /// Starts it again, and waits until it answers.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn run(&mut self) -> Result<()> {
        let configuration = self.folder.join("daemon.json");
        fs::write(&configuration, "{}").context("cannot write the engine's configuration")?;
        let mut command = Command::new("unshare");
        command.args(["--net", "--", ENGINE, "--bridge=none", "--iptables=false", "--ip-masq=false"]);
        command.args(["--log-level", "warn", "-H", &self.address()]);
        for (option, path) in [
            ("--data-root", "data"),
            ("--exec-root", "exec"),
            ("--pidfile", "pid"),
            ("--config-file", "daemon.json"),
        ] {
            command.arg(option).arg(self.folder.join(path));
        }
        let mut process = Process::start(&mut command, &self.folder.join("engine.log"))?;
        let answers = || match process.ended()? {
            Some(status) => bail!("the engine ended with {status}: {}", process.last_words()),
            None => Ok(self.docker(["version"]).ok()),
        };
        let answered = until("the Docker engine answers", START_LIMIT, answers).await;
        self.process = Some(process);
        answered.map(drop)
    }

    /// Stops it, as a service manager does; its containers end with it, and stay.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn stop(&mut self) -> Result<()> {
        let mut process = self.process.take().context("no Docker engine runs")?;
        process.signal(Signal::TERM)?;
        process.wait(STOP_LIMIT).await.context("the Docker engine, asked to stop").map(drop)
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        Self::socket_in(&self.folder)
    }

    /// Lets a container run `script`, or makes one that would, with `options`. It is killed when it is stopped: a
    /// script that is the first process of a container hears no other signal.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn container(&self, verb: &[&str], name: &str, options: &[&str], script: &str) -> Result<()> {
        let fixed = ["--label", "dvs.test=1", "--network", "none", "--stop-signal", "KILL", "--name", name];
        // The folder is told too: by it a process is known that a run which was cut off has left.
        let folder = self.folder.display().to_string();
        let command = [IMAGE, "/bin/busybox", "sh", "-c", script, &folder];
        self.docker([verb, &fixed, options, &command].concat()).map(drop)
    }

    /// What it answers to a command of the program `docker`.
    ///
    /// # Errors
    /// When the command fails.
    pub fn docker<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<String> {
        let address = self.address();
        let fixed = ["-H".into(), address.into()].into_iter();
        text("docker", fixed.chain(arguments.into_iter().map(|argument| argument.as_ref().to_owned())))
    }

    fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Removes its containers, so that nothing of them outlives it, and ends it.
    fn end(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        let containers = self.docker(["ps", "-aq"])?;
        for container in containers.split_whitespace() {
            self.docker(["rm", "-f", "-v", container])?;
        }
        process.signal(Signal::TERM)?;
        let until = Instant::now() + STOP_LIMIT;
        while process.ended()?.is_none() {
            if until <= Instant::now() {
                bail!("the Docker engine does not end: {}", process.last_words());
            }
            std::thread::yield_now();
        }
        Ok(())
    }
}

impl Drop for DockerEngine {
    fn drop(&mut self) {
        if self.end().is_err() {
            // What it has started goes on without it.
            let started = fs::read_to_string(self.folder.join("exec/containerd/containerd.pid"));
            let started = started.ok().and_then(|id| Pid::from_raw(id.trim().parse().ok()?));
            // One that has ended already is what is wanted.
            let _ = started.map(|id| kill_process(id, Signal::KILL));
        }
    }
}

fn busybox() -> Option<&'static Path> {
    BUSYBOX.into_iter().map(Path::new).find(|program| program.exists())
}
