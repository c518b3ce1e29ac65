//! The container engine, which may not answer.

use super::CallGuard;
use crate::world::Sim;
use crate::world::faults::Call;
use async_trait::async_trait;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::ports::VolumeReferences;
use dvs_domain::user::User;
use dvs_domain::volume::VolumeId;

pub(crate) struct FakeUsers(pub(crate) Sim);

#[async_trait]
impl VolumeReferences for FakeUsers {
    async fn users_of(&self, volume: &VolumeId, there: Option<&MountPoint>) -> Result<Vec<User>, Failure> {
        let _call = CallGuard::begin(&self.0, Call::UsersOf, None, None).await;
        self.0.step(Call::UsersOf).await?;
        let users = self.0.effect(|world| {
            if world.engine_is_silent() {
                return Err(silent());
            }
            let users = world.docker.users_of(volume, there);
            world.log(format_args!("engine: {} refer to {volume}", users.len()));
            if users.is_empty() {
                world.note_unused(volume);
            }
            Ok(users)
        });
        let users = users.await;
        self.0.moment(Call::UsersOf).await;
        users
    }

    async fn bound_at(&self, there: &MountPoint) -> Result<Vec<User>, Failure> {
        let _call = CallGuard::begin(&self.0, Call::BoundAt, None, None).await;
        self.0.step(Call::BoundAt).await?;
        self.0
            .effect(
                |world| {
                    if world.engine_is_silent() { Err(silent()) } else { Ok(world.docker.bound_at(there)) }
                },
            )
            .await
    }
}

fn silent() -> Failure {
    Failure::new(FailureCode::StoreUnavailable, "engine `docker` does not answer")
}
