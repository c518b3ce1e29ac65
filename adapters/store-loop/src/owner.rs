//! The owner and the mode of a volume's top directory, where formatting cannot give them: the image is mounted
//! detached, so that no path of the host ever shows it, and its top is changed through a descriptor.

use crate::device::{self, ExclusiveError, LoopDevice};
use crate::entry::file_system_to_mount;
use crate::format::Format;
use crate::step;
use dvs_domain::failure::{Failure, FailureCode};
use rustix::fd::OwnedFd;
use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, openat, syncfs};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};
use std::thread;
use std::time::{Duration, Instant};

/// How long the kernel may take to let a file system go that is no longer mounted.
const LET_GO_SECONDS_MAX: u64 = 10;

/// Gives the top directory of the file system in `image` its owner and mode, durably.
pub(crate) fn set(image: &OwnedFd, format: &Format) -> Result<(), Failure> {
    let file_system = file_system_to_mount(image, format.file_system)
        .map_err(|error| Failure::internal("cannot read the image", error).at_step("own"))?;
    let device = device::attach(image)?;
    step::failpoint("loop.own-mount")?;
    set_mounted(&device, file_system.as_str(), format).map_err(|errno| match errno {
        Errno::NODEV => {
            Failure::new(FailureCode::Unsupported, format!("this kernel cannot mount {file_system}"))
                .at_step("own")
                .with_hint("load its module, or ask for another file system")
        }
        errno => step::failed("own", "cannot set the owner of the volume's top directory", errno),
    })?;
    step::failpoint("loop.own-release")?;
    wait_until_let_go(&device)
}

fn set_mounted(device: &LoopDevice, file_system: &str, format: &Format) -> rustix::io::Result<()> {
    let context = fsopen(file_system, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", device.path())?;
    fsconfig_create(&context)?;
    let quiet = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, quiet)?;
    let top = openat(&mount, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    step::between("loop.own-change");
    fchown(&top, Some(Uid::from_raw(format.uid)), Some(Gid::from_raw(format.gid)))?;
    fchmod(&top, Mode::from_raw_mode(format.mode.bits()))?;
    syncfs(&top)
}

/// The volume must not be published while the kernel still writes to it.
fn wait_until_let_go(device: &LoopDevice) -> Result<(), Failure> {
    let until = Instant::now() + Duration::from_secs(LET_GO_SECONDS_MAX);
    loop {
        match device.open_exclusively() {
            Ok(_) => return Ok(()),
            Err(ExclusiveError::Busy) if Instant::now() < until => thread::sleep(Duration::from_millis(1)),
            Err(error) => {
                let detail = format!("cannot see that `{}` is no longer mounted", device.path().display());
                return Err(Failure::internal(detail, error).at_step("own"));
            }
        }
    }
}
