//! Loop devices: binding an image to a free one, finding the one that an image is bound to, and proving that
//! nothing has it mounted. An image is known by device and inode, never by the text of a path. Devices are
//! bound so that the kernel frees them at the last close: a process that ends leaks none.
//!
//! With `unsafe`, because the loop driver is spoken to by `ioctl`.
#![allow(unsafe_code, reason = "the loop driver is only reachable by ioctl, see each SAFETY")]

use crate::step;
use dvs_domain::failure::{Failure, FailureCode};
use linux_raw_sys::loop_device::{
    LO_FLAGS_AUTOCLEAR, LO_FLAGS_DIRECT_IO, LO_FLAGS_READ_ONLY, LOOP_CLR_FD, LOOP_CONFIGURE,
    LOOP_CTL_GET_FREE, LOOP_GET_STATUS64, loop_config, loop_info64,
};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, major, makedev, minor, mknodat, open};
use rustix::io::Errno;
use rustix::ioctl::{Getter, Ioctl, IoctlOutput, NoArg, Opcode, Setter, ioctl};
use std::ffi::c_void;
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// Upper bound of attempts to bind a free device: another process may take it first.
const ATTACH_TRIES_MAX: u32 = 1000;
/// Attempts that follow each other without a pause.
const ATTACH_TRIES_WITHOUT_WAIT: u32 = 10;
/// Attempts before a missing device node is made: where `/dev` is no devtmpfs, nothing else makes it.
const TRIES_BEFORE_NODE_IS_MADE: u32 = 20;
/// Room for the list of a thousand devices.
const PARTITIONS_BYTES: usize = 64 << 10;
/// Pause between attempts.
const TRY_AGAIN_AFTER_MILLISECONDS: u64 = 1;

/// What a loop device is bound to: the file's device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackingFile {
    device: (u32, u32),
    inode: u64,
}

impl BackingFile {
    /// The identity of an open file.
    ///
    /// # Errors
    /// When `fstat` fails.
    pub fn of(file: impl AsFd) -> rustix::io::Result<Self> {
        Ok(Self::of_stat(&fstat(file)?))
    }

    /// The identity of a file of which this was read.
    pub(crate) fn of_stat(stat: &Stat) -> Self {
        Self { device: (major(stat.st_dev), minor(stat.st_dev)), inode: stat.st_ino }
    }

    fn of_status(status: &loop_info64) -> Self {
        // The driver encodes `lo_device` like `st_dev` (`huge_encode_dev` and `new_encode_dev` agree for the
        // 12 and 20 bits that the kernel has). Compared in parts, so that no padding can differ.
        Self { device: (major(status.lo_device), minor(status.lo_device)), inode: status.lo_inode }
    }
}

/// An open loop device. It stays bound as long as this, or a mount of it, is there.
#[derive(Debug)]
pub struct LoopDevice {
    file: OwnedFd,
    number: u32,
    flags: u32,
    part: bool,
}

/// A loop device that cannot be mounted, or opened exclusively by another, while this is open.
#[derive(Debug)]
pub struct ExclusiveDevice {
    file: OwnedFd,
    number: u32,
}

/// Why a device could not be opened exclusively.
#[derive(Debug, thiserror::Error)]
pub enum ExclusiveError {
    /// It is mounted in some mount namespace, or another process has it open exclusively.
    #[error("something has it mounted, or holds it")]
    Busy,
    /// The system call failed.
    #[error(transparent)]
    Failed(#[from] Errno),
}

/// Binds `image`, open for reading and writing, to a free loop device, which the kernel releases at its last close;
/// with direct I/O where the file system below supports it.
///
/// # Errors
/// `unsupported` without a loop driver or the right to use it, `no-space` when no device is free,
/// `internal` otherwise; all at the step `attach`. Then nothing is bound.
pub fn attach(image: impl AsFd) -> Result<LoopDevice, Failure> {
    let image = image.as_fd();
    let file =
        BackingFile::of(image).map_err(|errno| step::failed("attach", "cannot see the image", errno))?;
    let control =
        open("/dev/loop-control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(no_driver)?;
    let mut direct = LO_FLAGS_DIRECT_IO as u32;
    let mut last = Errno::BUSY;
    for tried in 0..ATTACH_TRIES_MAX {
        // SAFETY: LOOP_CTL_GET_FREE takes no argument and returns a number; `GetFree` passes null.
        let number = unsafe { ioctl(&control, GetFree) }.map_err(no_free_device)?;
        match bind(number, image, direct, tried >= TRIES_BEFORE_NODE_IS_MADE) {
            Ok((device, bound_to)) if bound_to == file => return Ok(device),
            // The node does not belong to that number, so closing it is all that may be done to it.
            Ok((device, _)) => {
                return Err(Failure::new(
                    FailureCode::Internal,
                    format!("`{}` is no node of the device that was bound", device.path().display()),
                )
                .at_step("attach"));
            }
            Err(Errno::INVAL) if direct != 0 => direct = 0, // The file system below refuses direct I/O.
            // Another process was faster, or the node is not there or not ready yet.
            Err(errno @ (Errno::BUSY | Errno::NXIO | Errno::NOENT | Errno::NODEV | Errno::AGAIN)) => {
                last = errno;
                pause(tried);
            }
            Err(errno @ (Errno::PERM | Errno::ACCESS)) => return Err(no_driver(errno)),
            Err(errno) => {
                return Err(step::failed("attach", format!("cannot bind `/dev/loop{number}`"), errno));
            }
        }
    }
    Err(no_free_device(last))
}

/// The loop devices that `file` is bound to, in order of their numbers, found by reading all bound devices: at most
/// one, unless another program bound it too.
///
/// # Errors
/// When a bound device cannot be read: then nothing is certain.
pub fn find(file: BackingFile) -> rustix::io::Result<Vec<LoopDevice>> {
    let mut found = Vec::new();
    for number in bound_numbers()? {
        found.extend(open_if_bound_to(number, file)?);
    }
    found.sort_by_key(LoopDevice::number);
    Ok(found)
}

/// The numbers of all bound loop devices, and what each is bound to.
pub(crate) fn all() -> rustix::io::Result<Vec<(u32, BackingFile)>> {
    let mut all = Vec::new();
    for number in bound_numbers()? {
        all.extend(open_bound(number)?.map(|(_, file)| (number, file)));
    }
    Ok(all)
}

/// What device `number` is bound to now, if to anything.
pub(crate) fn backing_file(number: u32) -> rustix::io::Result<Option<BackingFile>> {
    if !is_bound(number) {
        return Ok(None);
    }
    Ok(open_bound(number)?.map(|(_, file)| file))
}

/// Device `number`, if it is bound to `file`.
///
/// # Errors
/// As [`find`].
pub fn open_if_bound_to(number: u32, file: BackingFile) -> rustix::io::Result<Option<LoopDevice>> {
    Ok(open_bound(number)?.and_then(|(device, bound_to)| (bound_to == file).then_some(device)))
}

fn open_bound(number: u32) -> rustix::io::Result<Option<(LoopDevice, BackingFile)>> {
    let node = match open_node(number, OFlags::RDONLY, true) {
        Ok(node) => node,
        // Unbound, and removed or about to be, in the meantime.
        Err(Errno::NXIO | Errno::NOENT | Errno::NODEV) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    match LoopDevice::asked(node, number) {
        Ok(asked) => Ok(Some(asked)),
        Err(Errno::NXIO) => Ok(None),
        // The driver asks the file system of the backing file, which has failed or is away: it is not that of the file
        // in question, which the caller has just asked.
        Err(Errno::NOTCONN | Errno::CONNABORTED | Errno::STALE | Errno::IO) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Waits until device `number` is no longer bound to `file`; false when it still is after `limit`.
#[must_use]
pub fn wait_until_released(number: u32, file: BackingFile, limit: Duration) -> bool {
    let until = Instant::now() + limit;
    loop {
        if !is_bound(number) || matches!(open_if_bound_to(number, file), Ok(None)) {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        thread::sleep(Duration::from_millis(TRY_AGAIN_AFTER_MILLISECONDS));
    }
}

impl LoopDevice {
    #[must_use]
    pub fn path(&self) -> PathBuf {
        node_path(self.number)
    }

    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.flags & LO_FLAGS_READ_ONLY as u32 != 0
    }

    /// Whether it shows the file from its first byte to its last.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.part
    }

    /// Whether it bypasses the page cache of the file system below.
    #[must_use]
    pub fn has_direct_io(&self) -> bool {
        self.flags & LO_FLAGS_DIRECT_IO as u32 != 0
    }

    /// Opens the device once more so that it cannot be mounted: the only proof that it is mounted nowhere.
    ///
    /// # Errors
    /// [`ExclusiveError::Busy`] when it is.
    pub fn open_exclusively(&self) -> Result<ExclusiveDevice, ExclusiveError> {
        match open_node(self.number, OFlags::RDONLY | OFlags::EXCL, false) {
            Ok(file) => Ok(ExclusiveDevice { file, number: self.number }),
            Err(Errno::BUSY) => Err(ExclusiveError::Busy),
            Err(errno) => Err(errno.into()),
        }
    }

    #[must_use]
    pub fn is_bound_to(&self, file: BackingFile) -> bool {
        status(&self.file).is_ok_and(|status| BackingFile::of_status(&status) == file)
    }

    fn asked(file: OwnedFd, number: u32) -> rustix::io::Result<(Self, BackingFile)> {
        let status = status(&file)?;
        let part = status.lo_offset != 0 || status.lo_sizelimit != 0;
        let device = Self { file, number, flags: status.lo_flags, part };
        Ok((device, BackingFile::of_status(&status)))
    }
}

impl ExclusiveDevice {
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Unbinds the device now, or when its last opener closes it. To be called only after the content of the
    /// image is no longer wanted.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn unbind(self) -> rustix::io::Result<()> {
        // SAFETY: LOOP_CLR_FD takes no argument. The device is held exclusively and was found bound to the
        // image, so nobody can have bound it to anything else since.
        match unsafe { ioctl(&self.file, NoArg::<{ LOOP_CLR_FD as Opcode }>::new()) } {
            Ok(()) | Err(Errno::NXIO) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

fn bind(
    number: u32,
    image: BorrowedFd<'_>,
    direct: u32,
    make_node: bool,
) -> rustix::io::Result<(LoopDevice, BackingFile)> {
    let node = open_node(number, OFlags::RDWR, make_node)?;
    let fd = image.as_raw_fd().cast_unsigned();
    let info = loop_info64 { lo_flags: LO_FLAGS_AUTOCLEAR as u32 | direct, ..EMPTY_INFO };
    let config = loop_config { fd, block_size: 0, info, __reserved: [0; 8] };
    // SAFETY: LOOP_CONFIGURE reads one `loop_config`; the image is open for as long as this call. A device
    // that could not be configured is only closed: clearing it would unbind whoever was faster.
    unsafe { ioctl(&node, Setter::<{ LOOP_CONFIGURE as Opcode }, loop_config>::new(config)) }?;
    LoopDevice::asked(node, number)
}

fn status(file: &OwnedFd) -> rustix::io::Result<loop_info64> {
    // SAFETY: LOOP_GET_STATUS64 writes one `loop_info64`.
    unsafe { ioctl(file, Getter::<{ LOOP_GET_STATUS64 as Opcode }, loop_info64>::new()) }
}

fn open_node(number: u32, flags: OFlags, make: bool) -> rustix::io::Result<OwnedFd> {
    let path = node_path(number);
    let opened = open(&path, flags | OFlags::CLOEXEC, Mode::empty());
    if !make || !matches!(opened, Err(Errno::NOENT)) {
        return opened;
    }
    let (major, minor) = device_numbers(number).ok_or(Errno::NOENT)?;
    match mknodat(CWD, &path, FileType::BlockDevice, Mode::RUSR | Mode::WUSR, makedev(major, minor)) {
        Ok(()) | Err(Errno::EXIST) => open(&path, flags | OFlags::CLOEXEC, Mode::empty()),
        Err(errno) => Err(errno),
    }
}

fn device_numbers(number: u32) -> Option<(u32, u32)> {
    let text = fs::read_to_string(format!("/sys/block/loop{number}/dev")).ok()?;
    let (major, minor) = text.trim_end().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn node_path(number: u32) -> PathBuf {
    PathBuf::from(format!("/dev/loop{number}"))
}

/// Whether device `number` is bound to anything: only then sysfs has its attributes.
fn is_bound(number: u32) -> bool {
    fs::exists(format!("/sys/block/loop{number}/loop/backing_file")).unwrap_or(true)
}

/// The kernel lists only devices that have a size, so that a bound device is listed and an idle one is not: a host keeps
/// thousands of idle ones if it once had so many.
fn bound_numbers() -> rustix::io::Result<Vec<u32>> {
    // The kernel walks from the first device on for each read: a large buffer needs few of them.
    let mut devices = String::with_capacity(PARTITIONS_BYTES);
    let read = File::open("/proc/partitions").and_then(|mut file| file.read_to_string(&mut devices));
    read.map_err(|error| as_errno(&error))?;
    Ok(loop_numbers(&devices).collect())
}

/// The numbers of the loop devices in `/proc/partitions` (proc(5)): the last word of a line is the device's name.
/// A partition of a loop device, such as `loop0p1`, is none.
fn loop_numbers(partitions: &str) -> impl Iterator<Item = u32> + '_ {
    partitions.lines().filter_map(|line| line.split_whitespace().last()?.strip_prefix("loop")?.parse().ok())
}

fn pause(tried: u32) {
    if tried < ATTACH_TRIES_WITHOUT_WAIT {
        thread::yield_now();
    } else {
        thread::sleep(Duration::from_millis(TRY_AGAIN_AFTER_MILLISECONDS));
    }
}

fn as_errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn no_driver(errno: Errno) -> Failure {
    Failure::new(FailureCode::Unsupported, "loop devices cannot be used on this host")
        .caused_by(std::io::Error::from(errno))
        .at_step("attach")
        .with_hint("run as root, with the module `loop` loaded and `/dev/loop-control` reachable")
}

fn no_free_device(errno: Errno) -> Failure {
    Failure::new(FailureCode::NoSpace, "no loop device is free")
        .caused_by(std::io::Error::from(errno))
        .at_step("attach")
        .with_hint("detach unused loop devices (`losetup --list`), or raise `max_loop` of the module `loop`")
}

const EMPTY_INFO: loop_info64 = loop_info64 {
    lo_device: 0,
    lo_inode: 0,
    lo_rdevice: 0,
    lo_offset: 0,
    lo_sizelimit: 0,
    lo_number: 0,
    lo_encrypt_type: 0,
    lo_encrypt_key_size: 0,
    lo_flags: 0,
    lo_file_name: [0; 64],
    lo_crypt_name: [0; 64],
    lo_encrypt_key: [0; 32],
    lo_init: [0; 2],
};

/// `LOOP_CTL_GET_FREE`, whose answer is the system call's own return value.
struct GetFree;

// SAFETY: the call passes no memory: its opcode takes no argument, and the output is the plain return value.
unsafe impl Ioctl for GetFree {
    type Output = u32;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        LOOP_CTL_GET_FREE as Opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(number: IoctlOutput, _: *mut c_void) -> rustix::io::Result<u32> {
        u32::try_from(number).map_err(|_| Errno::INVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_device_numbers_are_decoded_like_those_of_stat() {
        // `new_encode_dev` of the kernel, by which both `st_dev` and `lo_device` are made.
        let encode = |major: u64, minor: u64| (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12);
        for (of_major, of_minor) in [(254, 0), (259, 1), (8, 255), (8, 256), (0, 70_000), (4095, 0xf_ffff)] {
            let encoded = encode(of_major, of_minor);
            assert_eq!((u64::from(major(encoded)), u64::from(minor(encoded))), (of_major, of_minor));
        }
    }

    #[test]
    fn bound_devices_are_told_from_their_partitions_and_from_disks() {
        let partitions = "major minor  #blocks  name\n\n   7        0      16384 loop0\n   7        1 1 loop17\n \
                          259        0       1024 loop17p1\n 254        0  268435456 vda\n";
        assert_eq!(loop_numbers(partitions).collect::<Vec<_>>(), [0, 17]);
    }
}
