//! Destroying a volume: the delete lock and a look at the claims; two renames take directory and record out of their
//! name; then both are removed. The first rename is the decision: a destroy that was cut off before it has changed
//! nothing, and after it is continued by asking again on the same node, or by its janitor.

use crate::client::{ClientError, Fault, Handle, Name};
use crate::delete_lock;
use crate::layout::{self, DELETING, Purpose, Temporary};
use crate::problem::{At, Problem};
use crate::removal;
use crate::session::Export;
use crate::volume_state::{self, DirectoryState, Sound};
use dvs_domain::names::VolumeName;
use dvs_domain::ports::Destroyed;

const TAKE_OUT: &str = "take out of its name";
const REMOVE: &str = "remove";

pub(crate) async fn destroy(export: &Export, name: &VolumeName) -> Result<Destroyed, Problem> {
    let state = volume_state::state_of(export, name).await?;
    let Some(sound) = state.into_sound(export, name)? else { return Ok(Destroyed::NothingThere) };
    delete_lock::lock(export, &sound).await?;
    let node = &export.session.node.id;
    let gone = match &sound.made_as {
        Some(made_as) => made_as.destroyed_by(node),
        None => Temporary::new(Purpose::Destroy, node, name),
    };
    if let Err(problem) = take_directory_out(export, &sound, &gone).await {
        // Without a reply it is unknown whether the rename was executed.
        let problem = if problem.is_away() { problem.after_decision() } else { problem };
        return Err(delete_lock::unlock_after(export, &sound, problem).await);
    }
    let ended = match take_record_out(export, &gone).await {
        Ok(()) => remove(export, &gone).await,
        failed => failed,
    };
    if ended.is_err() {
        export.session.note_leftover();
    }
    ended.map(|()| Destroyed::Gone).map_err(Problem::after_decision)
}

/// Where the directory of a volume may be: at the first of these names that exists.
fn places(sound: &Sound) -> Vec<Name> {
    let in_place = layout::volume(sound.name());
    match (sound.directory, &sound.made_as) {
        (DirectoryState::TakenOut, _) => Vec::new(),
        // Others may put it in place meanwhile.
        (DirectoryState::Staged, Some(made_as)) => vec![made_as.name(), in_place],
        (DirectoryState::InPlace | DirectoryState::Staged, _) => vec![in_place],
    }
}

/// The directory first: when the record gives the name free, nothing is in the directory's place.
async fn take_directory_out(export: &Export, sound: &Sound, gone: &Temporary) -> Result<(), Problem> {
    let gone = gone.name();
    for place in places(sound) {
        if is_renamed(export, &export.volumes, &place, &gone).await? {
            break;
        }
    }
    Ok(())
}

/// Renames the record away, after the directory: then nothing has the volume's name any more.
pub(crate) async fn take_record_out(export: &Export, gone: &Temporary) -> Result<(), Problem> {
    let (name, gone) = (layout::volume(&gone.volume), gone.name());
    is_renamed(export, &export.metadata, &name, &gone).await.map(drop)
}

/// False if nothing has the name: an earlier attempt renamed it, or a reply was lost.
async fn is_renamed(export: &Export, folder: &Handle, name: &Name, gone: &Name) -> Result<bool, Problem> {
    match export.rename((folder, name), (folder, gone)).await {
        Err(ClientError { fault: Fault::NotFound, .. }) => Ok(false),
        renamed => renamed.at(TAKE_OUT).map(|()| true),
    }
}

/// Removes what was taken out of its name. The delete lock goes last: a node that still has a handle of the metadata
/// folder sees it.
pub(crate) async fn remove(export: &Export, gone: &Temporary) -> Result<(), Problem> {
    let (gone, deleting) = (gone.name(), layout::fixed(DELETING));
    removal::remove_large_tree(export, &export.volumes, &gone, None, REMOVE).await?;
    removal::remove_large_tree(export, &export.metadata, &gone, Some(&deleting), REMOVE).await
}
