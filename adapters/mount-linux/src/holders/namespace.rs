//! Mount namespaces, each with the processes in it and its mount table.

use crate::holders::Search;
use crate::holders::process;
use crate::mount_table::{MountEntry, MountTable};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::read_link;
use std::path::{Path, PathBuf};

/// File systems of servers: a look at a file on one may hang for as long as the server is away.
const REMOTE_FILE_SYSTEMS: [&str; 8] = ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "afs", "lustre"];

/// A mount namespace.
#[derive(Debug)]
pub(crate) struct Namespace {
    /// Whether this process is in it.
    pub(crate) is_ours: bool,
    /// The processes in it, in order of their ids.
    pub(crate) members: Vec<u32>,
    /// Its mounts.
    pub(crate) table: MountTable,
    remote: Vec<PathBuf>,
}

impl Namespace {
    /// Every namespace that has a process, in order of the lowest process id in it.
    pub(crate) fn all(search: &Search) -> Vec<Self> {
        let own = read_link("/proc/self/ns/mnt").ok();
        let mut known: BTreeMap<PathBuf, usize> = BTreeMap::new();
        let mut namespaces: Vec<Self> = Vec::new();
        for id in process::ids() {
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
            namespaces.push(Self { is_ours, members: vec![id], remote: remote(&table), table });
        }
        namespaces
    }

    /// Its mounts as they are now, if it is still there.
    pub(crate) fn table_now(&self) -> Option<MountTable> {
        read_table(self.is_ours, *self.members.first()?)
    }

    /// Whether `path`, as a process in this namespace sees it, is on a file system of a server.
    pub(crate) fn is_remote(&self, path: &Path) -> bool {
        self.remote.iter().any(|mount_point| path.starts_with(mount_point))
            && self.table.holding(path).is_some_and(is_remote)
    }
}

fn read_table(is_ours: bool, member: u32) -> Option<MountTable> {
    if is_ours { MountTable::read().ok() } else { MountTable::of_process(member).ok() }
}

fn remote(table: &MountTable) -> Vec<PathBuf> {
    table.entries().iter().filter(|entry| is_remote(entry)).map(|entry| entry.mount_point.clone()).collect()
}

fn is_remote(entry: &MountEntry) -> bool {
    REMOTE_FILE_SYSTEMS.contains(&entry.file_system.as_str())
}

/// The copies of one mount that are taken away together with it.
///
/// What decides is the mount on which a copy lies: an unmount is passed on from the mount below to its peers and
/// to those that follow them, and takes away what lies at the same place there. That the copy itself follows does
/// not matter: a container's `rslave` bind does, and stays.
#[derive(Debug)]
pub(crate) struct Followers {
    lies_on: Option<((u32, u32), PathBuf)>,
    groups: BTreeSet<u64>,
}

impl Followers {
    /// The copies of `mount`, which is in `table`.
    pub(crate) fn of(mount: &MountEntry, table: &MountTable, namespaces: &[Namespace]) -> Self {
        let tables: Vec<&MountTable> = namespaces.iter().map(|namespace| &namespace.table).collect();
        Self::among(mount, table, &tables)
    }

    fn among(mount: &MountEntry, table: &MountTable, tables: &[&MountTable]) -> Self {
        let below = table.entry(mount.parent).and_then(|parent| parent.shared);
        let mut groups: BTreeSet<u64> = below.into_iter().collect();
        // One that follows may be followed itself.
        loop {
            let followed = groups.len();
            for entry in tables.iter().flat_map(|table| table.entries()) {
                if let (Some(master), Some(shared)) = (entry.master, entry.shared)
                    && groups.contains(&master)
                {
                    groups.insert(shared);
                }
            }
            if groups.len() == followed {
                return Self { lies_on: lies_on(mount, table), groups };
            }
        }
    }

    /// Whether `copy`, which is in `table`, is among them.
    pub(crate) fn include(&self, copy: &MountEntry, table: &MountTable) -> bool {
        let Some(below) = table.entry(copy.parent) else { return false };
        let mut of_below = below.shared.into_iter().chain(below.master);
        self.lies_on.is_some()
            && self.lies_on == lies_on(copy, table)
            && of_below.any(|group| self.groups.contains(&group))
    }
}

/// The directory on which a mount lies: its file system, and its path there.
fn lies_on(mount: &MountEntry, table: &MountTable) -> Option<((u32, u32), PathBuf)> {
    let below = table.entry(mount.parent)?;
    let path = mount.mount_point.strip_prefix(&below.mount_point).ok()?;
    Some((below.device, below.root.join(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_that_follow_are_told_from_copies_that_stay() {
        let host = MountTable::parse(
            b"1 0 8:1 / / rw shared:1 - ext4 /dev/vda rw\n2 1 7:3 / /mnt/a rw shared:9 - ext4 /dev/loop3 rw\n",
        );
        // The tables of namespaces, and which copies in them follow.
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
        let followers = Followers::among(host.entry(2).unwrap(), &host, &all);
        for ((who, _, follows), table) in table.iter().zip(&tables) {
            let copy = table.entries().iter().find(|entry| entry.device == (7, 3)).unwrap();
            assert_eq!(followers.include(copy, table), *follows, "{who}");
        }
    }

    #[test]
    fn nothing_follows_a_mount_on_a_private_one() {
        let host = MountTable::parse(
            b"1 0 8:1 / / rw - ext4 /dev/vda rw\n2 1 7:3 / /mnt/a rw - ext4 /dev/loop3 rw\n",
        );
        let followers = Followers::among(host.entry(2).unwrap(), &host, &[&host]);
        assert!(!followers.include(host.entry(2).unwrap(), &host));
    }

    #[test]
    fn files_of_servers_are_told_by_their_path() {
        let table = MountTable::parse(
            b"1 0 0:1 / / rw - 9p root rw\n2 1 7:3 / /mnt/a rw - ext4 /dev/loop3 rw\n\
              3 1 0:3 / /home rw - nfs4 server:/home rw\n4 3 0:4 / /home/local rw - tmpfs t rw\n",
        );
        let namespace = Namespace { is_ours: true, members: vec![], remote: remote(&table), table };
        for (path, expected) in [
            ("/etc/x", true),
            ("/mnt/a/x", false),
            ("/home/x", true),
            ("/home/local/x", false),
            ("/homes", true),
        ] {
            assert_eq!(namespace.is_remote(Path::new(path)), expected, "{path}");
        }
    }
}
