//! Destroying a volume: a mark that only one node can make, then a look at who has it attached; two renames take it
//! out of its name; then everything is removed. After a refusal nothing has changed. What is cut off is gone on with
//! by asking again on the same node, or by this node's next contact.

use crate::entry;
use crate::layout::{self, DELETING, Fate, Temporary};
use crate::nodes;
use crate::problem::{At, Problem};
use crate::removal;
use crate::shared::{Folders, Work};
use crate::sweep;
use crate::target::{Fault, Handle, TargetError};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::VolumeName;
use dvs_domain::ports::Destroyed;
use dvs_domain::user::{User, in_use};

/// How often the mark is tried that another node may be taking away.
const TRIES: usize = 3;

/// Makes sure that nothing is called `name`.
pub(crate) async fn destroy(work: &Work, name: &VolumeName) -> Result<Destroyed, Problem> {
    work.shared.refuse_read_only()?;
    let folders = work.folders().await?;
    sweep::settle_doubts_about(work, name).await?;
    let Some(sound) = entry::find_in(work, &folders, name).await?.into_sound(work, name)? else {
        return Ok(Destroyed::NothingThere);
    };
    decide(work, name, &sound.metadata).await?;
    let temporary = Temporary::new(Fate::Gone, &work.shared.node.id, name);
    let taken = take_out(work, &folders, &temporary).await;
    let removed = match taken {
        Ok(()) => remove(work, &folders, &temporary).await,
        failed => failed,
    };
    if removed.is_err() {
        work.shared.is_left_untidy();
    }
    removed.map(|()| Destroyed::Gone)
}

/// Marks the volume as being destroyed by this node, unless another node has it attached or destroys it.
pub(crate) async fn decide(work: &Work, name: &VolumeName, metadata: &Handle) -> Result<(), Problem> {
    let step = "mark as deleting";
    mark(work, name, metadata).await?;
    let claims = nodes::attached_in(work, metadata, step).await?;
    let users: Vec<User> = claims
        .into_iter()
        // What this node has attached, its agent has detached before it asked.
        .filter(|claim| claim.node != work.shared.node.id)
        .map(|claim| User::Node { id: claim.node.to_string(), name: claim.node_name })
        .collect();
    if users.is_empty() {
        return Ok(());
    }
    let refused = in_use(&users)
        .with_hint("detach it there first; if that node is dead, `dvs release` takes away what it left");
    let deleting = layout::name(DELETING).at(step)?;
    match work.remove_file(metadata, &deleting).await.at("take the mark away") {
        Ok(_) => Err(refused.into()),
        Err(problem) => {
            let undo = problem.told(&work.shared.name, &work.shared.settings);
            Err(refused.undo_failed(undo).into())
        }
    }
}

async fn mark(work: &Work, name: &VolumeName, metadata: &Handle) -> Result<(), Problem> {
    let step = "mark as deleting";
    let deleting = layout::name(DELETING).at(step)?;
    let own = work.shared.node.id.as_str();
    for _ in 0..TRIES {
        match work.mark(metadata, &deleting, own).await {
            Err(TargetError { fault: Fault::Exists, .. }) => {}
            marked => return marked.at(step),
        }
        match work.read_mark(metadata, &deleting).await.at(step)? {
            // An earlier attempt of this node was cut off, or an answer was lost.
            Some(node) if node == own => return Ok(()),
            Some(node) => {
                let detail = format!("node {node} is destroying volume `{}`", work.shared.id(name));
                return Err(Failure::new(FailureCode::Busy, detail)
                    .at_step(step)
                    .with_hint("if that node is dead, `dvs release` takes away what it left")
                    .into());
            }
            None => {} // It has just been taken away.
        }
    }
    let detail = format!("other nodes begin and give up destroying volume `{}`", work.shared.id(name));
    Err(Failure::new(FailureCode::Busy, detail).at_step(step).into())
}

/// Takes a volume that is marked out of its name: the directory first, so that the name is not free before nothing is
/// in its place.
pub(crate) async fn take_out(work: &Work, folders: &Folders, temporary: &Temporary) -> Result<(), Problem> {
    let step = "take out of its name";
    let (name, gone) = (layout::name(temporary.volume.as_str()).at(step)?, temporary.name().at(step)?);
    for folder in [&folders.volumes, &folders.metadata] {
        match work.rename((folder, &name), (folder, &gone)).await {
            // An earlier attempt has done it, or an answer was lost.
            Ok(()) | Err(TargetError { fault: Fault::NotThere, .. }) => {}
            Err(error) => return Err(error).at(step),
        }
    }
    Ok(())
}

/// Removes what was taken out of its name. The mark goes last: a node that still has a way to the folder sees it.
pub(crate) async fn remove(work: &Work, folders: &Folders, temporary: &Temporary) -> Result<(), Problem> {
    let step = "remove";
    let gone = temporary.name().at(step)?;
    let deleting = layout::name(DELETING).at(step)?;
    removal::remove_large_tree(work, &folders.volumes, &gone, None, step).await?;
    removal::remove_large_tree(work, &folders.metadata, &gone, Some(&deleting), step).await
}
