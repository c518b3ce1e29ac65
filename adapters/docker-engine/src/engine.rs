//! A container engine: what it is called, and where it listens.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A container engine that speaks Docker's API on a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    name: String,
    socket: PathBuf,
}

impl Engine {
    /// Docker's default.
    pub const DOCKER_SOCKET: &str = "/var/run/docker.sock";
    /// Where Podman's service for root speaks Docker's API.
    pub const PODMAN_SOCKET: &str = "/run/podman/podman.sock";

    /// The engine that is called `name` in messages and listens at `socket`.
    #[must_use]
    pub fn new(name: impl Into<String>, socket: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), socket: socket.into() }
    }

    /// Docker, if its socket is there: then it counts as configured, and must answer. Asked once, at start.
    #[must_use]
    pub fn docker_if_there() -> Option<Self> {
        Self::new("docker", Self::DOCKER_SOCKET).if_there()
    }

    /// This engine, if its socket is there. What cannot be looked at counts as there.
    #[must_use]
    pub fn if_there(self) -> Option<Self> {
        let absent = self.socket.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound);
        (!absent).then_some(self)
    }

    /// What it is called in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_counts_as_there_when_its_socket_is() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let engine = Engine::new("docker", folder.path().join("docker.sock"));
        assert_eq!(engine.clone().if_there(), None);
        std::os::unix::net::UnixListener::bind(engine.socket()).unwrap();
        assert_eq!(engine.clone().if_there(), Some(engine), "also when nobody listens any more");
    }
}
