//! A real Mosquitto as a child process, on a free port of the loopback interface.

use crate::process::Process;
use crate::wait::until;
use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Names the program to run.
pub const PROGRAM_VARIABLE: &str = "DVS_MOSQUITTO_BIN";
/// Where Debian has it; an ordinary user's `PATH` lacks the folder.
const PROGRAM: &str = "/usr/sbin/mosquitto";

/// How long a broker may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long it may take to save its state.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// How often another port is tried when somebody else was faster.
const TRIES: usize = 5;

/// The broker. Dropping it ends it.
#[derive(Debug)]
pub struct Mosquitto {
    process: Option<Process>,
    program: PathBuf,
    folder: PathBuf,
    address: SocketAddr,
}

impl Mosquitto {
    /// The program to run, if there is one.
    #[must_use]
    pub fn program() -> Option<PathBuf> {
        let program = std::env::var_os(PROGRAM_VARIABLE).filter(|named| !named.is_empty());
        let program = program.map_or_else(|| PathBuf::from(PROGRAM), PathBuf::from);
        program.exists().then_some(program)
    }

    /// Starts one with its files in `folder`, and waits until it listens.
    ///
    /// # Errors
    /// When there is no program, or it does not listen in time.
    pub async fn start(folder: &Path) -> Result<Self> {
        let program = Self::program().with_context(|| {
            format!("there is no program {PROGRAM}; install Debian's `mosquitto`, or name one in {PROGRAM_VARIABLE}")
        })?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut last = None;
        for _ in 0..TRIES {
            let address = free_address()?;
            let mut broker =
                Self { process: None, program: program.clone(), folder: folder.to_owned(), address };
            match broker.run().await {
                Ok(()) => return Ok(broker),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("no port was tried")))
            .context("no broker could be started")
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it at once. What it had queued is lost, and so are its sessions.
    pub fn end(&mut self) {
        self.process = None;
    }

    /// Asks it to end, and waits until it has. It saves its sessions and what it has queued: the next start has them.
    ///
    /// # Errors
    /// When it does not end well in time, or has saved nothing.
    pub async fn stop(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the broker does not run")?;
        process.signal(Signal::TERM)?;
        let status = process.wait(STOP_LIMIT).await?;
        ensure!(status.success(), "the broker, asked to stop, ended with {status}: {}", process.last_words());
        ensure!(self.saved().exists(), "the broker has not saved its state: {}", process.last_words());
        Ok(())
    }

    /// Starts it again on the same port, with what it saved when it was stopped.
    ///
    /// # Errors
    /// As [`Mosquitto::start`].
    pub async fn run(&mut self) -> Result<()> {
        let configuration = self.folder.join("mosquitto.conf");
        fs::write(&configuration, self.configuration()).context("cannot write the broker's configuration")?;
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(&configuration);
        let mut process = Process::start(&mut command, &self.folder.join("mosquitto.log"))?;
        let address = self.address;
        until("the broker listens", START_LIMIT, || match process.ended()? {
            Some(status) => bail!("the broker ended with {status}: {}", process.last_words()),
            None => Ok(TcpStream::connect(address).ok().map(drop)),
        })
        .await?;
        // It is read, and must not come back after another end than a stop.
        match fs::remove_file(self.saved()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).context("cannot remove what the broker had saved");
            }
            _ => self.process = Some(process),
        }
        Ok(())
    }

    /// Where it saves its state. Only when it is stopped: see [`Mosquitto::configuration`].
    fn saved(&self) -> PathBuf {
        self.folder.join("mosquitto.db")
    }

    fn configuration(&self) -> String {
        let (host, port, folder) = (self.address.ip(), self.address.port(), self.folder.display());
        // A queue with an end would lose answers. Without `set_tcp_nodelay`, what Mosquitto sends right behind another
        // small packet waits up to 40 ms for the receiving host's acknowledgement (Nagle's algorithm and delayed
        // acknowledgements, RFC 9293): that would be measured, and nothing else. The user is for a broker that root
        // starts: another one may not write into the folder.
        format!(
            "listener {port} {host}\nuser root\nallow_anonymous true\npersistence true\n\
             persistence_location {folder}/\nautosave_interval 0\nmax_queued_messages 0\nset_tcp_nodelay true\n\
             log_dest stderr\n"
        )
    }
}

/// An address of this machine on which nothing listens at the moment.
///
/// # Errors
/// When there is none.
pub fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot find a free port")?;
    listener.local_addr().context("cannot find a free port")
}
