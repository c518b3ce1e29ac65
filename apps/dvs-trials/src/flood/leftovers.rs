//! Whether anything is left when every volume is deleted: of the agent's view, on the machine, in the stores, in the journal.

use super::sample::list;
use super::{REMEMBERED, Rig};
use crate::machine;
use anyhow::{Context, Result, anyhow, ensure};
use dvs_domain::ledger::{AnswerState, Phase};
use dvs_domain::ports::Journal;
use dvs_journal_redb::RedbJournal;
use std::path::Path;

/// What lies in a store's folder besides volumes.
const BESIDES: [&str; 4] = ["id", "lock", "staging", "volumes"];
/// How many more jobs than are remembered at most may be in the journal: those since the last tick.
const SINCE_TICK_MAX: usize = 1000;

/// Stops the agent and looks. Gives how many jobs it remembers of those that `ended`.
pub(super) async fn check(rig: Rig, ended: u64) -> Result<usize> {
    let Rig { launch, agent, mounts, stores } = rig;
    let listed = list(&launch.program, &launch.state).await?;
    ensure!(listed.trim() == "[]", "`dvs ls` still lists {listed}");
    agent.stop().await?;
    let mounted = machine::mounts_below(&mounts, None)?;
    ensure!(mounted.is_empty(), "still mounted: {mounted:?}");
    let directories = machine::paths_below(&mounts)?;
    ensure!(directories.is_empty(), "directories of mount points are left: {directories:?}");
    for store in &stores {
        let bound = machine::loops_below(store)?;
        ensure!(bound.is_empty(), "loop devices are left: {bound:?}");
        let is_besides = |path: &Path| BESIDES.iter().any(|name| path == store.join(name));
        let left: Vec<_> =
            machine::paths_below(store)?.into_iter().filter(|path| !is_besides(path)).collect();
        ensure!(left.is_empty(), "left in a store: {left:?}");
    }
    remembered(&launch.state, ended).await
}

/// How many jobs are in the journal, each of which must be ended and answered.
async fn remembered(state: &Path, ended: u64) -> Result<usize> {
    let journal = RedbJournal::open(&state.join("journal")).map_err(|failure| anyhow!(failure.chain()))?;
    let contents = journal.load().await.map_err(|failure| anyhow!(failure.chain()))?;
    ensure!(contents.attachments.is_empty(), "the journal still attaches {:?}", contents.attachments);
    ensure!(contents.refusals.is_empty(), "refusals wait for an acknowledgement: {:?}", contents.refusals);
    let is_settled = |phase: &Phase| matches!(phase, Phase::Finished(end) if !end.needs_undo && end.answers == AnswerState::Acknowledged);
    let unsettled = contents.jobs.iter().find(|record| !is_settled(&record.phase));
    ensure!(unsettled.is_none(), "the journal has not settled {unsettled:?}");
    let count = contents.jobs.len();
    let at_least = usize::try_from(REMEMBERED.min(ended)).context("a small number")?;
    ensure!(
        (at_least..=at_least + SINCE_TICK_MAX).contains(&count),
        "{count} jobs are remembered of {ended}, not {at_least}"
    );
    Ok(count)
}
