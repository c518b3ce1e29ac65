//! Mounters that do not do what they say.

use async_trait::async_trait;
use dvs_core::CoreParts;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::ports::{Detached, Mounter, Source, Survey};
use dvs_domain::user::User;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    DoesNotMount,
    NeverUnmounts,
    LeavesDirectories,
    LaysNoGuard,
    TakesAllForMissing,
    OftenFails,
    Panics,
}

struct BrokenMounter {
    mounter: Arc<dyn Mounter>,
    fault: Fault,
    calls: AtomicU64,
}

pub(crate) fn broken(parts: CoreParts, fault: Fault) -> CoreParts {
    let mounter = Arc::new(BrokenMounter { mounter: parts.mounter, fault, calls: AtomicU64::new(0) });
    CoreParts { mounter, ..parts }
}

#[async_trait]
impl Mounter for BrokenMounter {
    async fn survey(&self, mount_point: &MountPoint) -> Result<Survey, Failure> {
        assert!(self.fault != Fault::Panics, "a planted defect");
        let mut survey = self.mounter.survey(mount_point).await?;
        if self.fault == Fault::TakesAllForMissing {
            survey.missing = vec![mount_point.clone()];
        }
        Ok(survey)
    }

    async fn attach(
        &self,
        source: &Source,
        mount_point: &MountPoint,
        missing: &[MountPoint],
    ) -> Result<(), Failure> {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        match self.fault {
            Fault::DoesNotMount => Ok(()),
            Fault::OftenFails if calls.is_multiple_of(2) => {
                Err(Failure::new(FailureCode::Internal, "planted"))
            }
            _ => self.mounter.attach(source, mount_point, missing).await,
        }
    }

    async fn detach(&self, source: &Source, mount_point: &MountPoint) -> Result<Detached, Failure> {
        match self.fault {
            Fault::NeverUnmounts => Err(Failure::new(FailureCode::InUse, "planted")),
            _ => self.mounter.detach(source, mount_point).await,
        }
    }

    async fn remove_directories(&self, directories: &[MountPoint]) -> Result<(), Failure> {
        match self.fault {
            Fault::LeavesDirectories => Ok(()),
            _ => self.mounter.remove_directories(directories).await,
        }
    }

    async fn guard(&self, mount_point: &MountPoint, missing: &[MountPoint]) -> Result<(), Failure> {
        match self.fault {
            Fault::LaysNoGuard => Ok(()),
            _ => self.mounter.guard(mount_point, missing).await,
        }
    }

    async fn unguard(&self, mount_point: &MountPoint) -> Result<(), Failure> {
        self.mounter.unguard(mount_point).await
    }

    async fn holders_of(&self, source: &Source, mount_point: &MountPoint) -> Vec<User> {
        self.mounter.holders_of(source, mount_point).await
    }
}
