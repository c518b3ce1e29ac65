//! The process that keeps the disks: each is a file of a FUSE file system, and an order is a line of standard input.
//! It is a process of its own, outside of everything that waits for the disks: it goes on while others hang on them, and
//! ends when standard input does.

use super::disk::{Cut, Disk};
use crate::clock;
use anyhow::{Context, Result, bail};
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs,
    ReplyWrite, Request, Session, WriteFlags,
};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, BufRead, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

/// How the files are called, before their number. `cargo xtask` knows them by it: of a device whose disk has gone with its
/// process, the kernel tells nothing else.
pub(super) const PREFIX: &str = "dvs-powercut-disk-";
/// The inode of disk 0. A number is never used again: the kernel keeps what it knows of an inode.
const FIRST_INODE: u64 = 2;
/// How long the kernel may keep what it was told of a file, which never changes.
const TIME_TO_LIVE: Duration = Duration::from_secs(3600);
const BLOCK_BYTES: u32 = 4096;

type Disks = Arc<Mutex<BTreeMap<u64, Disk>>>;

/// Keeps disks as files in `folder` until standard input ends.
///
/// # Errors
/// When the file system cannot be mounted, or an order is not understood.
pub fn serve(folder: &Path) -> Result<()> {
    let disks = Disks::default();
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("dvs-powercut".to_owned())];
    let session = Session::new(DiskFiles { disks: Arc::clone(&disks) }, folder, &config);
    let session = session.with_context(|| format!("cannot mount FUSE at {}", folder.display()))?;
    let background = session.spawn().context("cannot serve FUSE")?;
    let (mut orders, mut out) = (io::stdin().lock(), io::stdout().lock());
    let mut next = 0;
    let mut order = String::new();
    while 0 < orders.read_line(&mut order).context("cannot read an order")? {
        let reply = carry_out(order.trim_end(), &mut locked(&disks), &mut next);
        let reply = reply.unwrap_or_else(|error| format!("error {error:#}"));
        writeln!(out, "{reply}").and_then(|()| out.flush()).context("cannot reply")?;
        order.clear();
    }
    // Where the test was broken off, the disks are still mounted: whoever waits for them is told of an error from now on.
    let _ = background.umount_and_join();
    Ok(())
}

fn locked(disks: &Disks) -> MutexGuard<'_, BTreeMap<u64, Disk>> {
    disks.lock().unwrap_or_else(PoisonError::into_inner)
}

fn carry_out(order: &str, disks: &mut BTreeMap<u64, Disk>, next: &mut u64) -> Result<String> {
    let mut words = order.split(' ');
    let verb = words.next().unwrap_or_default();
    let numbers: Vec<u64> = words.map(str::parse).collect::<Result<_, _>>().context("not a number")?;
    let mut added = |disks: &mut BTreeMap<u64, Disk>, disk| {
        let number = *next;
        disks.insert(number, disk);
        *next += 1;
        number
    };
    match (verb, numbers.as_slice()) {
        ("new", [bytes]) => Ok(added(disks, Disk::new(*bytes)).to_string()),
        ("seal", [disk]) => {
            disks.get_mut(disk).context("no such disk")?.seal();
            Ok("sealed".to_owned())
        }
        ("log", [disk]) => {
            let mut log = String::new();
            for (at, is_flush) in disks.get(disk).context("no such disk")?.entries() {
                write!(log, "{}{at} ", if is_flush { 'F' } else { 'W' }).context("cannot print the log")?;
            }
            Ok(log)
        }
        ("cut", [disk, position, seed, ignored, keeps_all]) => {
            let cut = Cut {
                position: usize::try_from(*position).context("a position")?,
                seed: *seed,
                ignored_flushes: usize::try_from(*ignored).context("a count of flushes")?,
                keeps_all: *keeps_all != 0,
            };
            let (after, unflushed) = disks.get(disk).context("no such disk")?.after(cut);
            let number = added(disks, after);
            Ok(format!("{number} {} {} {}", unflushed.writes, unflushed.kept, unflushed.torn))
        }
        ("drop", [disk]) => {
            disks.remove(disk).context("no such disk")?;
            Ok("dropped".to_owned())
        }
        _ => bail!("`{order}` is no order"),
    }
}

/// The files that the kernel sees.
#[derive(Debug)]
struct DiskFiles {
    disks: Disks,
}

impl DiskFiles {
    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let is_root = inode == INodeNo::ROOT;
        let size = match is_root {
            true => 0,
            false => locked(&self.disks).get(&number_of(inode)?)?.bytes(),
        };
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if is_root { FileType::Directory } else { FileType::RegularFile },
            perm: if is_root { 0o700 } else { 0o600 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: BLOCK_BYTES,
            flags: 0,
        })
    }

    /// Does something with the disk of `inode`, if there is one.
    fn with<T>(&self, inode: INodeNo, work: impl FnOnce(&mut Disk) -> T) -> Option<T> {
        locked(&self.disks).get_mut(&number_of(inode)?).map(work)
    }
}

fn number_of(inode: INodeNo) -> Option<u64> {
    inode.0.checked_sub(FIRST_INODE)
}

impl Filesystem for DiskFiles {
    fn init(&mut self, _: &Request, _: &mut KernelConfig) -> io::Result<()> {
        Ok(())
    }

    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u64>().ok());
        match number.and_then(|number| self.attributes(INodeNo(number + FIRST_INODE))) {
            Some(attributes) => reply.entry(&TIME_TO_LIVE, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&TIME_TO_LIVE, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // A close must wait for nothing.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_NOFLUSH);
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.with(inode, |disk| disk.read(offset, size as usize)) {
            Some(bytes) => reply.data(&bytes),
            None => reply.error(Errno::EIO),
        }
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.with(inode, |disk| disk.write(clock::now(), offset, data)) {
            Some(Ok(())) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Some(Err(_)) | None => reply.error(Errno::EIO),
        }
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        match self.with(inode, |disk| disk.flush(clock::now())) {
            Some(()) => reply.ok(),
            None => reply.error(Errno::EIO),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        /// Punch a hole, or zero a range; the size stays (linux/falloc.h). A loop device asks for nothing else.
        const CLEARING: [i32; 2] = [0x3, 0x11];
        if !CLEARING.contains(&mode) {
            return reply.error(Errno::EOPNOTSUPP);
        }
        match self.with(inode, |disk| disk.clear(clock::now(), offset, length)) {
            Some(()) => reply.ok(),
            None => reply.error(Errno::EIO),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(0, 0, 0, 0, 0, BLOCK_BYTES, 255, BLOCK_BYTES);
    }
}
