//! What the kernel says is mounted and which loop devices have a backing file: read from `/proc` and `/sys`, so
//! that it needs no program and no root.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::run;

const MOUNTS: &str = "/proc/self/mountinfo";

/// A loop device and the file behind it.
pub(crate) struct Loop {
    pub(crate) device: PathBuf,
    pub(crate) file: PathBuf,
}

/// The mount points for which `ours` says yes, the last mounted first: in the order to unmount them.
pub(crate) fn mounts(ours: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let text = fs::read(MOUNTS).with_context(|| format!("cannot read {MOUNTS}"))?;
    let mut found: Vec<_> = mount_points(&text).into_iter().filter(|path| ours(path)).collect();
    found.reverse();
    Ok(found)
}

/// The loop devices for whose backing file `ours` says yes.
pub(crate) fn loops(ours: impl Fn(&Path) -> bool) -> Result<Vec<Loop>> {
    let mut found = Vec::new();
    let devices = match fs::read_dir("/sys/block") {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        devices => devices.context("cannot list /sys/block")?,
    };
    for device in devices {
        let device = device.context("cannot list /sys/block")?;
        // Only a bound loop device has this file.
        if let Ok(file) = fs::read(device.path().join("loop/backing_file")) {
            let file = backing_file(&file);
            if ours(&file) {
                found.push(Loop { device: Path::new("/dev").join(device.file_name()), file });
            }
        }
    }
    Ok(found)
}

/// Unmounts what `ours` says yes to and then detaches loop devices likewise. Never by force: what is still used
/// stays, and is an error.
pub(crate) fn release(ours: impl Fn(&Path) -> bool) -> Result<()> {
    for mount in mounts(&ours)? {
        run::text(run::program("umount").arg("--").arg(&mount))?;
    }
    for found in loops(&ours)? {
        let detached = run::text(run::program("losetup").arg("-d").arg(&found.device));
        // One that detaches itself may have done so meanwhile.
        if !loops(|file| file == found.file)?.is_empty() {
            detached.with_context(|| format!("cannot release {}", found.file.display()))?;
        }
    }
    Ok(())
}

fn mount_points(text: &[u8]) -> Vec<PathBuf> {
    let lines = text.split(|byte| *byte == b'\n');
    lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4)).map(unescaped).collect()
}

/// The kernel writes blanks and the like in a path as a backslash and three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| after.get(..3)).flatten();
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

fn backing_file(text: &[u8]) -> PathBuf {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let text = text.strip_suffix(b" (deleted)").unwrap_or(text);
    PathBuf::from(OsString::from_vec(text.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_blanks() {
        let text = b"22 1 8:1 / / rw - ext4 /dev/a rw\n30 22 0:5 / /mnt/a\\040b\\134c rw - tmpfs t rw\n";
        assert_eq!(mount_points(text), [Path::new("/"), Path::new("/mnt/a b\\c")]);
    }

    #[test]
    fn a_backing_file_that_was_removed_keeps_its_name() {
        assert_eq!(backing_file(b"/tmp/x/image (deleted)\n"), Path::new("/tmp/x/image"));
        assert_eq!(backing_file(b"/tmp/x/image\n"), Path::new("/tmp/x/image"));
    }
}
