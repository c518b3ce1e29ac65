//! What a name stands for on the export.

use crate::layout::{self, DELETING, LEGACY_RECORD, RECORD, Temporary};
use crate::problem::{At, Problem};
use crate::record::{self, RECORD_BYTES_MAX, Record};
use crate::shared::{Folders, Work};
use crate::target::{Fault, Found, Handle, Name, TargetError};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::VolumeName;
use dvs_domain::time::Timestamp;
use dvs_domain::volume::{Entry, Mode, Usage, Volume, VolumeSpec};

/// How often a look is taken at what others change meanwhile.
const LOOKS: usize = 4;

/// What a name stands for.
#[derive(Debug)]
pub(crate) enum State {
    /// Nothing.
    Absent,
    /// A volume.
    Sound(Box<Sound>),
    /// Something that is not whole, and why.
    Damaged(String),
}

/// A volume that is whole.
#[derive(Debug)]
pub(crate) struct Sound {
    pub(crate) volume: Volume,
    /// Its folder in `volumes_metadata`.
    pub(crate) metadata: Handle,
    /// The name under which it was made, if this program has made it.
    pub(crate) made_as: Option<Temporary>,
    pub(crate) directory: Directory,
}

impl Sound {
    pub(crate) fn name(&self) -> &VolumeName {
        &self.volume.spec.id.name
    }
}

/// Where the directory of a volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Directory {
    /// In its place.
    There,
    /// Still where it was made, and it cannot be put in its place now.
    NotYet,
    /// Out of its place already, because the volume is being destroyed.
    Gone,
}

impl State {
    /// Half of what looks damaged may be what a call of this node has moved away that was done late: it is put back.
    pub(crate) fn tidy_if_damaged(&self, work: &Work) {
        if matches!(self, Self::Damaged(_)) {
            work.shared.is_left_untidy();
            work.shared.tidy();
        }
    }

    pub(crate) fn into_entry(self, name: &VolumeName) -> Option<Entry> {
        match self {
            Self::Absent => None,
            Self::Sound(sound) => Some(Entry::Sound(Box::new(sound.volume))),
            Self::Damaged(reason) => Some(Entry::Damaged { name: name.clone(), reason }),
        }
    }

    /// The volume, if there is a whole one.
    pub(crate) fn into_sound(self, work: &Work, name: &VolumeName) -> Result<Option<Sound>, Failure> {
        match self {
            Self::Absent => Ok(None),
            Self::Sound(sound) => Ok(Some(*sound)),
            Self::Damaged(reason) => {
                let detail = format!("volume `{}` is damaged: {reason}", work.shared.id(name));
                Err(Failure::new(FailureCode::Damaged, detail).with_hint(
                    "mend or remove it on the export by hand; DVS never removes what it cannot read",
                ))
            }
        }
    }
}

/// What `name` stands for now. Completes a create that was cut off after its decision.
pub(crate) async fn find(work: &Work, name: &VolumeName) -> Result<State, Problem> {
    let Some(folders) = work.folders_if_there().await? else { return Ok(State::Absent) };
    let state = find_in(work, &folders, name).await?;
    state.tidy_if_damaged(work);
    work.shared.listing.correct(name, &state);
    Ok(state)
}

pub(crate) async fn find_in(work: &Work, folders: &Folders, name: &VolumeName) -> Result<State, Problem> {
    let file = layout::name(name.as_str()).at("look up")?;
    let mut last = Err(TargetError { call: "look up", fault: Fault::Stale }).at("look up");
    for _ in 0..LOOKS {
        let (metadata, directory) =
            futures::join!(work.look_up(&folders.metadata, &file), work.look_up(&folders.volumes, &file));
        let (metadata, directory) = (metadata.at("look up")?, directory.at("look up")?);
        let Some(metadata) = metadata else {
            // It may have come or gone between the two looks.
            let again = work.look_up(&folders.metadata, &file).await.at("look up")?;
            match (again, directory) {
                (Some(_), _) => continue,
                (None, None) => return Ok(State::Absent),
                (None, Some(_)) => {
                    if work.look_up(&folders.volumes, &file).await.at("look up")?.is_none() {
                        continue;
                    }
                    return Ok(State::Damaged("its directory is there without a record".to_owned()));
                }
            }
        };
        last = read(work, folders, name, &file, &metadata, directory.as_ref()).await;
        let is_settled = match &last {
            Ok(State::Damaged(_)) => is_still(work, folders, &file, &metadata).await?,
            Err(problem) => !problem.is_stale(),
            Ok(_) => true,
        };
        if is_settled {
            break;
        }
    }
    last
}

/// Whether `name` still leads to what was found: what goes away while it is read looks like a damaged one.
async fn is_still(work: &Work, folders: &Folders, name: &Name, found: &Found) -> Result<bool, Problem> {
    let now = work.look_up(&folders.metadata, name).await.at("look up")?;
    Ok(now.is_some_and(|now| now.attributes.file == found.attributes.file))
}

/// What is in the two folders of `name`, or in the one, and nothing in the other's place.
pub(crate) async fn read(
    work: &Work,
    folders: &Folders,
    name: &VolumeName,
    file: &Name,
    metadata: &Found,
    directory: Option<&Found>,
) -> Result<State, Problem> {
    if !metadata.attributes.is_folder || directory.is_some_and(|found| !found.attributes.is_folder) {
        return Ok(State::Damaged("something that is no folder has its name".to_owned()));
    }
    let record = match read_record(work, name, &metadata.handle).await? {
        Ok(record) => record,
        Err(reason) => return Ok(State::Damaged(reason)),
    };
    let sound = |volume, made_as, directory| {
        let metadata = metadata.handle.clone();
        Ok(State::Sound(Box::new(Sound { volume, metadata, made_as, directory })))
    };
    match (record, directory) {
        (AnyRecord::Ours(record), Some(_)) => sound(record.volume, Some(record.made_as), Directory::There),
        (AnyRecord::Ours(record), None) => {
            let Record { volume, made_as } = *record;
            if let Some(directory) = complete(work, folders, file, &made_as).await? {
                return sound(volume, Some(made_as), directory);
            }
            let deleting = layout::name(DELETING).at("look up")?;
            if work.read_mark(&metadata.handle, &deleting).await.at("look up")?.is_some() {
                return sound(volume, Some(made_as), Directory::Gone);
            }
            Ok(State::Damaged("its directory is not there".to_owned()))
        }
        (AnyRecord::Legacy(size), Some(directory)) => {
            let owner = directory.attributes.owner;
            let Ok(mode) = Mode::parse(&format!("{:o}", owner.mode)) else {
                return Ok(State::Damaged("nobody may do anything with its directory".to_owned()));
            };
            let spec = VolumeSpec {
                id: work.shared.id(name),
                size,
                file_system: None,
                uid: owner.uid,
                gid: owner.gid,
                mode,
                provision: None,
            };
            sound(Volume { spec, made_by: None, made_at: Timestamp(0) }, None, Directory::There)
        }
        (AnyRecord::Legacy(_), None) => Ok(State::Damaged("its directory is not there".to_owned())),
    }
}

/// A record that can be read.
pub(crate) enum AnyRecord {
    Ours(Box<Record>),
    /// Of the earlier implementation, which recorded little more than the size.
    Legacy(dvs_domain::size::VolumeSize),
}

/// The record in the folder `metadata` of `name`, or what is wrong with it.
pub(crate) async fn read_record(
    work: &Work,
    name: &VolumeName,
    metadata: &Handle,
) -> Result<Result<AnyRecord, String>, Problem> {
    let step = "read the record";
    let read = async |name| match work.read_file(metadata, &layout::name(name)?, RECORD_BYTES_MAX).await {
        Err(error) if is_of_the_file(&error.fault) => Ok(Err(format!("`{name}` cannot be read: {error}"))),
        read => read.map(Ok),
    };
    let record = match read(RECORD).await.at(step)? {
        Ok(record) => record,
        Err(reason) => return Ok(Err(reason)),
    };
    if let Some(bytes) = record {
        let record = record::decode(&bytes, &work.shared.id(name));
        return Ok(record
            .map(|record| AnyRecord::Ours(Box::new(record)))
            .map_err(|wrong| format!("its record {wrong}")));
    }
    let bytes = match read(LEGACY_RECORD).await.at(step)? {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(Err("its record is not there".to_owned())),
        Err(reason) => return Ok(Err(reason)),
    };
    let size = record::decode_legacy(&bytes, name);
    Ok(size.map(AnyRecord::Legacy).map_err(|wrong| format!("its `{LEGACY_RECORD}` {wrong}")))
}

/// Whether it is the file that cannot be read, whatever else the server can do.
fn is_of_the_file(fault: &Fault) -> bool {
    matches!(fault, Fault::IsFolder | Fault::NotAFolder | Fault::Refused)
}

/// Puts the directory of a volume in its place, if it is still where it was made. Others may do the same. `None` when
/// it is at neither place.
pub(crate) async fn complete(
    work: &Work,
    folders: &Folders,
    file: &Name,
    made_as: &Temporary,
) -> Result<Option<Directory>, Problem> {
    let step = "complete an earlier create";
    let staged = made_as.name().at(step)?;
    let mut can_change = !work.shared.settings.read_only;
    if can_change {
        match work.rename((&folders.volumes, &staged), (&folders.volumes, file)).await {
            Ok(()) => return Ok(Some(Directory::There)),
            Err(TargetError { fault: Fault::NotThere | Fault::Exists | Fault::NotEmpty, .. }) => {}
            // It exists all the same, and must not hide the others.
            Err(TargetError { fault: Fault::ReadOnly | Fault::Refused | Fault::NoSpace, .. }) => {
                can_change = false;
            }
            Err(error) => return Err(error).at(step),
        }
    }
    // In this order: others move it from the one place to the other.
    let is_staged = !can_change && work.look_up(&folders.volumes, &staged).await.at(step)?.is_some();
    if work.look_up(&folders.volumes, file).await.at(step)?.is_some() {
        return Ok(Some(Directory::There));
    }
    Ok(is_staged.then_some(Directory::NotYet))
}

/// The volume `name`, to be used.
pub(crate) async fn attachable(work: &Work, name: &VolumeName) -> Result<Sound, Problem> {
    let sound = there(work, name).await?;
    let what = match sound.directory {
        Directory::There => return Ok(sound),
        Directory::NotYet => "has a directory that cannot be put in its place now",
        Directory::Gone => "is being destroyed",
    };
    Err(Failure::new(FailureCode::Busy, format!("volume `{}` {what}", work.shared.id(name))).into())
}

/// The volume `name`, which must be there.
pub(crate) async fn there(work: &Work, name: &VolumeName) -> Result<Sound, Problem> {
    match find(work, name).await?.into_sound(work, name)? {
        Some(sound) => Ok(sound),
        None => Err(not_there(work, name).into()),
    }
}

fn not_there(work: &Work, name: &VolumeName) -> Failure {
    Failure::new(FailureCode::NotFound, format!("volume `{}` is not there", work.shared.id(name)))
}

/// How much `name` can take at most.
pub(crate) async fn usage(work: &Work, name: &VolumeName) -> Result<Usage, Problem> {
    let recorded = match find(work, name).await? {
        State::Absent => return Err(not_there(work, name).into()),
        State::Sound(sound) => sound.volume.spec.size.bytes(),
        State::Damaged(_) => 0, // Nobody knows.
    };
    let folders = work.folders().await?;
    let (all, free) = work.room(&folders.volumes).await.at("ask for room")?;
    Ok(Usage { allocated_bytes: recorded.min(all.saturating_sub(free)) })
}
