//! Exit codes (contract.md section 9; the numbers above 63 are those of sysexits.h), and the runtime that the
//! short-lived commands share.

use crate::print::{self, note};
use dvs_agent::config::Problems;
use std::future::Future;
use std::process::ExitCode;

pub(crate) const DONE: u8 = 0;
pub(crate) const NO_ANSWER: u8 = 2;
/// The command line cannot be understood.
pub(crate) const USAGE: u8 = 64;
/// Something needed is missing or unreachable.
pub(crate) const UNAVAILABLE: u8 = 69;
pub(crate) const DEFECT: u8 = 70;
pub(crate) const CONFIGURATION: u8 = 78;

/// The exit code of a command that would end with `code`: what was done but could not be printed has not succeeded. A
/// failure keeps its own code.
pub(crate) fn exit_code(code: u8) -> u8 {
    if code == DONE && print::data_is_lost() { DEFECT } else { code }
}

/// Prints every problem of the configuration.
pub(crate) fn wrong_configuration(problems: &Problems) -> ExitCode {
    note!("dvs: the configuration is wrong:");
    problems.0.iter().for_each(|problem| note!("  {problem}"));
    ExitCode::from(CONFIGURATION)
}

pub(crate) fn block_on(work: impl Future<Output = u8>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => ExitCode::from(exit_code(runtime.block_on(work))),
        Err(error) => {
            note!("dvs: cannot start: {error}");
            ExitCode::from(DEFECT)
        }
    }
}
