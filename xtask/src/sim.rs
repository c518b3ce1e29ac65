//! Builds the simulation, `dvs-sim`, and runs it: optimised for the many seeds of one who looks for faults, and as the
//! tests have built it already in the gate.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::run;
use crate::workspace::Workspace;

/// How the lines begin in which the program counts what it did.
const COUNTS: &str = "sim: ";

/// How many seeds the gate runs: about 20 s on two processors.
const SEEDS_IN_THE_GATE: &str = "1000";

/// Simulates. Ends as the simulation ends.
pub(crate) fn command(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    run::shown(&mut workspace.cargo(["build", "--profile", "sim", "-p", "dvs-sim"]))?;
    let mut command = run::program(workspace.program("sim", "dvs-sim"));
    command.current_dir(workspace.root()).args(arguments);
    run::handed_over(&mut command)
}

/// Runs as many seeds as the gate has time for, and gives what was counted.
pub(crate) fn in_the_gate(workspace: &Workspace) -> Result<Vec<String>> {
    run::shown(&mut workspace.cargo(["build", "-p", "dvs-sim"]))?;
    let mut command = run::program(workspace.program("debug", "dvs-sim"));
    let run = run::streamed(command.current_dir(workspace.root()).args(["--seeds", SEEDS_IN_THE_GATE]))?;
    if !run.status.success() {
        bail!("a promise was broken, see above");
    }
    let counts: Vec<String> = run.lines.into_iter().filter(|line| line.starts_with(COUNTS)).collect();
    if counts.is_empty() {
        bail!("nothing was counted");
    }
    Ok(counts)
}
