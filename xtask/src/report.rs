//! How the gate and its parts print what came of them.

use std::fmt::Display;
use std::time::Duration;

use anyhow::{Result, ensure};

/// A step of the gate that has ended.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) time: Duration,
    pub(crate) problem: Option<String>,
    /// Whether the counts of failed tests already include the problem.
    pub(crate) counted: bool,
}

/// What came of a step that counts what it did, and for which a machine may be lacking something.
pub(crate) struct Trial {
    pub(crate) counts: Vec<String>,
    /// Why it could not run, if so.
    pub(crate) not_run: Option<String>,
}

impl Trial {
    /// `what` cannot run here, for `reason`.
    pub(crate) fn left_out(what: &str, reason: &str) -> Self {
        let not_run = format!("{what}: {reason}");
        println!("not run: {not_run}");
        Self { counts: Vec::new(), not_run: Some(not_run) }
    }

    /// It has run, and printed `lines`; those that begin with `word` are its counts.
    ///
    /// # Errors
    /// When nothing was counted, or it did not end well.
    pub(crate) fn of_run(ended_well: bool, lines: &[String], word: &str) -> Result<Self> {
        ensure!(ended_well, "what was answered and what was there differ, see above");
        let counts: Vec<_> = lines.iter().filter(|line| line.starts_with(word)).cloned().collect();
        ensure!(!counts.is_empty(), "nothing was counted");
        Ok(Self { counts, not_run: None })
    }
}

/// Reasons for which a test may be left out on any machine. The tests that need failpoints run apart from the others.
const EXCUSES: [&str; 3] =
    ["this host has no IPv6", "this bench makes nothing fail", "built without the feature `failpoints`"];

/// Tests that were left out for a reason that a fully equipped machine never has.
pub(crate) fn unexcused<'t>(not_run: impl IntoIterator<Item = &'t str>) -> Vec<&'t str> {
    let excused = |test: &str| EXCUSES.iter().any(|reason| test.ends_with(reason));
    not_run.into_iter().filter(|test| !excused(test)).collect()
}

/// Prints a list under a word, if it is not empty.
pub(crate) fn list(word: &str, items: impl IntoIterator<Item = impl Display>) {
    for item in items {
        println!("{word}: {item}");
    }
}

/// Failed tests and scenarios, and each failed step that they do not include: never zero when a step has failed.
pub(crate) fn failed(steps: &[Step], counted: u64) -> u64 {
    let failed = |step: &&Step| step.problem.is_some();
    let uncounted = steps.iter().filter(failed).filter(|step| !step.counted).count() as u64;
    let any = u64::from(steps.iter().any(|step| step.problem.is_some()));
    (uncounted + counted).max(any)
}

pub(crate) fn verdict(well: bool) -> &'static str {
    if well { "ok" } else { "FAILED" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_known_reason_excuses_a_test() {
        let not_run = ["a: this host has no IPv6", "b: loop devices need root", "c: there is no `docker`"];
        assert_eq!(unexcused(not_run), not_run[1..]);
    }

    #[test]
    fn a_trial_that_counted_nothing_proves_nothing() {
        let lines = ["seed 1".to_owned(), "powercut: 3 cuts".to_owned()];
        assert_eq!(Trial::of_run(true, &lines, "powercut: ").unwrap().counts, lines[1..]);
        assert!(Trial::of_run(true, &lines[..1], "powercut: ").is_err());
        assert!(Trial::of_run(false, &lines, "powercut: ").is_err());
    }

    fn step(problem: Option<&str>, counted: bool) -> Step {
        Step { name: "step", time: Duration::ZERO, problem: problem.map(ToOwned::to_owned), counted }
    }

    #[test]
    fn a_failed_step_is_never_told_as_no_failure() {
        assert_eq!(failed(&[step(None, false), step(None, true)], 0), 0);
        assert_eq!(failed(&[step(Some("unformatted"), false), step(None, true)], 0), 1);
        assert_eq!(failed(&[step(Some("does not build"), true)], 0), 1);
        assert_eq!(failed(&[step(Some("3 failed"), true), step(Some("unformatted"), false)], 3), 4);
    }
}
