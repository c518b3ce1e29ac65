//! The kernel's mount table, `/proc/self/mountinfo` (proc_pid_mountinfo(5)): what is mounted where.

use dvs_domain::failure::Failure;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The kind of file system that a guard is.
pub(crate) const GUARD_FILE_SYSTEM: &str = "tmpfs";
/// What a guard says it was made from. Earlier versions of DVS are recognised by it: never changed.
pub(crate) const GUARD_SOURCE: &str = "dvs-guard";

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
}

impl MountTable {
    /// Reads the table.
    pub(crate) fn read() -> Result<Self, Failure> {
        let path = "/proc/self/mountinfo";
        let text = std::fs::read(path)
            .map_err(|error| Failure::internal(format!("cannot read the mount table `{path}`"), error))?;
        Ok(Self::parse(&text))
    }

    /// The mount of that number.
    pub(crate) fn entry(&self, id: u64) -> Option<&MountEntry> {
        self.entries.iter().find(|entry| entry.id == id)
    }

    /// The mounts that lie directly on the mount of that number.
    pub(crate) fn inside(&self, id: u64) -> impl Iterator<Item = &MountEntry> {
        self.entries.iter().filter(move |entry| entry.parent == id && entry.id != id)
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
    fn parse(text: &[u8]) -> Self {
        Self { entries: text.split(|byte| *byte == b'\n').filter_map(MountEntry::parse).collect() }
    }
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
        fields.find(|field| *field == b"-")?;
        let file_system = String::from_utf8_lossy(&unescaped(fields.next()?)).into_owned();
        let source = path(fields.next()?);
        Some(Self { id, parent, device, root, mount_point, file_system, source })
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
            };
        let table = [
            (
                "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue",
                Some(entry(36, 35, (98, 0), "/mnt1", "/mnt2", "ext3", "/dev/root")),
            ),
            (
                "40 1 7:3 / /mnt/a rw,nosuid,nodev - ext4 /dev/loop3 rw",
                Some(entry(40, 1, (7, 3), "/", "/mnt/a", "ext4", "/dev/loop3")),
            ),
            (
                "41 1 0:52 / /mnt/b rw shared:7 master:2 propagate_from:3 unbindable - tmpfs none rw",
                Some(entry(41, 1, (0, 52), "/", "/mnt/b", "tmpfs", "none")),
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
    fn the_table_of_this_process_has_its_root() {
        let table = MountTable::read().unwrap();
        assert!(table.entries.iter().any(|entry| entry.mount_point == Path::new("/")), "{table:?}");
    }
}
