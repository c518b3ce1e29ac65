//! Builds an agent that can be killed at each of its steps, and hands over to the program that does it, `dvs-crash` of
//! the features.

use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};

use crate::image::{self, PROGRAM_VARIABLE};
use crate::run::{self, HINT};
use crate::sweep::Turn;
use crate::workspace::Workspace;
use crate::{failpoints, machine};

/// How the lines begin in which the program counts what it did.
const COUNTS: &str = "crash: ";

/// What the gate has time for: each failpoint of each situation once, and some random moments.
const IN_THE_GATE: [&str; 5] = ["--quick", "--rounds", "60", "--twin-rounds", "4"];

/// What came of a run in the gate.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) counts: Vec<String>,
    /// Why it could not run, if so.
    pub(crate) not_run: Option<String>,
}

/// Runs the crash test by itself.
pub(crate) fn command(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    if let Some(reason) = machine::no_loop_devices() {
        let hint = anyhow!("{HINT}type `cargo xtask crash` as root, on a machine with loop devices");
        return Err(hint.context(format!("the crash test cannot run: {reason}")));
    }
    perform(workspace, arguments)
        .map(|(ended_well, _)| if ended_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs as much of it as the gate has time for.
pub(crate) fn in_the_gate(workspace: &Workspace) -> Result<Report> {
    if let Some(reason) = machine::no_loop_devices() {
        let not_run = format!("the crash test: {reason}");
        println!("not run: {not_run}");
        return Ok(Report { counts: Vec::new(), not_run: Some(not_run) });
    }
    let (ended_well, counts) = perform(workspace, &IN_THE_GATE.map(str::to_owned))?;
    if !ended_well {
        bail!("what was answered and what was there differ, see above");
    }
    if counts.is_empty() {
        bail!("nothing was counted");
    }
    Ok(Report { counts, not_run: None })
}

/// Whether it ended well, and what it counted.
fn perform(workspace: &Workspace, arguments: &[String]) -> Result<(bool, Vec<String>)> {
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
    let run = run::streamed(&mut command)?;
    let counts = run.lines.iter().filter(|line| line.starts_with(COUNTS)).cloned().collect();
    Ok((run.status.success(), counts))
}
