//! A recorded disk in use: a loop device on its file, and the file system on that, mounted.

use crate::machine;
use crate::process::text;
use crate::wait::until;
use anyhow::{Context, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the kernel may take to let go of what was used.
const RELEASE_LIMIT: Duration = Duration::from_secs(20);

/// How often unmounting is tried before devices are detached that the kernel should free by itself.
const TRIES_BEFORE_DETACHING: u32 = 10;

/// The file system of the store's and the journal's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Below {
    /// ext4 with a small journal.
    Ext4,
    /// xfs, as small as its program makes it.
    Xfs,
}

/// How the disk is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Barriers {
    On,
    /// The file system never flushes.
    Off,
}

/// A disk that is mounted at `point`. It has to be taken down: dropping it leaves it to whoever clears the folders.
pub(super) struct Mounted {
    device: PathBuf,
    point: PathBuf,
}

impl Below {
    pub(super) fn disk_bytes(self) -> u64 {
        match self {
            Self::Ext4 => 192 << 20,
            Self::Xfs => 320 << 20,
        }
    }

    fn format(self, device: &Path) -> Result<()> {
        let (program, arguments): (_, &[&str]) = match self {
            Self::Ext4 => ("mkfs.ext4", &["-q", "-F", "-b", "4096", "-J", "size=4", "-m", "0"]),
            Self::Xfs => ("mkfs.xfs", &["-q", "-f", "-K"]),
        };
        text(program, arguments.iter().map(Path::new).chain([device])).map(drop)
    }
}

impl fmt::Display for Below {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        })
    }
}

impl Mounted {
    /// Formats the disk in `file`, and mounts it at `point`. The device passes writes on as they come.
    pub(super) fn format(file: &Path, point: &Path, below: Below, barriers: Barriers) -> Result<Self> {
        let device = attach(file, &["--direct-io=on"])?;
        below.format(&device)?;
        Self::mount(device, point, below, barriers)
    }

    /// Mounts the disk in `file`, which was cut off, at `point`.
    pub(super) fn recover(file: &Path, point: &Path, below: Below) -> Result<Self> {
        Self::mount(attach(file, &[])?, point, below, Barriers::On)
    }

    fn mount(device: PathBuf, point: &Path, below: Below, barriers: Barriers) -> Result<Self> {
        let options = match (below, barriers) {
            // What a kernel thread zeroes in the background has nothing to do with the agent.
            (Below::Ext4, Barriers::On) => c"noinit_itable",
            (Below::Ext4, Barriers::Off) => c"noinit_itable,barrier=0",
            (Below::Xfs, _) => c"",
        };
        let kind = CString::new(below.to_string()).context("the name of a file system")?;
        mount(&device, point, kind.as_c_str(), MountFlags::empty(), options)
            .with_context(|| format!("cannot mount the {below} on {}", device.display()))?;
        Ok(Self { device, point: point.to_owned() })
    }

    /// Unmounts the volumes, and then the disk, and frees its device.
    pub(super) async fn take_down(self) -> Result<()> {
        let mut tries = 0;
        until("the disk is unmounted", RELEASE_LIMIT, || {
            // The last first. Whoever looks at every mount holds one for a moment, and so does a device that the kernel is
            // about to free.
            let mounts = machine::mounts_below(&self.point, None)?;
            let left = mounts
                .iter()
                .rev()
                .filter(|mount| unmount(&mount.point, UnmountFlags::empty()).is_err())
                .count();
            tries += 1;
            if tries > TRIES_BEFORE_DETACHING {
                for found in machine::loops_below(&self.point)? {
                    let _ = text("losetup", [Path::new("-d"), &found.device]);
                }
            }
            Ok((left == 0).then_some(()))
        })
        .await?;
        text("losetup", [Path::new("-d"), &self.device])?;
        let name = self.device.file_name().context("a device has a name")?;
        let bound = Path::new("/sys/block").join(name).join("loop/backing_file");
        until("the disk's device is free", RELEASE_LIMIT, || Ok((!bound.exists()).then_some(()))).await
    }
}

fn attach(file: &Path, options: &[&str]) -> Result<PathBuf> {
    let arguments = ["--find", "--show"].iter().chain(options).map(Path::new).chain([file]);
    let device = text("losetup", arguments)?;
    Ok(PathBuf::from(device.trim_end()))
}
