//! The crash test: the real agent on real loop devices, behind a real Mosquitto, ended by SIGKILL: at each step that it
//! has, at random moments under load, and while many agents attach one volume. After each restart every job has its
//! answer, a repeat has the same, and the machine holds exactly the volumes that were answered `DONE` and not deleted.

mod report;
mod rounds;
mod situation;
mod steps;
mod twins;

pub use report::Report;

use crate::agent;
use crate::broker::Mosquitto;
use crate::ground::Stage;
use crate::random::Random;
use crate::scratch::Scratch;
use anyhow::{Context, Result, ensure};

/// How the crash test is run.
#[derive(Clone, Debug, clap::Args)]
pub struct Plan {
    /// How often the agent is killed at a random moment under load
    #[arg(long, default_value_t = 300)]
    pub rounds: u32,
    /// How often many agents attach one volume at once
    #[arg(long, default_value_t = 20)]
    pub twin_rounds: u32,
    /// What the random moments follow from; drawn and printed when it is not given
    #[arg(long)]
    pub seed: Option<u64>,
    /// Kill once at each failpoint of a situation, not at each of its passings with two kinds of senders
    #[arg(long)]
    pub quick: bool,
    /// Leave the steps out
    #[arg(long)]
    pub no_steps: bool,
    /// The failpoints of the sources, separated by commas: `cargo xtask crash` finds them
    #[arg(long, value_delimiter = ',', hide = true)]
    pub points: Vec<String>,
}

/// Runs the crash test in the folders of `scratch`.
///
/// # Errors
/// The first difference between what was answered and what is there.
pub async fn run(plan: &Plan, seed: u64, scratch: &Scratch) -> Result<Report> {
    let program = agent::program()?;
    ensure!(
        agent::has_failpoints(&program)?,
        "{} was built without the feature `failpoints`",
        program.display()
    );
    let broker = Mosquitto::start(&scratch.folder.join("broker")).await?;
    let stage = Stage::new(program, broker.address(), scratch);
    let mut report = Report::default();
    if !plan.no_steps {
        let chance = plan.quick.then(|| Random::new(seed));
        let steps = steps::run(&stage, &plan.points, chance).await;
        report.steps = Some(steps.context("killed at each step")?);
    }
    if 0 < plan.twin_rounds {
        let twins = twins::run(&stage, plan.twin_rounds, seed).await;
        report.twins = Some(twins.context("one image, one loop device")?);
    }
    if 0 < plan.rounds {
        let rounds = rounds::run(&stage, plan.rounds, seed).await;
        report.rounds = Some(rounds.context("killed at random moments")?);
    }
    Ok(report)
}
