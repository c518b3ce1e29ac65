//! The Docker engine of this machine: containers, volumes and mounts that go with their guards.

#![allow(clippy::print_stderr, reason = "what could not be removed")]

use super::LONG;
use dvs_docker_engine::{ContainerEngines, Engine};
use dvs_domain::user::User;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use std::cell::Cell;
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Made of nothing but Debian's static busybox: no registry is needed.
const IMAGE: &str = "dvs-test/busybox:debian";
/// Keeps two tests from making the image at the same time.
static IMAGE_LOCK: Mutex<()> = Mutex::new(());

/// The engine, with an image to run.
pub(crate) struct RealDocker {
    prefix: String,
    made: Cell<usize>,
}

/// A container that is removed when this goes.
pub(crate) struct Container {
    pub(crate) name: String,
}

/// A volume of the engine that is removed when this goes.
pub(crate) struct Volume {
    pub(crate) name: String,
}

/// A tmpfs that is unmounted when this goes.
pub(crate) struct Tmpfs {
    at: PathBuf,
}

impl RealDocker {
    /// The engine for `test`, or why it cannot run.
    pub(crate) fn for_test(test: &str) -> Result<Self, String> {
        let answer = docker(["version", "--format", "{{.Server.Version}}"]);
        let answer = answer.map_err(|error| format!("the program docker cannot be run: {error}"))?;
        if !answer.status.success() {
            return Err(format!("no Docker engine: {}", String::from_utf8_lossy(&answer.stderr).trim()));
        }
        prepare_image().map_err(|why| format!("no image {IMAGE}: {why}"))?;
        Ok(Self { prefix: format!("dvs-test-{}-{test}", std::process::id()), made: Cell::new(0) })
    }

    /// What to ask.
    pub(crate) fn engines(&self) -> ContainerEngines {
        ContainerEngines::new(vec![Engine::docker_if_there().unwrap()], "dvs").within(LONG)
    }

    /// A container that runs until it is removed.
    pub(crate) fn running<const N: usize>(&self, what: &str, options: [&str; N]) -> Container {
        self.container(what, &["run", "-d"], &options, &["sleep", "600"])
    }

    /// A container that has run and ended.
    pub(crate) fn ended<const N: usize>(&self, what: &str, options: [&str; N]) -> Container {
        self.container(what, &["run"], &options, &["true"])
    }

    /// A container that was never started.
    pub(crate) fn created<const N: usize>(&self, what: &str, options: [&str; N]) -> Container {
        self.container(what, &["create"], &options, &["sleep", "600"])
    }

    /// A container that is started again and again.
    pub(crate) fn restarting<const N: usize>(&self, what: &str, options: [&str; N]) -> Container {
        let container = self.container(what, &["run", "-d", "--restart", "always"], &options, &["false"]);
        let begun = Instant::now();
        loop {
            let state = told(["inspect", "--format", "{{.State.Status}}", &container.name]);
            if state == "restarting" {
                return container;
            }
            assert!(begun.elapsed() < LONG, "it is {state}");
        }
    }

    /// A volume of the engine.
    pub(crate) fn volume<const N: usize>(&self, options: [&str; N]) -> Volume {
        let name = self.name("volume");
        told(["volume", "create", "--label", "dvs.test=1"].into_iter().chain(options).chain([name.as_str()]));
        Volume { name }
    }

    /// Those of `users` that this test made, by what it called them: this machine may have others.
    pub(crate) fn ours(&self, users: Vec<User>) -> Vec<String> {
        let ours = users.into_iter().filter_map(|user| {
            let User::Container { name, running, .. } = user else { return None };
            let what = name.strip_prefix(&self.prefix)?.trim_start_matches(|c: char| !c.is_alphabetic());
            Some(format!("{what} {}", if running { "runs" } else { "does not run" }))
        });
        let mut ours: Vec<_> = ours.collect();
        ours.sort();
        ours
    }

    fn container(&self, what: &str, verb: &[&str], options: &[&str], command: &[&str]) -> Container {
        let container = Container { name: self.name(what) };
        let fixed = ["--label", "dvs.test=1", "--network", "none", "--name", &container.name];
        told([verb, &fixed, options, &[IMAGE, "/bin/busybox"], command].concat());
        container
    }

    fn name(&self, what: &str) -> String {
        self.made.set(self.made.get() + 1);
        format!("{}-{}-{what}", self.prefix, self.made.get())
    }
}

impl Container {
    pub(crate) fn pause(&self) {
        told(["pause", &self.name]);
    }

    /// Where the engine binds its first mount from.
    pub(crate) fn source(&self) -> String {
        told(["inspect", "--format", "{{(index .Mounts 0).Source}}", &self.name])
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        report(docker(["rm", "-f", "-v", &self.name]));
    }
}

impl Volume {
    /// Where the engine keeps it.
    pub(crate) fn place(&self) -> String {
        told(["volume", "inspect", "--format", "{{.Mountpoint}}", &self.name])
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        report(docker(["volume", "rm", "-f", &self.name]));
    }
}

impl Tmpfs {
    /// A tmpfs at `at`; what is mounted in it is seen by whoever follows.
    pub(crate) fn shared(at: &Path) -> rustix::io::Result<Self> {
        std::fs::create_dir_all(at).unwrap();
        mount("none", at, "tmpfs", MountFlags::empty(), None)?;
        let tmpfs = Self { at: at.to_owned() };
        mount_change(at, MountPropagationFlags::SHARED)?;
        Ok(tmpfs)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.at, UnmountFlags::DETACH) {
            eprintln!("cannot unmount {}: {error}", self.at.display());
        }
    }
}

fn prepare_image() -> Result<(), String> {
    let _lock = IMAGE_LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    if docker(["image", "inspect", IMAGE]).is_ok_and(|answer| answer.status.success()) {
        return Ok(());
    }
    let folder = super::folder();
    let busybox = match installed("busybox") {
        Some(busybox) => busybox,
        None => downloaded(folder.path())?,
    };
    let tree = folder.path().join("tree");
    std::fs::create_dir_all(tree.join("bin")).map_err(|error| error.to_string())?;
    std::fs::copy(&busybox, tree.join("bin/busybox")).map_err(|error| error.to_string())?;
    let archive = folder.path().join("tree.tar");
    done(Command::new("tar").arg("-C").arg(&tree).arg("-cf").arg(&archive).arg("."))?;
    done(Command::new("docker").args(["-H", &address(), "import"]).arg(&archive).arg(IMAGE))?;
    // One that needs libraries does not run alone.
    done(Command::new("docker").args(["-H", &address(), "run", "--rm", IMAGE, "/bin/busybox", "true"]))
        .inspect_err(|_| report(docker(["rmi", IMAGE])))
}

fn installed(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn downloaded(folder: &Path) -> Result<PathBuf, String> {
    done(Command::new("apt-get").args(["download", "busybox-static"]).current_dir(folder))
        .map_err(|why| format!("install busybox-static ({why})"))?;
    let mut files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let package = files.find(|file| file.extension() == Some(OsStr::new("deb")));
    let package = package.ok_or("apt-get downloaded nothing")?;
    done(Command::new("dpkg-deb").arg("-x").arg(package).arg(folder.join("package")))?;
    Ok(folder.join("package/bin/busybox"))
}

fn done(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

fn address() -> String {
    format!("unix://{}", Engine::DOCKER_SOCKET)
}

fn docker(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> std::io::Result<Output> {
    Command::new("docker").args(["-H", &address()]).args(arguments).output()
}

/// What the engine says to `arguments`, which must succeed.
fn told(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
    let output = docker(arguments).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn report(output: std::io::Result<Output>) {
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) => eprintln!("{}", String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => eprintln!("{error}"),
    }
}
