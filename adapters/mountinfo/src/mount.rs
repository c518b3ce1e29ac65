//! One mount, and how a line of `mountinfo` spells it.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// File systems without a block device whose files can nevertheless be looked up without waiting for a server or a
/// process. Any other, such as NFS, 9p, autofs and FUSE, may block for ever.
const LOCAL_WITHOUT_DEVICE: [&str; 10] =
    ["aufs", "bcachefs", "btrfs", "devtmpfs", "overlay", "ramfs", "rootfs", "sysfs", "tmpfs", "zfs"];

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its id in the table. The kernel gives the id of a mount that is gone to a later one.
    pub id: u64,
    /// The id of the mount on which it is mounted. The root of all has itself or one outside of the table.
    pub parent: u64,
    /// Major and minor number of the file system's device.
    pub device: (u32, u32),
    /// Which directory of the file system is mounted.
    pub root: PathBuf,
    /// Where, as the process sees it whose table this is.
    pub mount_point: PathBuf,
    /// The type of the file system.
    pub file_system: String,
    /// What was mounted: the path of a device, or any other text.
    pub source: PathBuf,
    /// Its peer group: what is mounted in one of these is mounted in all.
    pub shared: Option<u64>,
    /// The peer group from which it receives mounts and unmounts.
    pub master: Option<u64>,
}

impl Mount {
    /// Reads `36 35 98:0 /root /mount/point options [tags] - type source options`; `None` for what does not have this form.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
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

    /// Whether looking up a file there may wait for a server or a process.
    #[must_use]
    pub fn may_block(&self) -> bool {
        let is_fuse = self.file_system == "fuse" || self.file_system.starts_with("fuse.");
        let has_device = self.device.0 != 0 && self.file_system != "fuseblk";
        is_fuse || !(has_device || LOCAL_WITHOUT_DEVICE.contains(&self.file_system.as_str()))
    }
}

/// For an operator: "tmpfs (tmpfs)", or "/dev/loop3[/sub] (ext4)" where only a part of a file system is mounted.
impl fmt::Display for Mount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.source.to_string_lossy().chars().flat_map(char::escape_debug) {
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
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn lines_are_read_as_proc_documents_them() {
        let mount = |id, device, root: &str, mount_point: &str, file_system: &str, source: &str| Mount {
            id,
            parent: 1,
            device,
            root: root.into(),
            mount_point: mount_point.into(),
            file_system: file_system.to_owned(),
            source: source.into(),
            shared: None,
            master: None,
        };
        let long = format!("/{}", "x".repeat(40_000));
        let table = [
            (
                "36 1 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue",
                Some(Mount { master: Some(1), ..mount(36, (98, 0), "/mnt1", "/mnt2", "ext3", "/dev/root") }),
            ),
            (
                "40 1 7:3 / /mnt/a rw,nosuid,nodev - ext4 /dev/loop3 rw",
                Some(mount(40, (7, 3), "/", "/mnt/a", "ext4", "/dev/loop3")),
            ),
            (
                "41 1 0:52 / /mnt/b rw shared:7 master:2 propagate_from:3 unbindable - tmpfs none rw",
                Some(Mount {
                    shared: Some(7),
                    master: Some(2),
                    ..mount(41, (0, 52), "/", "/mnt/b", "tmpfs", "none")
                }),
            ),
            (
                r"42 1 0:53 /a\134b /mnt/a\040b\011c\012d\134e\043f rw - fuse.x\040y a\040b rw",
                Some(mount(42, (0, 53), r"/a\b", "/mnt/a b\tc\nd\\e#f", "fuse.x y", "a b")),
            ),
            (
                "43 1 0:54 / /mnt/ü rw - tmpfs  rw,size=4k",
                Some(mount(43, (0, 54), "/", "/mnt/ü", "tmpfs", "")),
            ),
            (
                r"44 1 0:55 / /mnt/\9\400\04 rw - tmpfs t rw",
                Some(mount(44, (0, 55), "/", r"/mnt/\9\400\04", "tmpfs", "t")),
            ),
            (
                &format!("49 1 0:57 / {long} rw - overlay overlay rw,lowerdir={long}"),
                Some(mount(49, (0, 57), "/", &long, "overlay", "overlay")),
            ),
            ("", None),
            ("45 1 0:56 / /mnt rw shared:1 tmpfs tmpfs rw", None),
            ("46 x 0:56 / /mnt rw - tmpfs tmpfs rw", None),
            ("47 1 056 / /mnt rw - tmpfs tmpfs rw", None),
            ("48 1 0:56 / /mnt rw - tmpfs", None),
        ];
        for (line, expected) in table {
            assert_eq!(Mount::parse(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_kept_in_paths() {
        let mount = Mount::parse(b"50 1 0:58 /r\xff /mnt/\xfe\\377 rw - tmpfs s\xfd rw").unwrap();
        let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
        assert_eq!(bytes(&mount.root), b"/r\xff");
        assert_eq!(mount.mount_point, Path::new(OsStr::from_bytes(b"/mnt/\xfe\xff")));
        assert_eq!(bytes(&mount.source), b"s\xfd");
    }

    #[test]
    fn what_may_wait_for_a_server_or_a_process_is_known_by_its_type() {
        for (device, file_system, expected) in [
            ("254:0", "ext4", false),
            ("0:22", "proc", true),
            ("0:40", "nfs", true),
            ("0:41", "fuse.dvs", true),
            ("0:41", "fuse", true),
            ("8:1", "fuseblk", true),
            ("0:42", "tmpfs", false),
            ("0:44", "btrfs", false),
            ("0:43", "autofs", true),
            ("0:45", "9p", true),
        ] {
            let line = format!("1 0 {device} / /x rw - {file_system} s rw");
            assert_eq!(Mount::parse(line.as_bytes()).unwrap().may_block(), expected, "{line}");
        }
    }
}
