//! Changes the domain and the core in small ways, one at a time, and reports which changes no test notices. Takes hours
//! for all of both, and minutes for the ledger, so it is not part of the gate: name files with `--file`.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::machine;
use crate::report::list;
use crate::run;
use crate::workspace::Workspace;

const PROGRAM: &str = "cargo-mutants";
const PACKAGES: [&str; 2] = ["dvs-domain", "dvs-core"];
/// Where no mutant may stay alive.
const GUARDED: &str = "domain/src/ledger/";
/// A mutant can make a test wait for ever: it may take this many times as long as without any, and this long at least.
const TIMES_MAX: &str = "4";
const TEST_SECONDS_MIN: &str = "60";
const BUILD_SECONDS_MAX: &str = "600";

/// Tests each mutant. Fails if one stays alive where none may, or if the tests fail without any. `arguments` are those
/// of `cargo mutants`.
pub(crate) fn command(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    if machine::find(PROGRAM).is_none() && run::text(&mut workspace.cargo(["mutants", "--version"])).is_err()
    {
        println!("installing {PROGRAM}");
        run::shown(&mut workspace.cargo(["install", PROGRAM, "--locked"]))?;
    }
    let output = workspace.metadata.target_directory.as_std_path();
    let mut command = workspace.cargo(["mutants", "--colors", "never", "--annotations", "none"]);
    command.args(["--timeout-multiplier", TIMES_MAX, "--minimum-test-timeout", TEST_SECONDS_MIN]);
    command.args(["--build-timeout", BUILD_SECONDS_MAX]);
    command.arg("--cargo-arg=--tests").arg("--output").arg(output); // No documentation is built to look for tests in it.
    command.args(PACKAGES.iter().flat_map(|package| ["--package", *package])).args(arguments);
    command.env("PROPTEST_MAX_SHRINK_ITERS", "0"); // That a property fails is enough: no need for a small example.
    let status = command.status().with_context(|| format!("cannot start {}", run::told(&command)))?;
    let found = output.join("mutants.out");
    let (alive, slow) = (lines(&found.join("missed.txt"))?, lines(&found.join("timeout.txt"))?);
    list("alive", &alive);
    list("timed out", &slow);
    let guarded = alive.iter().filter(|mutant| mutant.starts_with(GUARDED)).count();
    println!("mutants: {} alive, {guarded} of them in {GUARDED}; {} timed out", alive.len(), slow.len());
    match status.code() {
        // 2: some are alive. 3: some ran into the time-out, which the tests have noticed too.
        Some(0 | 2 | 3) if guarded == 0 => Ok(ExitCode::SUCCESS),
        Some(0 | 2 | 3) => Ok(ExitCode::FAILURE),
        _ => bail!("{} ended with {status}", run::told(&command)),
    }
}

fn lines(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.lines().map(ToOwned::to_owned).collect())
}
