//! Docker, looked for at each question until it is there: at boot the agent is ready before Docker is. From then on
//! it counts as configured, and has to answer.

use crate::compose::is_root;
use crate::core::NoEngines;
use async_trait::async_trait;
use dvs_docker_engine::{ContainerEngines, Engine};
use dvs_domain::failure::Failure;
use dvs_domain::mount_point::MountPoint;
use dvs_domain::ports::VolumeUsers;
use dvs_domain::user::User;
use dvs_domain::volume::VolumeId;
use rustix::fs::{Access, access};
use std::sync::OnceLock;

/// What DVS's volume driver is called.
const DRIVER: &str = "dvs";

/// See the module.
pub(crate) struct DockerOnceThere<F> {
    find: F,
    found: OnceLock<ContainerEngines>,
}

impl DockerOnceThere<fn() -> Option<Engine>> {
    /// Docker where it listens by default.
    pub(crate) fn new() -> Self {
        Self { find: askable_docker, found: OnceLock::new() }
    }
}

/// An ordinary user's volumes are links, for trying out. An engine that such a user may not ask runs none of that
/// user's containers; root may ask every engine, and then it has to answer.
fn askable_docker() -> Option<Engine> {
    let askable = |engine: &Engine| is_root() || access(engine.socket(), Access::WRITE_OK).is_ok();
    Engine::docker_if_there().filter(askable)
}

impl<F: Fn() -> Option<Engine>> DockerOnceThere<F> {
    fn users(&self) -> &dyn VolumeUsers {
        if let Some(docker) = self.found.get() {
            return docker;
        }
        match (self.find)() {
            Some(docker) => self.found.get_or_init(|| ContainerEngines::new(vec![docker], DRIVER)),
            None => &NoEngines,
        }
    }
}

#[async_trait]
impl<F: Fn() -> Option<Engine> + Send + Sync> VolumeUsers for DockerOnceThere<F> {
    async fn users_of(
        &self,
        volume: &VolumeId,
        mount_point: Option<&MountPoint>,
    ) -> Result<Vec<User>, Failure> {
        self.users().users_of(volume, mount_point).await
    }

    async fn bound_at(&self, mount_point: &MountPoint) -> Result<Vec<User>, Failure> {
        self.users().bound_at(mount_point).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dvs_domain::failure::FailureCode;
    use std::os::unix::net::UnixListener;

    #[tokio::test]
    async fn docker_is_not_needed_until_it_was_there_once() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let find = || Engine::new("docker", &socket).if_there();
        let docker = DockerOnceThere { find, found: OnceLock::new() };
        let there = MountPoint::new("/mnt/a").unwrap();
        assert_eq!(docker.bound_at(&there).await.unwrap(), []);
        drop(UnixListener::bind(&socket).unwrap()); // The socket stays, and nobody answers.
        assert_eq!(docker.bound_at(&there).await.unwrap_err().code(), FailureCode::StoreUnavailable);
        std::fs::remove_file(&socket).unwrap();
        assert_eq!(docker.bound_at(&there).await.unwrap_err().code(), FailureCode::StoreUnavailable);
    }
}
