//! Recovery: brings what unfinished operations of a node left on the export to an end. What other nodes left is theirs,
//! until an operator releases it.

mod destroys;
mod locks;
pub(crate) mod release;

use crate::client::{ClientError, Fault};
use crate::create;
use crate::layout::{Purpose, Temporary};
use crate::leftover::Leftover;
use crate::problem::{At, Problem};
use crate::session::{Export, Session};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::NodeId;
use std::collections::BTreeSet;
use std::sync::Arc;

const STEP: &str = "recover";
/// No node can leave more leftovers than this: the server's listing is wrong.
const LEFTOVERS_MAX: usize = 100_000;

/// Recovers everything that this node left, within the limit of long operations. What remains is for the next time.
pub(crate) async fn recover_all(session: &Arc<Session>) -> Result<(), Failure> {
    let recovered = tokio::time::timeout(session.long_limit(), recover_each(session)).await;
    recovered.unwrap_or_else(|_| {
        let (store, seconds) = (&session.name, session.long_limit().as_secs());
        let detail = format!("store `{store}`: recovery takes longer than {seconds} s; it continues later");
        Err(Failure::new(FailureCode::Timeout, detail).at_step(STEP))
    })
}

async fn recover_each(session: &Arc<Session>) -> Result<(), Failure> {
    let export = session.export().await.map_err(|problem| session.failure(problem))?;
    let Some(export) = export else { return Ok(()) };
    let listed = leftovers_of(&export, &session.node.id).await;
    let listed = listed.map_err(|problem| session.failure(problem))?;
    let mut leftovers: BTreeSet<Leftover> = listed.into_iter().map(Leftover::Temporary).collect();
    leftovers.extend(session.leftovers().delete_locks.iter().cloned().map(Leftover::DeleteLock));
    let mut failures = Vec::new();
    for leftover in leftovers {
        // Waits until the operation at work on this volume has ended.
        let lane = session.lane(leftover.volume());
        let _alone = lane.lock().await;
        let export = export.renewed();
        let recovered = match &leftover {
            Leftover::Temporary(temporary) => recover(&export, temporary).await,
            Leftover::DeleteLock(name) => locks::recover(&export, name).await,
        };
        match recovered {
            Ok(()) => {}
            Err(problem) if problem.is_away() || problem.is_stale() => return Err(session.failure(problem)),
            // The others are recovered all the same.
            Err(problem) => failures.push(session.failure(problem)),
        }
    }
    failures.into_iter().reduce(Failure::undo_failed).map_or(Ok(()), Err)
}

/// The temporary names of a node in both folders.
async fn leftovers_of(export: &Export, node: &NodeId) -> Result<BTreeSet<Temporary>, Problem> {
    let mut leftovers = BTreeSet::new();
    for folder in [&export.volumes, &export.metadata] {
        let mut from = None;
        loop {
            let page = export.renewed().list(folder, from).await.at(STEP)?;
            let names = page.entries.iter().filter_map(|entry| std::str::from_utf8(&entry.name).ok());
            leftovers.extend(names.filter_map(Temporary::parse).filter(|temporary| temporary.node == *node));
            if LEFTOVERS_MAX < leftovers.len() {
                let fault = Fault::Protocol(format!("more than {LEFTOVERS_MAX} leftovers of one node"));
                return Err(ClientError { call: "list a directory", fault }).at(STEP);
            }
            from = page.next;
            if from.is_none() {
                break;
            }
        }
    }
    Ok(leftovers)
}

/// Brings what was being made or removed to an end: forwards if it was decided, else backwards.
async fn recover(export: &Export, temporary: &Temporary) -> Result<(), Problem> {
    match temporary.purpose {
        Purpose::Create => create::finish_or_remove(export, temporary).await.map(drop)?,
        Purpose::Destroy => destroys::recover(export, temporary).await?,
    }
    tracing::info!(store = %export.session.name, leftover = %temporary, "recovered");
    Ok(())
}
