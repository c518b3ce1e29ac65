//! Destroying a volume: its loop device is held exclusively, which proves that nothing has it mounted; one rename
//! decides; then everything is removed and the device is freed. After a refusal nothing has changed.

use crate::attach;
use crate::device::{self, BackingFile, ExclusiveDevice, ExclusiveError};
use crate::entry::{self, SoundVolume};
use crate::folders::{self, Folders};
use crate::shared::Shared;
use crate::sources::Retained;
use crate::stage::{Staged, undone};
use crate::step;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::VolumeName;
use dvs_domain::ports::{DestroyError, Destroyed};
use dvs_domain::volume::VolumeId;
use rustix::fd::OwnedFd;
use rustix::fs::{fstat, ftruncate};
use std::thread;
use std::time::{Duration, Instant};

/// How long a device may stay busy before something is said to use it: the kernel lets go of a mount namespace
/// a moment after its last process ended.
const BUSY_MILLISECONDS_MAX: u64 = 100;
/// How long the kernel, or a program that looks at every new device, may take to close it.
const RELEASE_MILLISECONDS_MAX: u64 = 2000;

/// Makes sure that nothing is called `name`.
pub(crate) fn destroy(
    shared: &Shared,
    name: &VolumeName,
    retained: Option<&Retained>,
) -> Result<Destroyed, DestroyError> {
    let id = shared.id(name);
    let (open, folders) = shared.open()?;
    let Some(found) = entry::find_locked(&folders, &id, retained.and_then(Retained::known))? else {
        return Ok(Destroyed::NothingThere);
    };
    let volume = found.into_sound(&id)?;
    refuse_foreign_files(&id, &volume)?;
    let failed = |errno| step::failed("hold", "cannot see what uses the volume", errno);
    let image = volume.open_image().map_err(failed)?;
    let file = BackingFile::of(&image).map_err(failed)?;
    step::failpoint("loop.hold")?;
    let held = hold(shared, &id, file, shared.sources.is_kept(name))?;
    let staged = Staged::decide(&folders, name, volume.folder)?;
    open.reservations.release(name);
    remove(&folders, &staged, &id);
    shared.sources.close(name);
    free(held, &image, file, &id);
    Ok(Destroyed::Gone)
}

fn refuse_foreign_files(id: &VolumeId, volume: &SoundVolume) -> Result<(), Failure> {
    let foreign = folders::unknown_files(&volume.folder)
        .map_err(|errno| step::failed("hold", "cannot list the volume's folder", errno))?;
    let Some(first) = foreign.first() else { return Ok(()) };
    Err(Failure::new(
        FailureCode::Conflict,
        format!(
            "the folder of volume `{id}` holds `{}`, which DVS did not put there",
            first.to_string_lossy()
        ),
    )
    .at_step("hold")
    .with_hint("move what is not DVS's out of the volume's folder first"))
}

/// Every loop device of the image, each held so that nobody can mount it. Where it `was_attached` there is one at most:
/// who bound it to another meanwhile may be reading a copy of it.
fn hold(
    shared: &Shared,
    id: &VolumeId,
    file: BackingFile,
    was_attached: bool,
) -> Result<Vec<ExclusiveDevice>, Failure> {
    let failed = |errno| step::failed("hold", "cannot see what uses the volume", errno);
    let until = Instant::now() + Duration::from_millis(BUSY_MILLISECONDS_MAX);
    let mut held = Vec::new();
    let found = shared.loops.find(file).map_err(failed)?;
    if was_attached && found.len() > 1 {
        return Err(attach::bound_at_once(id, &found).at_step("hold"));
    }
    for device in found {
        loop {
            match device.open_exclusively() {
                Ok(exclusive) => {
                    held.push(exclusive);
                    break;
                }
                Err(ExclusiveError::Busy) if Instant::now() < until => {
                    thread::sleep(Duration::from_millis(2));
                }
                Err(ExclusiveError::Busy) => {
                    return Err(Failure::new(
                        FailureCode::InUse,
                        format!(
                            "something still has volume `{id}` mounted (`{}`): another mount namespace or process",
                            device.path().display()
                        ),
                    )
                    .at_step("hold"));
                }
                Err(ExclusiveError::Failed(errno)) => return Err(failed(errno)),
            }
        }
    }
    Ok(held)
}

/// Removes what the decision has left. It stands: who heard of a failure here would take the volume for still
/// there. So what fails is logged, and the next opening of the store finishes it.
fn remove(folders: &Folders, staged: &Staged, id: &VolumeId) {
    let attempt = || step::failpoint("loop.remove").and_then(|()| staged.remove(folders));
    let removed = attempt().or_else(|failure| attempt().map_err(|again| undone(failure, Err(again))));
    if let Err(failure) = removed {
        warn(id, "its files stay in `staging` until the store is opened again", &failure);
    }
}

/// Lets go of the devices, and sees to it that the image takes no room. What fails is logged, as in [`remove`].
fn free(held: Vec<ExclusiveDevice>, image: &OwnedFd, file: BackingFile, id: &VolumeId) {
    let numbers: Vec<u32> = held.iter().map(ExclusiveDevice::number).collect();
    for device in held {
        let number = device.number();
        let unbound = step::failpoint("loop.unbind").and_then(|()| {
            device.unbind().map_err(|errno| step::failed("release", "cannot unbind the loop device", errno))
        });
        if let Err(failure) = unbound {
            warn(id, &format!("`/dev/loop{number}` may stay bound until it is closed"), &failure);
        }
    }
    step::between("loop.unbound");
    let limit = Duration::from_millis(RELEASE_MILLISECONDS_MAX);
    let released = numbers.iter().all(|number| device::wait_until_released(*number, file, limit));
    // Somebody looks at the device without having mounted it. The room is free all the same, unless the image
    // has another name, under which it is somebody's copy.
    if !released && fstat(image).is_ok_and(|stat| stat.st_nlink == 0) {
        let freed = ftruncate(image, 0);
        if let Err(errno) = freed {
            let failure = step::failed("release", "cannot free the room", errno);
            warn(id, "its room is free once nobody looks at its loop device any more", &failure);
        }
    }
}

fn warn(id: &VolumeId, what_now: &str, failure: &Failure) {
    tracing::warn!(volume = %id, "the volume is gone, but {what_now}: {}", failure.chain());
}
