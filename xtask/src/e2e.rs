//! Runs the features: the real command and agent, a real broker, and real loop devices where they can be had. The
//! runner lives in `features`; here the machine is prepared for it and its counts are judged.

use std::fmt::{self, Display};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::counts::{Count, Features};
use crate::image::Mosquitto;
use crate::machine;
use crate::report::list;
use crate::run::{self, HINT};
use crate::sweep::Turn;
use crate::workspace::Workspace;

/// Which features to run, and how.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Only scenarios with these tags (an expression with `@`), or else whose name matches
    #[arg(long)]
    filter: Option<String>,
    /// Only against this store; by default against each that this machine can have
    #[arg(long, value_enum)]
    store: Option<Store>,
}

/// Where the volumes of a run live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Store {
    /// Image files on loop devices
    Loop,
    /// Plain directories
    Fake,
}

#[derive(Default)]
pub(crate) struct Report {
    pub(crate) runs: Vec<Features>,
    /// Why the gate must not pass, if it must not.
    pub(crate) problems: Vec<String>,
}

impl Report {
    /// The scenarios of all runs together.
    pub(crate) fn scenarios(&self) -> Count {
        Count { not_run: self.not_run().len() as u64, ..add(self.runs.iter().map(|run| run.scenarios)) }
    }

    /// The steps of all runs together.
    pub(crate) fn steps(&self) -> Count {
        add(self.runs.iter().map(|run| run.steps))
    }

    /// Name and reason of each scenario that ran against no store at all.
    pub(crate) fn not_run(&self) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        for text in self.runs.iter().flat_map(|run| &run.not_run) {
            let nowhere =
                self.runs.iter().all(|run| run.not_run.iter().any(|other| name(other) == name(text)));
            if nowhere && found.iter().all(|other| name(other) != name(text)) {
                found.push(text);
            }
        }
        found
    }
}

impl Store {
    fn name(self) -> &'static str {
        match self {
            Self::Loop => "loop",
            Self::Fake => "fake",
        }
    }
}

impl Display for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

pub(crate) fn command(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let report = run(workspace, options)?;
    println!();
    for run in &report.runs {
        println!("scenarios on store {}: {}; steps: {}", run.store, run.scenarios, run.steps);
    }
    list("not run", report.not_run());
    list("problem", &report.problems);
    Ok(if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds what is tested, prepares a broker, and runs the features against each store.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<Report> {
    let stores = stores(options)?;
    if machine::is_root() {
        machine::require(&[machine::EXT, machine::FILE_SYSTEMS, machine::MOSQUITTO, machine::NFS_SERVER])?;
        if machine::no_docker().is_none() {
            machine::require(&[machine::CONTAINERS])?;
        }
    }
    run::shown(&mut workspace.cargo(["build", "-p", "dvs", "--features", "failpoints"]))?;
    run::shown(&mut workspace.cargo(["test", "-p", "dvs-features", "--test", "behaviour", "--no-run"]))?;
    let _turn = Turn::take()?;
    let mosquitto = Mosquitto::prepare()?;
    let mut report = Report::default();
    for store in stores {
        println!("\nfeatures on store {store}");
        match run_on(workspace, options, store, &mosquitto) {
            Ok(features) => report.runs.push(features),
            Err(error) => report.problems.push(format!("features on store {store}: {error:#}")),
        }
    }
    for run in &report.runs {
        let failed = run.scenarios.failed + run.steps.failed;
        if 0 < failed {
            report.problems.push(format!("features on store {}: {} failed", run.store, run.scenarios.failed));
        } else if run.scenarios.passed == 0 || run.steps.passed == 0 {
            report.problems.push(format!("features on store {}: nothing ran", run.store));
        }
    }
    Ok(report)
}

fn stores(options: &Options) -> Result<Vec<Store>> {
    match (options.store, machine::no_loop_devices()) {
        (None, None) => Ok(vec![Store::Loop, Store::Fake]),
        (None, Some(reason)) => {
            println!("features run on store fake only: {reason}");
            Ok(vec![Store::Fake])
        }
        (Some(Store::Loop), Some(reason)) => {
            bail!("cannot run the features on store loop: {reason}")
        }
        (Some(store), _) => Ok(vec![store]),
    }
}

fn run_on(workspace: &Workspace, options: &Options, store: Store, mosquitto: &Mosquitto) -> Result<Features> {
    let mut command = workspace.cargo(["test", "-p", "dvs-features", "--test", "behaviour"]);
    if let Some(filter) = &options.filter {
        command.args(["--", if filter.contains('@') { "--tags" } else { "--name" }, filter]);
    }
    command.env("DVS_BIN", workspace.program("debug", "dvs")).env("DVS_E2E_STORE", store.name());
    mosquitto.tell(&mut command);
    let run = run::streamed(&mut command)?;
    let features = Features::read(store.name(), &run.lines).with_context(|| {
        format!("{HINT}the runner ended with {}; `xtask/src/counts.rs` says what it must print", run.status)
    })?;
    if !run.status.success() && features.scenarios.failed == 0 {
        bail!("the runner ended with {}, though it counted no failure", run.status);
    }
    Ok(features)
}

fn add(counts: impl Iterator<Item = Count>) -> Count {
    counts.fold(Count::default(), |sum, count| Count {
        passed: sum.passed + count.passed,
        failed: sum.failed + count.failed,
        not_run: sum.not_run + count.not_run,
    })
}

/// The name in `NAME: WHY`.
fn name(text: &str) -> &str {
    text.split_once(": ").map_or(text, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(store: Store, not_run: &[&str]) -> Features {
        Features {
            store: store.name().to_owned(),
            scenarios: Count { passed: 3, failed: 0, not_run: not_run.len() as u64 },
            steps: Count { passed: 9, failed: 0, not_run: 0 },
            not_run: not_run.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    #[test]
    fn what_ran_against_one_store_was_run() {
        let runs = vec![
            run(Store::Loop, &["needs a tape: no tape"]),
            run(Store::Fake, &["enforces the size: not on fake", "needs a tape: there is none"]),
        ];
        let report = Report { runs, problems: Vec::new() };
        assert_eq!(report.not_run(), ["needs a tape: no tape"]);
        assert_eq!(report.scenarios(), Count { passed: 6, failed: 0, not_run: 1 });
    }

    #[test]
    fn what_one_store_cannot_is_not_run_where_there_is_no_other() {
        let report = Report {
            runs: vec![run(Store::Fake, &["enforces the size: not on fake"])],
            ..Default::default()
        };
        assert_eq!(report.scenarios().not_run, 1);
    }
}
