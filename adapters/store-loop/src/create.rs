//! Making a volume: reserve, stage, image, format, record, own, publish. It exists from the rename in `publish`
//! on; a step that fails undoes those before it.

use crate::attach;
use crate::entry;
use crate::folders::{self, Folders, IMAGE, RECORDS};
use crate::format::{Format, Formatting, MkfsPlan};
use crate::owner;
use crate::settings;
use crate::shared::Shared;
use crate::stage::{Published, Staged, undone};
use crate::step;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::ports::Created;
use dvs_domain::volume::{Provision, Volume};
use dvs_volume_record::record;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    Advice, FallocateFlags, Mode, OFlags, fadvise, fallocate, fdatasync, fstat, fsync, ftruncate, openat,
};
use rustix::io::Errno;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// The point at which a test leaves out what makes the record durable.
const RECORD_SYNC: &str = "skip.record";

/// Makes `volume` exist, or leaves nothing. The image of a new one is bound to its loop device while nobody else knows
/// of it: so it is bound to nothing else.
pub(crate) fn create(shared: &Shared, volume: &Volume) -> Result<Created, Failure> {
    let id = shared.id(&volume.spec.id.name);
    let (open, folders) = shared.open()?;
    if let Some(found) = entry::find(&folders, &id) {
        return Ok(Created::AlreadyThere(Box::new(found.into_sound(&id)?.volume)));
    }
    settings::check_owner(volume.spec.uid, volume.spec.gid)?;
    step::failpoint("loop.reserve")?;
    let format = Format::of(volume, &shared.settings);
    let reservation = open.reservations.reserve(&folders, &id.name, volume.spec.size, format.provision)?;
    let staged = Staged::make(&folders, &id.name)?;
    let settled = settled(volume, &format);
    let filled = fill(shared, &open.root.path, &staged, &settled, &format);
    let published = filled.and_then(|image| {
        let bound = attach::bind_new(&image, settled, &format)?;
        Ok((staged.publish(&folders, &id.name)?, bound))
    });
    match published {
        Ok((Published::Yes, bound)) => {
            reservation.keep();
            shared.loops.refresh();
            Ok(Created::New(Some(bound.issue(&shared.sources, &id.name))))
        }
        Ok((Published::NameIsTaken, bound)) => {
            drop(bound);
            staged.remove(&folders)?;
            there_meanwhile(&folders, shared, volume)
        }
        Err(failure) => Err(undone(failure, staged.remove(&folders))),
    }
}

/// What is recorded: nothing of what was done depends on the store's defaults of a later day.
fn settled(volume: &Volume, format: &Format) -> Volume {
    let mut volume = volume.clone();
    volume.spec.file_system = Some(format.file_system);
    volume.spec.provision = Some(format.provision);
    volume
}

fn there_meanwhile(folders: &Folders, shared: &Shared, volume: &Volume) -> Result<Created, Failure> {
    let id = shared.id(&volume.spec.id.name);
    match entry::find(folders, &id) {
        Some(found) => Ok(Created::AlreadyThere(Box::new(found.into_sound(&id)?.volume))),
        None => Err(Failure::new(
            FailureCode::Busy,
            format!("another process made and removed volume `{id}` at the same time"),
        )
        .at_step("publish")),
    }
}

/// Puts everything into the staging folder, and makes it durable there. Gives the image.
fn fill(
    shared: &Shared,
    root: &Path,
    staged: &Staged,
    volume: &Volume,
    format: &Format,
) -> Result<OwnedFd, Failure> {
    let image = make_image(&staged.folder, format)?;
    let path = root.join("staging").join(&staged.name).join(IMAGE);
    step::failpoint("loop.format")?;
    let plan = MkfsPlan::of(format)?;
    if let Some(template) = shared.templates.find(&plan) {
        template.write(&image)?;
        begin_to_write(&image);
        write_records(&staged.folder, volume)?;
    } else {
        let formatting = Formatting::start(&plan, &path)?;
        // The disk has time for the record while the program formats.
        write_records(&staged.folder, volume)?;
        formatting.finish()?;
        shared.templates.keep(&plan, &image);
    }
    step::failpoint("loop.own")?;
    if !format.is_owned_by_formatting() {
        owner::set(&image, format)?;
    }
    if format.provision == Provision::Thick {
        keep_allocated(&image, format.size_bytes)?;
    }
    step::failpoint("loop.image-sync")?;
    // The programs that format end with a sync; the promise does not rest on that.
    fdatasync(&image).map_err(|errno| step::failed("format", "cannot make the image durable", errno))?;
    Ok(image)
}

fn make_image(folder: &OwnedFd, format: &Format) -> Result<OwnedFd, Failure> {
    step::failpoint("loop.image")?;
    let failed = |errno| step::failed("image", "cannot make the image", errno);
    let image = new_file(folder, IMAGE).map_err(failed)?;
    step::failpoint("loop.size")?;
    ftruncate(&image, format.size_bytes).map_err(|errno| match errno {
        Errno::FBIG | Errno::INVAL => too_large(errno),
        errno => failed(errno),
    })?;
    if format.provision == Provision::Thick {
        step::failpoint("loop.allocate")?;
        allocate(&image, format.size_bytes)?;
    }
    Ok(image)
}

/// Formatting, or what formatted it, may have punched holes into a thick image in spite of being told not to.
fn keep_allocated(image: impl AsFd, size_bytes: u64) -> Result<(), Failure> {
    let allocated = || {
        let stat = fstat(&image).map_err(|errno| step::failed("image", "cannot see the image", errno))?;
        Ok(folders::allocated_bytes(&stat))
    };
    if allocated()? < size_bytes {
        allocate(&image, size_bytes)?;
        if allocated()? < size_bytes {
            let detail = "the file system below the store does not keep an image allocated";
            return Err(Failure::new(FailureCode::Unsupported, detail)
                .at_step("image")
                .with_hint(ASK_FOR_THIN));
        }
    }
    Ok(())
}

fn allocate(image: impl AsFd, size_bytes: u64) -> Result<(), Failure> {
    loop {
        return match fallocate(&image, FallocateFlags::empty(), 0, size_bytes) {
            Err(Errno::INTR) => continue,
            Err(Errno::FBIG) => Err(too_large(Errno::FBIG)),
            Err(errno @ (Errno::OPNOTSUPP | Errno::NOSYS)) => {
                let detail = "the file system below the store cannot allocate in advance";
                Err(Failure::new(FailureCode::Unsupported, detail)
                    .caused_by(std::io::Error::from(errno))
                    .at_step("image")
                    .with_hint(ASK_FOR_THIN))
            }
            allocated => allocated.map_err(|errno| step::failed("image", "cannot allocate the image", errno)),
        };
    }
}

const ASK_FOR_THIN: &str = "ask for a thin volume, or move the store to ext4 or xfs";

fn too_large(errno: Errno) -> Failure {
    let detail = "the file system below the store takes no file of that size";
    Failure::new(FailureCode::Unsupported, detail).caused_by(std::io::Error::from(errno)).at_step("image")
}

/// Writes both copies of the record, and makes the first and the names in the folder durable. The disk has been told to
/// write the second, which is there for damage that comes later, and nobody waits for that: should the power fail before,
/// it is written anew from the first when the volume is next attached.
fn write_records(folder: &OwnedFd, volume: &Volume) -> Result<(), Failure> {
    let failed = |errno| step::failed("record", "cannot write the record", errno);
    let bytes = record::encode(volume, None).map_err(|failure| failure.at_step("record"))?;
    let mut files = Vec::new();
    for name in RECORDS {
        step::failpoint("loop.record")?;
        let mut file = File::from(new_file(folder, name).map_err(failed)?);
        file.write_all(&bytes).map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        files.push(file);
    }
    let _ = step::sync(RECORD_SYNC, || {
        files.iter().for_each(begin_to_write);
        Ok(())
    });
    step::failpoint("loop.record-sync")?;
    step::sync(RECORD_SYNC, || fsync(&files[0]).and_then(|()| fsync(folder))).map_err(failed)
}

/// Lets the disk begin with what was written, so that the syncs of several files wait for it at the same time. It
/// promises nothing: posix_fadvise(2) says that it starts to write what it is to let go.
fn begin_to_write(file: impl AsFd) {
    let _ = fadvise(file, 0, None, Advice::DontNeed);
}

fn new_file(folder: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder, name, flags, Mode::RUSR | Mode::WUSR)
}
