//! Making a volume: stage, record, publish, put in place. It exists from the rename in `publish` on. Each call may have
//! been made twice, because the first answer was lost.

use crate::destroy::{self, TakenBack};
use crate::entry::{self, AnyRecord, Directory, Sound};
use crate::layout::{self, Fate, RECORD, Temporary};
use crate::nodes;
use crate::problem::{At, Problem};
use crate::record::{self, Record};
use crate::removal;
use crate::settings;
use crate::shared::{Folders, Work};
use crate::sweep::{self, Left};
use crate::target::{Fault, Handle, Name, Owner, TargetError};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::VolumeName;
use dvs_domain::ports::Created;
use dvs_domain::volume::Volume;

/// Makes `volume` exist, or leaves nothing.
pub(crate) async fn create(work: &Work, volume: &Volume) -> Result<Created, Problem> {
    work.shared.refuse_read_only()?;
    settings::check_owner(volume.spec.uid, volume.spec.gid)?;
    let name = &volume.spec.id.name;
    let folders = work.folders().await?;
    sweep::settle_doubts_about(work, name).await?;
    let temporary = Temporary::new(Fate::New, &work.shared.node.id, name);
    match make(work, &folders, &temporary, volume).await {
        Ok(Made::New) => Ok(Created::New(None)),
        Ok(Made::NameIsTaken) => {
            if clear_away(work, &folders, &temporary).await.is_err() {
                // Nothing that anybody sees: it goes later.
                work.shared.doubt(Left::Temporary(temporary));
            }
            there_meanwhile(work, &folders, name).await
        }
        Err(problem) => Err(undo(work, &folders, &temporary, problem).await),
    }
}

/// What is said of a volume whose create has failed, and which is there all the same.
pub(crate) const LEFT: &str = "somebody has used the volume of a failed create meanwhile: it stays";

enum Made {
    New,
    NameIsTaken,
}

async fn make(
    work: &Work,
    folders: &Folders,
    temporary: &Temporary,
    volume: &Volume,
) -> Result<Made, Problem> {
    let spec = &volume.spec;
    let staged = temporary.name().at("stage")?;
    let owner = Owner { uid: spec.uid, gid: spec.gid, mode: spec.mode.bits() };
    let (metadata, directory) = futures::join!(
        stage(work, &folders.metadata, &staged, None),
        stage(work, &folders.volumes, &staged, Some(&owner)),
    );
    let (metadata, _directory) = (metadata?, directory?);
    let bytes = record::encode(volume, temporary)?;
    let record = layout::name(RECORD).at("record")?;
    work.write_file(&metadata, &record, &bytes).await.at("record")?;
    let name = layout::name(spec.id.name.as_str()).at("publish")?;
    match work.rename((&folders.metadata, &staged), (&folders.metadata, &name)).await {
        Ok(()) => {}
        Err(TargetError {
            fault: Fault::Exists | Fault::NotEmpty | Fault::NotThere | Fault::NotAFolder,
            ..
        }) => {
            if ours(work, folders, &name, temporary).await?.is_none() {
                return Ok(Made::NameIsTaken);
            }
        }
        Err(error) => return Err(error).at("publish"),
    }
    put_in_place(work, folders, &staged, &name).await?;
    Ok(Made::New)
}

async fn stage(
    work: &Work,
    folder: &Handle,
    staged: &Name,
    owner: Option<&Owner>,
) -> Result<Handle, Problem> {
    match work.make_folder(folder, staged, owner).await {
        // Nobody else has this name: an answer was lost. The one that is there may be nobody's yet.
        Err(TargetError { fault: Fault::Exists, .. }) => {
            work.remove_folder(folder, staged).await.at("stage")?;
            work.make_folder(folder, staged, owner).await.at("stage")
        }
        made => made.at("stage"),
    }
}

/// The volume that has the name now, if it is the one that this create has made.
async fn ours(
    work: &Work,
    folders: &Folders,
    name: &Name,
    temporary: &Temporary,
) -> Result<Option<(Handle, Record)>, Problem> {
    let Some(found) = work.look_up(&folders.metadata, name).await.at("publish")? else { return Ok(None) };
    if !found.attributes.is_folder {
        return Ok(None);
    }
    Ok(match entry::read_record(work, &temporary.volume, &found.handle).await? {
        Ok(AnyRecord::Ours(record)) if record.made_as == *temporary => Some((found.handle, *record)),
        _ => None,
    })
}

/// The volume exists; its directory gets its name. Whoever looks at the volume meanwhile does the same.
async fn put_in_place(work: &Work, folders: &Folders, staged: &Name, name: &Name) -> Result<(), Problem> {
    let step = "put in place";
    match work.rename((&folders.volumes, staged), (&folders.volumes, name)).await {
        Ok(()) => Ok(()),
        Err(TargetError { fault: Fault::NotThere, .. })
            if work.look_up(&folders.volumes, name).await.at(step)?.is_some() =>
        {
            Ok(())
        }
        Err(TargetError { fault: Fault::Exists | Fault::NotEmpty | Fault::NotAFolder, .. }) => {
            let detail = "something is in the place of its directory, without a record".to_owned();
            Err(Failure::new(FailureCode::Damaged, detail).at_step(step).into())
        }
        Err(error) => Err(error).at(step),
    }
}

async fn there_meanwhile(work: &Work, folders: &Folders, name: &VolumeName) -> Result<Created, Problem> {
    match entry::find_in(work, folders, name).await?.into_sound(work, name)? {
        Some(sound) if sound.directory != Directory::Gone => {
            nodes::see(work, name, &sound).await?;
            Ok(Created::AlreadyThere(Box::new(sound.volume)))
        }
        gone_or_going => {
            let what = if gone_or_going.is_some() { "is being destroyed" } else { "came and went" };
            let detail = format!("volume `{}` {what} at the same time", work.shared.id(name));
            Err(Failure::new(FailureCode::Busy, detail).at_step("publish").into())
        }
    }
}

/// Takes back what a failed create has made, and keeps what could not be taken back. When the server is away nobody
/// knows what has been made: it is cleared away when it is back.
async fn undo(work: &Work, folders: &Folders, temporary: &Temporary, problem: Problem) -> Problem {
    let shared = &work.shared;
    if problem.is_away() || problem.is_stale() {
        shared.doubt(Left::Temporary(temporary.clone()));
        if problem.is_stale() {
            return problem; // It is made again by handles that are looked up anew.
        }
        let what = "nobody knows what is left of it: that is cleared away when the server is back";
        let left = Failure::new(FailureCode::StoreUnavailable, what).at_step("undo");
        return Problem::Told(problem.told(&shared.name, &shared.settings).undo_failed(left));
    }
    let work = work.undoing();
    let undone = match unpublish(&work, folders, temporary).await {
        Ok(TakenBack::Gone) => clear_away(&work, folders, temporary).await,
        Ok(TakenBack::Left) => {
            return Problem::Told(problem.told(&shared.name, &shared.settings).with_hint(LEFT));
        }
        Err(failed) => Err(failed),
    };
    match undone {
        Ok(()) => problem,
        Err(undo) => {
            shared.doubt(Left::Temporary(temporary.clone()));
            let undo = undo.told(&shared.name, &shared.settings);
            Problem::Told(problem.told(&shared.name, &shared.settings).undo_failed(undo))
        }
    }
}

/// Makes sure that the name does not stand for what a failed create has made, unless that is another's by now.
pub(crate) async fn unpublish(
    work: &Work,
    folders: &Folders,
    temporary: &Temporary,
) -> Result<TakenBack, Problem> {
    let step = "undo";
    let (name, staged) = (layout::name(temporary.volume.as_str()).at(step)?, temporary.name().at(step)?);
    // First what could still be published, by a call that was given up and is only done now.
    removal::remove_tree(work, &folders.metadata, &staged, step).await?;
    let Some((metadata, Record { volume, made_as })) = ours(work, folders, &name, temporary).await? else {
        return Ok(TakenBack::Gone);
    };
    // It exists, and others may have seen it: it goes as any volume goes.
    let is_staged = work.look_up(&folders.volumes, &staged).await.at(step)?.is_some();
    let directory = if is_staged { Directory::NotYet } else { Directory::There };
    let sound = Sound { volume, metadata, made_as: Some(made_as), directory };
    destroy::take_back_unused(work, folders, &sound).await
}

/// Puts the directory in place of a volume that was made, and whose create was cut off.
pub(crate) async fn finish(work: &Work, folders: &Folders, temporary: &Temporary) -> Result<(), Problem> {
    let step = "complete an earlier create";
    let (name, staged) = (layout::name(temporary.volume.as_str()).at(step)?, temporary.name().at(step)?);
    removal::remove_tree(work, &folders.metadata, &staged, step).await?;
    if ours(work, folders, &name, temporary).await?.is_some()
        && work.look_up(&folders.volumes, &staged).await.at(step)?.is_some()
    {
        put_in_place(work, folders, &staged, &name).await?;
    }
    Ok(())
}

/// Removes what was staged.
pub(crate) async fn clear_away(work: &Work, folders: &Folders, temporary: &Temporary) -> Result<(), Problem> {
    let staged = temporary.name().at("undo")?;
    let (metadata, directory) = futures::join!(
        removal::remove_tree(work, &folders.metadata, &staged, "undo"),
        removal::remove_tree(work, &folders.volumes, &staged, "undo"),
    );
    metadata.and(directory)
}
