//! How the mounts of a source are recognised in the mount table of any namespace.

use crate::dir_entry::{MountRoot, mount_id_of};
use crate::source::{OpenSource, device_of};
use dvs_domain::volume::FileSystem;
use dvs_mountinfo::{Mount, MountTable};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

/// What mounts of a source, or of a part of it, have in common in mount tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MountPattern {
    /// This device number.
    Device((u32, u32)),
    /// The path of this device as its source: a btrfs has a device number of its own.
    Btrfs((u32, u32)),
    /// This directory, or one below it, of this file system.
    Directory {
        device: (u32, u32),
        root: PathBuf,
        /// Where the file system itself is mounted. If just this directory of it is, that mount is the origin of the
        /// source, and no mount of it.
        origin: PathBuf,
    },
}

impl MountPattern {
    pub(crate) fn of(source: &OpenSource, table: &MountTable) -> Option<Self> {
        match source {
            OpenSource::Device { file_system: FileSystem::Btrfs, number, .. } => Some(Self::Btrfs(*number)),
            OpenSource::Device { number, .. } => Some(Self::Device(*number)),
            OpenSource::Directory { directory, .. } => {
                let path = std::fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd())).ok()?;
                let on = table.get(mount_id_of(directory.as_fd()).ok()?)?;
                let below = path.strip_prefix(&on.mount_point).ok()?;
                let root = on.root.join(below);
                Some(Self::Directory { device: on.device, root, origin: on.mount_point.clone() })
            }
        }
    }

    /// Whether `mount` is one of the source, or of a part of it.
    pub(crate) fn matches(&self, mount: &Mount) -> bool {
        match self {
            Self::Device(number) => mount.device == *number,
            Self::Btrfs(number) => {
                mount.file_system == FileSystem::Btrfs.as_str() && device_of(mount) == Some(*number)
            }
            Self::Directory { device, root, origin } => {
                let is_origin = mount.root == *root && mount.mount_point == *origin;
                mount.device == *device && mount.root.starts_with(root) && !is_origin
            }
        }
    }

    /// The device number that files of the source have, and no others. That of a btrfs is known from its mount only.
    pub(crate) fn device_of_files(&self, root: Option<MountRoot>) -> Option<(u32, u32)> {
        match self {
            Self::Device(number) => Some(*number),
            Self::Btrfs(_) => root.map(|root| root.file.device),
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
        let directory = |device, root: &str, origin: &str| MountPattern::Directory {
            device,
            root: root.into(),
            origin: origin.into(),
        };
        for (pattern, expected) in [
            (MountPattern::Device((7, 3)), vec![1, 2]),
            (directory((8, 1), "/volumes/a", "/"), vec![5, 6]),
            (directory((0, 9), "/", "/way"), vec![9]),
            (MountPattern::Btrfs((1, 3)), vec![]),
        ] {
            let matching: Vec<u64> =
                table.mounts().iter().filter(|mount| pattern.matches(mount)).map(|mount| mount.id).collect();
            assert_eq!(matching, expected, "{pattern:?}");
        }
    }
}
