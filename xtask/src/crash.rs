//! Builds an agent that can be killed at each of its steps, and hands over to the program that does it, `dvs-crash` of
//! the features.

use std::process::ExitCode;

use anyhow::{Result, anyhow};

use crate::image::{self, PROGRAM_VARIABLE};
use crate::report::Trial;
use crate::run::{self, HINT, Streamed};
use crate::sweep::Turn;
use crate::workspace::Workspace;
use crate::{failpoints, machine};

/// How the lines begin in which the program counts what it did.
const COUNTS: &str = "crash: ";

/// What the gate has time for: each failpoint of each situation once, and some random moments.
const IN_THE_GATE: [&str; 5] = ["--quick", "--rounds", "60", "--twin-rounds", "4"];

/// Runs the crash test by itself.
pub(crate) fn command(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    if let Some(reason) = machine::no_loop_devices() {
        let hint = anyhow!("{HINT}type `cargo xtask crash` as root, on a machine with loop devices");
        return Err(hint.context(format!("the crash test cannot run: {reason}")));
    }
    let run = perform(workspace, arguments)?;
    Ok(if run.status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs as much of it as the gate has time for.
pub(crate) fn in_the_gate(workspace: &Workspace) -> Result<Trial> {
    if let Some(reason) = machine::no_loop_devices() {
        return Ok(Trial::left_out("the crash test", &reason));
    }
    let run = perform(workspace, &IN_THE_GATE.map(str::to_owned))?;
    Trial::of_run(run.status.success(), &run.lines, COUNTS)
}

fn perform(workspace: &Workspace, arguments: &[String]) -> Result<Streamed> {
    machine::require(&[machine::EXT, machine::FILE_SYSTEMS, machine::MOSQUITTO])?;
    let mosquitto = image::program()?;
    run::shown(&mut workspace.cargo(["build", "-p", "dvs", "--features", "failpoints"]))?;
    run::shown(&mut workspace.cargo(["build", "-p", "dvs-trials", "--bin", "dvs-crash"]))?;
    let points = failpoints::of_sources(workspace)?;
    let _turn = Turn::take()?;
    let mut command = run::program(workspace.program("debug", "dvs-crash"));
    command
        .current_dir(workspace.root())
        .args(["--points", &points.join(",")])
        .args(arguments)
        .env("DVS_BIN", workspace.program("debug", "dvs"))
        .env(PROGRAM_VARIABLE, mosquitto);
    run::streamed(&mut command)
}
