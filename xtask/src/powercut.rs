//! Builds an agent whose steps can be left out, and hands over to the program that cuts its power, `dvs-powercut`: once
//! for each file system below, side by side.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use anyhow::{Result, anyhow, bail};
use clap::{Args, ValueEnum};

use crate::image::{self, PROGRAM_VARIABLE};
use crate::machine;
use crate::report::Trial;
use crate::run::{self, HINT, Streamed};
use crate::sweep::Turn;
use crate::workspace::Workspace;

/// How the lines begin in which the program counts what it did.
const COUNTS: &str = "powercut: ";

/// How many cuts the gate has time for: about two minutes on two processors.
const CUTS_IN_THE_GATE: u32 = 250;

/// How the test is run.
#[derive(Args)]
pub(crate) struct Options {
    /// How often the power fails on each file system
    #[arg(long, default_value_t = 200)]
    cuts: u32,
    /// What places and losses follow from
    #[arg(long)]
    seed: Option<u64>,
    /// The file system of the store's and the journal's disk; both, side by side, when it is not given
    #[arg(long, value_enum)]
    below: Option<Below>,
    /// Plant faults before that, each of which must be found
    #[arg(long)]
    controls: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Below {
    Ext4,
    Xfs,
}

impl Below {
    const ALL: [Self; 2] = [Self::Ext4, Self::Xfs];

    fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
}

/// Runs the test by itself.
pub(crate) fn command(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    if let Some(reason) = cannot_run() {
        let hint =
            anyhow!("{HINT}type `cargo xtask powercut` as root, on a machine with loop devices and FUSE");
        return Err(hint.context(format!("the power cannot be cut: {reason}")));
    }
    let (ended_well, _) = perform(workspace, options)?;
    Ok(if ended_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs as much of it as the gate has time for, with another seed each time.
pub(crate) fn in_the_gate(workspace: &Workspace) -> Result<Trial> {
    if let Some(reason) = cannot_run() {
        return Ok(Trial::left_out("the power cuts", &reason));
    }
    let options = Options { cuts: CUTS_IN_THE_GATE, seed: None, below: None, controls: false };
    let (ended_well, lines) = perform(workspace, &options)?;
    Trial::of_run(ended_well, &lines, COUNTS)
}

fn cannot_run() -> Option<String> {
    machine::no_loop_devices().or_else(machine::no_fuse)
}

/// Whether it ended well, and what it printed.
fn perform(workspace: &Workspace, options: &Options) -> Result<(bool, Vec<String>)> {
    machine::require(&[machine::EXT, machine::FILE_SYSTEMS, machine::MOSQUITTO])?;
    let mosquitto = image::program()?;
    run::shown(&mut workspace.cargo(["build", "-p", "dvs", "--features", "failpoints"]))?;
    run::shown(&mut workspace.cargo(["build", "-p", "dvs-trials", "--bin", "dvs-powercut"]))?;
    let _turn = Turn::take()?;
    let chosen = options.below.map_or_else(|| Below::ALL.to_vec(), |below| vec![below]);
    let mosquitto = &mosquitto;
    let runs: Vec<Result<Streamed>> = thread::scope(|scope| {
        let started = |below| scope.spawn(move || cut(workspace, options, below, mosquitto));
        let threads: Vec<_> = chosen.into_iter().map(started).collect();
        let joined = |thread: thread::ScopedJoinHandle<'_, _>| thread.join();
        threads
            .into_iter()
            .map(|thread| joined(thread).unwrap_or_else(|_| bail!("a thread panicked")))
            .collect()
    });
    let (mut ended_well, mut lines) = (true, Vec::new());
    for run in runs {
        let run = run?;
        ended_well &= run.status.success();
        lines.extend(run.lines);
    }
    Ok((ended_well, lines))
}

fn cut(workspace: &Workspace, options: &Options, below: Below, mosquitto: &PathBuf) -> Result<Streamed> {
    let mut command = run::program(workspace.program("debug", "dvs-powercut"));
    command
        .current_dir(workspace.root())
        .args(["--cuts", &options.cuts.to_string(), "--below", below.name()])
        .env("DVS_BIN", workspace.program("debug", "dvs"))
        .env(PROGRAM_VARIABLE, mosquitto);
    if let Some(seed) = options.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    if options.controls {
        command.arg("--controls");
    }
    run::streamed(&mut command)
}
