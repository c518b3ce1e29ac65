//! The port: every engine is asked at the same time, and each has to answer.

use crate::engine::Engine;
use crate::query::Query;
use crate::session::{EngineState, Session};
use async_trait::async_trait;
use dvs_domain::failure::Failure;
use dvs_domain::mount_point::MountPoint;
use dvs_domain::ports::VolumeReferences;
use dvs_domain::user::User;
use dvs_domain::volume::VolumeId;
use dvs_mountinfo::Mounts;
use futures::future::{join_all, try_join_all};
use std::sync::Arc;
use std::time::Duration;

/// The containers of the engines that are configured. Without any engine there are none.
///
/// A container refers to a volume, running or not, when it has bound
/// - the mount point or anything below it, by whatever links;
/// - a volume of the engine that is there, or that the engine mounts from there (`-o o=bind -o device=…`);
/// - a volume of DVS's own driver with the volume's name, with or without its store.
///
/// A folder above the mount point is no reference; but a running container that has a copy of it which does not
/// follow the host is a user if the volume was mounted when it started, because then the copy holds it.
#[derive(Clone, Debug)]
pub struct ContainerEngines {
    engines: Vec<Engine>,
    /// In the order of the engines.
    states: Arc<[EngineState]>,
    driver: String,
    limit: Duration,
    with_volumes: bool,
    mounts: Arc<Mounts>,
}

impl ContainerEngines {
    /// How long an engine has for all requests of one call, unless [`Self::within`] sets another limit.
    pub const ENGINE_SECONDS_MAX: u64 = 3;

    /// The containers of `engines`, for which DVS's volumes are those of the volume driver `driver`.
    #[must_use]
    pub fn new(engines: Vec<Engine>, driver: &str) -> Self {
        Self {
            states: engines.iter().map(|_| EngineState::default()).collect(),
            engines,
            driver: driver.to_owned(),
            limit: Duration::from_secs(Self::ENGINE_SECONDS_MAX),
            with_volumes: true,
            mounts: Arc::default(),
        }
    }

    /// The same, with another limit of time for each engine.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// The same, for use within a call of an engine's volume plugin: engines are asked about containers only,
    /// never about volumes (contract.md section 7). A stopped container whose local volume is mounted from the
    /// mount point by its options is then not seen.
    #[must_use]
    pub fn within_plugin_calls(self) -> Self {
        Self { with_volumes: false, ..self }
    }

    /// The engines that are asked.
    #[must_use]
    pub fn engines(&self) -> &[Engine] {
        &self.engines
    }

    /// Asks each engine for the number of its containers, as before a delete. In order.
    pub async fn probe(&self) -> Vec<(&Engine, Result<usize, Failure>)> {
        let engines = self.engines.iter().zip(self.states.iter());
        let probed = engines.map(|(engine, state)| async move {
            let answer = match Session::begin(engine, state, self.limit).await {
                Ok(mut session) => session.containers().await.map(|containers| containers.len()),
                Err(failure) => Err(failure),
            };
            (engine, answer)
        });
        join_all(probed).await
    }

    async fn ask(&self, query: &Query) -> Result<Vec<User>, Failure> {
        let engines = self.engines.iter().zip(self.states.iter());
        let asked = engines
            .map(|(engine, state)| query.ask(engine, state, self.limit, self.with_volumes, &self.mounts));
        let mut users = try_join_all(asked).await?.concat();
        users.sort();
        // Two sockets may lead to one engine.
        users.dedup();
        Ok(users)
    }
}

#[async_trait]
impl VolumeReferences for ContainerEngines {
    async fn users_of(
        &self,
        volume: &VolumeId,
        mount_point: Option<&MountPoint>,
    ) -> Result<Vec<User>, Failure> {
        self.ask(&Query::users_of(&self.driver, volume, mount_point)).await
    }

    async fn bound_at(&self, mount_point: &MountPoint) -> Result<Vec<User>, Failure> {
        self.ask(&Query::bound_at(mount_point)).await
    }
}
