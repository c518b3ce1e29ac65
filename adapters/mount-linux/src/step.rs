//! The steps that change something: what they are called in failures, and where tests make them fail.

use dvs_domain::failure::Failure;

/// A step that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A directory on the way to the mount point, or the mount point itself, is made.
    MakeDirectories,
    /// The mount is made, detached.
    Mount,
    RemoveLostAndFound,
    /// The mount is moved to its mount point.
    MoveMount,
    Unmount,
    /// A guard is made, detached.
    Guard,
    /// A guard is unmounted.
    Unguard,
    /// A directory that was made for the mount point is removed.
    RemoveDirectories,
    /// That directories were removed is made durable.
    SyncDirectories,
}

impl Step {
    /// Its name in a failure.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::MakeDirectories => "make directories",
            Self::Mount => "mount",
            Self::RemoveLostAndFound => "remove lost+found",
            Self::MoveMount => "move mount",
            Self::Unmount => "unmount",
            Self::Guard => "guard",
            Self::Unguard => "unguard",
            Self::RemoveDirectories => "remove directories",
            Self::SyncDirectories => "sync directories",
        }
    }

    /// Called right before the step changes something. Tests make it fail here.
    pub(crate) fn begin(self) -> Result<(), Failure> {
        failpoint(
            self,
            match self {
                Self::MakeDirectories => "mount.directories",
                Self::Mount => "mount.mount",
                Self::RemoveLostAndFound => "mount.remove-lost-and-found",
                Self::MoveMount => "mount.move",
                Self::Unmount => "mount.unmount",
                Self::Guard => "mount.guard",
                Self::Unguard => "mount.unguard",
                Self::RemoveDirectories => "mount.remove-directories",
                Self::SyncDirectories => "mount.sync-directories",
            },
        )
    }
}

/// A failpoint between two system calls of one step: tests end the process here.
pub(crate) fn between(step: Step, point: &'static str) {
    let _only_ends_processes = failpoint(step, point);
}

#[cfg(feature = "failpoints")]
fn failpoint(step: Step, point: &'static str) -> Result<(), Failure> {
    use dvs_domain::failure::FailureCode;
    use rustix::process::{Signal, getpid, kill_process};

    fail::fail_point!(point, |what: Option<String>| {
        let what = what.unwrap_or_default();
        if what == "kill"
            && let Err(error) = kill_process(getpid(), Signal::KILL)
        {
            return Err(Failure::internal("cannot end this process on demand", error).at_step(step.name()));
        }
        let code = FailureCode::from_word(&what).unwrap_or(FailureCode::Internal);
        Err(Failure::new(code, "failed on demand").at_step(step.name()))
    });
    Ok(())
}

#[cfg(not(feature = "failpoints"))]
fn failpoint(_step: Step, _point: &'static str) -> Result<(), Failure> {
    Ok(())
}

/// Makes something durable. A test leaves it out by the name of its `point`, to see that the loss is found.
pub(crate) fn sync(
    point: &'static str,
    sync: impl FnOnce() -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(point, |_| Ok(()));
    let _ = point;
    sync()
}
