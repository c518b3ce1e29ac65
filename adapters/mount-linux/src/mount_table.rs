//! The kernel's mount table, `/proc/self/mountinfo` (proc_pid_mountinfo(5)): what is mounted where.

use dvs_domain::failure::Failure;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The kind of file system that a guard is.
pub(crate) const GUARD_FILE_SYSTEM: &str = "tmpfs";
/// What a guard says it was made from. Earlier versions of DVS are recognised by it: never changed.
pub(crate) const GUARD_SOURCE: &str = "dvs-guard";

/// As much as the table of a hundred mounts takes.
const TABLE_BYTES: usize = 16 << 10;

/// The mounts of this process's mount namespace.
#[derive(Debug)]
pub(crate) struct MountTable {
    entries: Vec<MountEntry>,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountEntry {
    /// Its number.
    pub(crate) id: u64,
    /// The number of the mount that it lies on.
    pub(crate) parent: u64,
    /// Major and minor number of the file system's device.
    pub(crate) device: (u32, u32),
    /// Which directory of the file system is shown.
    pub(crate) root: PathBuf,
    /// Where.
    pub(crate) mount_point: PathBuf,
    /// The kind of file system.
    pub(crate) file_system: String,
    /// What was mounted: a device node's path, or any other text.
    pub(crate) source: PathBuf,
    /// The peer group that it is in: what is mounted in one of these is mounted in all.
    pub(crate) shared: Option<u64>,
    /// The peer group that it follows.
    pub(crate) master: Option<u64>,
}

impl MountTable {
    /// Reads the table of this process.
    pub(crate) fn read() -> Result<Self, Failure> {
        let path = "/proc/self/mountinfo";
        let text = content(path)
            .map_err(|error| Failure::internal(format!("cannot read the mount table `{path}`"), error))?;
        Ok(Self::parse(&text))
    }

    /// Reads the table of the process of that id. One that is confined to a part of the tree sees only the
    /// mounts there.
    pub(crate) fn of_process(id: u32) -> io::Result<Self> {
        Ok(Self::parse(&content(&format!("/proc/{id}/mountinfo"))?))
    }

    /// Every mount.
    pub(crate) fn entries(&self) -> &[MountEntry] {
        &self.entries
    }

    /// The mount of that number.
    pub(crate) fn entry(&self, id: u64) -> Option<&MountEntry> {
        self.entries.iter().find(|entry| entry.id == id)
    }

    /// The mounts that lie directly on the mount of that number.
    pub(crate) fn inside(&self, id: u64) -> impl Iterator<Item = &MountEntry> {
        self.entries.iter().filter(move |entry| entry.parent == id && entry.id != id)
    }

    /// The mounts that lie on the mount of that number, directly or on one that does.
    pub(crate) fn below(&self, id: u64) -> Vec<&MountEntry> {
        let mut below: Vec<&MountEntry> = self.inside(id).collect();
        let mut next = 0;
        while let Some(entry) = below.get(next) {
            below.extend(self.inside(entry.id));
            next += 1;
        }
        below
    }

    /// The mount that `path` is on, as far as the path's text tells.
    pub(crate) fn holding(&self, path: &Path) -> Option<&MountEntry> {
        let over = self.entries.iter().filter(|entry| path.starts_with(&entry.mount_point));
        over.max_by_key(|entry| entry.mount_point.as_os_str().len())
    }

    /// Whether the mount of that number is a guard.
    pub(crate) fn is_guard(&self, id: u64) -> bool {
        self.entry(id).is_some_and(MountEntry::is_guard)
    }

    /// What a mount shows to an operator, such as "tmpfs (tmpfs)".
    pub(crate) fn describe(&self, id: u64) -> String {
        match self.entry(id) {
            Some(entry) => entry.to_string(),
            None => "something that the mount table does not show".to_owned(),
        }
    }

    /// A line that does not have the documented form is left out.
    pub(crate) fn parse(text: &[u8]) -> Self {
        Self { entries: text.split(|byte| *byte == b'\n').filter_map(MountEntry::parse).collect() }
    }
}

/// What the kernel says in `path`, which has no length before it is read.
fn content(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(TABLE_BYTES);
    File::open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl MountEntry {
    /// Whether this is a guard.
    pub(crate) fn is_guard(&self) -> bool {
        self.file_system == GUARD_FILE_SYSTEM
            && self.source == Path::new(GUARD_SOURCE)
            && self.root == Path::new("/")
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let id = number(fields.next()?)?;
        let parent = number(fields.next()?)?;
        let device = device(fields.next()?)?;
        let root = path(fields.next()?);
        let mount_point = path(fields.next()?);
        // The mount's options, then any number of optional fields, then a dash.
        let (mut shared, mut master) = (None, None);
        loop {
            match fields.next()? {
                b"-" => break,
                field => {
                    shared = shared.or_else(|| field.strip_prefix(b"shared:").and_then(number));
                    master = master.or_else(|| field.strip_prefix(b"master:").and_then(number));
                }
            }
        }
        let file_system = String::from_utf8_lossy(&unescaped(fields.next()?)).into_owned();
        let source = path(fields.next()?);
        Some(Self { id, parent, device, root, mount_point, file_system, source, shared, master })
    }
}

impl fmt::Display for MountEntry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.source.to_string_lossy();
        for character in source.chars().flat_map(char::escape_debug) {
            write!(formatter, "{character}")?;
        }
        if self.root != Path::new("/") {
            write!(formatter, "[{}]", self.root.display())?;
        }
        write!(formatter, " ({})", self.file_system)
    }
}

fn number<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn device(field: &[u8]) -> Option<(u32, u32)> {
    let colon = field.iter().position(|byte| *byte == b':')?;
    Some((number(&field[..colon])?, number(&field[colon + 1..])?))
}

fn path(field: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescaped(field)))
}

/// Undoes the kernel's escapes: a backslash and three octal digits for blank, tab, newline, `\` and `#`.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let escape = match (first, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                Some(((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), after))
            }
            _ => None,
        };
        let (byte, after) = escape.unwrap_or((*first, after));
        bytes.push(byte);
        rest = after;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_proc_documents_them() {
        let entry =
            |id, parent, device, root: &str, mount_point: &str, file_system: &str, source: &str| MountEntry {
                id,
                parent,
                device,
                root: root.into(),
                mount_point: mount_point.into(),
                file_system: file_system.to_owned(),
                source: source.into(),
                shared: None,
                master: None,
            };
        let table = [
            (
                "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue",
                Some(MountEntry {
                    master: Some(1),
                    ..entry(36, 35, (98, 0), "/mnt1", "/mnt2", "ext3", "/dev/root")
                }),
            ),
            (
                "40 1 7:3 / /mnt/a rw,nosuid,nodev - ext4 /dev/loop3 rw",
                Some(entry(40, 1, (7, 3), "/", "/mnt/a", "ext4", "/dev/loop3")),
            ),
            (
                "41 1 0:52 / /mnt/b rw shared:7 master:2 propagate_from:3 unbindable - tmpfs none rw",
                Some(MountEntry {
                    shared: Some(7),
                    master: Some(2),
                    ..entry(41, 1, (0, 52), "/", "/mnt/b", "tmpfs", "none")
                }),
            ),
            (
                r"42 1 0:53 /a\134b /mnt/a\040b\011c\012d\134e\043f rw - fuse.x\040y a\040b rw",
                Some(entry(42, 1, (0, 53), r"/a\b", "/mnt/a b\tc\nd\\e#f", "fuse.x y", "a b")),
            ),
            (
                "43 1 0:54 / /mnt/ü rw - tmpfs  rw,size=4k",
                Some(entry(43, 1, (0, 54), "/", "/mnt/ü", "tmpfs", "")),
            ),
            (
                r"44 1 0:55 / /mnt/\9\400\04 rw - tmpfs t rw",
                Some(entry(44, 1, (0, 55), "/", r"/mnt/\9\400\04", "tmpfs", "t")),
            ),
            ("", None),
            ("45 1 0:56 / /mnt rw shared:1 tmpfs tmpfs rw", None),
            ("46 x 0:56 / /mnt rw - tmpfs tmpfs rw", None),
            ("47 1 056 / /mnt rw - tmpfs tmpfs rw", None),
            ("48 1 0:56 / /mnt rw - tmpfs", None),
        ];
        for (line, expected) in table {
            assert_eq!(MountEntry::parse(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn a_damaged_line_hides_no_other_and_children_are_found() {
        let table = MountTable::parse(
            b"1 1 8:1 / / rw - ext4 /dev/vda rw\nnonsense\n2 1 0:5 / /mnt/a rw - tmpfs one rw\n\
              3 2 0:6 /sub /mnt/a/b rw - xfs two\\012 rw\n",
        );
        let inside: Vec<u64> = table.inside(1).map(|entry| entry.id).collect();
        assert_eq!(inside, [2], "the root of all lies on itself");
        assert_eq!(table.describe(2), "one (tmpfs)");
        assert_eq!(table.describe(3), "two\\n[/sub] (xfs)");
        assert_eq!(table.describe(9), "something that the mount table does not show");
    }

    #[test]
    fn what_lies_on_a_mount_is_told_by_parents_and_what_a_path_is_on_by_its_text() {
        let table = MountTable::parse(
            b"5 4 0:9 / /mnt/a/b/c rw - tmpfs t rw\n1 1 8:1 / / rw - ext4 /dev/vda rw\n\
              2 1 7:0 / /mnt/a rw - ext4 /dev/loop0 rw\n3 1 0:7 / /mnt/ab rw - tmpfs t rw\n\
              4 2 0:8 / /mnt/a/b rw - tmpfs t rw\n",
        );
        let numbers =
            |entries: Vec<&MountEntry>| -> Vec<u64> { entries.iter().map(|entry| entry.id).collect() };
        assert_eq!(numbers(table.below(2)), [4, 5]);
        assert_eq!(numbers(table.below(1)), [2, 3, 4, 5]);
        assert_eq!(numbers(table.below(5)), []);
        let on = |path: &str| table.holding(Path::new(path)).map(|entry| entry.id);
        for (path, mount) in
            [("/mnt/a", 2), ("/mnt/a/x", 2), ("/mnt/abc", 1), ("/mnt/ab/b", 3), ("/mnt/a/b/c/d", 5)]
        {
            assert_eq!(on(path), Some(mount), "{path}");
        }
        assert_eq!(on("(unreachable)/mnt/a"), None);
    }

    #[test]
    fn a_guard_is_told_by_its_kind_its_source_and_all_of_it() {
        let table = MountTable::parse(
            b"1 0 0:5 / /mnt/a ro - tmpfs dvs-guard ro\n2 0 0:6 / /mnt/b ro - tmpfs dvs-guard2 ro\n\
              3 0 0:7 / /mnt/c ro - ramfs dvs-guard ro\n4 0 0:8 /x /mnt/d ro - tmpfs dvs-guard ro\n",
        );
        assert_eq!([1, 2, 3, 4, 9].map(|id| table.is_guard(id)), [true, false, false, false, false]);
    }

    #[test]
    fn the_table_of_this_process_has_its_root() {
        let table = MountTable::read().unwrap();
        assert!(table.entries.iter().any(|entry| entry.mount_point == Path::new("/")), "{table:?}");
    }
}
