//! Shrinks a failing scenario while it still breaks the same promise: removes half of its steps, a quarter, …, single
//! ones; then doors and delays.

use crate::driver;
use crate::promise::Promise;
use crate::report::Report;
use crate::scenario::{Rates, Scenario};
use crate::wiring::Wiring;

/// Upper bound of scenarios that are tried.
const TRIES_MAX: usize = 600;

/// Runs the shortest scenario found, with its log.
pub(crate) fn shrink(scenario: &Scenario, promise: Promise) -> Report {
    let mut search = Search { promise, tries: 0 };
    let mut best = scenario.clone();
    loop {
        let before = best.steps.len();
        best = search.without_steps(best);
        best = search.calmer(best);
        if best.steps.len() == before || search.is_over() {
            return driver::run(&best, true, Wiring::default());
        }
    }
}

struct Search {
    promise: Promise,
    tries: usize,
}

impl Search {
    fn is_over(&self) -> bool {
        TRIES_MAX <= self.tries
    }

    fn still_fails(&mut self, scenario: &Scenario) -> bool {
        self.tries += 1;
        driver::run(scenario, false, Wiring::default())
            .violation
            .is_some_and(|violation| violation.promise == self.promise)
    }

    fn without_steps(&mut self, mut best: Scenario) -> Scenario {
        let mut size = best.steps.len().div_ceil(2);
        while 0 < size && !self.is_over() {
            let mut start = 0;
            while start < best.steps.len() && !self.is_over() {
                let mut shorter = best.clone();
                let end = (start + size).min(shorter.steps.len());
                shorter.steps.drain(start..end);
                if self.still_fails(&shorter) {
                    best = shorter;
                } else {
                    start += size;
                }
            }
            size /= 2;
        }
        best
    }

    fn calmer(&mut self, best: Scenario) -> Scenario {
        let rates = best.rates;
        let quiet = [
            Rates::default(),
            Rates { crashes: rates.crashes, ..Rates::default() },
            Rates { hangs: rates.hangs, ..Rates::default() },
            Rates { failures: rates.failures, ..Rates::default() },
        ];
        let mut best = self.first(best, |best| quiet.map(|rates| Scenario { rates, ..best.clone() }));
        best = self.first(best, |best| [Scenario { doors: 1, ..best.clone() }]);
        self.first(best, |best| {
            [0, 3].map(|delay_milliseconds| Scenario { delay_milliseconds, ..best.clone() })
        })
    }

    /// The first of some simpler scenarios that still fails, or else the present one.
    fn first<const N: usize>(
        &mut self,
        best: Scenario,
        calmer: impl FnOnce(&Scenario) -> [Scenario; N],
    ) -> Scenario {
        let calmer = calmer(&best);
        calmer.into_iter().find(|calmer| self.still_fails(calmer)).unwrap_or(best)
    }
}
