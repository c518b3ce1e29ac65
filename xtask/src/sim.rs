//! Builds the simulation optimised and hands over to it, `dvs-sim`.

use std::process::ExitCode;

use anyhow::Result;

use crate::run;
use crate::workspace::Workspace;

/// Simulates. Ends as the simulation ends.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    run::shown(&mut workspace.cargo(["build", "--release", "-p", "dvs-sim"]))?;
    let mut command = run::program(workspace.program("release", "dvs-sim"));
    command.current_dir(workspace.root()).args(arguments);
    run::handed_over(&mut command)
}
