//! Creating a volume: stage its record and directory under a temporary name, publish the record by a rename, rename the
//! directory after it. The volume exists from the publishing rename on, and stays: a create that fails later has made
//! it all the same, and asking again finds it. Each call may have been sent twice, because the first reply was lost.

use crate::client::{ClientError, Fault, Handle, Name, Owner};
use crate::layout::{self, Purpose, RECORD, Temporary};
use crate::problem::{At, Problem};
use crate::record;
use crate::removal;
use crate::session::Export;
use crate::settings;
use crate::volume_state::{self, AnyRecord, DirectoryState};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::VolumeName;
use dvs_domain::ports::Created;
use dvs_domain::volume::Volume;

const STAGE: &str = "stage";
const WRITE: &str = "record";
const PUBLISH: &str = "publish";
const PUT_IN_PLACE: &str = "put in place";
const CLEAN_UP: &str = "undo";

pub(crate) async fn create(export: &Export, volume: &Volume) -> Result<Created, Problem> {
    let session = &export.session;
    settings::check_owner(volume.spec.uid, volume.spec.gid)?;
    let temporary = Temporary::new(Purpose::Create, &session.node.id, &volume.spec.id.name);
    match make(export, &temporary, volume).await {
        Ok(true) => Ok(Created::New(None)),
        Ok(false) => {
            if remove_staged(export, &temporary).await.is_err() {
                session.note_leftover(); // Nobody sees it: the janitor removes it.
            }
            found_meanwhile(export, &temporary.volume).await
        }
        Err(problem) => after_failure(export, &temporary, problem).await,
    }
}

/// Makes the volume; false if its name is taken.
async fn make(export: &Export, temporary: &Temporary, volume: &Volume) -> Result<bool, Problem> {
    let spec = &volume.spec;
    let staged = temporary.name();
    let owner = Owner { uid: spec.uid, gid: spec.gid, mode: spec.mode.bits() };
    let (metadata, directory) = futures::join!(
        stage(export, &export.metadata, &staged, None),
        stage(export, &export.volumes, &staged, Some(&owner)),
    );
    let (metadata, _directory) = (metadata?, directory?);
    let bytes = record::encode(volume, temporary)?;
    export.write_file(&metadata, &layout::fixed(RECORD), &bytes).await.at(WRITE)?;
    let name = layout::volume(&spec.id.name);
    match export.rename((&export.metadata, &staged), (&export.metadata, &name)).await {
        Ok(()) => {}
        Err(ClientError {
            fault: Fault::Exists | Fault::NotEmpty | Fault::NotFound | Fault::NotDirectory,
            ..
        }) => {
            if !is_published(export, &name, temporary).await? {
                return Ok(false);
            }
        }
        Err(error) => return Err(error).at(PUBLISH),
    }
    put_in_place(export, &staged, &name).await?;
    Ok(true)
}

async fn stage(
    export: &Export,
    folder: &Handle,
    staged: &Name,
    owner: Option<&Owner>,
) -> Result<Handle, Problem> {
    match export.make_directory(folder, staged, owner).await {
        // The name is unique, so a reply was lost. The directory may have another owner and mode.
        Err(ClientError { fault: Fault::Exists, .. }) => {
            export.remove_directory(folder, staged).await.at(STAGE)?;
            export.make_directory(folder, staged, owner).await.at(STAGE)
        }
        made => made.at(STAGE),
    }
}

/// Whether the volume that has the name is the one that was made as `temporary`.
async fn is_published(export: &Export, name: &Name, temporary: &Temporary) -> Result<bool, Problem> {
    let found = export.look_up(&export.metadata, name).await.at(PUBLISH)?;
    let Some(found) = found.filter(|found| found.attributes.is_directory) else { return Ok(false) };
    let record = volume_state::read_record(export, &temporary.volume, &found.handle).await?;
    Ok(matches!(record, Ok(AnyRecord::Ours(record)) if record.made_as == *temporary))
}

/// Renames the directory of a published volume to its name. Whoever looks the volume up meanwhile does the same.
async fn put_in_place(export: &Export, staged: &Name, name: &Name) -> Result<(), Problem> {
    match export.rename((&export.volumes, staged), (&export.volumes, name)).await {
        Ok(()) => Ok(()),
        Err(ClientError { fault: Fault::NotFound, .. })
            if export.look_up(&export.volumes, name).await.at(PUT_IN_PLACE)?.is_some() =>
        {
            Ok(())
        }
        Err(ClientError { fault: Fault::Exists | Fault::NotEmpty | Fault::NotDirectory, .. })
            if export.look_up(&export.volumes, staged).await.at(PUT_IN_PLACE)?.is_some() =>
        {
            // Somebody's data without a record: it must not become the content of this volume.
            let unpublish = export.rename((&export.metadata, name), (&export.metadata, staged));
            unpublish.await.at(PUT_IN_PLACE)?;
            let detail = "a directory of this name exists already, without a record".to_owned();
            Err(Failure::new(FailureCode::Damaged, detail).at_step(PUT_IN_PLACE).into())
        }
        Err(ClientError { fault: Fault::Exists | Fault::NotEmpty | Fault::NotDirectory, .. }) => Ok(()),
        Err(error) => Err(error).at(PUT_IN_PLACE),
    }
}

async fn found_meanwhile(export: &Export, name: &VolumeName) -> Result<Created, Problem> {
    match volume_state::state_of(export, name).await?.into_sound(export, name)? {
        Some(sound) if sound.directory != DirectoryState::TakenOut => {
            Ok(Created::AlreadyThere(Box::new(sound.volume)))
        }
        other => {
            let what = if other.is_some() { "is being destroyed" } else { "was made and destroyed" };
            let detail = format!("volume `{}` {what} at the same time", export.session.id(name));
            Err(Failure::new(FailureCode::Busy, detail).at_step(PUBLISH).into())
        }
    }
}

/// Brings a create to its end in which a call failed. If the server is away, the janitor does it later.
async fn after_failure(export: &Export, temporary: &Temporary, problem: Problem) -> Result<Created, Problem> {
    let session = &export.session;
    if problem.is_away() || problem.is_stale() {
        session.note_leftover();
        return Err(problem);
    }
    match finish_or_remove(&export.undoing(), temporary).await {
        Ok(true) => Ok(Created::New(None)),
        Ok(false) => Err(problem),
        Err(undo) => {
            session.note_leftover();
            Err(session.failure(problem).undo_failed(session.failure(undo)).into())
        }
    }
}

/// Brings an unfinished create to an end: a volume that was published is completed, everything else is removed. Tells
/// whether it was published.
pub(crate) async fn finish_or_remove(export: &Export, temporary: &Temporary) -> Result<bool, Problem> {
    let (name, staged) = (layout::volume(&temporary.volume), temporary.name());
    // The record first: a publishing rename that the server executes late finds nothing then.
    removal::remove_tree(export, &export.metadata, &staged, CLEAN_UP).await?;
    let is_published = is_published(export, &name, temporary).await?;
    if is_published && export.look_up(&export.volumes, &staged).await.at(CLEAN_UP)?.is_some() {
        put_in_place(export, &staged, &name).await?;
    }
    remove_staged(export, temporary).await?;
    Ok(is_published)
}

async fn remove_staged(export: &Export, temporary: &Temporary) -> Result<(), Problem> {
    let staged = temporary.name();
    let (metadata, directory) = futures::join!(
        removal::remove_tree(export, &export.metadata, &staged, CLEAN_UP),
        removal::remove_tree(export, &export.volumes, &staged, CLEAN_UP),
    );
    metadata.and(directory)
}
