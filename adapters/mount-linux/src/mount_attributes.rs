//! The one system call of this crate that rustix lacks: mount_setattr(2), Linux 5.12.
#![allow(unsafe_code, reason = "a system call without a safe wrapper")]

use linux_raw_sys::general::mount_attr;
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sets `attributes` on the mount whose root `mount` is, and leaves its other attributes as they are.
pub(crate) fn set(mount: BorrowedFd<'_>, attributes: MountAttrFlags) -> rustix::io::Result<()> {
    let change =
        mount_attr { attr_set: u64::from(attributes.bits()), attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the descriptor is borrowed, so it is open for the whole call. The path is a constant that ends
    // with NUL. The kernel reads `size_of::<mount_attr>()` bytes from `change`, which lives until after
    // the call, and writes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const change,
            size_of::<mount_attr>(),
        )
    };
    if result == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL))
}
