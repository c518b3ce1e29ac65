//! What is called by a name: a volume in order, with its folder and image open, or something damaged.

use crate::device::BackingFile;
use crate::folders::{self, Folders, IMAGE, RECORDS};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::volume::{Entry, FileSystem, Volume, VolumeId};
use dvs_volume_record::record;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, fsync, openat, statat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

/// What was found under a name.
pub(crate) enum Found {
    /// A volume in order.
    Sound(SoundVolume),
    /// Something else, and what is wrong with it.
    Damaged(String),
}

/// A volume as it was read before, and the image that it has.
pub(crate) struct KnownVolume {
    pub(crate) volume: Volume,
    pub(crate) image: BackingFile,
}

/// A volume in order: its record can be read, and its image has the recorded size.
pub(crate) struct SoundVolume {
    pub(crate) volume: Volume,
    pub(crate) folder: OwnedFd,
}

/// Looks for `id`, without locking: what is being destroyed meanwhile is either still whole or not there.
pub(crate) fn find(folders: &Folders, id: &VolumeId) -> Option<Found> {
    loop {
        let folder = match open(folders, id) {
            Ok(folder) => folder?,
            Err(reason) => return Some(Found::Damaged(reason)),
        };
        match read(&folder, id) {
            // It may look damaged because it is being removed: then it is not there under its name any more.
            Err(_) if !folders::is_still(&folders.volumes, id.name.as_str(), &folder) => {}
            read => return Some(Found::of(read, folder)),
        }
    }
}

/// Looks for `id`, and locks its folder against other processes until the volume is dropped. The record of a volume
/// that is `known` is not read again.
pub(crate) fn find_locked(
    folders: &Folders,
    id: &VolumeId,
    known: Option<&KnownVolume>,
) -> Result<Option<Found>, Failure> {
    loop {
        let folder = match open(folders, id) {
            Ok(None) => return Ok(None),
            Ok(Some(folder)) => folder,
            Err(reason) => return Ok(Some(Found::Damaged(reason))),
        };
        folders::lock(&folder, &id.name)?;
        // It may have been removed, and made anew, while this waited for the lock.
        if folders::is_still(&folders.volumes, id.name.as_str(), &folder) {
            let known = known.filter(|known| known.is_in(&folder));
            let read = known.map_or_else(|| read(&folder, id), |known| Ok(known.volume.clone()));
            return Ok(Some(Found::of(read, folder)));
        }
    }
}

impl KnownVolume {
    fn is_in(&self, folder: &OwnedFd) -> bool {
        image(folder).is_ok_and(|image| {
            BackingFile::of_stat(&image) == self.image && has_size(&image, &self.volume).is_ok()
        })
    }
}

impl Found {
    fn of(read: Result<Volume, String>, folder: OwnedFd) -> Self {
        match read {
            Ok(volume) => Self::Sound(SoundVolume { volume, folder }),
            Err(reason) => Self::Damaged(reason),
        }
    }

    /// As the port lists it.
    pub(crate) fn into_entry(self, id: &VolumeId) -> Entry {
        match self {
            Self::Sound(sound) => Entry::Sound(Box::new(sound.volume)),
            Self::Damaged(reason) => Entry::Damaged { name: id.name.clone(), reason },
        }
    }

    /// The volume, if it is in order.
    pub(crate) fn into_sound(self, id: &VolumeId) -> Result<SoundVolume, Failure> {
        match self {
            Self::Sound(sound) => Ok(sound),
            Self::Damaged(reason) => {
                Err(Failure::new(FailureCode::Damaged, format!("volume `{id}` is damaged: {reason}")))
            }
        }
    }
}

impl SoundVolume {
    /// Opens the image for reading and writing.
    pub(crate) fn open_image(&self) -> rustix::io::Result<OwnedFd> {
        openat(&self.folder, IMAGE, OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    }
}

/// The file system to mount an image as, where `recorded` was asked for: the kernel mounts nothing as ext3 that
/// has no journal, and `mkfs.ext3` leaves it out of an image that is too small for it.
pub(crate) fn file_system_to_mount(image: impl AsFd, recorded: FileSystem) -> io::Result<FileSystem> {
    /// `s_feature_compat` of the superblock, and its bit `has_journal` (the kernel's ext4 documentation).
    const FEATURE_COMPAT_AT: u64 = 1024 + 0x5c;
    const HAS_JOURNAL: u32 = 0x4;
    if recorded != FileSystem::Ext3 {
        return Ok(recorded);
    }
    let mut compat = [0; 4];
    File::from(image.as_fd().try_clone_to_owned()?).read_exact_at(&mut compat, FEATURE_COMPAT_AT)?;
    let has_journal = u32::from_le_bytes(compat) & HAS_JOURNAL != 0;
    Ok(if has_journal { FileSystem::Ext3 } else { FileSystem::Ext2 })
}

fn open(folders: &Folders, id: &VolumeId) -> Result<Option<OwnedFd>, String> {
    folders::open_folder(&folders.volumes, id.name.as_str()).map_err(|errno| match errno {
        Errno::NOTDIR | Errno::LOOP => "it is no folder".to_owned(),
        errno => format!("its folder cannot be opened: {}", io::Error::from(errno)),
    })
}

fn read(folder: &OwnedFd, id: &VolumeId) -> Result<Volume, String> {
    let volume = read_record(folder, id)?;
    has_size(&image(folder)?, &volume)?;
    Ok(volume)
}

/// Whether the image has the size that `volume` was recorded with.
fn has_size(image: &Stat, volume: &Volume) -> Result<(), String> {
    let (is, recorded) = (image.st_size, volume.spec.size.bytes());
    if u64::try_from(is) == Ok(recorded) {
        Ok(())
    } else {
        Err(format!("its image has {is} bytes, recorded are {recorded}"))
    }
}

fn image(folder: &OwnedFd) -> Result<Stat, String> {
    match statat(folder, IMAGE, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => Ok(stat),
        Ok(_) => Err("its image is no file".to_owned()),
        Err(Errno::NOENT) => Err("its image is missing".to_owned()),
        Err(errno) => Err(format!("its image cannot be seen: {}", io::Error::from(errno))),
    }
}

/// The volume of the first copy of the record that is whole; else what is wrong with both.
fn read_record(folder: &OwnedFd, id: &VolumeId) -> Result<Volume, String> {
    let read = |name| read_copy(folder, name, id).map(|(volume, _)| volume);
    read(RECORDS[0]).or_else(|first| read(RECORDS[1]).map_err(|second| format!("{first}; {second}")))
}

/// The content of the copy `name` of the record, and its bytes.
fn read_copy(folder: &OwnedFd, name: &str, id: &VolumeId) -> Result<(Volume, Vec<u8>), String> {
    let decoded = read_file(folder, name)
        .and_then(|bytes| record::decode(&bytes, id).map(|record| (record.volume, bytes)));
    decoded.map_err(|what| format!("`{name}` {what}"))
}

/// Writes a copy of the record anew that is missing or broken, while the other one is whole. The volume's folder is
/// locked. What cannot be mended is logged, and the volume stays as it was.
pub(crate) fn mend_record(folder: &OwnedFd, id: &VolumeId) {
    let [first, second] = RECORDS.map(|name| read_copy(folder, name, id));
    let (name, wrong, whole) = match (first, second) {
        (Ok((_, whole)), Err(wrong)) => (RECORDS[1], wrong, whole),
        (Err(wrong), Ok((_, whole))) => (RECORDS[0], wrong, whole),
        _ => return,
    };
    if read_file(folder, name).is_ok_and(|bytes| record::is_of_later_version(&bytes)) {
        tracing::warn!(volume = %id, "one copy of the record cannot be read and stays as it is: {wrong}");
        return;
    }
    match write_copy(folder, name, &whole) {
        Ok(()) => tracing::warn!(volume = %id, "one copy of the record was broken and is mended: {wrong}"),
        Err(error) => {
            tracing::warn!(volume = %id, "one copy of the record is broken and stays so: {wrong}; {error}");
        }
    }
}

fn write_copy(folder: &OwnedFd, name: &str, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    file.set_len(0)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(fsync(folder)?)
}

fn read_file(folder: &OwnedFd, name: &str) -> Result<Vec<u8>, String> {
    // Without blocking: a named pipe in the record's place must not stop anybody.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(folder, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Err("is missing".to_owned()),
        Err(errno) => return Err(format!("cannot be opened: {}", io::Error::from(errno))),
    };
    let bytes_there = match fstat(&file) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => stat.st_size,
        _ => return Err("is no file".to_owned()),
    };
    let most = record::RECORD_BYTES_MAX as u64 + 1;
    // One read takes all of it, and finds its end.
    let capacity = usize::try_from(bytes_there).unwrap_or(0).min(record::RECORD_BYTES_MAX) + 64;
    let mut bytes = Vec::with_capacity(capacity);
    File::from(file)
        .take(most)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    Ok(bytes)
}
