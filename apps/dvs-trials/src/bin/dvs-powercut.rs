//! Cuts the power of the agent's disk, and looks whether what was answered is true. Ends with 1 when it is not.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use dvs_trials::namespace;
use dvs_trials::powercut::{self, Plan, Report};
use dvs_trials::scratch::Scratch;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::signal::unix::{SignalKind, signal};

/// Lets the power fail while the agent in DVS_BIN works. Needs root, loop devices, FUSE, and Debian's Mosquitto.
#[derive(Parser)]
#[command(name = "dvs-powercut", args_conflicts_with_subcommands = true)]
struct Line {
    #[command(flatten)]
    plan: Plan,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Keeps disks as files in a folder
    #[command(hide = true)]
    KeepDisks { folder: PathBuf },
}

fn main() -> ExitCode {
    let Line { plan, command } = Line::parse();
    let ended = match command {
        Some(Command::KeepDisks { folder }) => powercut::serve(&folder),
        None => namespace::enter().and_then(|()| run(&plan)).map(|report| print!("{report}")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(plan: &Plan) -> Result<Report> {
    let seed = plan.seed.unwrap_or_else(any_seed);
    println!("{}: seed {seed}", plan.below);
    let scratch = Scratch::new("dvs-powercut", true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let report = runtime.block_on(run_unless_interrupted(plan, seed, &scratch));
    drop(runtime);
    let tidied = scratch.clear().and_then(|()| scratch.check_gone());
    let report = report?;
    tidied.context("cannot tidy up after the run")?;
    Ok(report)
}

fn any_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ now.as_secs()
}

async fn run_unless_interrupted(plan: &Plan, seed: u64, scratch: &Scratch) -> Result<Report> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for signals")?;
    tokio::select! {
        report = powercut::run(plan, seed, scratch, |control| println!("{control}")) => report,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("told to stop"),
    }
}
