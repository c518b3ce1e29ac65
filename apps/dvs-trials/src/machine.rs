//! What the machine really has: mounts, loop devices, files. Read from `/proc` and `/sys`, never asked of DVS.

use crate::process::text;
use anyhow::{Context, Result, bail};
use rustix::mount::{UnmountFlags, unmount};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the kernel may take to free a loop device whose last user has gone.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// One line of a mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub point: PathBuf,
    /// What, such as `/dev/loop3`.
    pub source: PathBuf,
    /// Its kind, such as `ext4`.
    pub file_system: String,
    /// What holds for this mount, such as `nosuid`.
    pub options: Vec<String>,
}

/// A loop device that is bound to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loop {
    /// The device.
    pub device: PathBuf,
    /// The file.
    pub file: PathBuf,
}

/// The mounts at and below `folder` that process `of` sees, or this one, in the order in which they were made.
///
/// # Errors
/// When the table cannot be read.
pub fn mounts_below(folder: &Path, of: Option<u32>) -> Result<Vec<Mount>> {
    let table = match of {
        Some(process) => format!("/proc/{process}/mountinfo"),
        None => "/proc/self/mountinfo".to_owned(),
    };
    let table = fs::read(&table).with_context(|| format!("cannot read {table}"))?;
    let mounts = table.split(|byte| *byte == b'\n').filter_map(mount);
    Ok(mounts.filter(|mount| mount.point.starts_with(folder)).collect())
}

/// The loop devices that are bound to files at or below `folder`.
///
/// # Errors
/// When they cannot be listed.
pub fn loops_below(folder: &Path) -> Result<Vec<Loop>> {
    let mut found = Vec::new();
    let devices = match fs::read_dir("/sys/block") {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        devices => devices.context("cannot list /sys/block")?,
    };
    for device in devices {
        let device = device.context("cannot list /sys/block")?;
        // Only a device that is bound has this file.
        if let Ok(file) = fs::read(device.path().join("loop/backing_file")) {
            let file = backing_file(&file);
            if file.starts_with(folder) {
                found.push(Loop { device: Path::new("/dev").join(device.file_name()), file });
            }
        }
    }
    Ok(found)
}

/// Every path below `folder`, links not followed, in order. Does not look into what is mounted there.
///
/// # Errors
/// When a folder cannot be listed.
pub fn paths_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let device = match fs::symlink_metadata(folder) {
        Ok(found) => found.dev(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot look at {}", folder.display())),
    };
    let mut paths = Vec::new();
    collect(folder, device, &mut paths)?;
    paths.sort();
    Ok(paths)
}

/// Unmounts everything below `folder`, the last first, and detaches loop devices of files below it. For tidying up.
///
/// # Errors
/// When something cannot be released.
pub fn release_below(folder: &Path) -> Result<()> {
    for mount in mounts_below(folder, None)?.iter().rev() {
        unmount(&mount.point, UnmountFlags::empty())
            .or_else(|_| unmount(&mount.point, UnmountFlags::DETACH))
            .with_context(|| format!("cannot unmount {}", mount.point.display()))?;
    }
    let until = Instant::now() + RELEASE_LIMIT;
    loop {
        let left = loops_below(folder)?;
        let Some(first) = left.first() else { return Ok(()) };
        if until <= Instant::now() {
            bail!("{} and {} more stay bound", first.device.display(), left.len() - 1);
        }
        // The kernel frees most of them by itself, and may do so between these lines.
        let devices = left.iter().map(|found| found.device.as_path());
        let _may_be_free = text("losetup", [Path::new("-d")].into_iter().chain(devices));
    }
}

/// What `path` is for process `of`, which may see other mounts than this one.
#[must_use]
pub fn seen_by(path: &Path, of: Option<u32>) -> PathBuf {
    match of {
        Some(process) => {
            let below = path.strip_prefix("/").unwrap_or(path);
            Path::new("/proc").join(process.to_string()).join("root").join(below)
        }
        None => path.to_owned(),
    }
}

fn collect(folder: &Path, device: u64, paths: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        // What has gone meanwhile is not there.
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if found.is_dir() && found.dev() == device {
            collect(&path, device, paths)?;
        }
        paths.push(path);
    }
    Ok(())
}

/// One line of `/proc/<id>/mountinfo` (proc(5)).
fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let point = unescaped(fields.nth(4)?);
    let options = String::from_utf8_lossy(fields.next()?).split(',').map(str::to_owned).collect();
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let file_system = String::from_utf8_lossy(fields.next()?).into_owned();
    let source = unescaped(fields.next()?);
    Some(Mount { point, source, file_system, options })
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
    PathBuf::from(std::ffi::OsStr::from_bytes(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_mount_table_is_read() {
        let line =
            b"36 35 7:0 / /mnt/a\\040b rw,nosuid,nodev,relatime shared:1 master:2 - ext4 /dev/loop0 rw";
        let mount = mount(line).unwrap();
        assert_eq!(mount.point, Path::new("/mnt/a b"));
        assert_eq!(mount.options, ["rw", "nosuid", "nodev", "relatime"]);
        assert_eq!((mount.file_system.as_str(), mount.source.as_path()), ("ext4", Path::new("/dev/loop0")));
    }

    #[test]
    fn a_file_that_was_removed_under_its_device_keeps_its_name() {
        assert_eq!(backing_file(b"/var/tmp/x/image (deleted)\n"), Path::new("/var/tmp/x/image"));
    }

    #[test]
    fn paths_are_listed_with_what_is_in_folders() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("a/b")).unwrap();
        std::os::unix::fs::symlink("/", path("a/link")).unwrap();
        assert_eq!(paths_below(folder.path()).unwrap(), ["a", "a/b", "a/link"].map(path));
        assert_eq!(paths_below(&path("none")).unwrap(), Vec::<PathBuf>::new());
    }
}
