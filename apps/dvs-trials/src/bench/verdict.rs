//! A figure and what it has to be, and the figures that runs are compared by.

use serde_json::{Value, json};
use std::fmt;
use std::time::Duration;

pub(super) const BYTES_PER_MEBIBYTE: f64 = (1 << 20) as f64;

/// One figure, and whether it is what it has to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What the figure is.
    pub what: String,
    /// The figure.
    pub figure: f64,
    /// What it has to be.
    pub bound: Bound,
}

/// What a figure has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// That or more.
    AtLeast(f64),
    /// That or less.
    AtMost(f64),
    /// Less than that many MiB.
    MebibytesBelow(f64),
}

impl Verdict {
    pub(super) fn new(what: impl Into<String>, figure: f64, bound: Bound) -> Self {
        Self { what: what.into(), figure, bound }
    }

    /// Compares `figures`, which are better when they are lower, with those of the other build: of each round the
    /// ratio. It may be worse by half of the range in which the middle half of the ratios lie.
    pub(super) fn against(what: impl Into<String>, figures: &[f64], other: &[f64]) -> Self {
        let ratios = ratios(figures, other);
        let spread = (quantile(&ratios, 0.75) - quantile(&ratios, 0.25)) / 2.0;
        Self::new(what, median(&ratios), Bound::AtMost(1.0 + spread))
    }

    /// Whether the figure is what it has to be. One that could not be had is not.
    #[must_use]
    pub fn is_good(&self) -> bool {
        match self.bound {
            Bound::AtLeast(bound) => bound <= self.figure,
            Bound::AtMost(bound) => self.figure <= bound,
            Bound::MebibytesBelow(bound) => 0.0 < self.figure && self.figure < bound,
        }
    }

    pub(super) fn json(&self) -> Value {
        let (kind, bound) = match self.bound {
            Bound::AtLeast(bound) => ("at least", bound),
            Bound::AtMost(bound) => ("at most", bound),
            Bound::MebibytesBelow(bound) => ("below, in MiB", bound),
        };
        json!({ "what": self.what, "figure": self.figure, "bound": bound, "kind": kind, "good": self.is_good() })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (figure, bound) = match self.bound {
            Bound::AtLeast(bound) => (format!("{:.2}", self.figure), format!("at least {bound:.2}")),
            Bound::AtMost(bound) => (format!("{:.2}", self.figure), format!("at most {bound:.2}")),
            Bound::MebibytesBelow(bound) => {
                (format!("{:.1} MiB", self.figure), format!("below {bound:.1} MiB"))
            }
        };
        let verdict = if self.is_good() { "ok" } else { "MISSED" };
        write!(formatter, "{:46}{figure:>12}  {bound:16}{verdict}", self.what)
    }
}

pub(super) fn milliseconds(durations: &[Duration]) -> f64 {
    median(&seconds(durations)) * 1000.0
}

pub(super) fn seconds(durations: &[Duration]) -> Vec<f64> {
    durations.iter().map(Duration::as_secs_f64).collect()
}

/// How `figures` are to `others`, each to what the same round gave: the machine has another speed a second later.
pub(super) fn ratio(figures: &[f64], others: &[f64]) -> f64 {
    median(&ratios(figures, others))
}

fn ratios(figures: &[f64], others: &[f64]) -> Vec<f64> {
    figures.iter().zip(others).map(|(figure, other)| figure / other).collect()
}

/// The middle one, or the middle between the two in the middle; not a number without any.
pub(super) fn median(figures: &[f64]) -> f64 {
    quantile(figures, 0.5)
}

/// The figure below which this part of the figures lies, interpolated.
fn quantile(figures: &[f64], part: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = part * sorted.len().saturating_sub(1) as f64;
    let figure = |at: f64| sorted.get(at as usize).copied().unwrap_or(f64::NAN);
    figure(at.floor()) + (figure(at.ceil()) - figure(at.floor())) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn another_build_may_be_slower_by_what_rounds_differ() {
        let steady = Verdict::against("create", &[1.1; 9], &[1.0; 9]);
        assert!(!steady.is_good(), "{steady}");
        let mixed = [0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3].map(|ratio| ratio - 0.05);
        let mixed = Verdict::against("create", &mixed, &[1.0; 9]);
        assert_eq!(mixed.bound, Bound::AtMost(1.0 + (1.15 - 0.95) / 2.0));
        assert!(mixed.is_good(), "{mixed}");
        assert!(!Verdict::against("create", &[], &[]).is_good());
    }

    #[test]
    fn a_machine_that_changes_its_speed_changes_no_ratio() {
        assert_eq!(ratio(&[7.0, 70.0, 14.0], &[10.0, 100.0, 20.0]), 0.7);
        assert!(ratio(&[], &[]).is_nan());
    }

    #[test]
    fn a_figure_that_could_not_be_had_is_missed() {
        for bound in [Bound::AtLeast(1.0), Bound::AtMost(1.0), Bound::MebibytesBelow(1.0)] {
            assert!(!Verdict { what: String::new(), figure: f64::NAN, bound }.is_good(), "{bound:?}");
        }
        assert!(!Verdict { what: String::new(), figure: 0.0, bound: Bound::MebibytesBelow(16.0) }.is_good());
    }

    #[test]
    fn verdicts_say_what_was_missed() {
        let verdict = Verdict { what: "create".to_owned(), figure: 2.9, bound: Bound::AtLeast(3.0) };
        assert!(verdict.to_string().ends_with("at least 3.00   MISSED"), "{verdict}");
    }
}
