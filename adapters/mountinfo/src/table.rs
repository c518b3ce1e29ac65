//! A whole mount table.

use crate::mount::Mount;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// About the size of a table of a hundred mounts.
const TABLE_BYTES: usize = 16 << 10;

/// The mounts that one process sees, in the order of the kernel: a mount after the one on which it is mounted.
#[derive(Clone, Debug, Default)]
pub struct MountTable {
    mounts: Vec<Mount>,
}

impl MountTable {
    /// The table of this process.
    pub const OWN: &str = "/proc/self/mountinfo";

    /// Reads the table of this process.
    ///
    /// # Errors
    /// Where `/proc` is not mounted, or no descriptor is free.
    pub fn read() -> io::Result<Self> {
        Self::read_from(&mut File::open(Self::OWN)?)
    }

    /// Reads the table of the process of that id. One that is confined to a part of the tree sees only the
    /// mounts there.
    ///
    /// # Errors
    /// When the process has ended, or may not be inspected.
    pub fn of_process(id: u32) -> io::Result<Self> {
        Self::read_from(&mut File::open(format!("/proc/{id}/mountinfo"))?)
    }

    pub(crate) fn read_from(file: &mut File) -> io::Result<Self> {
        // A file in `/proc` has no length before it is read.
        let mut bytes = Vec::with_capacity(TABLE_BYTES);
        file.read_to_end(&mut bytes)?;
        Ok(Self::parse(&bytes))
    }

    /// Reads the text of a table. A line that does not have the documented form is left out.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        Self { mounts: text.split(|byte| *byte == b'\n').filter_map(Mount::parse).collect() }
    }

    /// All mounts.
    #[must_use]
    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// The mount of that id.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&Mount> {
        self.mounts.iter().find(|mount| mount.id == id)
    }

    /// The mounts whose parent is the mount of that id.
    pub fn children(&self, id: u64) -> impl Iterator<Item = &Mount> {
        self.mounts.iter().filter(move |mount| mount.parent == id && mount.id != id)
    }

    /// The children of the mount of that id, and their children, to any depth.
    #[must_use]
    pub fn descendants(&self, id: u64) -> Vec<&Mount> {
        let mut found: Vec<&Mount> = self.children(id).collect();
        let mut next = 0;
        while let Some(mount) = found.get(next) {
            found.extend(self.children(mount.id));
            next += 1;
        }
        found
    }

    /// The mount with the longest mount point that is a prefix of `path`.
    #[must_use]
    pub fn containing(&self, path: &Path) -> Option<&Mount> {
        let over = self.mounts.iter().filter(|mount| path.starts_with(&mount.mount_point));
        over.max_by_key(|mount| mount.mount_point.as_os_str().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(mounts: &[&Mount]) -> Vec<u64> {
        mounts.iter().map(|mount| mount.id).collect()
    }

    #[test]
    fn a_malformed_line_hides_no_other_and_children_are_found() {
        let table = MountTable::parse(
            b"1 1 8:1 / / rw - ext4 /dev/vda rw\nnonsense\n2 1 0:5 / /mnt/a rw - tmpfs one rw\n\
              3 2 0:6 /sub /mnt/a/b rw - xfs two\\012 rw\n",
        );
        assert_eq!(ids(&table.children(1).collect::<Vec<_>>()), [2], "the root of all is its own parent");
        assert_eq!(table.get(2).unwrap().to_string(), "one (tmpfs)");
        assert_eq!(table.get(3).unwrap().to_string(), "two\\n[/sub] (xfs)");
        assert_eq!(table.get(9), None);
    }

    #[test]
    fn descendants_follow_parents_and_paths_follow_text() {
        let table = MountTable::parse(
            b"5 4 0:9 / /mnt/a/b/c rw - tmpfs t rw\n1 1 8:1 / / rw - ext4 /dev/vda rw\n\
              2 1 7:0 / /mnt/a rw - ext4 /dev/loop0 rw\n3 1 0:7 / /mnt/ab rw - tmpfs t rw\n\
              4 2 0:8 / /mnt/a/b rw - tmpfs t rw\n",
        );
        for (id, expected) in [(2, vec![4, 5]), (1, vec![2, 3, 4, 5]), (5, vec![])] {
            assert_eq!(ids(&table.descendants(id)), expected, "{id}");
        }
        for (path, expected) in
            [("/mnt/a", 2), ("/mnt/a/x", 2), ("/mnt/abc", 1), ("/mnt/ab/b", 3), ("/mnt/a/b/c/d", 5)]
        {
            assert_eq!(table.containing(Path::new(path)).unwrap().id, expected, "{path}");
        }
        assert_eq!(table.containing(Path::new("(unreachable)/mnt/a")), None);
    }

    #[test]
    fn every_line_of_a_real_table_is_understood() {
        let text = std::fs::read(MountTable::OWN).unwrap();
        let table = MountTable::parse(&text);
        assert_eq!(table.mounts().len(), text.split_inclusive(|byte| *byte == b'\n').count());
        assert!(table.mounts().iter().any(|mount| mount.mount_point == Path::new("/")), "{table:?}");
    }
}
