//! Runs the features: the real agent, a real Mosquitto, real loop devices where they can be had, and counts what ran.
//! A run that ran nothing, or a step that nobody defined, is a failure.
//!
//! | variable | says |
//! |---|---|
//! | `DVS_BIN` | the program `dvs` to test; required |
//! | `DVS_E2E_STORE` | `loop` or `fake`; by default `loop` for root, else `fake` |
//! | `DVS_MOSQUITTO_IMAGE` | the image to run Mosquitto from |
//! | `DVS_MOSQUITTO_BIN` | without an image: the program to run, by default Debian's |
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a runner prints what it ran")]

mod broker;
mod count;
mod exchange;
mod fill;
mod identity;
mod probes;
mod sender;
mod stage;
mod steps;
mod world;

use crate::broker::Broker;
use crate::count::Selection;
use crate::stage::Stage;
use crate::world::World;
use anyhow::{Context, Result, bail};
use cucumber::writer::Stats;
use cucumber::{World as _, cli, event, parser, runner, writer};
use dvs_trials::namespace;
use dvs_trials::nfs::ganesha;
use dvs_trials::scratch::Scratch;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// What is run: every feature in this folder of the crate.
const FEATURES: &str = ".";
/// The test machines have two cores, and each scenario has a broker's client, an agent and its programs.
const SCENARIOS_AT_ONCE: usize = 4;

type Options = cli::Opts<parser::basic::Cli, runner::basic::Cli, writer::basic::Cli>;

fn main() -> ExitCode {
    match in_own_namespace() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn in_own_namespace() -> Result<bool> {
    namespace::enter()?;
    if ganesha::cannot_run().is_none() {
        ganesha::keep_clean_mounts().context("cannot keep a mount namespace for NFS servers")?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(run())
}

async fn run() -> Result<bool> {
    let options = Options::parsed();
    let may_mount = rustix::process::geteuid().is_root();
    let scratch = Scratch::new("dvs-e2e", may_mount)?;
    let broker = Broker::start(&scratch.folder.join("broker")).await?;
    println!("broker: {broker}");
    let stage = Stage::set(&scratch, broker.address(), may_mount)?;
    let selection = Arc::new(Selection::new(&options, stage));
    // What a scenario has started ends with it, also when it is dropped half-way.
    let counted = tokio::select! {
        counted = perform(options, Arc::clone(&selection)) => Some(counted),
        told = told_to_stop() => told.map(|()| None)?,
    };
    broker.end().await?;
    let left = check_nothing_left(&scratch);
    let Some(counted) = counted else { return left.and_then(|()| bail!("interrupted")) };
    let passed = counted.passed() && left.is_ok();
    if let Err(left) = left {
        eprintln!("error: {left:#}");
    }
    if counted.ran_nothing() {
        eprintln!("error: nothing ran; is the filter right?");
    }
    for not_run in selection.not_run() {
        println!("not run[{}]: {not_run}", stage.store);
    }
    println!("features[{}]: {counted}", stage.store);
    Ok(passed)
}

async fn told_to_stop() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for signals")?;
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

async fn perform(options: Options, selection: Arc<Selection>) -> count::Counts {
    let takes = Arc::clone(&selection);
    let features = Path::new(env!("CARGO_MANIFEST_DIR")).join(FEATURES);
    let summary = World::cucumber()
        .max_concurrent_scenarios(SCENARIOS_AT_ONCE)
        .after(|_, _, _, ended, world| Box::pin(tidy(ended, world)))
        .fail_on_skipped()
        .with_cli(cli::Opts { re_filter: None, tags_filter: None, ..options })
        .filter_run(features, move |feature, rule, scenario| takes.takes(feature, rule, scenario))
        .await;
    let broken = summary.parsing_errors() + summary.hook_errors();
    count::Counts::new(&selection, summary.scenarios_stats(), summary.steps_stats(), broken)
}

/// Ends and removes what a scenario has made; where it failed, shows what its agent said.
async fn tidy(ended: &event::ScenarioFinished, world: Option<&mut World>) {
    let Some(world) = world else { return };
    if !matches!(ended, event::ScenarioFinished::StepPassed) {
        eprintln!("--- the agent's log ends with:\n{}\n---", world.last_words());
    }
    if let Err(error) = world.clear() {
        // The run's own tidying up will try again, and the run fails if that leaves anything.
        eprintln!("error: cannot tidy up after a scenario: {error:#}");
    }
}

fn check_nothing_left(scratch: &Scratch) -> Result<()> {
    scratch.clear().context("cannot tidy up after the run")?;
    scratch.check_gone()
}
