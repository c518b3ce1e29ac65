//! What to attach for a volume: the loop device that its image is bound to, bound now if it is not yet. All
//! sources of one volume are one device. Which one that is, is remembered while it is mounted: to look for it means to ask
//! every bound device of the host.

use crate::Shared;
use crate::check;
use crate::device::{self, BackingFile, ExclusiveError, LoopDevice};
use crate::entry::{self, KnownVolume};
use crate::folders;
use crate::format::Format;
use crate::step;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::VolumeName;
use dvs_domain::ports::{Source, SourceKind};
use dvs_domain::volume::{FileSystem, Volume, VolumeId};
use rustix::fd::OwnedFd;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// The sources that were given out.
#[derive(Default)]
pub(crate) struct Sources {
    by_name: Mutex<HashMap<VolumeName, GivenBefore>>,
}

/// The last source of a volume.
struct GivenBefore {
    /// The number of its device.
    number: u32,
    /// The device, while a source of it is still there.
    kept: Weak<Kept>,
}

/// What all sources of a volume keep: its device, open until the volume is destroyed, and what was read of it.
pub(crate) struct Kept {
    device: Mutex<Option<LoopDevice>>,
    known: KnownVolume,
}

/// What a source is made of.
struct Given {
    path: PathBuf,
    kept: Arc<Kept>,
}

impl Given {
    fn source(self, file_system: FileSystem) -> Source {
        Source::kept_by(SourceKind::Device { path: self.path, file_system }, self.kept)
    }
}

/// The source of `name`.
pub(crate) fn source(shared: &Shared, name: &VolumeName) -> Result<Source, Failure> {
    let id = shared.id(name);
    let folders = shared.root.open()?;
    let found = entry::find_locked(&folders, &id, None)?
        .ok_or_else(|| Failure::new(FailureCode::NotFound, format!("volume `{id}` is not there")))?;
    let volume = found.into_sound(&id)?;
    let failed = |errno| step::failed("attach", "cannot open the image", errno);
    let image = volume.open_image().map_err(failed)?;
    let recorded = volume.volume.spec.file_system.unwrap_or(shared.settings.file_system);
    let file_system = file_system_of(&image, recorded)?;
    let file = BackingFile::of(&image).map_err(failed)?;
    // The image stays locked until the device is found or bound: nobody else binds it meanwhile, not even for another
    // volume whose image is a hard link to it. By a descriptor of its own: the device keeps that which it is bound by.
    let lock = volume.open_image().map_err(failed)?;
    folders::lock(&lock, name)?;
    let kept = match shared.sources.kept(name, file) {
        Some(kept) => kept,
        None => {
            let device = match shared.sources.remembered(name, file) {
                Some(device) => device,
                None => match found_device(&id, shared, file)? {
                    Some(device) => device,
                    None => bind(&image)?,
                },
            };
            entry::mend_record(&volume.folder, &id);
            check::check(&id, &device, &image, &shared.root.image(name), file_system)?;
            shared.sources.keep(name, device, KnownVolume { volume: volume.volume, image: file })
        }
    };
    Ok(kept.source(file_system))
}

/// A device that the image of a new volume is bound to, and as what it is to be mounted.
pub(crate) struct Bound {
    device: LoopDevice,
    file_system: FileSystem,
    known: KnownVolume,
}

/// Binds the image of a volume that nobody knows of yet, and of which `recorded` is all that `format` has settled.
pub(crate) fn bind_new(image: &OwnedFd, recorded: Volume, format: &Format) -> Result<Bound, Failure> {
    let failed = |errno| step::failed("attach", "cannot see the image", errno);
    Ok(Bound {
        file_system: file_system_of(image, format.file_system)?,
        device: bind(image)?,
        known: KnownVolume { volume: recorded, image: BackingFile::of(image).map_err(failed)? },
    })
}

fn bind(image: &OwnedFd) -> Result<LoopDevice, Failure> {
    step::failpoint("loop.attach")?;
    device::attach(image).inspect(|_| step::between("loop.attached"))
}

fn file_system_of(image: &OwnedFd, recorded: FileSystem) -> Result<FileSystem, Failure> {
    entry::file_system_to_mount(image, recorded)
        .map_err(|error| Failure::internal("cannot read the image", error).at_step("attach"))
}

fn found_device(id: &VolumeId, shared: &Shared, file: BackingFile) -> Result<Option<LoopDevice>, Failure> {
    let found = shared.loops.find(file);
    let found =
        found.map_err(|errno| step::failed("attach", "cannot see what the image is bound to", errno))?;
    match found.as_slice() {
        [] => Ok(None),
        [device] if !is_as_bound_here(device) => {
            Err(bound_otherwise(id, &found, "read-only or in part, not as DVS binds it").at_step("attach"))
        }
        [_] => Ok(found.into_iter().next()),
        _ => Err(bound_at_once(id, &found).at_step("attach")),
    }
}

fn is_as_bound_here(device: &LoopDevice) -> bool {
    device.is_whole() && !device.is_read_only()
}

/// The image of `id` is bound to several devices.
pub(crate) fn bound_at_once(id: &VolumeId, devices: &[LoopDevice]) -> Failure {
    bound_otherwise(id, devices, "at once, and writing to both would destroy it")
}

fn bound_otherwise(id: &VolumeId, devices: &[LoopDevice], how: &str) -> Failure {
    let devices: Vec<String> = devices.iter().map(|device| device.path().display().to_string()).collect();
    Failure::new(FailureCode::Conflict, format!("volume `{id}` is bound to {} {how}", devices.join(", ")))
        .with_hint("somebody else did that: unmount it there, and detach it with `losetup -d`")
}

impl Sources {
    /// The source of a new volume.
    pub(crate) fn give(&self, name: &VolumeName, bound: Bound) -> Source {
        self.keep(name, bound.device, bound.known).source(bound.file_system)
    }

    /// Whether a source of `name` is still there.
    pub(crate) fn is_kept(&self, name: &VolumeName) -> bool {
        self.by_name().get(name).is_some_and(|given| given.kept.strong_count() > 0)
    }

    fn kept(&self, name: &VolumeName, file: BackingFile) -> Option<Given> {
        let kept = self.by_name().get(name)?.kept.upgrade()?;
        let path = kept.device().as_ref().filter(|device| device.is_bound_to(file)).map(LoopDevice::path);
        path.map(|path| Given { path, kept })
    }

    /// The device of the last source of `name`, if it is still that of its image and mounted: of one that is not,
    /// nobody knows whether it is the only one.
    fn remembered(&self, name: &VolumeName, file: BackingFile) -> Option<LoopDevice> {
        let number = self.by_name().get(name)?.number;
        let device = device::open_if_bound_to(number, file).ok()?.filter(is_as_bound_here)?;
        matches!(device.open_exclusively(), Err(ExclusiveError::Busy)).then_some(device)
    }

    fn keep(&self, name: &VolumeName, device: LoopDevice, known: KnownVolume) -> Given {
        let (path, number) = (device.path(), device.number());
        let kept = Arc::new(Kept { device: Mutex::new(Some(device)), known });
        self.by_name().insert(name.clone(), GivenBefore { number, kept: Arc::downgrade(&kept) });
        Given { path, kept }
    }

    /// Closes the device of a volume that is no more, in all sources that are still around.
    pub(crate) fn close(&self, name: &VolumeName) {
        if let Some(kept) = self.by_name().remove(name).and_then(|given| given.kept.upgrade()) {
            kept.device().take();
        }
    }

    fn by_name(&self) -> MutexGuard<'_, HashMap<VolumeName, GivenBefore>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// What was read of the volume, while its device is bound: until then nothing else can have its image's inode.
    pub(crate) fn known(&self) -> Option<&KnownVolume> {
        let is_bound = self.device().as_ref().is_some_and(|device| device.is_bound_to(self.known.image));
        is_bound.then_some(&self.known)
    }

    fn device(&self) -> MutexGuard<'_, Option<LoopDevice>> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
