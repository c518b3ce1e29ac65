//! The steps of the work: how their failures are told, and where tests make them fail.

use dvs_domain::failure::{Failure, FailureCode};
use rustix::io::Errno;
use std::io;

/// The failure of `step` by a system call.
pub(crate) fn failed(step: &'static str, what: impl Into<String>, errno: Errno) -> Failure {
    let code = match errno {
        Errno::NOSPC | Errno::DQUOT => FailureCode::NoSpace,
        Errno::IO | Errno::STALE | Errno::ROFS | Errno::NOTCONN => FailureCode::StoreUnavailable,
        _ => FailureCode::Internal,
    };
    Failure::new(code, what).caused_by(io::Error::from(errno)).at_step(step)
}

/// The failpoint before a step that changes something, such as `loop.image` before the step `image`.
#[cfg(feature = "failpoints")]
pub(crate) fn failpoint(point: &'static str) -> Result<(), Failure> {
    fail::fail_point!(point, |what| {
        let what = what.unwrap_or_default();
        if what == "kill" {
            // Nothing that is still to be done, not even closing a file, may happen after this line.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
        let code = FailureCode::from_word(&what).unwrap_or(FailureCode::Internal);
        Err(Failure::new(code, "failed on demand").at_step(point.strip_prefix("loop.").unwrap_or(point)))
    });
    Ok(())
}

/// The failpoint before a step: nothing, in a build for use.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn failpoint(_point: &'static str) -> Result<(), Failure> {
    Ok(())
}

/// A failpoint between two system calls of one step, where a process can end but nothing can fail by itself.
pub(crate) fn between(point: &'static str) {
    let _only_ends_processes = failpoint(point);
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
