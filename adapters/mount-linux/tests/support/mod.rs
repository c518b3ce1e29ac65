//! What the tests of this crate share: a folder that is an allowed root, volumes for it, and what the kernel
//! says about it. Everything is taken away again, also when a test fails.
#![allow(dead_code, reason = "each test program uses its part")]

use dvs_domain::mount_point::{AllowedRoots, MountPoint};
use dvs_domain::ports::{Source, SourceKind};
use dvs_domain::volume::FileSystem;
use dvs_mount_linux::LinuxMounter;
use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Several programs of the host ask for loop devices at once, and one can be taken between finding and binding.
const LOOP_TRIES_MAX: u32 = 50;

/// Why a test that needs `programs` cannot run, said on standard error; or that it can.
pub(crate) fn can_run(test: &str, programs: &[&str]) -> bool {
    let missing = |program: &&str| {
        let lies_in = |folder: &str| Path::new(folder).join(program).exists();
        !["/usr/sbin", "/sbin", "/usr/bin", "/bin"].into_iter().any(lies_in)
    };
    let why = if !rustix::process::geteuid().is_root() {
        "it needs root".to_owned()
    } else if programs.contains(&"losetup") && !Path::new("/dev/loop-control").exists() {
        "this host has no loop devices".to_owned()
    } else if let Some(program) = programs.iter().find(|program| missing(program)) {
        format!("`{program}` is not installed")
    } else {
        return true;
    };
    not_run(test, &why);
    false
}

/// Writes on standard error that a test cannot run, and why.
pub(crate) fn not_run(test: &str, why: &str) {
    // Not by a macro: the test harness would keep it to itself.
    writeln!(std::io::stderr(), "NOT RUN: {test}: {why}").expect("standard error takes text");
}

/// A folder with an allowed root, `root`, and a neighbour of it, `outside`.
pub(crate) struct Ground {
    folder: tempfile::TempDir,
    path: PathBuf,
    loops: RefCell<Vec<PathBuf>>,
}

impl Ground {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().expect("a temporary folder");
        let path = fs::canonicalize(folder.path()).expect("the folder's path");
        for name in ["root", "outside"] {
            fs::create_dir(path.join(name)).expect("a folder");
        }
        Self { folder, path, loops: RefCell::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path.join("root")
    }

    pub(crate) fn attachments(&self) -> LinuxMounter {
        self.attachments_with(&[])
    }

    /// With `root`, and more roots below the folder.
    pub(crate) fn attachments_with(&self, more: &[&str]) -> LinuxMounter {
        let roots = ["root"].iter().chain(more).map(|name| mount_point(&self.path.join(name)));
        LinuxMounter::new(AllowedRoots::with(roots))
    }

    /// As this kernel lets mounts be looked up, and as an older one does.
    pub(crate) fn both_attachments(&self) -> [LinuxMounter; 2] {
        [self.attachments(), self.attachments().by_table_only()]
    }

    /// The mount point `below` the allowed root.
    pub(crate) fn at(&self, below: &str) -> MountPoint {
        mount_point(&self.root().join(below))
    }

    /// A new volume on a loop device.
    pub(crate) fn device(&self, file_system: FileSystem) -> Source {
        self.formatted(file_system, &[])
    }

    /// Likewise, formatted with `options` besides.
    pub(crate) fn formatted(&self, file_system: FileSystem, options: &[&str]) -> Source {
        let image = self.path.join(format!("image-{}", self.loops.borrow().len()));
        let mebibytes = match file_system {
            FileSystem::Ext2 | FileSystem::Ext3 | FileSystem::Ext4 => 16,
            FileSystem::Btrfs => 128,
            FileSystem::Xfs => 320,
        };
        File::create(&image).and_then(|file| file.set_len(mebibytes << 20)).expect("an image");
        let force = if matches!(file_system, FileSystem::Xfs | FileSystem::Btrfs) { "-f" } else { "-F" };
        let program = format!("mkfs.{file_system}");
        run(Command::new(&program).args(["-q", force]).args(options).arg(&image));
        Source::new(SourceKind::Device { path: self.loop_device(&image), file_system })
    }

    /// Zeroes the beginning of the volume's image, with every superblock that counts.
    pub(crate) fn damage(&self, source: &Source) {
        let SourceKind::Device { path, .. } = &source.kind else { return };
        let device = fs::OpenOptions::new().write(true).open(path).expect("the device");
        let zeros = vec![0; 128 << 10];
        (&device).write_all(&zeros).and_then(|()| device.sync_all()).expect("zeros on the device");
    }

    /// A directory, with one file in it, as a volume.
    pub(crate) fn directory(&self, name: &str) -> Source {
        let path = self.path.join("outside").join(name);
        fs::create_dir(&path).and_then(|()| fs::write(path.join("file"), name)).expect("a folder");
        Source::new(SourceKind::Directory(path))
    }

    /// The mounts below the folder.
    pub(crate) fn mounts(&self) -> Vec<Mounted> {
        let all = Mounted::all();
        all.into_iter().filter(|mounted| mounted.at.starts_with(&self.path)).collect()
    }

    /// The one mount at `place`.
    pub(crate) fn mount_at(&self, place: &MountPoint) -> Mounted {
        let mut there: Vec<Mounted> =
            self.mounts().into_iter().filter(|mounted| mounted.at == Path::new(place.as_str())).collect();
        assert_eq!(there.len(), 1, "at {place}: {there:?}");
        there.remove(0)
    }

    /// Nothing is mounted, nothing is in the root, and this process has nothing open there.
    pub(crate) fn assert_nothing_left(&self, when: &str) {
        assert_eq!(self.mounts(), [], "{when}");
        assert_eq!(names_in(&self.root()), Vec::<String>::new(), "{when}");
        assert_eq!(self.open_descriptors(), Vec::<PathBuf>::new(), "{when}");
    }

    /// What this process has open below the root.
    pub(crate) fn open_descriptors(&self) -> Vec<PathBuf> {
        let descriptors = fs::read_dir("/proc/self/fd").expect("the list of descriptors");
        let targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        targets.filter(|target| target.starts_with(self.root())).collect()
    }

    fn loop_device(&self, image: &Path) -> PathBuf {
        for _ in 0..LOOP_TRIES_MAX {
            let output = Command::new("losetup")
                .args(["--find", "--show"])
                .arg(image)
                .stderr(Stdio::null())
                .output()
                .expect("losetup");
            if output.status.success() {
                let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
                self.loops.borrow_mut().push(path.clone());
                return path;
            }
        }
        unreachable!("no loop device for {}", image.display())
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for mounted in self.mounts().iter().rev() {
            let gone = Command::new("umount").arg("--lazy").arg(&mounted.at).status();
            assert!(std::thread::panicking() || gone.is_ok_and(|status| status.success()), "{mounted:?}");
        }
        for device in self.loops.borrow().iter() {
            let gone = Command::new("losetup").arg("--detach").arg(device).status();
            assert!(std::thread::panicking() || gone.is_ok_and(|status| status.success()), "{device:?}");
        }
    }
}

/// One line of the mount table, read in a simpler way than the crate does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mounted {
    pub(crate) id: String,
    pub(crate) at: PathBuf,
    pub(crate) options: String,
}

impl Mounted {
    fn all() -> Vec<Self> {
        let table = fs::read_to_string("/proc/self/mountinfo").expect("the mount table");
        let read = |line: &str| {
            let fields: Vec<&str> = line.split(' ').collect();
            let at = fields[4].replace("\\040", " ").replace("\\043", "#").replace("\\134", "\\");
            Self { id: fields[0].to_owned(), at: at.into(), options: fields[5].to_owned() }
        };
        table.lines().map(read).collect()
    }

    pub(crate) fn is_confined(&self) -> bool {
        let has = |option| self.options.split(',').any(|other| other == option);
        has("nosuid") && has("nodev")
    }
}

pub(crate) fn mount_point(path: &Path) -> MountPoint {
    MountPoint::new(path.to_str().expect("a path of this test")).expect("a normal path")
}

pub(crate) fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name());
    let mut names: Vec<String> =
        entries.map(|entry| name(entry).expect("an entry").to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

pub(crate) fn run(command: &mut Command) {
    let output = command.output().expect("a program");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
