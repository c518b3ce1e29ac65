//! Clearing away what unfinished work of this node has left: names that no volume can have, by which it is known what
//! was being made and what was being removed. What other nodes left is theirs.

use crate::create;
use crate::destroy;
use crate::layout::{self, DELETING, Fate, Temporary};
use crate::problem::{At, Problem};
use crate::shared::{Folders, Shared, Work};
use crate::target::{Fault, TargetError};
use dvs_domain::names::{NodeId, VolumeName};
use std::collections::BTreeSet;
use std::sync::Arc;

const STEP: &str = "clear away";

/// Clears away everything that is this node's to clear away.
pub(crate) async fn sweep(shared: &Arc<Shared>) -> Result<(), Problem> {
    let work = shared.work(shared.settings.timeout);
    let Some(folders) = work.folders_if_there().await? else { return Ok(()) };
    let mut left = left_by(&work, &folders, &shared.node.id).await?;
    left.extend(shared.doubts().iter().cloned());
    for temporary in left {
        // Whatever is at work on this name in this process is at its end then.
        let lane = shared.lane(&temporary.volume);
        let _turn = lane.lock().await;
        settle(&work.anew(), &folders, &temporary).await?;
    }
    Ok(())
}

/// Undoes creates of `name` of which nobody knows how far they had come.
pub(crate) async fn settle_doubts_about(work: &Work, name: &VolumeName) -> Result<(), Problem> {
    let about: Vec<_> = work.shared.doubts().iter().filter(|doubt| doubt.volume == *name).cloned().collect();
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
            from = page.next;
            if from.is_none() {
                break;
            }
        }
    }
    Ok(left)
}

/// Brings what was left to its end: forwards if it was decided, else backwards.
pub(crate) async fn settle(work: &Work, folders: &Folders, temporary: &Temporary) -> Result<(), Problem> {
    match temporary.fate {
        Fate::New => {
            let is_failed = work.shared.doubts().contains(temporary);
            if is_failed {
                create::unpublish(work, folders, temporary).await?;
            } else {
                create::finish(work, folders, temporary).await?;
            }
            create::clear_away(work, folders, temporary).await?;
            work.shared.doubts().remove(temporary);
        }
        Fate::Gone => {
            if is_taken_out(work, folders, temporary).await? {
                destroy::take_out(work, folders, temporary).await?;
            }
            destroy::remove(work, folders, temporary).await?;
        }
    }
    tracing::info!(store = %work.shared.name, left = %temporary, "unfinished work is settled");
    Ok(())
}

/// Whether a volume of the name is half out of it, by the node that has left this.
async fn is_taken_out(work: &Work, folders: &Folders, temporary: &Temporary) -> Result<bool, Problem> {
    let name = layout::name(temporary.volume.as_str()).at(STEP)?;
    let Some(found) = work.look_up(&folders.metadata, &name).await.at(STEP)? else { return Ok(false) };
    let deleting = layout::name(DELETING).at(STEP)?;
    let marked = match work.read_mark(&found.handle, &deleting).await {
        Err(TargetError { fault: Fault::NotAFolder, .. }) => None,
        marked => marked.at(STEP)?,
    };
    let is_marked = marked.is_some_and(|node| node == temporary.node.as_str());
    Ok(is_marked && work.look_up(&folders.volumes, &name).await.at(STEP)?.is_none())
}
