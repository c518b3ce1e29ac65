//! Reads from what test programs print how many ran. What these lines look like is agreed here:
//!
//! - Rust's own tests end with `test result: ok. N passed; N failed; N ignored; …`, once per program. A test that
//!   can't run here returns early and writes `NOT RUN: NAME: WHY` to standard error, past the capturing of
//!   output: by `writeln!(std::io::stderr(), …)`, not by `eprintln!`.
//! - The features end with `features[STORE]: N scenarios passed, N failed, N not run; N steps passed, N failed, N
//!   not run`, and for each scenario that could not run there is a line `not run[STORE]: NAME: WHY`.

use std::fmt::{self, Display};

use anyhow::{Context, Result, bail};

/// Rust's own tests, of all programs of one run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tests {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
    /// Name and reason of each that could not run.
    pub(crate) not_run: Vec<String>,
}

/// How many of one thing passed, failed, and could not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) not_run: u64,
}

/// One run of the features against one store.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Features {
    pub(crate) store: String,
    pub(crate) scenarios: Count,
    pub(crate) steps: Count,
    /// Name and reason of each scenario that could not run.
    pub(crate) not_run: Vec<String>,
}

impl Tests {
    /// Adds up the lines of one run of `cargo test`.
    pub(crate) fn read(lines: &[String]) -> Self {
        let mut tests = Self::default();
        for line in lines {
            if let Some(result) = line.strip_prefix("test result: ") {
                let result = result.split_once(". ").map_or(result, |(_, counts)| counts);
                tests.passed += number_before(result, " passed").unwrap_or(0);
                tests.failed += number_before(result, " failed").unwrap_or(0);
                tests.ignored += number_before(result, " ignored").unwrap_or(0);
            } else if let Some(test) = line.strip_prefix("NOT RUN: ") {
                tests.not_run.push(test.to_owned());
            }
        }
        // For Rust's runner a test that returned early has passed.
        tests.passed = tests.passed.saturating_sub(tests.not_run.len() as u64);
        tests
    }
}

impl Display for Tests {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} passed, {} failed, {} not run", self.passed, self.failed, self.not_run.len())
    }
}

impl Display for Count {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} passed, {} failed, {} not run", self.passed, self.failed, self.not_run)
    }
}

impl Features {
    /// Reads the counts that the runner printed for `store`. Without them, or without a reason for each scenario
    /// that could not run, the run proves nothing.
    pub(crate) fn read(store: &str, lines: &[String]) -> Result<Self> {
        let start = format!("features[{store}]: ");
        let last = lines.iter().rev().find_map(|line| line.strip_prefix(&start));
        let counts = last.with_context(|| format!("the runner printed no line `{start}…`"))?;
        let (scenarios, steps) = counts
            .split_once("; ")
            .and_then(|(scenarios, steps)| {
                Some((count(scenarios, " scenarios passed")?, count(steps, " steps passed")?))
            })
            .with_context(|| format!("the runner's line cannot be read: `{start}{counts}`"))?;
        let reason = format!("not run[{store}]: ");
        let not_run: Vec<_> =
            lines.iter().filter_map(|line| line.strip_prefix(&reason)).map(ToOwned::to_owned).collect();
        if not_run.len() as u64 != scenarios.not_run {
            let reasons = not_run.len();
            bail!("{} scenarios could not run, and the runner said why for {reasons}", scenarios.not_run);
        }
        Ok(Self { store: store.to_owned(), scenarios, steps, not_run })
    }
}

fn count(text: &str, passed: &str) -> Option<Count> {
    Some(Count {
        passed: number_before(text, passed)?,
        failed: number_before(text, " failed")?,
        not_run: number_before(text, " not run")?,
    })
}

/// The number that stands before `word`.
fn number_before(text: &str, word: &str) -> Option<u64> {
    let before = &text[..text.find(word)?];
    before.rsplit(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(ToOwned::to_owned).collect()
    }

    #[test]
    fn test_results_are_added_up() {
        let tests = Tests::read(&lines(
            "running 4 tests\n\
             test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             NOT RUN: loop_makes_a_volume: loop devices need root\n\
             test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.20s",
        ));
        assert_eq!((tests.passed, tests.failed, tests.ignored), (15, 3, 1));
        assert_eq!(tests.not_run, ["loop_makes_a_volume: loop devices need root"]);
    }

    #[test]
    fn features_are_read() {
        let features = Features::read(
            "loop",
            &lines(
                "not run[loop]: a volume on xfs: mkfs.xfs is missing\n\
                 features[loop]: 12 scenarios passed, 1 failed, 1 not run; 120 steps passed, 2 failed, 9 not run",
            ),
        )
        .unwrap();
        assert_eq!(features.scenarios, Count { passed: 12, failed: 1, not_run: 1 });
        assert_eq!(features.steps, Count { passed: 120, failed: 2, not_run: 9 });
        assert_eq!(features.not_run, ["a volume on xfs: mkfs.xfs is missing"]);
    }

    #[test]
    fn features_without_their_line_or_their_reasons_prove_nothing() {
        let of_another =
            "features[fake]: 1 scenarios passed, 0 failed, 0 not run; 1 steps passed, 0 failed, 0 not run";
        let no_reason =
            "features[loop]: 1 scenarios passed, 0 failed, 2 not run; 1 steps passed, 0 failed, 0 not run";
        for output in ["", of_another, "features[loop]: all is well", no_reason] {
            assert!(Features::read("loop", &lines(output)).is_err(), "{output}");
        }
    }
}
