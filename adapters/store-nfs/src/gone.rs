//! What is under a name of something that is being removed. A rename that was given up may be done later all the same,
//! when the name of its volume is a newer one's, perhaps another node's: then the newer one gets back what was taken.
//! What was taken out is known by its record, which says under which name it was made, and that one by the mark in it.

use crate::destroy;
use crate::entry::{self, AnyRecord};
use crate::layout::{self, DELETING, LEGACY_RECORD, RECORD, Temporary};
use crate::mark;
use crate::problem::{At, Problem};
use crate::shared::{Folders, Work};
use crate::target::{Fault, Found, Handle, Name, TargetError};

const STEP: &str = "clear away";

/// What is to be done with a directory that is out of its name.
enum Verdict {
    /// No volume misses it.
    Remove,
    /// The volume's end was decided; its record still has the name.
    GoOn,
    /// A volume misses it.
    GiveBack,
    /// Nobody knows whose it is.
    Leave(String),
}

/// Brings to its end what was taken out of its name, and gives back what was not.
pub(crate) async fn settle(work: &Work, folders: &Folders, gone: &Temporary) -> Result<(), Problem> {
    let (name, taken) = (layout::name(gone.volume.as_str()).at(STEP)?, gone.name().at(STEP)?);
    if let Some(record) = work.look_up(&folders.metadata, &taken).await.at(STEP)?
        && record.attributes.is_folder
        && !is_taken_out(work, gone, &record.handle).await?
        && !give_back(work, &folders.metadata, &taken, &name).await?
    {
        leave(work, gone, "it is the record of another one, whose name is taken");
        return Ok(());
    }
    match verdict(work, folders, gone, &name, &taken).await? {
        Verdict::Remove => {}
        Verdict::GoOn => destroy::take_record_out(work, folders, gone).await?,
        Verdict::GiveBack => {
            if !give_back(work, &folders.volumes, &taken, &name).await? {
                leave(work, gone, "something is in the place of the directory");
                return Ok(());
            }
        }
        Verdict::Leave(reason) => {
            leave(work, gone, &reason);
            return Ok(());
        }
    }
    destroy::remove(work, folders, gone).await?;
    tracing::info!(store = %work.shared.name, left = %gone, "unfinished work is settled");
    Ok(())
}

/// Whether the folder `metadata`, which has the name of `gone`, was taken out of its name to be removed: the mark is in
/// it until nothing else is but what other nodes have said too late. No volume is without a record.
async fn is_taken_out(work: &Work, gone: &Temporary, metadata: &Handle) -> Result<bool, Problem> {
    if let Ok(AnyRecord::Ours(record)) = entry::read_record(work, &gone.volume, metadata).await?
        && !record.made_as.is_of_same(gone)
    {
        return Ok(false);
    }
    if let Some(node) = marked_by(work, metadata).await? {
        return Ok(node == gone.node.as_str());
    }
    for record in [RECORD, LEGACY_RECORD] {
        if work.look_up(metadata, &layout::name(record).at(STEP)?).await.at(STEP)?.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn verdict(
    work: &Work,
    folders: &Folders,
    gone: &Temporary,
    name: &Name,
    taken: &Name,
) -> Result<Verdict, Problem> {
    if work.look_up(&folders.volumes, taken).await.at(STEP)?.is_none() {
        return Ok(Verdict::Remove);
    }
    let is_folder = |found: &Found| found.attributes.is_folder;
    let found = work.look_up(&folders.metadata, name).await.at(STEP)?.filter(is_folder);
    let Some(Found { handle: metadata, .. }) = found else { return Ok(Verdict::Remove) };
    if work.look_up(&folders.volumes, name).await.at(STEP)?.is_some() {
        return Ok(Verdict::Remove);
    }
    let is_of_same = match entry::read_record(work, &gone.volume, &metadata).await? {
        Ok(AnyRecord::Ours(record)) => {
            if entry::complete(work, folders, name, &record.made_as).await?.is_some() {
                return Ok(Verdict::Remove);
            }
            record.made_as.is_of_same(gone)
        }
        Ok(AnyRecord::Legacy(_)) => true,
        Err(wrong) => return Ok(Verdict::Leave(format!("the record that misses a directory {wrong}"))),
    };
    match marked_by(work, &metadata).await? {
        Some(node) if node != gone.node.as_str() => {
            // It is settled with what that one does.
            Err(mark::destroyed_by(work, &gone.volume, &node).at_step(STEP).into())
        }
        Some(_) if is_of_same => Ok(Verdict::GoOn),
        _ => Ok(Verdict::GiveBack),
    }
}

/// Whose mark is in the folder `metadata`.
async fn marked_by(work: &Work, metadata: &Handle) -> Result<Option<String>, Problem> {
    work.read_mark(metadata, &layout::name(DELETING).at(STEP)?).await.at(STEP)
}

/// Whether `name` is again what was `taken` from it.
async fn give_back(work: &Work, folder: &Handle, taken: &Name, name: &Name) -> Result<bool, Problem> {
    match work.rename((folder, taken), (folder, name)).await {
        Ok(()) => {
            tracing::warn!(store = %work.shared.name, ?name, "what a late call had moved away is back");
            Ok(true)
        }
        Err(TargetError { fault: Fault::Exists | Fault::NotEmpty | Fault::NotAFolder, .. }) => Ok(false),
        // An earlier attempt has done it, or an answer was lost.
        Err(TargetError { fault: Fault::NotThere, .. }) => Ok(true),
        Err(error) => Err(error).at(STEP),
    }
}

fn leave(work: &Work, gone: &Temporary, reason: &str) {
    tracing::error!(store = %work.shared.name, left = %gone, "left alone: {reason}");
}
