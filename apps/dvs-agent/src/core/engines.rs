//! A host without container engines.

use async_trait::async_trait;
use dvs_domain::failure::Failure;
use dvs_domain::mount_point::MountPoint;
use dvs_domain::ports::VolumeUsers;
use dvs_domain::user::User;
use dvs_domain::volume::VolumeId;

/// No container engine is there, so no container refers to anything.
pub struct NoEngines;

#[async_trait]
impl VolumeUsers for NoEngines {
    async fn users_of(&self, _: &VolumeId, _: Option<&MountPoint>) -> Result<Vec<User>, Failure> {
        Ok(Vec::new())
    }

    async fn bound_at(&self, _: &MountPoint) -> Result<Vec<User>, Failure> {
        Ok(Vec::new())
    }
}
