//! Loss of power: the real agent works on a disk that records its writes and flushes in order. At drawn places the disk is
//! rebuilt as a real one may be found when the power fails there, and the agent starts on it; some of the time that is
//! recorded, too, and the power fails again. What senders had been told before that moment must be true, each job is
//! answered, and nothing is left over.

mod disk;
mod draw;
mod history;
mod mounted;
mod player;
mod recorder;
mod report;
mod rig;
mod server;

pub use mounted::Below;
pub use report::{Control, Report};
pub use server::serve;

use crate::agent;
use crate::random::Random;
use crate::scratch::Scratch;
use anyhow::{Context, Result, ensure};
use disk::Cut;
use mounted::Barriers;
use report::Cuts;
use rig::{Rig, Run};
use std::time::{Duration, Instant};

/// How many cuts are made in what one run has recorded.
const CUTS_PER_RUN: u32 = 40;
/// How long a recording is good for: an agent that starts later finds that the time of its jobs has run out.
const RUN_LIMIT: Duration = Duration::from_secs(60);
/// How many of its last flushes a disk ignores that lies.
const IGNORED_FLUSHES: usize = 30;
/// How many cuts a fault may take that is planted.
const CONTROL_CUTS_MAX: u32 = 200;
/// How many cuts a file system without flushes must survive of which every write is kept.
const KEPT_CUTS: u32 = 20;

/// How the test is run.
#[derive(Clone, Debug, clap::Args)]
pub struct Plan {
    /// How often the power fails
    #[arg(long, default_value_t = 200)]
    pub cuts: u32,
    /// What places and losses follow from; drawn and printed when it is not given
    #[arg(long)]
    pub seed: Option<u64>,
    /// The file system of the store's and the journal's disk
    #[arg(long, value_enum, default_value_t = Below::Ext4)]
    pub below: Below,
    /// Before that, plant faults, each of which must be found
    #[arg(long)]
    pub controls: bool,
}

/// What differs from a sound agent on a sound disk.
#[derive(Clone, Copy, Debug)]
struct Setting {
    ignored_flushes: usize,
    keeps_all: bool,
    barriers: Barriers,
    /// As the environment variable for failpoints spells them.
    failpoints: &'static str,
}

const SOUND: Setting =
    Setting { ignored_flushes: 0, keeps_all: false, barriers: Barriers::On, failpoints: "" };

/// What must be found, and how it is planted: a disk that lies, and an agent that leaves out what makes a step durable. An
/// image that the agent does not sync cannot be planted: the kernel may sync it when it is bound to a loop device.
const FAULTS: &[(&str, Setting)] = &[
    ("a disk that ignores its last 30 flushes", Setting { ignored_flushes: IGNORED_FLUSHES, ..SOUND }),
    ("the record never synced", Setting { failpoints: "skip.record=return", ..SOUND }),
    ("the journal never synced", Setting { failpoints: "skip.journal=return", ..SOUND }),
    ("removed directories never synced", Setting { failpoints: "skip.directories=return", ..SOUND }),
];

/// Runs the test in the folders of `scratch`, and tells of each control as it ends.
///
/// # Errors
/// The first thing that was not true after a cut; a planted fault that was not found.
pub async fn run(plan: &Plan, seed: u64, scratch: &Scratch, tell: impl Fn(&Control)) -> Result<Report> {
    let program = agent::program()?;
    let mut rig = Rig::new(program, plan.below, scratch).await?;
    let mut random = Random::new(seed);
    let mut report = Report::new(plan.below, seed);
    if plan.controls {
        for (name, setting) in FAULTS {
            let (cuts, fault) = cut_until(&mut rig, &mut random, *setting, CONTROL_CUTS_MAX).await?;
            let fault = fault.with_context(|| format!("{name}: not found in {} cuts", cuts.cuts))?;
            tell(&Control { name, below: plan.below, cuts, found: Some(first_line(&fault)) });
        }
        if plan.below == Below::Ext4 {
            let setting = Setting { keeps_all: true, barriers: Barriers::Off, ..SOUND };
            let (cuts, fault) = cut_until(&mut rig, &mut random, setting, KEPT_CUTS).await?;
            if let Some(fault) = fault {
                return Err(fault.context("without flushes and without losses"));
            }
            let name = "a file system that never flushes, all writes kept";
            tell(&Control { name, below: plan.below, cuts, found: None });
        }
    }
    let (cuts, fault) = cut_until(&mut rig, &mut random, SOUND, plan.cuts).await?;
    if let Some(fault) = fault {
        return Err(fault.context(format!("found at cut {}", cuts.cuts)));
    }
    ensure!(plan.cuts == 0 || 0 < cuts.unflushed, "no cut had anything to lose: it proved nothing");
    report.cuts = cuts;
    Ok(report)
}

/// Cuts `most` times, or until something is not true; gives that.
async fn cut_until(
    rig: &mut Rig,
    random: &mut Random,
    setting: Setting,
    most: u32,
) -> Result<(Cuts, Option<anyhow::Error>)> {
    let mut cuts = Cuts::default();
    let began = Instant::now();
    let mut fault = None;
    while cuts.cuts < most && fault.is_none() {
        let until = Instant::now() + RUN_LIMIT;
        let mut run = rig.record(random.fork(), setting).await.context("while nothing was cut")?;
        cuts.runs += 1;
        cuts.jobs += run.jobs() as u64;
        cuts.writes += run.log.len() as u64;
        for _ in 0..CUTS_PER_RUN {
            if most <= cuts.cuts || until <= Instant::now() || fault.is_some() {
                break;
            }
            fault = cut_once(rig, &mut run, random, setting, &mut cuts).await?;
        }
        rig.forget(&run)?;
    }
    cuts.time = began.elapsed();
    Ok((cuts, fault))
}

async fn cut_once(
    rig: &mut Rig,
    run: &mut Run,
    random: &mut Random,
    setting: Setting,
    cuts: &mut Cuts,
) -> Result<Option<anyhow::Error>> {
    let position = draw::position(random, &run.log, &run.told);
    let cut = Cut {
        position,
        seed: random.next(),
        ignored_flushes: setting.ignored_flushes,
        keeps_all: setting.keeps_all,
    };
    cuts.cuts += 1;
    let (unflushed, outcome) = rig.cut(run, cut, random).await?;
    cuts.unflushed += unflushed.writes as u64;
    cuts.lost += (unflushed.writes - unflushed.kept) as u64;
    cuts.torn += unflushed.torn as u64;
    match outcome {
        Ok(seen) => {
            cuts.volumes += seen.volumes as u64;
            cuts.damaged += seen.damaged as u64;
            cuts.open += seen.open as u64;
            cuts.repeats += seen.repeats as u64;
            cuts.again += u64::from(seen.cut_again);
            Ok(None)
        }
        Err(fault) => Ok(Some(fault.context(format!(
            "the power failed at entry {position} of {}, where {unflushed:?}",
            run.log.len()
        )))),
    }
}

fn first_line(fault: &anyhow::Error) -> String {
    let root = fault.root_cause().to_string();
    root.lines().next().unwrap_or_default().to_owned()
}
