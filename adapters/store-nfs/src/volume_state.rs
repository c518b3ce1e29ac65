//! What a volume name stands for on the export.

use crate::client::{ClientError, Fault, Found, Handle, Name};
use crate::layout::{self, DELETING, LEGACY_RECORD, RECORD, Temporary};
use crate::problem::{At, Problem};
use crate::record::{self, RECORD_BYTES_MAX, Record};
use crate::session::Export;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::VolumeName;
use dvs_domain::size::VolumeSize;
use dvs_domain::time::Timestamp;
use dvs_domain::volume::{Entry, Mode, Usage, Volume, VolumeSpec};

const LOOK_UP: &str = "look up";
const COMPLETE: &str = "complete an earlier create";
/// How often a volume is looked at again that others change meanwhile.
const LOOKS_MAX: usize = 4;

#[derive(Debug)]
pub(crate) enum VolumeState {
    Absent,
    Sound(Box<Sound>),
    /// With the reason.
    Damaged(String),
}

/// A volume with a valid record.
#[derive(Debug)]
pub(crate) struct Sound {
    pub(crate) volume: Volume,
    /// Its folder in `volumes_metadata`.
    pub(crate) metadata: Handle,
    /// The temporary name under which this program made it; `None` for a legacy volume.
    pub(crate) made_as: Option<Temporary>,
    pub(crate) directory: DirectoryState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DirectoryState {
    InPlace,
    /// Still under its temporary name, and it cannot be renamed now.
    Staged,
    /// Renamed away, because the destroy was decided.
    TakenOut,
}

impl Sound {
    pub(crate) fn name(&self) -> &VolumeName {
        &self.volume.spec.id.name
    }
}

impl VolumeState {
    /// A volume may look damaged because a call of this node, executed late, moved half of it away: the janitor moves it
    /// back.
    pub(crate) fn request_recovery_if_damaged(&self, export: &Export) {
        if matches!(self, Self::Damaged(_)) && !export.session.settings.read_only {
            export.session.note_leftover();
            export.session.recovery_due.notify_one();
        }
    }

    pub(crate) fn into_entry(self, name: &VolumeName) -> Option<Entry> {
        match self {
            Self::Absent => None,
            Self::Sound(sound) => Some(Entry::Sound(Box::new(sound.volume))),
            Self::Damaged(reason) => Some(Entry::Damaged { name: name.clone(), reason }),
        }
    }

    /// The volume, or `None` if there is none. Refuses a damaged one.
    pub(crate) fn into_sound(self, export: &Export, name: &VolumeName) -> Result<Option<Sound>, Failure> {
        match self {
            Self::Absent => Ok(None),
            Self::Sound(sound) => Ok(Some(*sound)),
            Self::Damaged(reason) => {
                let detail = format!("volume `{}` is damaged: {reason}", export.session.id(name));
                Err(Failure::new(FailureCode::Damaged, detail).with_hint(
                    "repair or remove it on the export by hand; DVS never removes what it cannot read",
                ))
            }
        }
    }
}

/// Like [`state_of`], and has a damaged volume recovered if it can be.
pub(crate) async fn find(export: &Export, name: &VolumeName) -> Result<VolumeState, Problem> {
    let state = state_of(export, name).await?;
    state.request_recovery_if_damaged(export);
    Ok(state)
}

/// Looks the volume up. Completes a create that was cut off after the volume was published.
pub(crate) async fn state_of(export: &Export, name: &VolumeName) -> Result<VolumeState, Problem> {
    let file = layout::volume(name);
    let mut last = Err(ClientError { call: LOOK_UP, fault: Fault::Stale }).at(LOOK_UP);
    for _ in 0..LOOKS_MAX {
        let (metadata, directory) =
            futures::join!(export.look_up(&export.metadata, &file), export.look_up(&export.volumes, &file));
        let (metadata, directory) = (metadata.at(LOOK_UP)?, directory.at(LOOK_UP)?);
        last = match (&metadata, &directory) {
            (None, None) => return Ok(VolumeState::Absent),
            (None, Some(_)) => Ok(VolumeState::Damaged("its directory exists without a record".to_owned())),
            (Some(metadata), directory) => read(export, name, &file, metadata, directory.as_ref()).await,
        };
        let is_final = match &last {
            Ok(VolumeState::Damaged(_)) => is_unchanged(export, &file, metadata, directory).await?,
            Err(problem) => !problem.is_stale(),
            Ok(_) => true,
        };
        if is_final {
            break;
        }
    }
    last
}

/// Whether the name still leads to what was found: a volume looks damaged while it is made or removed. The metadata first,
/// because a destroy removes it last.
async fn is_unchanged(
    export: &Export,
    file: &Name,
    metadata: Option<Found>,
    directory: Option<Found>,
) -> Result<bool, Problem> {
    for (folder, before) in [(&export.metadata, metadata), (&export.volumes, directory)] {
        let now = export.look_up(folder, file).await.at(LOOK_UP)?;
        if now.map(|now| now.attributes.file) != before.map(|before| before.attributes.file) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads the volume whose metadata folder, and perhaps directory, were found.
pub(crate) async fn read(
    export: &Export,
    name: &VolumeName,
    file: &Name,
    metadata: &Found,
    directory: Option<&Found>,
) -> Result<VolumeState, Problem> {
    if !metadata.attributes.is_directory || directory.is_some_and(|found| !found.attributes.is_directory) {
        return Ok(VolumeState::Damaged("something that is not a directory has its name".to_owned()));
    }
    let record = match read_record(export, name, &metadata.handle).await? {
        Ok(record) => record,
        Err(reason) => return Ok(VolumeState::Damaged(reason)),
    };
    let sound = |volume, made_as, directory| {
        let metadata = metadata.handle.clone();
        Ok(VolumeState::Sound(Box::new(Sound { volume, metadata, made_as, directory })))
    };
    let missing = || Ok(VolumeState::Damaged("its directory is missing".to_owned()));
    match (record, directory) {
        (AnyRecord::Ours(record), Some(_)) => {
            sound(record.volume, Some(record.made_as), DirectoryState::InPlace)
        }
        (AnyRecord::Ours(record), None) => {
            let Record { volume, made_as } = *record;
            if let Some(directory) = put_in_place(export, file, &made_as).await? {
                return sound(volume, Some(made_as), directory);
            }
            if locked_by(export, &metadata.handle, LOOK_UP).await?.is_some() {
                return sound(volume, Some(made_as), DirectoryState::TakenOut);
            }
            missing()
        }
        (AnyRecord::Legacy(size), Some(directory)) => {
            let owner = directory.attributes.owner;
            let Ok(mode) = Mode::parse(&format!("{:o}", owner.mode)) else {
                return Ok(VolumeState::Damaged("its directory has no permissions at all".to_owned()));
            };
            let spec = VolumeSpec {
                id: export.session.id(name),
                size,
                file_system: None,
                uid: owner.uid,
                gid: owner.gid,
                mode,
                provision: None,
            };
            let volume = Volume { spec, made_by: None, made_at: Timestamp(0) };
            sound(volume, None, DirectoryState::InPlace)
        }
        (AnyRecord::Legacy(_), None) => missing(),
    }
}

pub(crate) enum AnyRecord {
    Ours(Box<Record>),
    /// A legacy record tells little more than the size.
    Legacy(VolumeSize),
}

/// The record in the metadata folder of `name`, or what is wrong with it.
pub(crate) async fn read_record(
    export: &Export,
    name: &VolumeName,
    metadata: &Handle,
) -> Result<Result<AnyRecord, String>, Problem> {
    let step = "read the record";
    let read = async |name| match export.read_file(metadata, &layout::fixed(name), RECORD_BYTES_MAX).await {
        Err(error) if is_of_the_file(&error.fault) => Ok(Err(format!("`{name}` cannot be read: {error}"))),
        read => read.map(Ok),
    };
    let record = match read(RECORD).await.at(step)? {
        Ok(record) => record,
        Err(reason) => return Ok(Err(reason)),
    };
    if let Some(bytes) = record {
        let record = record::decode(&bytes, &export.session.id(name));
        return Ok(record
            .map(|record| AnyRecord::Ours(Box::new(record)))
            .map_err(|wrong| format!("its record {wrong}")));
    }
    let bytes = match read(LEGACY_RECORD).await.at(step)? {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(Err("its record is missing".to_owned())),
        Err(reason) => return Ok(Err(reason)),
    };
    let size = record::decode_legacy(&bytes, name);
    Ok(size.map(AnyRecord::Legacy).map_err(|wrong| format!("its `{LEGACY_RECORD}` {wrong}")))
}

/// Whether the fault is about this file, not about the server.
fn is_of_the_file(fault: &Fault) -> bool {
    matches!(fault, Fault::IsDirectory | Fault::NotDirectory | Fault::AccessDenied)
}

/// The node whose delete lock is in the metadata folder.
pub(crate) async fn locked_by(
    export: &Export,
    metadata: &Handle,
    step: &'static str,
) -> Result<Option<String>, Problem> {
    let deleting = layout::fixed(DELETING);
    export.read_link(metadata, &deleting).await.at(step)
}

/// Renames the directory of a published volume from its temporary name to its own. Other nodes may do the same at the
/// same time. `None` if it has neither name.
pub(crate) async fn put_in_place(
    export: &Export,
    file: &Name,
    made_as: &Temporary,
) -> Result<Option<DirectoryState>, Problem> {
    let staged = made_as.name();
    let mut can_rename = !export.session.settings.read_only;
    if can_rename {
        match export.rename((&export.volumes, &staged), (&export.volumes, file)).await {
            Ok(()) => return Ok(Some(DirectoryState::InPlace)),
            Err(ClientError { fault: Fault::NotFound | Fault::Exists | Fault::NotEmpty, .. }) => {}
            // The volume exists all the same, and must not hide the others.
            Err(ClientError { fault: Fault::ReadOnly | Fault::AccessDenied | Fault::NoSpace, .. }) => {
                can_rename = false;
            }
            Err(error) => return Err(error).at(COMPLETE),
        }
    }
    // In this order, because others rename from the first name to the second.
    let is_staged = !can_rename && export.look_up(&export.volumes, &staged).await.at(COMPLETE)?.is_some();
    if export.look_up(&export.volumes, file).await.at(COMPLETE)?.is_some() {
        return Ok(Some(DirectoryState::InPlace));
    }
    Ok(is_staged.then_some(DirectoryState::Staged))
}

/// The volume `name`, to be attached.
pub(crate) async fn attachable(export: &Export, name: &VolumeName) -> Result<Sound, Problem> {
    let sound = find(export, name).await?.into_sound(export, name)?;
    let sound = sound.ok_or_else(|| export.session.not_found(name))?;
    let what = match sound.directory {
        DirectoryState::InPlace => return Ok(sound),
        DirectoryState::Staged => "has a directory that cannot be put in its place now",
        DirectoryState::TakenOut => "is being destroyed",
    };
    let detail = format!("volume `{}` {what}", export.session.id(name));
    Err(Failure::new(FailureCode::Busy, detail).into())
}

/// An upper bound of the space that the volume uses: what is used of the export, and not more than was recorded.
pub(crate) async fn usage(export: &Export, name: &VolumeName) -> Result<Usage, Problem> {
    let recorded = match find(export, name).await? {
        VolumeState::Absent => return Err(export.session.not_found(name).into()),
        VolumeState::Sound(sound) => sound.volume.spec.size.bytes(),
        VolumeState::Damaged(_) => 0, // Unknown.
    };
    let (total, free) = export.room(&export.volumes).await.at("ask for free space")?;
    Ok(Usage { allocated_bytes: recorded.min(total.saturating_sub(free)) })
}
