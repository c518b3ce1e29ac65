//! Clearing away what unfinished work of this node has left: names that no volume can have, by which it is known what
//! was being made and what was being removed, and marks. What other nodes left is theirs.

use crate::create;
use crate::destroy::TakenBack;
use crate::gone;
use crate::layout::{Fate, Temporary};
use crate::mark;
use crate::problem::{At, Problem};
use crate::shared::{Folders, Shared, Work};
use crate::target::{Fault, TargetError};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::{NodeId, VolumeName};
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

const STEP: &str = "clear away";
/// More than this no node has left.
const LEFT_MAX: usize = 100_000;

/// Something that a node has left, or may have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Left {
    /// What was being made or removed.
    Temporary(Temporary),
    /// The mark in a volume that is not destroyed.
    Mark(VolumeName),
}

impl Left {
    fn volume(&self) -> &VolumeName {
        match self {
            Self::Temporary(temporary) => &temporary.volume,
            Self::Mark(name) => name,
        }
    }
}

/// Clears away everything that is this node's to clear away, within a limit: the rest goes later.
pub(crate) async fn sweep(shared: &Arc<Shared>) -> Result<(), Failure> {
    let told = |problem: Problem| problem.told(&shared.name, &shared.settings);
    let work = shared.work(shared.settings.timeout);
    let Some(folders) = work.prepared().await.map_err(told)? else { return Ok(()) };
    let settled = tokio::time::timeout(shared.long(), settle_all(&work, &folders)).await;
    let settled = settled.unwrap_or_else(|_| Err(not_all(shared)));
    // Last, and with a limit of its own: it takes as long as there are volumes.
    let looked = mark::look_for_own(&work, &folders).await.map_err(told);
    match (settled, looked) {
        (Err(settle), Err(look)) => Err(settle.undo_failed(look)),
        (settled, looked) => settled.and(looked),
    }
}

/// The time is over.
pub(crate) fn not_all(shared: &Shared) -> Failure {
    let detail = format!(
        "store `{}`: there is more than can be cleared away within {} s; the rest goes later",
        shared.name,
        shared.long().as_secs(),
    );
    Failure::new(FailureCode::Timeout, detail).at_step(STEP)
}

async fn settle_all(work: &Work, folders: &Folders) -> Result<(), Failure> {
    let shared = &work.shared;
    let told = |problem: Problem| problem.told(&shared.name, &shared.settings);
    let listed = left_by(work, folders, &shared.node.id).await.map_err(told)?;
    let mut left: BTreeSet<Left> = listed.into_iter().map(Left::Temporary).collect();
    left.extend(shared.doubts().iter().cloned());
    let mut failures = Vec::new();
    let last = shared.last().clone();
    for left in in_turn(&left, last.as_ref()) {
        // Whatever is at work on this name in this process is at its end then.
        let lane = shared.lane(left.volume());
        let _turn = lane.lock().await;
        *shared.last() = Some(left.clone());
        match settle(&work.anew(), folders, &left).await {
            Ok(()) => {}
            Err(problem) if problem.is_away() || problem.is_stale() => return Err(told(problem)),
            // What is in the way of one is in the way of no other.
            Err(problem) => failures.push(told(problem)),
        }
    }
    failures.into_iter().reduce(Failure::undo_failed).map_or(Ok(()), Err)
}

/// Settles what this node may have left of `name` in operations that failed without anybody knowing how far they had
/// come.
pub(crate) async fn settle_doubts_about(work: &Work, name: &VolumeName) -> Result<(), Problem> {
    let about: Vec<_> = work.shared.doubts().iter().filter(|doubt| doubt.volume() == name).cloned().collect();
    let Some(folders) = work.folders_if_there().await? else { return Ok(()) };
    for doubt in about {
        settle(work, &folders, &doubt).await?;
    }
    Ok(())
}

/// What a node has left in both folders.
pub(crate) async fn left_by(
    work: &Work,
    folders: &Folders,
    node: &NodeId,
) -> Result<BTreeSet<Temporary>, Problem> {
    let mut left = BTreeSet::new();
    for folder in [&folders.volumes, &folders.metadata] {
        let mut from = None;
        loop {
            let page = work.anew().list(folder, from).await.at(STEP)?;
            let names = page.entries.iter().filter_map(|entry| std::str::from_utf8(&entry.name).ok());
            left.extend(names.filter_map(Temporary::parse).filter(|temporary| temporary.node == *node));
            refuse_too_many(left.len())?;
            from = page.next;
            if from.is_none() {
                break;
            }
        }
    }
    Ok(left)
}

/// A server may list without an end.
pub(crate) fn refuse_too_many(left: usize) -> Result<(), Problem> {
    if left <= LEFT_MAX {
        return Ok(());
    }
    let fault = Fault::Nonsense(format!("more than {LEFT_MAX} things that this node has left"));
    Err(TargetError { call: "list a folder", fault }).at(STEP)
}

async fn settle(work: &Work, folders: &Folders, left: &Left) -> Result<(), Problem> {
    match left {
        Left::Temporary(temporary) => settle_temporary(work, folders, temporary).await,
        Left::Mark(name) => mark::settle(work, folders, name).await,
    }
}

/// Brings what was being made or removed to its end: forwards if it was decided, else backwards.
pub(crate) async fn settle_temporary(
    work: &Work,
    folders: &Folders,
    temporary: &Temporary,
) -> Result<(), Problem> {
    let shared = &work.shared;
    match temporary.fate {
        Fate::New => {
            let doubt = Left::Temporary(temporary.clone());
            let is_failed = shared.doubts().contains(&doubt);
            if is_failed && create::unpublish(work, folders, temporary).await? == TakenBack::Left {
                tracing::warn!(store = %shared.name, volume = %temporary.volume, "{}", create::LEFT);
                shared.doubts().remove(&doubt);
            }
            create::finish(work, folders, temporary).await?;
            create::clear_away(work, folders, temporary).await?;
            shared.doubts().remove(&doubt);
            tracing::info!(store = %shared.name, left = %temporary, "unfinished work is settled");
            Ok(())
        }
        Fate::Gone => gone::settle(work, folders, temporary).await,
    }
}

/// In an order in which each has its turn, however long another takes each time: what comes after `last` is first.
fn in_turn(left: &BTreeSet<Left>, last: Option<&Left>) -> Vec<Left> {
    let Some(last) = last else { return left.iter().cloned().collect() };
    let after = left.range((Bound::Excluded(last), Bound::Unbounded));
    after.chain(left.range(..=last)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_turn() {
        let mark = |name: &str| Left::Mark(VolumeName::new(name).unwrap());
        let left: BTreeSet<Left> = ["a", "b", "c"].map(mark).into();
        let turns = |last: Option<&str>| in_turn(&left, last.map(mark).as_ref());
        assert_eq!(turns(None), ["a", "b", "c"].map(mark));
        assert_eq!(turns(Some("a")), ["b", "c", "a"].map(mark));
        assert_eq!(turns(Some("bb")), ["c", "a", "b"].map(mark), "it is gone");
        assert_eq!(turns(Some("c")), ["a", "b", "c"].map(mark));
    }
}
