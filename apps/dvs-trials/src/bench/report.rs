//! The figures, what they have to be, and whether they are.

use super::boot::Boots;
use super::scale::Levels;
use super::verdict::{BYTES_PER_MEBIBYTE, Bound, Verdict, median, milliseconds, ratio, seconds};
use super::{Memory, Plan, Section, Way};
use serde_json::{Value, json};
use std::fmt;
use std::time::Duration;

/// How much longer the shell's create takes than a job, at least.
const SHELL_TO_DVS_MIN: f64 = 3.0;
/// How much longer a job's create takes than the bare calls, at most.
const CREATE_TO_BARE_MAX: f64 = 1.0;
/// The same for its delete.
const DELETE_TO_BARE_MAX: f64 = 1.5;
/// How many pairs jobs make for each pair of the bare calls, on all lanes, at least.
const LANES_MIN: f64 = 0.8;
/// What an agent without volumes may have in RAM.
const IDLE_MEBIBYTES_MAX: f64 = 16.0;
/// What one with many may.
const VOLUMES_MEBIBYTES_MAX: f64 = 32.0;
/// How much longer the agent takes than the bare calls until all volumes are back, at most.
const BOOT_TO_BARE_MAX: f64 = 2.5;
/// How much more than the other build the agent may have in RAM.
const MEMORY_AGAINST_MAX: f64 = 1.05;

/// What one run has shown.
#[derive(Clone, Debug)]
pub struct Report {
    plan: Plan,
    creates: [Vec<Duration>; Way::COUNT],
    deletes: [Vec<Duration>; Way::COUNT],
    lanes: [Vec<f64>; Way::COUNT],
    memory: [Memory; Way::COUNT],
    boots: Boots,
    levels: Levels,
}

impl Report {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            plan: plan.clone(),
            creates: Default::default(),
            deletes: Default::default(),
            lanes: Default::default(),
            memory: Default::default(),
            boots: Boots::default(),
            levels: Levels::default(),
        }
    }

    pub(super) fn alone(&mut self, way: Way, create: Duration, delete: Duration) {
        self.creates[way as usize].push(create);
        self.deletes[way as usize].push(delete);
    }

    pub(super) fn lanes(&mut self, way: Way, pairs_per_second: f64) {
        self.lanes[way as usize].push(pairs_per_second);
    }

    pub(super) fn memory(&mut self, way: Way, memory: Memory) {
        self.memory[way as usize] = memory;
    }

    pub(super) fn boots(&mut self, boots: Boots) {
        self.boots = boots;
    }

    pub(super) fn levels(&mut self, levels: Levels) {
        self.levels = levels;
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
            if self.plan.against.is_some() {
                verdicts.extend(self.verdicts_against());
            }
        }
        if self.plan.wants(Section::Boot) {
            let figure = ratio(&seconds(&self.boots.dvs), &seconds(&self.boots.bare));
            let what = format!("{} volumes back, dvs to", self.plan.boot_volumes);
            verdicts.push(Verdict::new(
                format!("{what} bare calls"),
                figure,
                Bound::AtMost(BOOT_TO_BARE_MAX),
            ));
            if self.plan.against.is_some() {
                let (dvs, other) = (seconds(&self.boots.dvs), seconds(&self.boots.against));
                verdicts.push(Verdict::against(format!("{what} other build"), &dvs, &other));
            }
        }
        if self.plan.wants(Section::Scale) {
            verdicts.extend(self.levels.verdicts());
        }
        verdicts
    }

    fn verdicts_on_jobs(&self) -> Vec<Verdict> {
        let creates = |way: Way| seconds(&self.creates[way as usize]);
        let deletes = |way: Way| seconds(&self.deletes[way as usize]);
        let lanes_of = |way: Way| self.lanes[way as usize].as_slice();
        let (lanes, volumes) = (self.plan.lanes, self.plan.volumes);
        let memory = self.memory[Way::Dvs as usize];
        let mebibytes = |bytes: u64| bytes as f64 / BYTES_PER_MEBIBYTE;
        vec![
            Verdict::new(
                "create, shell to dvs",
                ratio(&creates(Way::Shell), &creates(Way::Dvs)),
                Bound::AtLeast(SHELL_TO_DVS_MIN),
            ),
            Verdict::new(
                "create, dvs to bare calls",
                ratio(&creates(Way::Dvs), &creates(Way::Bare)),
                Bound::AtMost(CREATE_TO_BARE_MAX),
            ),
            Verdict::new(
                "delete, dvs to bare calls",
                ratio(&deletes(Way::Dvs), &deletes(Way::Bare)),
                Bound::AtMost(DELETE_TO_BARE_MAX),
            ),
            Verdict::new(
                format!("pairs on {lanes} lanes, dvs to bare calls"),
                ratio(lanes_of(Way::Dvs), lanes_of(Way::Bare)),
                Bound::AtLeast(LANES_MIN),
            ),
            Verdict::new(
                "agent's memory, idle",
                mebibytes(memory.idle),
                Bound::MebibytesBelow(IDLE_MEBIBYTES_MAX),
            ),
            Verdict::new(
                "agent's memory, idle after all that",
                mebibytes(memory.idle_afterwards),
                Bound::MebibytesBelow(IDLE_MEBIBYTES_MAX),
            ),
            Verdict::new(
                format!("agent's memory, {volumes} volumes"),
                mebibytes(memory.with_volumes),
                Bound::MebibytesBelow(VOLUMES_MEBIBYTES_MAX),
            ),
        ]
    }

    fn verdicts_against(&self) -> Vec<Verdict> {
        let both = |what: &str, figures: &dyn Fn(Way) -> Vec<f64>| {
            Verdict::against(
                format!("{what}, dvs to other build"),
                &figures(Way::Dvs),
                &figures(Way::Against),
            )
        };
        let memory = |what: &str, bytes: &dyn Fn(&Memory) -> u64| {
            let [dvs, other] = [Way::Dvs, Way::Against].map(|way| bytes(&self.memory[way as usize]) as f64);
            let what = format!("memory {what}, dvs to other build");
            Verdict::new(what, dvs / other, Bound::AtMost(MEMORY_AGAINST_MAX))
        };
        vec![
            both("create", &|way| seconds(&self.creates[way as usize])),
            both("delete", &|way| seconds(&self.deletes[way as usize])),
            both("a pair on all lanes", &|way| {
                self.lanes[way as usize].iter().map(|pairs| 1.0 / pairs).collect()
            }),
            memory("idle", &|memory| memory.idle),
            memory("idle after all that", &|memory| memory.idle_afterwards),
            memory("with volumes", &|memory| memory.with_volumes),
        ]
    }

    /// Everything, for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let ways = |figure: &dyn Fn(Way) -> f64| json!({ "dvs": figure(Way::Dvs), "against": figure(Way::Against), "shell": figure(Way::Shell), "bare": figure(Way::Bare) });
        let verdicts: Vec<_> = self.verdicts().iter().map(Verdict::json).collect();
        let boots = &self.boots;
        // What was not measured is no number, and so `null`.
        json!({
            "size_mebibytes": self.plan.size,
            "rounds": self.plan.rounds,
            "lanes": self.plan.lanes,
            "create_milliseconds": ways(&|way| self.create(way)),
            "delete_milliseconds": ways(&|way| self.delete(way)),
            "pairs_per_second": ways(&|way| self.pairs(way)),
            "boot_volumes": self.plan.boot_volumes,
            "boot_milliseconds": {
                "dvs": milliseconds(&boots.dvs),
                "against": milliseconds(&boots.against),
                "bare": milliseconds(&boots.bare),
            },
            "attached": self.levels.json(),
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

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.plan.wants(Section::Jobs) {
            self.show_jobs(formatter)?;
        }
        if self.plan.wants(Section::Boot) {
            self.show_boots(formatter)?;
        }
        if self.plan.wants(Section::Scale) {
            writeln!(formatter, "{}", self.levels)?;
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
        self.show_head(formatter)?;
        let mut row = |what: String, unit: &str, figure: &dyn Fn(Way) -> f64| {
            write!(formatter, "{what:46}")?;
            for way in Way::all(&self.plan) {
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
        self.show_head(formatter)?;
        write!(formatter, "{:46}", format!("{boot_volumes} volumes back ({boot_rounds} rounds)"))?;
        for way in Way::all(&self.plan) {
            let text = match way {
                Way::Dvs => format!("{:.0} ms", milliseconds(&self.boots.dvs)),
                Way::Against => format!("{:.0} ms", milliseconds(&self.boots.against)),
                Way::Bare => format!("{:.0} ms", milliseconds(&self.boots.bare)),
                Way::Shell => String::new(),
            };
            write!(formatter, "{text:>12}")?;
        }
        writeln!(formatter, "\n")
    }

    fn show_head(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:46}", "")?;
        for way in Way::all(&self.plan) {
            let name = match way {
                Way::Dvs => "dvs",
                Way::Against => "other build",
                Way::Shell => "shell",
                Way::Bare => "bare",
            };
            write!(formatter, "{name:>12}")?;
        }
        writeln!(formatter)
    }
}
