//! What a service manager hears: the socket to which an agent says that it is ready (sd_notify(3)).

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

/// How agents learn of the socket.
const VARIABLE: &str = "NOTIFY_SOCKET";
/// The longest message that is read.
const MESSAGE_BYTES_MAX: usize = 4096;

/// A service manager's ear.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl NotifySocket {
    /// Listens at `path`.
    ///
    /// # Errors
    /// When it cannot.
    pub fn bind(path: &Path) -> Result<Self> {
        let socket =
            UnixDatagram::bind(path).with_context(|| format!("cannot listen at {}", path.display()))?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// What an agent's environment must say.
    #[must_use]
    pub fn environment(&self) -> (String, String) {
        (VARIABLE.to_owned(), self.path.display().to_string())
    }

    /// Waits until an agent says that it is ready.
    ///
    /// # Errors
    /// When none does within `limit`.
    pub async fn ready(&self, limit: Duration) -> Result<()> {
        let mut message = [0; MESSAGE_BYTES_MAX];
        let ready = async {
            loop {
                let length = self.socket.recv(&mut message).await.context("cannot hear the agent")?;
                if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                    return Ok(());
                }
            }
        };
        match timeout(limit, ready).await {
            Ok(ready) => ready,
            Err(_) => bail!("no agent said that it is ready within {} s", limit.as_secs()),
        }
    }

    /// Forgets what was said until now.
    pub fn forget(&self) {
        let mut message = [0; MESSAGE_BYTES_MAX];
        while self.socket.try_recv(&mut message).is_ok() {}
    }
}
