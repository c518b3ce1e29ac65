//! Sends the agent jobs without end, with one that hangs beside them, and looks whether it keeps its promises. Ends with 1
//! when it does not.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]

use anyhow::{Context, Result, bail};
use clap::Parser;
use dvs_trials::flood::{self, Plan, Report};
use dvs_trials::namespace;
use dvs_trials::scratch::Scratch;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::signal::unix::{SignalKind, signal};

/// Floods the agent in DVS_BIN, which is built with failpoints, with jobs. Needs root, loop devices, and Debian's
/// Mosquitto.
#[derive(Parser)]
#[command(name = "dvs-flood")]
struct Line {
    #[command(flatten)]
    plan: Plan,
}

fn main() -> ExitCode {
    let Line { plan } = Line::parse();
    match namespace::enter().and_then(|()| run(&plan)) {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(plan: &Plan) -> Result<Report> {
    let seed = plan.seed.unwrap_or_else(any_seed);
    println!("seed {seed}");
    let scratch = Scratch::new("dvs-flood", true)?;
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
        report = flood::run(plan, seed, scratch) => report,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("told to stop"),
    }
}
