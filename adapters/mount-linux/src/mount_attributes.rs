//! The one system call that rustix lacks: `mount_setattr` (mount_setattr(2), Linux 5.12).
#![allow(unsafe_code, reason = "a system call without a safe wrapper")]

use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `struct mount_attr`, as the kernel reads it.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Sets `attributes` on the mount that `mount` is the top of, and leaves the others as they are.
pub(crate) fn set(mount: BorrowedFd<'_>, attributes: MountAttrFlags) -> rustix::io::Result<()> {
    let change =
        MountAttributes { set: u64::from(attributes.bits()), clear: 0, propagation: 0, user_namespace: 0 };
    // SAFETY: the descriptor is borrowed, so it is open for the whole call. The path is a constant that ends
    // with NUL. The kernel reads `size_of::<MountAttributes>()` bytes from `change`, which lives until after
    // the call, and writes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const change,
            size_of::<MountAttributes>(),
        )
    };
    if result == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL))
}
