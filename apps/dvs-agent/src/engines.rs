//! The container engines of this host. A configured engine has to answer from the start. Docker at its default socket,
//! which needs no configuration, is looked up at each query until it is there, because at boot the agent is ready before
//! Docker is. From then on it has to answer too.

use crate::config::{DockerChoice, EngineSettings};
use crate::privileges::is_root;
use async_trait::async_trait;
use dvs_docker_engine::{ContainerEngines, Engine};
use dvs_domain::failure::Failure;
use dvs_domain::mount_point::MountPoint;
use dvs_domain::ports::VolumeReferences;
use dvs_domain::user::User;
use dvs_domain::volume::VolumeId;
use rustix::fs::{Access, access};
use std::sync::OnceLock;
use std::time::Duration;

/// The name of DVS's volume driver.
const DRIVER: &str = "dvs";
/// The name of Docker in messages and in the configuration.
const DOCKER: &str = "docker";
const PODMAN: &str = "podman";

pub(crate) struct EnginesOfHost<F = fn() -> Option<Engine>> {
    configured: ContainerEngines,
    /// Finds Docker at its default socket, unless another one is configured.
    find: Option<F>,
    with_docker: OnceLock<ContainerEngines>,
    limit: Duration,
}

impl EnginesOfHost {
    pub(crate) fn new(settings: &EngineSettings) -> Self {
        Self::finding(settings, askable_docker)
    }
}

/// An unprivileged user's volumes are links, for trying out. An engine whose socket such a user may not open runs none
/// of that user's containers; root may open every socket, and then the engine has to answer.
fn askable_docker() -> Option<Engine> {
    let askable = |engine: &Engine| is_root() || access(engine.socket(), Access::WRITE_OK).is_ok();
    Engine::docker_if_there().filter(askable)
}

impl<F: Fn() -> Option<Engine>> EnginesOfHost<F> {
    fn finding(settings: &EngineSettings, find: F) -> Self {
        let (docker, find) = match &settings.docker {
            DockerChoice::Usual => (None, Some(find)),
            DockerChoice::At(socket) => (Some(Engine::new(DOCKER, socket)), None),
            DockerChoice::Nowhere => (None, None),
        };
        let podman = settings.podman.as_ref().map(|socket| Engine::new(PODMAN, socket));
        let limit = Duration::from_secs(settings.seconds);
        let configured = all(docker.into_iter().chain(podman), limit);
        Self { configured, find, with_docker: OnceLock::new(), limit }
    }

    /// The engines that have to answer now.
    pub(crate) fn now(&self) -> &ContainerEngines {
        if let Some(engines) = self.with_docker.get() {
            return engines;
        }
        match self.find.as_ref().and_then(|find| find()) {
            Some(docker) => self.with_docker.get_or_init(|| {
                all([docker].into_iter().chain(self.configured.engines().iter().cloned()), self.limit)
            }),
            None => &self.configured,
        }
    }
}

fn all(engines: impl Iterator<Item = Engine>, limit: Duration) -> ContainerEngines {
    ContainerEngines::new(engines.collect(), DRIVER).within(limit)
}

#[async_trait]
impl<F: Fn() -> Option<Engine> + Send + Sync> VolumeReferences for EnginesOfHost<F> {
    async fn users_of(
        &self,
        volume: &VolumeId,
        mount_point: Option<&MountPoint>,
    ) -> Result<Vec<User>, Failure> {
        self.now().users_of(volume, mount_point).await
    }

    async fn bound_at(&self, mount_point: &MountPoint) -> Result<Vec<User>, Failure> {
        self.now().bound_at(mount_point).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dvs_domain::failure::FailureCode;
    use std::os::unix::net::UnixListener;
    use std::path::Path;
    use tempfile::TempDir;

    fn folder() -> TempDir {
        tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap()
    }

    fn usual() -> EngineSettings {
        EngineSettings { docker: DockerChoice::Usual, podman: None, seconds: 1 }
    }

    type Engines = EnginesOfHost<Box<dyn Fn() -> Option<Engine> + Send + Sync>>;

    fn engines(settings: &EngineSettings, usual: &Path) -> Engines {
        let docker = Engine::new(DOCKER, usual);
        EnginesOfHost::finding(settings, Box::new(move || docker.clone().if_there()))
    }

    async fn asked(engines: &Engines) -> Result<Vec<User>, FailureCode> {
        let there = MountPoint::new("/mnt/a").unwrap();
        engines.bound_at(&there).await.map_err(|failure| failure.code())
    }

    #[tokio::test]
    async fn docker_at_its_usual_place_is_not_needed_until_it_was_there_once() {
        let folder = folder();
        let socket = folder.path().join("docker.sock");
        let engines = engines(&usual(), &socket);
        assert_eq!(asked(&engines).await, Ok(vec![]));
        drop(UnixListener::bind(&socket).unwrap()); // The socket stays, and nobody answers.
        assert_eq!(asked(&engines).await, Err(FailureCode::StoreUnavailable));
        std::fs::remove_file(&socket).unwrap();
        assert_eq!(asked(&engines).await, Err(FailureCode::StoreUnavailable));
    }

    #[tokio::test]
    async fn an_engine_that_is_configured_is_needed_from_the_start() {
        let folder = folder();
        let there = folder.path().join("docker.sock");
        drop(UnixListener::bind(&there).unwrap());
        let absent = folder.path().join("absent.sock");
        let at = EngineSettings { docker: DockerChoice::At(absent.clone()), ..usual() };
        assert_eq!(asked(&engines(&at, &there)).await, Err(FailureCode::StoreUnavailable));
        let nowhere = EngineSettings { docker: DockerChoice::Nowhere, ..usual() };
        assert_eq!(asked(&engines(&nowhere, &there)).await, Ok(vec![]), "it is not to be asked");
        let podman = EngineSettings { podman: Some(absent), ..nowhere };
        assert_eq!(asked(&engines(&podman, &there)).await, Err(FailureCode::StoreUnavailable));
    }

    #[tokio::test]
    async fn docker_at_its_usual_place_is_asked_beside_podman() {
        let folder = folder();
        let (docker, podman) = (folder.path().join("docker.sock"), folder.path().join("podman.sock"));
        let engines = engines(&EngineSettings { podman: Some(podman), ..usual() }, &docker);
        let names =
            || engines.now().engines().iter().map(|engine| engine.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(), ["podman"]);
        drop(UnixListener::bind(&docker).unwrap());
        assert_eq!(names(), ["docker", "podman"]);
    }
}
