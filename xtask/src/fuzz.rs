//! Runs the targets that feed decoders with changed bytes, for as long as is asked. They are tests like others, with
//! a short run of their own in the gate, so that the stable toolchain is enough.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::run;
use crate::workspace::Workspace;

/// The package of each target, and its name.
const TARGETS: &[(&str, &str)] = &[("dvs-store-nfs", "fuzz_replies")];

/// How long to run.
#[derive(Args)]
pub(crate) struct Options {
    /// For each target, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Runs each target, to its first failure.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    for (package, target) in TARGETS {
        println!("fuzzing {target} of {package} for {} s", options.seconds);
        let mut command = workspace.cargo(["test", "-p", package, "--test", target, "--", "--nocapture"]);
        command.env("DVS_FUZZ_SECONDS", options.seconds.to_string());
        let code = run::handed_over(&mut command)?;
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
    }
    Ok(ExitCode::SUCCESS)
}
