//! Destroying a volume: a mark that only one node can make, then a look at who has it attached; two renames take it
//! out of its name; then everything is removed. After a refusal nothing has changed. What is cut off before the first
//! rename was not decided; what is cut off after it is gone on with by asking again on the same node, or by this node's
//! next contact.

use crate::entry::{self, Directory, Sound};
use crate::layout::{self, DELETING, Fate, Temporary};
use crate::mark;
use crate::nodes;
use crate::problem::{At, Problem};
use crate::removal;
use crate::shared::{Folders, Work};
use crate::sweep;
use crate::target::{Fault, Handle, Name, TargetError};
use dvs_domain::failure::FailureCode;
use dvs_domain::names::VolumeName;
use dvs_domain::ports::Destroyed;

/// What became of a published volume whose create has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakenBack {
    Gone,
    Left,
}

const TAKE_OUT: &str = "take out of its name";

/// Makes sure that nothing is called `name`.
pub(crate) async fn destroy(work: &Work, name: &VolumeName) -> Result<Destroyed, Problem> {
    work.shared.refuse_read_only()?;
    let folders = work.folders().await?;
    sweep::settle_doubts_about(work, name).await?;
    let Some(sound) = entry::find_in(work, &folders, name).await?.into_sound(work, name)? else {
        return Ok(Destroyed::NothingThere);
    };
    mark::decide(work, &sound).await?;
    take_down(work, &folders, &sound).await?;
    Ok(Destroyed::Gone)
}

/// Destroys what a failed create has made, unless somebody has used it since: any node that saw it may have said that
/// it is there.
pub(crate) async fn take_back_unused(
    work: &Work,
    folders: &Folders,
    sound: &Sound,
) -> Result<TakenBack, Problem> {
    match mark::decide(work, sound).await {
        Err(Problem::Told(failure)) if failure.code() == FailureCode::InUse && failure.is_undone() => {
            return Ok(TakenBack::Left);
        }
        decided => decided?,
    }
    // From here on nobody attaches it, so that nothing comes into it, and nobody is told that it is there.
    match is_used(work, folders, sound).await {
        Ok(false) => {}
        Ok(true) => {
            mark::take_away(work, sound).await?;
            return Ok(TakenBack::Left);
        }
        Err(problem) => return Err(mark::withdraw(work, sound, problem).await),
    }
    take_down(work, folders, sound).await?;
    Ok(TakenBack::Gone)
}

/// Whether another node has told somebody of it, or something is in it.
async fn is_used(work: &Work, folders: &Folders, sound: &Sound) -> Result<bool, Problem> {
    let step = "look whether it is used";
    if sound.directory == Directory::Gone {
        return Ok(false); // An earlier attempt has looked, and decided.
    }
    if nodes::is_seen(work, &sound.metadata, step).await? {
        return Ok(true);
    }
    for place in places(sound).at(step)? {
        let Some(found) = work.look_up(&folders.volumes, &place).await.at(step)? else { continue };
        let mut from = None;
        loop {
            let page = work.list(&found.handle, from).await.at(step)?;
            from = page.next;
            if !page.entries.is_empty() || from.is_none() {
                return Ok(!page.entries.is_empty());
            }
        }
    }
    Ok(false)
}

/// Where the directory of a volume is: at the first of these where there is something.
fn places(sound: &Sound) -> Result<Vec<Name>, TargetError> {
    let in_place = layout::name(sound.name().as_str())?;
    Ok(match (sound.directory, &sound.made_as) {
        (Directory::Gone, _) => Vec::new(),
        // Whoever can puts it in its place meanwhile.
        (Directory::NotYet, Some(made_as)) => vec![made_as.name()?, in_place],
        (Directory::There | Directory::NotYet, _) => vec![in_place],
    })
}

/// Takes a volume that is marked out of its name, and removes it.
async fn take_down(work: &Work, folders: &Folders, sound: &Sound) -> Result<(), Problem> {
    let node = &work.shared.node.id;
    let gone = match &sound.made_as {
        Some(made_as) => made_as.gone_by(node),
        None => Temporary::new(Fate::Gone, node, sound.name()),
    };
    if let Err(problem) = take_directory_out(work, folders, sound, &gone).await {
        // Without an answer nobody knows whether it was done.
        let problem = if problem.is_away() { problem.after_decision() } else { problem };
        return Err(mark::withdraw(work, sound, problem).await);
    }
    let ended = match take_record_out(work, folders, &gone).await {
        Ok(()) => remove(work, folders, &gone).await,
        failed => failed,
    };
    if ended.is_err() {
        work.shared.is_left_untidy();
    }
    ended.map_err(Problem::after_decision)
}

/// The directory first, so that the name is not free before nothing is in its place.
async fn take_directory_out(
    work: &Work,
    folders: &Folders,
    sound: &Sound,
    gone: &Temporary,
) -> Result<(), Problem> {
    let gone = gone.name().at(TAKE_OUT)?;
    for place in places(sound).at(TAKE_OUT)? {
        if is_renamed(work, &folders.volumes, &place, &gone).await? {
            break;
        }
    }
    Ok(())
}

/// Takes the record of a volume out of its name after its directory: then nothing is called so any more.
pub(crate) async fn take_record_out(work: &Work, folders: &Folders, gone: &Temporary) -> Result<(), Problem> {
    let (name, gone) = (layout::name(gone.volume.as_str()).at(TAKE_OUT)?, gone.name().at(TAKE_OUT)?);
    is_renamed(work, &folders.metadata, &name, &gone).await.map(drop)
}

/// Says no where nothing has the name: an earlier attempt has done it, or an answer was lost.
async fn is_renamed(work: &Work, folder: &Handle, name: &Name, gone: &Name) -> Result<bool, Problem> {
    match work.rename((folder, name), (folder, gone)).await {
        Err(TargetError { fault: Fault::NotThere, .. }) => Ok(false),
        renamed => renamed.at(TAKE_OUT).map(|()| true),
    }
}

/// Removes what was taken out of its name. The mark goes last: a node that still has a way to the folder sees it.
pub(crate) async fn remove(work: &Work, folders: &Folders, temporary: &Temporary) -> Result<(), Problem> {
    let step = "remove";
    let gone = temporary.name().at(step)?;
    let deleting = layout::name(DELETING).at(step)?;
    removal::remove_large_tree(work, &folders.volumes, &gone, None, step).await?;
    removal::remove_large_tree(work, &folders.metadata, &gone, Some(&deleting), step).await
}
