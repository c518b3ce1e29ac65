//! What to attach for a volume: the loop device that its image is bound to, bound now if it is not yet.

use crate::check;
use crate::device::{self, BackingFile, LoopDevice};
use crate::entry::{self, KnownVolume};
use crate::folders;
use crate::format::Format;
use crate::shared::Shared;
use crate::sources::{Sources, is_as_bound_here};
use crate::step;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::VolumeName;
use dvs_domain::ports::Source;
use dvs_domain::volume::{FileSystem, Volume, VolumeId};
use rustix::fd::OwnedFd;

/// The source of `name`.
pub(crate) fn source(shared: &Shared, name: &VolumeName) -> Result<Source, Failure> {
    let id = shared.id(name);
    let (open, folders) = shared.open()?;
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
    let retained = match shared.sources.reused(name, file) {
        Some(retained) => retained,
        None => {
            entry::mend_record(&volume.folder, &id);
            let device = match shared.sources.remembered(name, file) {
                Some(mounted) => mounted,
                None => {
                    let device = match found_device(&id, shared, file)? {
                        Some(device) => device,
                        None => bind(&image)?,
                    };
                    check::check(&id, &device, &image, &open.root.image(name), file_system)?;
                    device
                }
            };
            shared.sources.issue(name, device, KnownVolume { volume: volume.volume, image: file })
        }
    };
    Ok(retained.source(file_system))
}

/// A device that the image of a new volume is bound to, and as what it is to be mounted.
pub(crate) struct Bound {
    device: LoopDevice,
    file_system: FileSystem,
    known: KnownVolume,
}

impl Bound {
    /// The source of the new volume, once it is there.
    pub(crate) fn issue(self, sources: &Sources, name: &VolumeName) -> Source {
        sources.issue(name, self.device, self.known).source(self.file_system)
    }
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

/// The image of `id` is bound to several devices.
pub(crate) fn bound_at_once(id: &VolumeId, devices: &[LoopDevice]) -> Failure {
    bound_otherwise(id, devices, "at once, and writing to both would destroy it")
}

fn bound_otherwise(id: &VolumeId, devices: &[LoopDevice], how: &str) -> Failure {
    let devices: Vec<String> = devices.iter().map(|device| device.path().display().to_string()).collect();
    Failure::new(FailureCode::Conflict, format!("volume `{id}` is bound to {} {how}", devices.join(", ")))
        .with_hint("somebody else did that: unmount it there, and detach it with `losetup -d`")
}
