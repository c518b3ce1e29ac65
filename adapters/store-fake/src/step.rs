//! What a system call said, as a failure that names the step and the thing.

use dvs_domain::failure::{BoxError, Failure, FailureCode};
use std::io;
use std::path::Path;

/// Names the step at which a system call failed, and what it was about.
pub(crate) trait AtStep<T> {
    /// Turns the error into a failure: `no-space` when that is what it says, else `internal`.
    fn at(self, step: &'static str, path: &Path) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> AtStep<T> for Result<T, E> {
    fn at(self, step: &'static str, path: &Path) -> Result<T, Failure> {
        self.map_err(|error| {
            let error: io::Error = error.into();
            let code = match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FailureCode::NoSpace,
                _ => FailureCode::Internal,
            };
            Failure::new(code, format!("`{}`", path.display())).caused_by(error).at_step(step)
        })
    }
}

/// The failure of a store that cannot be reached.
pub(crate) fn unreachable_at(step: &'static str, path: &Path, error: impl Into<BoxError>) -> Failure {
    Failure::new(
        FailureCode::StoreUnavailable,
        format!("folder `{}` of the store cannot be reached", path.display()),
    )
    .caused_by(error)
    .at_step(step)
    .with_hint("see that the folder is there, and its file system mounted")
}

/// Keeps a failure to undo beside the failure that made the undoing necessary.
pub(crate) fn after_undo(failure: Failure, undone: Result<(), Failure>) -> Failure {
    match undone {
        Ok(()) => failure,
        Err(undo) => failure.undo_failed(undo),
    }
}
