//! Measures jobs against the same work done in a shell and by bare system calls. Ends with 1 when a figure is not
//! what it has to be, and with 2 when it could not measure.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]

use anyhow::{Context, Result, bail};
use clap::Parser;
use dvs_trials::bench::{self, Plan, Report};
use dvs_trials::namespace;
use dvs_trials::scratch::Scratch;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

const MISSED: u8 = 1;
const NOT_MEASURED: u8 = 2;

/// Measures the agent in DVS_BIN against a shell and bare system calls, through Debian's Mosquitto. Needs root and
/// loop devices.
#[derive(Parser)]
#[command(name = "dvs-bench")]
struct Line {
    #[command(flatten)]
    plan: Plan,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let line = Line::parse();
    match namespace::enter().and_then(|()| measure(&line.plan)) {
        Ok(report) => {
            if line.json {
                println!("{:#}", report.json());
            } else {
                print!("{report}");
            }
            if report.is_good() { ExitCode::SUCCESS } else { ExitCode::from(MISSED) }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(NOT_MEASURED)
        }
    }
}

fn measure(plan: &Plan) -> Result<Report> {
    let scratch = Scratch::new("dvs-bench", true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let report = runtime.block_on(measure_unless_interrupted(plan, &scratch));
    drop(runtime);
    scratch.clear().and_then(|()| scratch.check_gone()).context("cannot tidy up after the run")?;
    report
}

async fn measure_unless_interrupted(plan: &Plan, scratch: &Scratch) -> Result<Report> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for signals")?;
    tokio::select! {
        report = bench::run(plan, scratch) => report,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("told to stop"),
    }
}
