//! What is mounted on this host, as far as this process sees it.

use crate::step::AtStep;
use dvs_domain::failure::Failure;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

const TABLE: &str = "/proc/self/mountinfo";

/// One line of the mount table.
pub(crate) struct Mount {
    pub(crate) path: PathBuf,
    /// Source and file system, such as "tmpfs (tmpfs)".
    pub(crate) what: String,
}

/// Every mount, in the order of mounting.
pub(crate) fn mounts() -> Result<Vec<Mount>, Failure> {
    let table = fs::read(TABLE).at("read the mount table", Path::new(TABLE))?;
    Ok(table.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

/// Reads `36 35 98:0 /root /path options [tags] - type source options` (proc_pid_mountinfo(5)).
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let path = unescaped(fields.nth(4)?);
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let file_system = String::from_utf8_lossy(fields.next()?).into_owned();
    let source = PathBuf::from(unescaped(fields.next()?));
    Some(Mount { path: PathBuf::from(path), what: format!("{} ({file_system})", source.display()) })
}

/// Undoes the kernel's `\040` for blanks and the like.
fn unescaped(field: &[u8]) -> OsString {
    let mut text = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'\\').then(|| after.get(..3)).flatten();
        let byte = escaped.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        match byte {
            Some(byte) => {
                text.push(byte);
                rest = &after[3..];
            }
            None => {
                text.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_mount_table_are_read() {
        let line =
            br"36 35 98:0 /mnt1 /mnt/a\040b\134c rw,noatime master:1 - ext4 /dev/loop3 rw,errors=continue";
        let mount = parse(line).unwrap();
        assert_eq!(mount.path, Path::new(r"/mnt/a b\c"));
        assert_eq!(mount.what, "/dev/loop3 (ext4)");
        assert!(parse(b"").is_none() && parse(b"1 2 3").is_none());
        assert!(mounts().unwrap().iter().any(|mount| mount.path == Path::new("/")));
    }
}
