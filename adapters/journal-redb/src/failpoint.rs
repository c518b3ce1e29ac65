//! Failing on demand, before a commit. Only tests build with it.

use dvs_domain::failure::Failure;
#[cfg(feature = "failpoints")]
use dvs_domain::failure::FailureCode;

/// Fails as the test says, with a failure code's word, or ends the process at once for `kill`.
#[cfg_attr(not(feature = "failpoints"), expect(clippy::unnecessary_wraps, reason = "fails in tests only"))]
pub(crate) fn failpoint(step: &'static str) -> Result<(), Failure> {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(step, |what| {
        let word = what.unwrap_or_default();
        if word == "kill" {
            let own = rustix::process::getpid();
            let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
        }
        let code = FailureCode::from_word(&word).unwrap_or(FailureCode::Internal);
        Err(Failure::new(code, "failed on demand").at_step(step))
    });
    let _ = step;
    Ok(())
}

/// A failpoint between two system calls, where a process can end but nothing can fail by itself.
pub(crate) fn between(point: &'static str) {
    let _only_ends_processes = failpoint(point);
}

/// Whether a test leaves `step` out, to see that the loss is found.
pub(crate) fn is_left_out(step: &'static str) -> bool {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(step, |_| true);
    let _ = step;
    false
}
