//! Exit codes (contract.md section 9; the numbers above 63 are those of sysexits.h), and the runtime that the
//! short-lived commands share.

use std::future::Future;
use std::process::ExitCode;

/// Done, or stopped on request.
pub(crate) const DONE: u8 = 0;
/// No answer in time.
pub(crate) const NO_ANSWER: u8 = 2;
/// The command line cannot be understood.
pub(crate) const USAGE: u8 = 64;
/// Something needed is missing or unreachable.
pub(crate) const UNAVAILABLE: u8 = 69;
/// A defect.
pub(crate) const DEFECT: u8 = 70;
/// The configuration is wrong.
pub(crate) const CONFIGURATION: u8 = 78;

/// Runs `work` to its end.
pub(crate) fn block_on(work: impl Future<Output = u8>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => ExitCode::from(runtime.block_on(work)),
        Err(error) => {
            eprintln!("dvs: cannot start: {error}");
            ExitCode::from(DEFECT)
        }
    }
}
