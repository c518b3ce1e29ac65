//! What lies under the temporary name of a destroy. A rename whose caller had given up may be executed late, when the name
//! of its volume belongs to a newer one, perhaps of another node: then the newer one gets back what was moved away. The
//! record tells which volume it belongs to: it has the temporary name under which the volume was made.

use super::STEP;
use crate::client::{ClientError, Fault, Found, Handle, Name};
use crate::destroy;
use crate::layout::{self, LEGACY_RECORD, RECORD, Temporary};
use crate::problem::{At, Problem};
use crate::session::Export;
use crate::volume_state::{self, AnyRecord, locked_by};

/// What to do with a directory that lies under the temporary name.
enum Verdict {
    /// No volume misses it.
    Remove,
    /// Its destroy was decided; the record still has the volume's name.
    Continue,
    /// A volume misses it.
    GiveBack,
    /// It cannot be told whose it is.
    Leave(String),
}

/// Finishes a destroy, and gives back what does not belong to it.
pub(super) async fn recover(export: &Export, gone: &Temporary) -> Result<(), Problem> {
    let (name, taken) = (layout::volume(&gone.volume), gone.name());
    if let Some(record) = export.look_up(&export.metadata, &taken).await.at(STEP)?
        && record.attributes.is_directory
        && !is_taken_out(export, gone, &record.handle).await?
        && !give_back(export, &export.metadata, &taken, &name).await?
    {
        leave_alone(export, gone, "it is the record of another volume, whose name is taken");
        return Ok(());
    }
    match verdict(export, gone, &name, &taken).await? {
        Verdict::Remove => {}
        Verdict::Continue => destroy::take_record_out(export, gone).await?,
        Verdict::GiveBack => {
            if !give_back(export, &export.volumes, &taken, &name).await? {
                leave_alone(export, gone, "something is in the place of the directory");
                return Ok(());
            }
        }
        Verdict::Leave(reason) => {
            leave_alone(export, gone, &reason);
            return Ok(());
        }
    }
    destroy::remove(export, gone).await
}

/// Whether the metadata folder under the temporary name was renamed by its own destroy: the delete lock is in it until
/// everything else is removed but claims that other nodes wrote too late. No volume is without a record.
async fn is_taken_out(export: &Export, gone: &Temporary, metadata: &Handle) -> Result<bool, Problem> {
    if let Ok(AnyRecord::Ours(record)) = volume_state::read_record(export, &gone.volume, metadata).await?
        && !record.made_as.is_of_same(gone)
    {
        return Ok(false);
    }
    if let Some(node) = locked_by(export, metadata, STEP).await? {
        return Ok(node == gone.node.as_str());
    }
    for record in [RECORD, LEGACY_RECORD] {
        if export.look_up(metadata, &layout::fixed(record)).await.at(STEP)?.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn verdict(export: &Export, gone: &Temporary, name: &Name, taken: &Name) -> Result<Verdict, Problem> {
    if export.look_up(&export.volumes, taken).await.at(STEP)?.is_none() {
        return Ok(Verdict::Remove);
    }
    let is_directory = |found: &Found| found.attributes.is_directory;
    let found = export.look_up(&export.metadata, name).await.at(STEP)?.filter(is_directory);
    let Some(Found { handle: metadata, .. }) = found else { return Ok(Verdict::Remove) };
    if export.look_up(&export.volumes, name).await.at(STEP)?.is_some() {
        return Ok(Verdict::Remove);
    }
    let is_of_same = match volume_state::read_record(export, &gone.volume, &metadata).await? {
        Ok(AnyRecord::Ours(record)) => {
            if volume_state::put_in_place(export, name, &record.made_as).await?.is_some() {
                return Ok(Verdict::Remove);
            }
            record.made_as.is_of_same(gone)
        }
        Ok(AnyRecord::Legacy(_)) => true,
        Err(wrong) => {
            return Ok(Verdict::Leave(format!("the volume of its name has no directory, and {wrong}")));
        }
    };
    match locked_by(export, &metadata, STEP).await? {
        // That node's destroy ends it.
        Some(node) if node != gone.node.as_str() => {
            Err(export.session.being_destroyed(&gone.volume, &node).at_step(STEP).into())
        }
        Some(_) if is_of_same => Ok(Verdict::Continue),
        _ => Ok(Verdict::GiveBack),
    }
}

/// Renames `taken` back to `name`; false if the name is taken.
async fn give_back(export: &Export, folder: &Handle, taken: &Name, name: &Name) -> Result<bool, Problem> {
    match export.rename((folder, taken), (folder, name)).await {
        Ok(()) => {
            tracing::warn!(store = %export.session.name, ?name, "moved back what a late call had moved away");
            Ok(true)
        }
        Err(ClientError { fault: Fault::Exists | Fault::NotEmpty | Fault::NotDirectory, .. }) => Ok(false),
        // An earlier attempt renamed it, or a reply was lost.
        Err(ClientError { fault: Fault::NotFound, .. }) => Ok(true),
        Err(error) => Err(error).at(STEP),
    }
}

fn leave_alone(export: &Export, gone: &Temporary, reason: &str) {
    tracing::error!(store = %export.session.name, leftover = %gone, "left alone: {reason}");
}
