//! Builds an agent with failpoints, one of which makes a job hang, and hands over to the program that floods it with jobs,
//! `dvs-flood`.

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::Args;

use crate::image::{self, PROGRAM_VARIABLE};
use crate::machine;
use crate::run::{self, HINT};
use crate::sweep::Turn;
use crate::workspace::Workspace;

/// How the test is run.
#[derive(Args)]
pub(crate) struct Options {
    /// How long the flood lasts
    #[arg(long, default_value_t = 180)]
    seconds: u64,
    /// What the order of jobs follows from
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) fn command(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    if let Some(reason) = machine::no_loop_devices() {
        let hint = anyhow!("{HINT}type `cargo xtask flood` as root, on a machine with loop devices");
        return Err(hint.context(format!("the agent cannot be flooded: {reason}")));
    }
    machine::require(&[machine::EXT, machine::MOSQUITTO])?;
    let mosquitto = image::program()?;
    run::shown(&mut workspace.cargo(["build", "-p", "dvs", "--features", "failpoints"]))?;
    run::shown(&mut workspace.cargo(["build", "-p", "dvs-trials", "--bin", "dvs-flood"]))?;
    let _turn = Turn::take()?;
    let mut command = run::program(workspace.program("debug", "dvs-flood"));
    command
        .current_dir(workspace.root())
        .args(["--seconds", &options.seconds.to_string()])
        .env("DVS_BIN", workspace.program("debug", "dvs"))
        .env(PROGRAM_VARIABLE, mosquitto);
    if let Some(seed) = options.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    let run = run::streamed(&mut command)?;
    Ok(if run.status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
