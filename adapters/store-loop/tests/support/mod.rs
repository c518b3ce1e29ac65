//! What the tests of the loop store share: a store in a temporary folder, what it leaves behind, mounts that end
//! with their test.
#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::panic, reason = "only tests use this")]

use dvs_domain::names::{StoreName, VolumeName};
use dvs_domain::ports::{Source, SourceKind};
use dvs_domain::size::VolumeSize;
use dvs_domain::time::Timestamp;
use dvs_domain::volume::{FileSystem, Mode, Provision, Volume, VolumeId, VolumeSpec};
use dvs_store_loop::LoopStore;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use url::Url;

/// How long a condition is waited for.
const WAIT_SECONDS_MAX: u64 = 20;

/// Whether real loop devices can be used; else says that `test` did not run.
pub(crate) fn can_run(test: &str) -> bool {
    let why = if !rustix::process::geteuid().is_root() {
        "not root"
    } else if fs::File::options().write(true).open("/dev/loop-control").is_err() {
        "`/dev/loop-control` cannot be opened"
    } else {
        return true;
    };
    eprintln!("NOT RUN: {test}: {why}");
    false
}

/// A folder for one test, and its store. Mounts of [`Mounted`] end before it.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap() }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.root().join("volumes").join(name)
    }

    pub(crate) fn image(&self, name: &str) -> PathBuf {
        self.volume(name).join("image")
    }

    pub(crate) fn open(&self) -> Arc<LoopStore> {
        self.open_with("overcommit=100")
    }

    pub(crate) fn open_with(&self, options: &str) -> Arc<LoopStore> {
        Arc::new(open(&self.root(), options))
    }

    /// Every file below the store's folder, and every loop device that is bound to one.
    pub(crate) fn traces(&self) -> BTreeSet<String> {
        let mut traces = bound_below(self.folder.path());
        below(&self.root(), &mut traces);
        // The first operation makes these.
        let own = ["volumes", "staging", "id"].map(|name| self.root().join(name).display().to_string());
        traces.retain(|path| !own.contains(path));
        traces
    }

    pub(crate) fn staged(&self) -> Vec<String> {
        names_in(&self.root().join("staging"))
    }
}

pub(crate) fn open(root: &Path, options: &str) -> LoopStore {
    let url = Url::parse(&format!("loop://{}?{options}", root.display())).unwrap();
    LoopStore::open(StoreName::new("loop").unwrap(), &url, None).unwrap()
}

pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Makes sure that a check finds nothing wrong in `image`, if it is an ext.
pub(crate) fn assert_sound(image: &Path, file_system: FileSystem) {
    if matches!(file_system, FileSystem::Ext2 | FileSystem::Ext3 | FileSystem::Ext4) {
        let output = Command::new("/usr/sbin/e2fsck").arg("-fn").arg(image).output().unwrap();
        assert!(output.status.success(), "{file_system}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

fn below(folder: &Path, found: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        found.insert(path.display().to_string());
        if path.is_dir() && !path.is_symlink() {
            below(&path, found);
        }
    }
}

/// Every loop device that is bound to a file below `folder`.
pub(crate) fn bound_below(folder: &Path) -> BTreeSet<String> {
    let bound = bound_devices().into_iter().filter(|(_, file)| file.starts_with(folder));
    bound.map(|(number, file)| format!("/dev/loop{number}: {}", file.display())).collect()
}

/// The numbers of all bound loop devices, and what the kernel calls their files.
pub(crate) fn bound_devices() -> Vec<(u32, PathBuf)> {
    let mut bound = Vec::new();
    for entry in fs::read_dir("/sys/block").unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let file = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file"));
        if let (Some(number), Ok(file)) = (name.strip_prefix("loop"), file) {
            bound.push((number.parse().unwrap(), PathBuf::from(file.trim_end())));
        }
    }
    bound
}

pub(crate) fn named(name: &str) -> VolumeName {
    VolumeName::new(name).unwrap()
}

/// A thin ext4 volume of 16 MiB.
pub(crate) fn volume(name: &str) -> Volume {
    volume_of(name, 16, FileSystem::Ext4, Provision::Thin)
}

pub(crate) fn volume_of(name: &str, mebibytes: u64, file_system: FileSystem, provision: Provision) -> Volume {
    Volume {
        spec: VolumeSpec {
            id: VolumeId { store: StoreName::new("loop").unwrap(), name: named(name) },
            size: VolumeSize::from_mebibytes(mebibytes).unwrap(),
            file_system: Some(file_system),
            uid: 0,
            gid: 0,
            mode: Mode::DEFAULT,
            provision: Some(provision),
        },
        made_by: None,
        made_at: Timestamp(1),
    }
}

pub(crate) fn device_of(source: &Source) -> (PathBuf, FileSystem) {
    match &source.kind {
        SourceKind::Device { path, file_system } => (path.clone(), *file_system),
        other => panic!("a loop store gave {other:?}"),
    }
}

/// What `du` shows.
pub(crate) fn allocated(image: &Path) -> u64 {
    fs::metadata(image).unwrap().blocks() * 512
}

/// A mount that ends with its test.
pub(crate) struct Mounted {
    folder: Option<TempDir>,
}

impl Mounted {
    pub(crate) fn new(device: &Path, file_system: FileSystem) -> Self {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let mounted = Self { folder: Some(folder) };
        mount(device, mounted.path(), file_system.as_str(), MountFlags::empty(), None).unwrap();
        // Neither given to other mount namespaces nor taken away in them, whatever the host does otherwise.
        mount_change(mounted.path(), MountPropagationFlags::PRIVATE).unwrap();
        mounted
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.as_ref().unwrap().path()
    }

    /// Unmounts it, and gives back the folder: as soon as that is removed, the kernel takes the mount away in every
    /// other mount namespace as well.
    pub(crate) fn end(mut self) -> TempDir {
        // A program that another test starts has copies of all descriptors for a moment, until it runs.
        wait_until("nothing uses the mount", || unmount(self.path(), UnmountFlags::empty()).is_ok());
        self.folder.take().unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Detached at once, so that the folder can be removed. After `end` there is nothing to do.
        if let Some(folder) = &self.folder {
            let _ = unmount(folder.path(), UnmountFlags::DETACH);
        }
    }
}

/// Waits until `condition`, or fails with what `state` says.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(WAIT_SECONDS_MAX);
    while !condition() {
        assert!(Instant::now() < until, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
