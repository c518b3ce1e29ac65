//! Takes away what an earlier run of the demo, the features, the crash test, the power cuts, the flood or the bench left behind when it was cut off, and lets
//! only one run at a time happen on a machine, so that what is found is nobody's any more.
//!
//! Ours is: a container with the label `dvs.test=1`; a folder of this user in a folder for temporary files, or in
//! `/mnt`, whose name begins as [`NAMES`] say; what is mounted or backed by a file in there; and an agent or
//! broker that was started on such a folder. Nothing else is touched.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::run::{self, HINT, SHORT};
use crate::{kernel, machine};

/// How the names of our folders begin. The programs of `dvs-trials` name theirs so.
const NAMES: [&str; 6] = ["dvs-e2e", "dvs-demo", "dvs-bench", "dvs-crash", "dvs-powercut", "dvs-flood"];

/// The programs that run on our folders: the last four are a Docker engine of a scenario's own, and its containers.
const PROGRAMS: [&str; 7] =
    ["dvs", "dvs-powercut", "mosquitto", "dockerd", "containerd", "containerd-shim-runc-v2", "busybox"];

const ROOT: u32 = 0;
const MOUNT_FOLDER: &str = "/mnt";
const LOCK: &str = "/tmp/dvs-xtask.lock";

/// The turn of this process: no other run of the same machine sweeps or runs while it lives.
pub(crate) struct Turn {
    _lock: File,
}

impl Turn {
    /// Waits until no other run is on, and takes away what earlier ones left.
    pub(crate) fn take() -> Result<Self> {
        let lock = open_lock().with_context(|| format!("cannot open {LOCK}"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                println!(
                    "another run of demo, e2e, crash, powercut, flood or bench is on: waiting for it to end"
                );
                lock.lock().with_context(|| format!("cannot lock {LOCK}"))?;
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {LOCK}"));
            }
        }
        sweep().context("cannot take away what an earlier run left")?;
        Ok(Self { _lock: lock })
    }
}

/// Where folders for temporary files are made: on disk, as a volume image may be large.
pub(crate) fn temporary_folder() -> PathBuf {
    match std::env::var_os("TMPDIR") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from("/var/tmp"),
    }
}

fn open_lock() -> std::io::Result<File> {
    match File::open(LOCK) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        opened => return opened,
    }
    match File::options().write(true).create_new(true).mode(0o644).open(LOCK) {
        // Somebody else was faster.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => File::open(LOCK),
        made => made,
    }
}

fn sweep() -> Result<()> {
    let user = fs::metadata("/proc/self").context("cannot read /proc/self")?.uid();
    end_processes(user)?;
    remove_containers()?;
    kernel::release(|path| is_ours(path, user) || is_lost_disk(path))?;
    for base in bases() {
        for folder in our_folders(&base, user)? {
            println!("removing what an earlier run left: {}", folder.display());
            if !kernel::mounts(|path| path.starts_with(&folder))?.is_empty() {
                bail!("something is still mounted below {}", folder.display());
            }
            if base == Path::new(MOUNT_FOLDER) {
                remove_hollow(&folder)
            } else {
                fs::remove_dir_all(&folder)
            }
            .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
    }
    Ok(())
}

fn bases() -> Vec<PathBuf> {
    let mut bases = vec![temporary_folder(), "/tmp".into(), "/var/tmp".into(), MOUNT_FOLDER.into()];
    bases.sort();
    bases.dedup();
    bases
}

fn our_folders(base: &Path, user: u32) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(base) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("cannot list {}", base.display()))?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot list {}", base.display()))?.path();
        let folder = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir() && found.uid() == user);
        if folder && our_folder(&path).is_some() {
            folders.push(path);
        }
    }
    Ok(folders)
}

fn is_ours(path: &Path, user: u32) -> bool {
    // A folder that is gone already can't be asked whose it was; its name is what is left.
    our_folder(path)
        .is_some_and(|folder| fs::symlink_metadata(folder).map_or(true, |found| found.uid() == user))
}

/// Whether a loop device is bound to a disk of a power cut whose process has ended: its file is on no file system any more.
fn is_lost_disk(path: &Path) -> bool {
    path.parent() == Some(Path::new("/")) && path.to_string_lossy().starts_with("/dvs-powercut-disk-")
}

/// The folder of ours that `path` is or lies in, judged by its name alone.
fn our_folder(path: &Path) -> Option<PathBuf> {
    bases().into_iter().find_map(|base| {
        let first = path.strip_prefix(&base).ok()?.components().next()?;
        let name = first.as_os_str().to_str()?;
        NAMES.iter().any(|ours| name.starts_with(ours)).then(|| base.join(name))
    })
}

/// Ends the agents and brokers that were started on a folder of ours, each by its id.
fn end_processes(user: u32) -> Result<()> {
    for entry in fs::read_dir("/proc").context("cannot list /proc")? {
        let process = entry.context("cannot list /proc")?.path();
        let Some(id) = process.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()) else {
            continue;
        };
        // A process that ends meanwhile can't be read, and needs nothing more.
        let Ok(command) = fs::read_to_string(process.join("cmdline")) else { continue };
        // A broker that root starts goes on as a user of its own.
        let owned = fs::metadata(&process).is_ok_and(|found| user == ROOT || found.uid() == user);
        if owned && runs_on_ours(&command, user) {
            println!("ending process {id} of an earlier run: {}", command.replace('\0', " "));
            let ended =
                run::text(run::program("sh").args(["-c", "kill -KILL \"$1\"", "sh", &id.to_string()]));
            let gone = run::until(SHORT, || Ok(is_gone(&process)))?;
            if !gone {
                ended?;
                bail!("process {id} does not end");
            }
        }
    }
    Ok(())
}

fn runs_on_ours(command: &str, user: u32) -> bool {
    let mut words = command.split('\0');
    let program = words.next().and_then(|word| Path::new(word).file_name()?.to_str());
    program.is_some_and(|program| PROGRAMS.contains(&program))
        && words.any(|word| is_ours(Path::new(word), user))
}

/// A process that has ended, also when nobody has asked how.
fn is_gone(process: &Path) -> bool {
    fs::read(process.join("cmdline")).map_or(true, |command| command.is_empty())
}

fn remove_containers() -> Result<()> {
    if machine::no_docker().is_some() {
        return Ok(());
    }
    let list = run::text(run::program("docker").args(["ps", "-aq", "--filter", "label=dvs.test=1"]))?;
    for container in list.split_whitespace() {
        println!("removing container {container} of an earlier run");
        run::text(run::program("docker").args(["rm", "-f", "-v", container]))
            .context(format!("{HINT}look at it with `docker inspect {container}`"))?;
    }
    Ok(())
}

/// Removes a folder of folders and links. A file in it may be somebody's: it stays, and is an error.
fn remove_hollow(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            remove_hollow(&entry.path())?;
        } else if kind.is_symlink() {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_dir(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_with_our_names_in_known_places_are_ours() {
        assert_eq!(our_folder(Path::new("/mnt/dvs-e2e-1/a/b")), Some("/mnt/dvs-e2e-1".into()));
        assert_eq!(our_folder(Path::new("/var/tmp/dvs-demo-x")), Some("/var/tmp/dvs-demo-x".into()));
        for other in
            ["/mnt/a/dvs-e2e-1", "/mnt/e2e", "/mnt", "/srv/dvs-e2e-1", "/home/dvs-bench", "dvs-e2e-1"]
        {
            assert_eq!(our_folder(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    fn a_process_is_ours_by_its_program_and_its_folder() {
        let user = fs::metadata("/proc/self").unwrap().uid();
        assert!(runs_on_ours("target/debug/dvs\0--state\0/var/tmp/dvs-demo-gone/state\0", user));
        let container = "/bin/busybox\0sh\0-c\0true\0/var/tmp/dvs-e2e-gone/docker\0";
        assert!(runs_on_ours(container, user) && !runs_on_ours("/bin/busybox\0sh\0", user));
        assert!(!runs_on_ours("vim\0/var/tmp/dvs-demo-gone/state\0", user));
        assert!(!runs_on_ours("dvs\0--state\0/var/lib/dvs\0", user));
    }

    #[test]
    fn a_file_in_a_mount_folder_stays() {
        let folder = tempfile::tempdir().unwrap();
        let hollow = folder.path().join("hollow");
        fs::create_dir_all(hollow.join("a/b")).unwrap();
        std::os::unix::fs::symlink("/", hollow.join("a/link")).unwrap();
        remove_hollow(&hollow).unwrap();
        assert!(!hollow.exists());

        fs::create_dir(&hollow).unwrap();
        fs::write(hollow.join("file"), "somebody's").unwrap();
        assert!(remove_hollow(&hollow).is_err());
        assert!(hollow.join("file").exists());
    }
}
