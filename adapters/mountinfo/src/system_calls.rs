//! The system calls that rustix lacks: statmount(2) and listmount(2), Linux 6.8. All unsafe code of this crate.

use crate::mount::Mount;
use linux_raw_sys::general::{
    __NR_listmount, __NR_statmount, LSMT_ROOT, MNT_ID_REQ_SIZE_VER1, STATMOUNT_FS_TYPE, STATMOUNT_MNT_BASIC,
    STATMOUNT_MNT_POINT, STATMOUNT_MNT_ROOT, STATMOUNT_SB_BASIC, STATMOUNT_SB_SOURCE, STATX_MNT_ID_UNIQUE,
    mnt_id_req, statmount,
};
use rustix::fs::{AtFlags, StatxFlags, statx};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::mem::offset_of;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// All that a [`Mount`] consists of but its source, which is returned since Linux 6.13.
const WANTED: u32 =
    STATMOUNT_SB_BASIC | STATMOUNT_MNT_BASIC | STATMOUNT_MNT_ROOT | STATMOUNT_MNT_POINT | STATMOUNT_FS_TYPE;

/// The fixed part of an answer, and two paths of some length.
const ANSWER_BYTES: usize = size_of::<statmount>() + 1024;
/// Three paths, each escaped by the kernel before it is stored, do not take more.
const ANSWER_BYTES_MAX: usize = 1 << 20;
const IDS_AT_ONCE: usize = 1024;

/// The id of a mount that no other mount of this boot ever has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UniqueId(u64);

/// The unique id of the mount that `name` in `parent` is on, where this kernel has such ids (Linux 6.8).
#[must_use]
pub fn unique_id_at(parent: BorrowedFd<'_>, name: &OsStr, flags: AtFlags) -> Option<UniqueId> {
    let state = statx(parent, name, flags, StatxFlags::from_bits_retain(STATX_MNT_ID_UNIQUE)).ok()?;
    (state.stx_mask & STATX_MNT_ID_UNIQUE != 0).then_some(UniqueId(state.stx_mnt_id))
}

/// The mount of that id, with an empty source where the kernel does not return it. `NOENT` when it is gone.
pub(crate) fn mount_of(id: UniqueId) -> rustix::io::Result<Mount> {
    let request = request(id.0, u64::from(WANTED | STATMOUNT_SB_SOURCE));
    let mut answer = vec![0; ANSWER_BYTES];
    loop {
        match call(__NR_statmount, &request, &mut answer) {
            Ok(_) => return read(&answer).ok_or(Errno::OPNOTSUPP),
            Err(Errno::OVERFLOW) if answer.len() < ANSWER_BYTES_MAX => answer.resize(answer.len() * 2, 0),
            Err(errno) => return Err(errno),
        }
    }
}

/// The ids of all mounts of this mount namespace that were made after `last`, in the order in which they were made.
pub(crate) fn mounts_since(mut last: Option<UniqueId>) -> rustix::io::Result<Vec<UniqueId>> {
    let mut found = Vec::new();
    loop {
        // The kernel takes its root by a number that stands for no mount.
        let request = request(LSMT_ROOT as u64, last.map_or(0, |id| id.0));
        let mut ids = [0_u64; IDS_AT_ONCE];
        let count = call(__NR_listmount, &request, &mut ids)?;
        found.extend(ids[..count].iter().copied().map(UniqueId));
        if count < IDS_AT_ONCE {
            return Ok(found);
        }
        last = found.last().copied();
    }
}

const fn request(mnt_id: u64, param: u64) -> mnt_id_req {
    mnt_id_req { size: MNT_ID_REQ_SIZE_VER1, spare: 0, mnt_id, param, mnt_ns_id: 0 }
}

/// Makes the system call `number`, which fills the beginning of `answer`, and returns its result.
#[allow(unsafe_code, reason = "system calls without a safe wrapper")]
fn call<T: Plain>(number: u32, request: &mnt_id_req, answer: &mut [T]) -> rustix::io::Result<usize> {
    // `statmount` takes the number of bytes, and `listmount` that of ids: both are the number of elements.
    // SAFETY: the kernel reads `request.size` bytes from `request`, which is that long, and writes at most
    // `answer.len()` elements to `answer`, which is borrowed for the whole call; every bit pattern is a `T`.
    let result = unsafe {
        libc::syscall(
            libc::c_long::from(number),
            std::ptr::from_ref(request),
            answer.as_mut_ptr(),
            answer.len(),
            0_u32,
        )
    };
    usize::try_from(result).map_err(|_| {
        let error = std::io::Error::last_os_error();
        Errno::from_io_error(&error).unwrap_or(Errno::INVAL)
    })
}

/// A number: every bit pattern is valid.
trait Plain {}
impl Plain for u8 {}
impl Plain for u64 {}

/// Reads the answer of `statmount`; `None` where not all that was wanted is in it.
fn read(answer: &[u8]) -> Option<Mount> {
    let bytes = |offset: usize, length: usize| answer.get(offset..offset + length);
    let short = |offset| Some(u32::from_ne_bytes(bytes(offset, 4)?.try_into().ok()?));
    let long = |offset| Some(u64::from_ne_bytes(bytes(offset, 8)?.try_into().ok()?));
    let text = |offset| {
        let begin = offset_of!(statmount, str_) + usize::try_from(short(offset)?).ok()?;
        let text = answer.get(begin..)?;
        Some(OsString::from_vec(text.split(|byte| *byte == 0).next()?.to_vec()))
    };
    let path = |offset| text(offset).map(PathBuf::from);
    let group = |offset| Some(Some(long(offset)?).filter(|group| *group != 0));
    let returned = long(offset_of!(statmount, mask))?;
    let has = |part| returned & u64::from(part) == u64::from(part);
    if !has(WANTED) {
        return None;
    }
    let source =
        if has(STATMOUNT_SB_SOURCE) { path(offset_of!(statmount, sb_source))? } else { PathBuf::new() };
    Some(Mount {
        id: u64::from(short(offset_of!(statmount, mnt_id_old))?),
        parent: u64::from(short(offset_of!(statmount, mnt_parent_id_old))?),
        device: (short(offset_of!(statmount, sb_dev_major))?, short(offset_of!(statmount, sb_dev_minor))?),
        root: path(offset_of!(statmount, mnt_root))?,
        mount_point: path(offset_of!(statmount, mnt_point))?,
        file_system: text(offset_of!(statmount, fs_type))?.to_string_lossy().into_owned(),
        source,
        shared: group(offset_of!(statmount, mnt_peer_group))?,
        master: group(offset_of!(statmount, mnt_master))?,
    })
}
