//! The gate. All steps run, also after one has failed, so that one run tells everything; then it says how much was
//! really run, and ends with one line that programs can read.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};

use crate::counts::Tests;
use crate::e2e::{self, Report};
use crate::report::{Step, Trial, failed, list, unexcused, verdict};
use crate::workspace::Workspace;
use crate::{crash, machine, new_store, powercut, run, sim, tidy};

/// Their tests are run by the step that prepares a broker for them.
const FEATURES: &str = "dvs-features";

#[derive(Default)]
struct Gate {
    steps: Vec<Step>,
}

pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    if machine::is_root() {
        machine::require(&[
            machine::EXT,
            machine::FILE_SYSTEMS,
            machine::MOSQUITTO,
            machine::TLS,
            machine::CONTAINERS,
            machine::NFS_SERVER,
            machine::UNITS,
        ])?;
    }
    let mut gate = Gate::default();
    let mut tests = Tests::default();
    let mut report = Report::default();
    let mut simulated = Vec::new();
    let mut trials = Vec::new();
    gate.step("format", || run::shown(&mut workspace.cargo(["fmt", "--all", "--", "--check"])));
    gate.step("clippy", || clippy(workspace));
    gate.step("tidy", || tidy::check(workspace));
    gate.counting_step("tests", || {
        let (found, verdict) = unit_and_contract_tests(workspace)?;
        tests = found;
        verdict
    });
    gate.step("docs", || {
        let mut doc = workspace.cargo(["doc", "--workspace", "--no-deps"]);
        run::shown(doc.env("RUSTDOCFLAGS", "-D warnings"))
    });
    gate.step("sim", || {
        simulated = sim::in_the_gate(workspace)?;
        Ok(())
    });
    gate.counting_step("features", || {
        report = e2e::run(workspace, &e2e::Options::default())?;
        if report.problems.is_empty() { Ok(()) } else { bail!("{}", report.problems.join("; ")) }
    });
    gate.step("crash", || {
        trials.push(crash::in_the_gate(workspace)?);
        Ok(())
    });
    gate.step("powercut", || {
        trials.push(powercut::in_the_gate(workspace)?);
        Ok(())
    });
    gate.step("new store", || new_store::run(workspace));
    Ok(gate.close(&tests, &report, &simulated, &trials))
}

impl Gate {
    fn step(&mut self, name: &'static str, work: impl FnOnce() -> Result<()>) {
        self.perform(name, false, work);
    }

    /// A step that counts its failures, so that they need not be counted as one failed step too.
    fn counting_step(&mut self, name: &'static str, work: impl FnOnce() -> Result<()>) {
        self.perform(name, true, work);
    }

    fn perform(&mut self, name: &'static str, counted: bool, work: impl FnOnce() -> Result<()>) {
        println!("\n== {name}");
        let start = Instant::now();
        let problem = work().err().map(|error| format!("{error:#}"));
        let time = start.elapsed();
        if let Some(problem) = &problem {
            println!("{problem}");
        }
        println!("== {name}: {} in {:.1} s", verdict(problem.is_none()), time.as_secs_f64());
        self.steps.push(Step { name, time, problem, counted });
    }

    fn close(&self, tests: &Tests, report: &Report, simulated: &[String], trials: &[Trial]) -> ExitCode {
        let (scenarios, steps) = (report.scenarios(), report.steps());
        println!("\n== summary");
        for step in &self.steps {
            println!(
                "{:<9} {:<6} {:>7.1} s",
                step.name,
                verdict(step.problem.is_none()),
                step.time.as_secs_f64()
            );
        }
        println!("tests: {tests}");
        println!("scenarios: {scenarios}");
        println!("steps of scenarios: {steps}");
        for counts in simulated.iter().chain(trials.iter().flat_map(|trial| &trial.counts)) {
            println!("{counts}");
        }
        list("not run", &tests.not_run);
        list("not run", report.not_run());
        let left_out: Vec<&str> = trials.iter().filter_map(|trial| trial.not_run.as_deref()).collect();
        list("not run", &left_out);
        for step in &self.steps {
            list(step.name, &step.problem);
        }
        let not_run = tests.not_run.len() + left_out.len();
        let skipped = not_run as u64 + scenarios.not_run + tests.ignored;
        let mut lacking = Vec::new();
        if machine::is_complete() {
            let all = tests.not_run.iter().map(String::as_str).chain(report.not_run());
            lacking = unexcused(all.chain(left_out));
            list("must run on this machine", &lacking);
        }
        let failed = failed(&self.steps, tests.failed + scenarios.failed) + lacking.len() as u64;
        println!("{} passed, {failed} failed, {skipped} skipped", tests.passed + scenarios.passed);
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Clippy over everything, and again with each optional feature of the crates that have it.
fn clippy(workspace: &Workspace) -> Result<()> {
    let warnings = ["--", "-D", "warnings"];
    run::shown(workspace.cargo(["clippy", "--workspace", "--all-targets"]).args(warnings))?;
    for (feature, crates) in workspace.optional_features() {
        println!("with feature {feature} of {}", crates.join(", "));
        let mut command = workspace.cargo(["clippy", "--all-targets", "--features", feature]);
        for name in crates {
            command.args(["-p", name]);
        }
        run::shown(command.args(warnings))?;
    }
    Ok(())
}

fn unit_and_contract_tests(workspace: &Workspace) -> Result<(Tests, Result<()>)> {
    let mut command = workspace.cargo(["test", "--workspace", "--exclude", FEATURES, "--no-fail-fast"]);
    let run = run::streamed(&mut command)?;
    // These only exist where steps can be made to fail.
    let arguments = ["test", "-p", "dvs-mount-linux", "--features", "failpoints", "--test", "failpoints"];
    let on_demand = run::streamed(&mut workspace.cargo(arguments))?;
    let ended_well = run.status.success() && on_demand.status.success();
    let tests = Tests::read(&[run.lines, on_demand.lines].concat());
    let verdict = judge(&tests, ended_well);
    Ok((tests, verdict))
}

fn judge(tests: &Tests, ended_well: bool) -> Result<()> {
    match tests {
        Tests { failed, .. } if 0 < *failed => Err(anyhow!("{failed} failed")),
        _ if !ended_well => Err(anyhow!("the tests did not all build and run")),
        Tests { ignored, .. } if 0 < *ignored => {
            Err(anyhow!("{ignored} ignored: a test runs or says why not"))
        }
        Tests { passed: 0, .. } => Err(anyhow!("no test ran")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_must_have_run() {
        let tests = |passed, failed, ignored| Tests { passed, failed, ignored, not_run: Vec::new() };
        assert!(judge(&tests(1, 0, 0), true).is_ok());
        for (tests, ended_well) in
            [(tests(0, 0, 0), true), (tests(1, 0, 1), true), (tests(1, 1, 0), true), (tests(1, 0, 0), false)]
        {
            assert!(judge(&tests, ended_well).is_err(), "{tests}");
        }
    }
}
