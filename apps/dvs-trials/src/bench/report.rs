//! The figures, what they have to be, and whether they are.

use super::boot::Boots;
use super::{Plan, Section, Way};
use serde_json::{Value, json};
use std::fmt;
use std::time::Duration;

/// How much longer the shell's create takes than a job, at least.
const SHELL_TO_DVS_MIN: f64 = 3.0;
/// How much longer a job's create takes than the bare calls, at most.
const DVS_TO_BARE_MAX: f64 = 1.6;
/// How many pairs jobs make for each pair of the bare calls, on all lanes, at least.
const LANES_MIN: f64 = 0.7;
/// What an agent without volumes may have in RAM.
const IDLE_MEBIBYTES_MAX: f64 = 16.0;
/// What one with many may.
const VOLUMES_MEBIBYTES_MAX: f64 = 32.0;

/// How much longer the agent takes than the bare calls until all volumes are back, at most.
const BOOT_TO_BARE_MAX: f64 = 2.5;

const BYTES_PER_MEBIBYTE: f64 = (1 << 20) as f64;

/// What one run has shown.
#[derive(Clone, Debug)]
pub struct Report {
    plan: Plan,
    creates: [Vec<Duration>; 3],
    deletes: [Vec<Duration>; 3],
    lanes: [Vec<f64>; 3],
    idle: u64,
    idle_afterwards: u64,
    with_volumes: u64,
    boots: Boots,
}

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

impl Report {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            plan: plan.clone(),
            creates: Default::default(),
            deletes: Default::default(),
            lanes: Default::default(),
            idle: 0,
            idle_afterwards: 0,
            with_volumes: 0,
            boots: Boots::default(),
        }
    }

    pub(super) fn alone(&mut self, way: Way, create: Duration, delete: Duration) {
        self.creates[way as usize].push(create);
        self.deletes[way as usize].push(delete);
    }

    pub(super) fn lanes(&mut self, way: Way, pairs_per_second: f64) {
        self.lanes[way as usize].push(pairs_per_second);
    }

    pub(super) fn idle(&mut self, bytes: u64) {
        self.idle = bytes;
    }

    pub(super) fn idle_afterwards(&mut self, bytes: u64) {
        self.idle_afterwards = bytes;
    }

    pub(super) fn with_volumes(&mut self, bytes: u64) {
        self.with_volumes = bytes;
    }

    pub(super) fn boots(&mut self, boots: Boots) {
        self.boots = boots;
    }

    /// Whether every figure is what it has to be.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.verdicts().iter().all(Verdict::is_good)
    }

    /// The figures that have to be something.
    #[must_use]
    pub fn verdicts(&self) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        if self.plan.wants(Section::Jobs) {
            verdicts.extend(self.verdicts_on_jobs());
        }
        if self.plan.wants(Section::Boot) {
            let figure = ratio(&seconds(&self.boots.dvs), &seconds(&self.boots.bare));
            let what = format!("{} volumes back, dvs to bare calls", self.plan.boot_volumes);
            verdicts.push(Verdict { what, figure, bound: Bound::AtMost(BOOT_TO_BARE_MAX) });
        }
        verdicts
    }

    fn verdicts_on_jobs(&self) -> Vec<Verdict> {
        let creates = |way: Way| seconds(&self.creates[way as usize]);
        let lanes_of = |way: Way| self.lanes[way as usize].as_slice();
        let verdict = |what: &str, figure, bound| Verdict { what: what.to_owned(), figure, bound };
        let (lanes, volumes) = (self.plan.lanes, self.plan.volumes);
        let mebibytes = |bytes: u64| bytes as f64 / BYTES_PER_MEBIBYTE;
        vec![
            verdict(
                "create, shell to dvs",
                ratio(&creates(Way::Shell), &creates(Way::Dvs)),
                Bound::AtLeast(SHELL_TO_DVS_MIN),
            ),
            verdict(
                "create, dvs to bare calls",
                ratio(&creates(Way::Dvs), &creates(Way::Bare)),
                Bound::AtMost(DVS_TO_BARE_MAX),
            ),
            verdict(
                &format!("pairs on {lanes} lanes, dvs to bare calls"),
                ratio(lanes_of(Way::Dvs), lanes_of(Way::Bare)),
                Bound::AtLeast(LANES_MIN),
            ),
            verdict("agent's memory, idle", mebibytes(self.idle), Bound::MebibytesBelow(IDLE_MEBIBYTES_MAX)),
            verdict(
                "agent's memory, idle after all that",
                mebibytes(self.idle_afterwards),
                Bound::MebibytesBelow(IDLE_MEBIBYTES_MAX),
            ),
            verdict(
                &format!("agent's memory, {volumes} volumes"),
                mebibytes(self.with_volumes),
                Bound::MebibytesBelow(VOLUMES_MEBIBYTES_MAX),
            ),
        ]
    }

    /// Everything, for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let ways = |figure: &dyn Fn(Way) -> f64| json!({ "dvs": figure(Way::Dvs), "shell": figure(Way::Shell), "bare": figure(Way::Bare) });
        let verdicts: Vec<_> = self.verdicts().iter().map(Verdict::json).collect();
        // What was not measured is no number, and so `null`.
        json!({
            "size_mebibytes": self.plan.size,
            "rounds": self.plan.rounds,
            "lanes": self.plan.lanes,
            "create_milliseconds": ways(&|way| self.create(way)),
            "delete_milliseconds": ways(&|way| self.delete(way)),
            "pairs_per_second": ways(&|way| self.pairs(way)),
            "boot_volumes": self.plan.boot_volumes,
            "boot_milliseconds": { "dvs": milliseconds(&self.boots.dvs), "bare": milliseconds(&self.boots.bare) },
            "verdicts": verdicts,
            "good": self.is_good(),
        })
    }

    fn create(&self, way: Way) -> f64 {
        milliseconds(&self.creates[way as usize])
    }

    fn delete(&self, way: Way) -> f64 {
        milliseconds(&self.deletes[way as usize])
    }

    fn pairs(&self, way: Way) -> f64 {
        median(&self.lanes[way as usize])
    }
}

impl Verdict {
    /// Whether the figure is what it has to be. One that could not be had is not.
    #[must_use]
    pub fn is_good(&self) -> bool {
        match self.bound {
            Bound::AtLeast(bound) => bound <= self.figure,
            Bound::AtMost(bound) => self.figure <= bound,
            Bound::MebibytesBelow(bound) => 0.0 < self.figure && self.figure < bound,
        }
    }

    fn json(&self) -> Value {
        let (kind, bound) = match self.bound {
            Bound::AtLeast(bound) => ("at least", bound),
            Bound::AtMost(bound) => ("at most", bound),
            Bound::MebibytesBelow(bound) => ("below, in MiB", bound),
        };
        json!({ "what": self.what, "figure": self.figure, "bound": bound, "kind": kind, "good": self.is_good() })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.plan.wants(Section::Jobs) {
            self.show_jobs(formatter)?;
        }
        if self.plan.wants(Section::Boot) {
            self.show_boots(formatter)?;
        }
        self.verdicts().iter().try_for_each(|verdict| writeln!(formatter, "{verdict}"))
    }
}

impl Report {
    fn show_jobs(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { rounds, lanes, lane_rounds, pairs, size, .. } = self.plan;
        writeln!(
            formatter,
            "{size} MiB, ext4 (the shell: ext2, as specified); medians of one run, ratios: of its rounds"
        )?;
        writeln!(
            formatter,
            "  dvs    job through Mosquitto (set_tcp_nodelay); on disk before DONE, but for the record's second copy;"
        )?;
        writeln!(
            formatter,
            "         mkfs.ext4 runs for the first volume of a size, the others get what it wrote"
        )?;
        writeln!(formatter, "  shell  the specification's commands; only mkfs syncs")?;
        writeln!(formatter, "  bare   system calls and mkfs.ext4; only mkfs syncs, no record, no checks")?;
        writeln!(formatter)?;
        writeln!(formatter, "{:46}{:>12}{:>12}{:>12}", "", "dvs", "shell", "bare")?;
        let mut row = |what: String, unit: &str, figure: &dyn Fn(Way) -> f64| {
            write!(formatter, "{what:46}")?;
            for way in Way::ALL {
                let text = format!("{:.1} {unit}", figure(way));
                write!(formatter, "{text:>12}")?;
            }
            writeln!(formatter)
        };
        row(format!("create ({rounds} rounds)"), "ms", &|way| self.create(way))?;
        row(format!("delete ({rounds} rounds)"), "ms", &|way| self.delete(way))?;
        row(format!("pairs on {lanes} lanes ({lane_rounds} x {pairs} each)"), "/s", &|way| self.pairs(way))?;
        writeln!(formatter)
    }

    fn show_boots(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { boot_volumes, boot_rounds, .. } = self.plan;
        let what = format!("{boot_volumes} volumes back ({boot_rounds} rounds)");
        let text = |took: &[Duration]| format!("{:.0} ms", milliseconds(took));
        writeln!(formatter, "{:46}{:>12}{:>12}{:>12}", "", "dvs", "", "bare")?;
        writeln!(
            formatter,
            "{what:46}{:>12}{:>12}{:>12}",
            text(&self.boots.dvs),
            "",
            text(&self.boots.bare)
        )?;
        writeln!(formatter)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (figure, bound) = match self.bound {
            Bound::AtLeast(bound) => (format!("{:.2}", self.figure), format!("at least {bound:.1}")),
            Bound::AtMost(bound) => (format!("{:.2}", self.figure), format!("at most {bound:.1}")),
            Bound::MebibytesBelow(bound) => {
                (format!("{:.1} MiB", self.figure), format!("below {bound:.0} MiB"))
            }
        };
        let verdict = if self.is_good() { "ok" } else { "MISSED" };
        write!(formatter, "{:46}{figure:>12}  {bound:16}{verdict}", self.what)
    }
}

fn milliseconds(durations: &[Duration]) -> f64 {
    median(&seconds(durations)) * 1000.0
}

fn seconds(durations: &[Duration]) -> Vec<f64> {
    durations.iter().map(Duration::as_secs_f64).collect()
}

/// How `figures` are to `others`, each to what the same round gave: the machine has another speed a second later.
fn ratio(figures: &[f64], others: &[f64]) -> f64 {
    let ratios: Vec<_> = figures.iter().zip(others).map(|(figure, other)| figure / other).collect();
    median(&ratios)
}

/// The middle one, or the middle between the two in the middle; nothing to tell without any.
fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
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
        assert!(verdict.to_string().ends_with("at least 3.0    MISSED"), "{verdict}");
    }
}
