//! What was done, counted.

use std::collections::BTreeSet;
use std::fmt;

/// See the module.
#[derive(Debug, Default)]
pub struct Report {
    pub(super) steps: Option<Steps>,
    pub(super) rounds: Option<Rounds>,
    pub(super) twins: Option<Twins>,
}

/// Kills at steps.
#[derive(Debug, Default)]
pub(super) struct Steps {
    pub(super) situations: usize,
    pub(super) points: usize,
    pub(super) cases: u64,
    pub(super) kills: u64,
    pub(super) jobs: u64,
    pub(super) repeats: u64,
    pub(super) reached: BTreeSet<String>,
    /// Failpoints at which no agent was killed in any situation.
    pub(super) unreached: Vec<String>,
}

/// Kills at random moments.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    pub(super) seed: u64,
    pub(super) senders: usize,
    pub(super) rounds: u64,
    pub(super) kills: u64,
    pub(super) jobs: u64,
    pub(super) cut_off: u64,
    pub(super) repeats: u64,
    pub(super) volumes: u64,
    pub(super) remembered: u64,
}

/// Agents that attach one volume.
#[derive(Debug, Default)]
pub(super) struct Twins {
    pub(super) agents: usize,
    pub(super) rounds: u64,
    pub(super) starts: u64,
    pub(super) kills: u64,
    pub(super) looks: u64,
}

impl Report {
    /// Why the run proves less than it should, if so.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let steps = self.steps.as_ref()?;
        if !steps.unreached.is_empty() {
            return Some(format!(
                "no situation of features/src/crash/situation.rs leads to the failpoints {}: add one that does, or \
                 remove them",
                steps.unreached.join(", ")
            ));
        }
        // Commits that come together in one run may come one by one in the next, so a few places are not met again.
        (steps.kills * 10 < steps.cases * 9).then(|| {
            format!("only {} of {} agents were killed where they should be", steps.kills, steps.cases)
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(steps) = &self.steps {
            let Steps { situations, points, cases, kills, jobs, repeats, reached, .. } = steps;
            writeln!(
                formatter,
                "crash: at steps: {kills} kills in {situations} situations at {} of {points} failpoints ({} not met again), \
                 {jobs} jobs answered, {repeats} repeats with the same result, nothing lost, nothing left",
                reached.len(),
                cases - kills
            )?;
        }
        if let Some(rounds) = &self.rounds {
            let Rounds { seed, senders, rounds, kills, jobs, cut_off, repeats, volumes, remembered } = rounds;
            writeln!(
                formatter,
                "crash: at random: {rounds} rounds of {senders} senders with seed {seed}, {kills} kills, {jobs} jobs \
                 answered ({cut_off} of them cut off, {remembered} in the journal), {repeats} repeats as promised, \
                 {volumes} volumes found as answered, nothing lost, nothing left"
            )?;
        }
        if let Some(Twins { agents, rounds, starts, kills, looks }) = &self.twins {
            writeln!(
                formatter,
                "crash: one image: {agents} agents attach it in {rounds} rounds, {starts} starts, {kills} kills, never two \
                 loop devices in {looks} looks"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(cases: u64, kills: u64, unreached: &[&str]) -> Option<String> {
        let unreached = unreached.iter().map(ToString::to_string).collect();
        let steps = Some(Steps { cases, kills, unreached, ..Steps::default() });
        Report { steps, ..Report::default() }.problem()
    }

    #[test]
    fn a_failpoint_that_no_situation_leads_to_is_a_problem() {
        assert_eq!(problem(100, 95, &[]), None);
        assert!(problem(100, 100, &["loop.new-step"]).unwrap().contains("loop.new-step"));
        assert!(problem(100, 80, &[]).unwrap().contains("only 80 of 100"));
    }
}
