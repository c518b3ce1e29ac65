//! How the mounts of a source are recognised in the mount table of any namespace.

use crate::mount_table::{MountEntry, MountTable};
use crate::place::{Top, mount_of};
use crate::source::{OpenSource, device_of};
use dvs_domain::volume::FileSystem;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

/// What a mount that shows a source, or a part of it, has in the mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trace {
    /// This device number.
    Device((u32, u32)),
    /// The path of this device as its source: a btrfs has a device number of its own.
    Btrfs((u32, u32)),
    /// This directory, or one below it, of this file system.
    Directory {
        /// The file system's device number.
        device: (u32, u32),
        /// The directory in the file system.
        root: PathBuf,
        /// Where the file system itself is mounted, if it shows just this directory: that is where the source
        /// comes from, and no mount of it.
        origin: PathBuf,
    },
}

impl Trace {
    /// The trace of `source`.
    pub(crate) fn of(source: &OpenSource, table: &MountTable) -> Option<Self> {
        match source {
            OpenSource::Device { file_system: FileSystem::Btrfs, number, .. } => Some(Self::Btrfs(*number)),
            OpenSource::Device { number, .. } => Some(Self::Device(*number)),
            OpenSource::Directory { top, .. } => {
                let path = std::fs::read_link(format!("/proc/self/fd/{}", top.as_raw_fd())).ok()?;
                let on = table.entry(mount_of(top.as_fd()).ok()?)?;
                let below = path.strip_prefix(&on.mount_point).ok()?;
                let root = on.root.join(below);
                Some(Self::Directory { device: on.device, root, origin: on.mount_point.clone() })
            }
        }
    }

    /// Whether this mount shows the source, or a part of it.
    pub(crate) fn fits(&self, entry: &MountEntry) -> bool {
        match self {
            Self::Device(number) => entry.device == *number,
            Self::Btrfs(number) => {
                entry.file_system == FileSystem::Btrfs.as_str() && device_of(entry) == Some(*number)
            }
            Self::Directory { device, root, origin } => {
                let is_origin = entry.root == *root && entry.mount_point == *origin;
                entry.device == *device && entry.root.starts_with(root) && !is_origin
            }
        }
    }

    /// The device number that files of the source have, and no others. That of a btrfs is seen on its mount only.
    pub(crate) fn device_of_files(&self, top: Option<Top>) -> Option<(u32, u32)> {
        match self {
            Self::Device(number) => Some(*number),
            Self::Btrfs(_) => top.map(|top| top.identity.device),
            Self::Directory { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_a_source_are_told_from_others() {
        let table = MountTable::parse(
            b"1 0 7:3 / /mnt/a rw - ext4 /dev/loop3 rw\n2 0 7:3 /sub /srv/part rw - ext4 /dev/loop3 rw\n\
              3 0 7:4 / /mnt/b rw - ext4 /dev/loop4 rw\n4 0 8:1 / / rw - ext4 /dev/vda rw\n\
              5 0 8:1 /volumes/a /mnt/c rw - ext4 /dev/vda rw\n6 0 8:1 /volumes/a/x /mnt/d rw - ext4 /dev/vda rw\n\
              7 0 8:1 /volumes/ab /mnt/e rw - ext4 /dev/vda rw\n8 0 0:9 / /way rw - fuse way rw\n\
              9 0 0:9 / /mnt/f rw - fuse way rw\n10 0 0:10 / /mnt/g rw - btrfs /dev/null rw\n",
        );
        let directory = |device, root: &str, origin: &str| Trace::Directory {
            device,
            root: root.into(),
            origin: origin.into(),
        };
        for (trace, expected) in [
            (Trace::Device((7, 3)), vec![1, 2]),
            (directory((8, 1), "/volumes/a", "/"), vec![5, 6]),
            (directory((0, 9), "/", "/way"), vec![9]),
            (Trace::Btrfs((1, 3)), vec![]),
        ] {
            let fitting: Vec<u64> =
                table.entries().iter().filter(|entry| trace.fits(entry)).map(|entry| entry.id).collect();
            assert_eq!(fitting, expected, "{trace:?}");
        }
    }
}
