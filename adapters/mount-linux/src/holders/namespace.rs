//! Mount namespaces, each with the processes in it and its mount table.

use crate::holders::proc_fs;
use crate::holders::search::Search;
use dvs_mountinfo::{Mount, MountTable};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::read_link;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(crate) struct Namespace {
    /// Whether this process is in it.
    pub(crate) is_ours: bool,
    /// The processes in it, in order of their ids.
    pub(crate) members: Vec<u32>,
    pub(crate) table: MountTable,
    blocking: Vec<PathBuf>,
}

impl Namespace {
    /// Every namespace that has a process, in order of the lowest process id in it.
    pub(crate) fn all(search: &Search) -> Vec<Self> {
        let own = read_link("/proc/self/ns/mnt").ok();
        let mut known: BTreeMap<PathBuf, usize> = BTreeMap::new();
        let mut namespaces: Vec<Self> = Vec::new();
        for id in proc_fs::ids() {
            if search.is_over() {
                break;
            }
            // A process that has ended is in none.
            let Ok(name) = read_link(format!("/proc/{id}/ns/mnt")) else { continue };
            if let Some(index) = known.get(&name) {
                namespaces[*index].members.push(id);
                continue;
            }
            let is_ours = Some(&name) == own.as_ref();
            let Some(table) = read_table(is_ours, id) else { continue };
            known.insert(name, namespaces.len());
            namespaces.push(Self { is_ours, members: vec![id], blocking: blocking(&table), table });
        }
        namespaces
    }

    /// Its mounts as they are now, if it still exists.
    pub(crate) fn table_now(&self) -> Option<MountTable> {
        read_table(self.is_ours, *self.members.first()?)
    }

    /// Whether inspecting `path`, as a process in this namespace sees it, may wait for a server or a process.
    pub(crate) fn may_block(&self, path: &Path) -> bool {
        self.blocking.iter().any(|mount_point| path.starts_with(mount_point))
            && self.table.containing(path).is_some_and(Mount::may_block)
    }
}

fn read_table(is_ours: bool, member: u32) -> Option<MountTable> {
    if is_ours { MountTable::read().ok() } else { MountTable::of_process(member).ok() }
}

fn blocking(table: &MountTable) -> Vec<PathBuf> {
    let blocking = table.mounts().iter().filter(|mount| mount.may_block());
    blocking.map(|mount| mount.mount_point.clone()).collect()
}

/// The copies of one mount that are unmounted together with it.
///
/// What decides is the parent of a copy: an unmount propagates from the mount's parent to the parent's peers and slaves,
/// and unmounts what lies at the same place there. Whether the copy itself is a slave does not matter: a container's
/// `rslave` bind is one, and stays.
#[derive(Debug)]
pub(crate) struct Propagated {
    lies_on: Option<((u32, u32), PathBuf)>,
    groups: BTreeSet<u64>,
}

impl Propagated {
    pub(crate) fn of(mount: &Mount, table: &MountTable, namespaces: &[Namespace]) -> Self {
        let tables: Vec<&MountTable> = namespaces.iter().map(|namespace| &namespace.table).collect();
        Self::among(mount, table, &tables)
    }

    fn among(mount: &Mount, table: &MountTable, tables: &[&MountTable]) -> Self {
        let below = table.get(mount.parent).and_then(|parent| parent.shared);
        let mut groups: BTreeSet<u64> = below.into_iter().collect();
        // A slave may have slaves itself.
        loop {
            let known = groups.len();
            for mount in tables.iter().flat_map(|table| table.mounts()) {
                if let (Some(master), Some(shared)) = (mount.master, mount.shared)
                    && groups.contains(&master)
                {
                    groups.insert(shared);
                }
            }
            if groups.len() == known {
                return Self { lies_on: lies_on(mount, table), groups };
            }
        }
    }

    /// Whether `copy`, which is in `table`, is among them.
    pub(crate) fn includes(&self, copy: &Mount, table: &MountTable) -> bool {
        let Some(below) = table.get(copy.parent) else { return false };
        let mut of_below = below.shared.into_iter().chain(below.master);
        self.lies_on.is_some()
            && self.lies_on == lies_on(copy, table)
            && of_below.any(|group| self.groups.contains(&group))
    }
}

/// The directory on which a mount lies: its file system, and its path there.
fn lies_on(mount: &Mount, table: &MountTable) -> Option<((u32, u32), PathBuf)> {
    let below = table.get(mount.parent)?;
    let path = mount.mount_point.strip_prefix(&below.mount_point).ok()?;
    Some((below.device, below.root.join(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_that_go_with_a_mount_are_known_from_copies_that_stay() {
        let host = MountTable::parse(
            b"1 0 8:1 / / rw shared:1 - ext4 /dev/vda rw\n2 1 7:3 / /mnt/a rw shared:9 - ext4 /dev/loop3 rw\n",
        );
        // The tables of namespaces, and whether the copy in each goes with the mount.
        let table = [
            (
                "a service",
                "11 10 8:1 / / rw shared:4 master:1 - ext4 /dev/vda rw\n\
              12 11 7:3 / /mnt/a rw shared:5 master:9 - ext4 /dev/loop3 rw",
                true,
            ),
            (
                "below a service",
                "21 20 8:1 / / rw master:4 - ext4 /dev/vda rw\n\
              22 21 7:3 / /mnt/a rw master:5 - ext4 /dev/loop3 rw",
                true,
            ),
            (
                "a peer",
                "31 30 8:1 / / rw shared:1 - ext4 /dev/vda rw\n\
              32 31 7:3 / /mnt/a rw shared:9 - ext4 /dev/loop3 rw",
                true,
            ),
            (
                "unshared",
                "41 40 8:1 / / rw - ext4 /dev/vda rw\n\
              42 41 7:3 / /mnt/a rw - ext4 /dev/loop3 rw",
                false,
            ),
            (
                "a container",
                "51 50 0:60 / / rw - overlay overlay rw\n\
              52 51 7:3 / /data rw - ext4 /dev/loop3 rw",
                false,
            ),
            (
                "a container, rslave",
                "61 60 0:61 / / rw - overlay overlay rw\n\
              62 61 7:3 / /data rw master:9 - ext4 /dev/loop3 rw",
                false,
            ),
            (
                "a container with the folder above, rslave",
                "71 70 0:62 / / rw - overlay overlay rw\n\
              73 71 8:1 /mnt /data rw master:1 - ext4 /dev/vda rw\n\
              72 73 7:3 / /data/a rw master:9 - ext4 /dev/loop3 rw",
                true,
            ),
            (
                "moved elsewhere",
                "81 80 8:1 / / rw master:1 - ext4 /dev/vda rw\n\
              82 81 7:3 / /mnt/other rw master:9 - ext4 /dev/loop3 rw",
                false,
            ),
            ("on something unseen", "92 91 7:3 / /mnt/a rw master:9 - ext4 /dev/loop3 rw", false),
        ];
        let tables: Vec<MountTable> =
            table.iter().map(|(_, text, _)| MountTable::parse(text.as_bytes())).collect();
        let all: Vec<&MountTable> = tables.iter().chain([&host]).collect();
        let propagated = Propagated::among(host.get(2).unwrap(), &host, &all);
        for ((who, _, expected), table) in table.iter().zip(&tables) {
            let copy = table.mounts().iter().find(|mount| mount.device == (7, 3)).unwrap();
            assert_eq!(propagated.includes(copy, table), *expected, "{who}");
        }
    }

    #[test]
    fn nothing_goes_with_a_mount_on_a_private_one() {
        let host = MountTable::parse(
            b"1 0 8:1 / / rw - ext4 /dev/vda rw\n2 1 7:3 / /mnt/a rw - ext4 /dev/loop3 rw\n",
        );
        let propagated = Propagated::among(host.get(2).unwrap(), &host, &[&host]);
        assert!(!propagated.includes(host.get(2).unwrap(), &host));
    }

    #[test]
    fn files_of_servers_are_known_by_their_path() {
        let table = MountTable::parse(
            b"1 0 0:1 / / rw - 9p root rw\n2 1 7:3 / /mnt/a rw - ext4 /dev/loop3 rw\n\
              3 1 0:3 / /home rw - nfs4 server:/home rw\n4 3 0:4 / /home/local rw - tmpfs t rw\n",
        );
        let namespace = Namespace { is_ours: true, members: vec![], blocking: blocking(&table), table };
        for (path, expected) in [
            ("/etc/x", true),
            ("/mnt/a/x", false),
            ("/home/x", true),
            ("/home/local/x", false),
            ("/homes", true),
        ] {
            assert_eq!(namespace.may_block(Path::new(path)), expected, "{path}");
        }
    }
}
