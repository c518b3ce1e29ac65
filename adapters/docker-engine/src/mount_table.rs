//! The mount table of a process as `/proc/<pid>/mountinfo` tells it (proc_pid_mountinfo(5)): enough of it to know
//! where looking could wait for a server, and whether a container's copy of a folder has a mount in it.

use crate::path;

/// File systems without a device of their own that yet wait for nobody. What is on neither list, such as NFS, 9p,
/// autofs and everything in user space, may wait for ever.
const WAITS_FOR_NOBODY: [&str; 10] =
    ["aufs", "bcachefs", "btrfs", "devtmpfs", "overlay", "ramfs", "rootfs", "sysfs", "tmpfs", "zfs"];

/// What is mounted in one mount namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountTable {
    mounts: Vec<Mount>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    id: u64,
    parent: u64,
    has_device: bool,
    point: String,
    /// Whether what is unmounted in the namespace that it was copied from is unmounted here too.
    follows: bool,
    kind: String,
}

impl MountTable {
    /// Reads the text of a `mountinfo`. A line that is not understood is left out.
    pub(crate) fn parse(text: &str) -> Self {
        Self { mounts: text.lines().filter_map(mount).collect() }
    }

    /// Where looking at a path could wait for a server or a process.
    pub(crate) fn places_to_avoid(&self) -> Vec<String> {
        self.mounts.iter().filter(|mount| mount.may_wait()).map(|mount| mount.point.clone()).collect()
    }

    /// Whether the container whose table this is holds what was mounted at `rest` inside the folder that it has
    /// bound at `destination`: a mount that stays when the host unmounts its own. `None` when that can't be seen.
    pub(crate) fn holds(&self, destination: &str, rest: &str) -> Option<bool> {
        let destination = path::normal(destination)?;
        self.mounts.iter().find(|mount| mount.point == destination)?;
        let inside = path::normal(&format!("{destination}/{rest}"))?;
        Some(
            self.mounts.iter().filter(|mount| mount.point == inside).any(|mount| !self.is_taken_along(mount)),
        )
    }

    /// Whether `mount` goes when the host unmounts its own: it does when the mount that it is in follows the host's.
    fn is_taken_along(&self, mount: &Mount) -> bool {
        self.mounts.iter().any(|parent| parent.id == mount.parent && parent.follows)
    }
}

impl Mount {
    fn may_wait(&self) -> bool {
        let in_user_space = self.kind == "fuse" || self.kind == "fuseblk" || self.kind.starts_with("fuse.");
        in_user_space || !(self.has_device || WAITS_FOR_NOBODY.contains(&self.kind.as_str()))
    }
}

fn mount(line: &str) -> Option<Mount> {
    let (place, device) = line.split_once(" - ")?;
    let mut fields = place.split(' ');
    let id = fields.next()?.parse().ok()?;
    let parent = fields.next()?.parse().ok()?;
    let (major, _) = fields.next()?.split_once(':')?;
    let has_device = major != "0";
    let point = unescaped(fields.nth(1)?);
    let follows = fields.skip(1).any(|field| field.starts_with("master:"));
    let kind = device.split(' ').next()?.to_owned();
    Some(Mount { id, parent, has_device, point, follows, kind })
}

/// A path in which `\040` stands for a space, and likewise tab, line feed and backslash.
fn unescaped(field: &str) -> String {
    const ESCAPES: [(&str, char); 4] = [("040", ' '), ("011", '\t'), ("012", '\n'), ("134", '\\')];
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let known = ESCAPES.iter().find_map(|(digits, c)| Some((c, part.strip_prefix(digits)?)));
        let (character, rest) = known.map_or(('\\', part), |(c, rest)| (*c, rest));
        text.push(character);
        text.push_str(rest);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = r"27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 27 0:22 / /proc rw - proc proc rw
31 27 0:40 / /srv/nfs\040share rw shared:5 - nfs server:/x rw,vers=3
32 27 0:41 / /mnt/dvs rw - fuse.dvs dvs rw
33 27 8:1 / /mnt/usb rw - fuseblk /dev/sda1 rw
34 27 0:42 / /tmp rw shared:6 - tmpfs none rw
35 27 7:3 / /mnt/a\134b rw shared:7 master:2 propagate_from:1 - ext4 /dev/loop3 rw
36 27 0:43 / /net rw - autofs systemd-1 rw
this is no mount
";

    /// As a container has it that has `/up` bound following the host, `/eq` a volume, and `/pr` by itself.
    const CONTAINER: &str = "\
116 100 0:50 / / rw - overlay overlay rw
133 116 0:51 / /up rw,relatime master:3 - tmpfs none rw
134 133 0:62 / /up/v rw,relatime master:5 - tmpfs none rw
135 116 0:62 / /eq rw,relatime master:5 - tmpfs none rw
137 116 0:51 / /pr rw,relatime - tmpfs none rw
138 137 0:62 / /pr/v\\040w rw,relatime - tmpfs none rw
";

    #[test]
    fn what_may_wait_for_a_server_or_a_process_is_avoided() {
        let avoided = MountTable::parse(HOST).places_to_avoid();
        assert_eq!(avoided, ["/proc", "/srv/nfs share", "/mnt/dvs", "/mnt/usb", "/net"]);
    }

    #[test]
    fn a_copy_holds_a_volume_unless_it_follows_the_host() {
        let table = MountTable::parse(CONTAINER);
        assert_eq!(table.holds("/up", "v"), Some(false), "it goes with the host's");
        assert_eq!(table.holds("/pr", "v w"), Some(true), "it stays");
        assert_eq!(table.holds("/pr/", "v"), Some(false), "it was not mounted when the container started");
        assert_eq!(table.holds("/elsewhere", "v"), None, "the destination is a link in the container");
        assert_eq!(table.holds("/", "eq"), Some(true));
    }

    #[test]
    fn escapes_are_undone_and_nothing_else() {
        for (field, path) in [
            (r"/a\040b\011c\012d\134e", "/a b\tc\nd\\e"),
            (r"/a\\b\04", r"/a\\b\04"),
            (r"/ü\134040", r"/ü\040"),
            ("/", "/"),
        ] {
            assert_eq!(unescaped(field), path, "{field}");
        }
        assert_eq!(MountTable::parse(HOST).mounts[6].point, r"/mnt/a\b");
    }

    #[test]
    fn a_real_table_is_understood() {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let table = MountTable::parse(&text);
        assert_eq!(table.mounts.len(), text.lines().count());
        assert!(table.mounts.iter().any(|mount| mount.point == "/"));
    }
}
