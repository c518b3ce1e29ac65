//! Which scenarios run, and how many did. What cannot run here is counted, with its reason.

use crate::Options;
use crate::stage::{Stage, Store};
use cucumber::gherkin::tagexpr::TagOperation;
use cucumber::gherkin::{Feature, Rule, Scenario};
use cucumber::tag::Ext;
use cucumber::writer::summarize::Stats;
use dvs_trials::broker::Mosquitto;
use dvs_trials::docker::DockerEngine;
use dvs_trials::nfs::ganesha;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Whether a name is asked for.
type ByName = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// Decides for each scenario whether it is asked for, and whether it can run.
pub(crate) struct Selection {
    name: Option<ByName>,
    tags: Option<TagOperation>,
    /// Tags of scenarios that cannot run, and why.
    impossible: Vec<(&'static str, String)>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    steps: usize,
    not_run: Vec<String>,
    steps_not_run: usize,
}

pub(crate) struct Counts {
    scenarios: [usize; 3],
    steps: [usize; 3],
}

impl Selection {
    pub(crate) fn new(options: &Options, stage: &Stage) -> Self {
        let mut impossible = Vec::new();
        match stage.store {
            Store::Fake => impossible.push(("loop", "it is about image files and loop devices".to_owned())),
            Store::Loop => impossible.push(("fake", "it is about the fake store".to_owned())),
        }
        if !stage.has_failpoints {
            let reason = "this `dvs` was built without the feature `failpoints`";
            impossible.push(("failpoints", reason.to_owned()));
        }
        if Mosquitto::program().is_none() {
            let reason = "a broker that goes away must be a program, and there is no `mosquitto`";
            impossible.push(("broker", reason.to_owned()));
        }
        if let Some(reason) = ganesha::cannot_run() {
            impossible.push(("nfs", reason));
        }
        if let Some(reason) = DockerEngine::why_not() {
            impossible.push(("docker", reason));
        }
        Self {
            name: options
                .re_filter
                .clone()
                .map(|asked| Box::new(move |name: &str| asked.is_match(name)) as ByName),
            tags: options.tags_filter.clone(),
            impossible,
            seen: Mutex::default(),
        }
    }

    /// Whether the scenario is to run.
    pub(crate) fn takes(&self, feature: &Feature, rule: Option<&Rule>, scenario: &Scenario) -> bool {
        let tags =
            || feature.tags.iter().chain(rule.iter().flat_map(|rule| &rule.tags)).chain(&scenario.tags);
        let asked = match (&self.name, &self.tags) {
            (Some(name), _) => name(&scenario.name),
            (None, Some(expression)) => expression.eval(tags()),
            (None, None) => true,
        };
        if !asked {
            return false;
        }
        let backgrounds = [feature.background.as_ref(), rule.and_then(|rule| rule.background.as_ref())];
        let background: usize =
            backgrounds.into_iter().flatten().map(|background| background.steps.len()).sum();
        let steps = background + scenario.steps.len();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let impossible = self.impossible.iter().find(|(tag, _)| tags().any(|has| has == tag));
        if let Some((_, reason)) = impossible {
            // A colon and a blank end the name for whoever reads the line.
            let name = scenario.name.replace(": ", " - ");
            seen.not_run.push(format!("{name}: {reason}"));
            seen.steps_not_run += steps;
            return false;
        }
        seen.steps += steps;
        true
    }

    /// Name and reason of each scenario that could not run.
    pub(crate) fn not_run(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).not_run.clone()
    }
}

impl Counts {
    /// Counts; `broken` is what went wrong outside of any step, each as a failed scenario.
    pub(crate) fn new(selection: &Selection, scenarios: &Stats, steps: &Stats, broken: usize) -> Self {
        let seen = selection.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Steps behind one that failed did not run.
        let behind = seen.steps.saturating_sub(steps.passed + steps.failed + steps.skipped);
        Self {
            scenarios: [scenarios.passed, scenarios.failed + scenarios.skipped + broken, seen.not_run.len()],
            steps: [steps.passed, steps.failed + steps.skipped, seen.steps_not_run + behind],
        }
    }

    /// Whether something ran and nothing failed.
    pub(crate) fn passed(&self) -> bool {
        !self.ran_nothing() && self.scenarios[1] == 0 && self.steps[1] == 0
    }

    pub(crate) fn ran_nothing(&self) -> bool {
        self.scenarios[0] + self.scenarios[1] == 0 || self.steps[0] + self.steps[1] == 0
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([passed, failed, not_run], [steps, failed_steps, steps_not_run]) = (self.scenarios, self.steps);
        write!(
            formatter,
            "{passed} scenarios passed, {failed} failed, {not_run} not run; \
             {steps} steps passed, {failed_steps} failed, {steps_not_run} not run"
        )
    }
}
