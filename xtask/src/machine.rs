//! What the machine has and lacks: programs, rights, loop devices, a Docker engine. As root on Debian what lacks
//! is installed; otherwise the command to type is named.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::run::{self, HINT, SHORT};

/// A program and the Debian package that has it.
#[derive(Clone, Copy)]
pub(crate) struct Program {
    name: &'static str,
    package: &'static str,
}

/// What makes and checks an ext volume: enough for the demo.
pub(crate) const EXT: &[Program] =
    &[program("mkfs.ext4", "e2fsprogs"), program("e2fsck", "e2fsprogs"), program("debugfs", "e2fsprogs")];

/// What the other file systems and the tests with real devices need besides.
pub(crate) const FILE_SYSTEMS: &[Program] = &[
    program("mkfs.xfs", "xfsprogs"),
    program("mkfs.btrfs", "btrfs-progs"),
    program("findmnt", "util-linux"),
    program("losetup", "mount"),
];

pub(crate) const MOSQUITTO: &[Program] = &[
    program("mosquitto", "mosquitto"),
    program("mosquitto_pub", "mosquitto-clients"),
    program("mosquitto_sub", "mosquitto-clients"),
];

/// What the optional feature `tls` builds with.
pub(crate) const TLS: &[Program] = &[
    program("pkg-config", "pkg-config"),
    program("/usr/include/openssl/ssl.h", "libssl-dev"),
    program("openssl", "openssl"),
];

/// What checks the units for systemd.
pub(crate) const UNITS: &[Program] = &[program("systemd-analyze", "systemd")];

/// What runs in the containers of tests.
pub(crate) const CONTAINERS: &[Program] = &[program("busybox", "busybox-static")];

/// A real NFS server for tests, on Debian's usual machine.
pub(crate) const NFS_SERVER: &[Program] = &[
    program("ganesha.nfsd", "nfs-ganesha"),
    #[cfg(target_arch = "x86_64")]
    program("/usr/lib/x86_64-linux-gnu/ganesha/libfsalvfs.so", "nfs-ganesha-vfs"),
    #[cfg(target_arch = "aarch64")]
    program("/usr/lib/aarch64-linux-gnu/ganesha/libfsalvfs.so", "nfs-ganesha-vfs"),
    program("rpcbind", "rpcbind"),
    program("unshare", "util-linux"),
    program("ip", "iproute2"),
];

/// While this file says no, Debian's packages start no service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

const fn program(name: &'static str, package: &'static str) -> Program {
    Program { name, package }
}

/// Whether we run as root. A `/proc` that can't be read counts as no.
pub(crate) fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut ids = status.lines().filter_map(|line| line.strip_prefix("Uid:"));
    // The second of the four is the effective one.
    ids.next().and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}

/// Whether this machine has to have all that tests need: it is one of the gate's, and whatever lacks can be installed.
pub(crate) fn is_complete() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true") && is_root() && is_debian()
}

fn is_debian() -> bool {
    Path::new("/etc/debian_version").exists() && find("apt-get").is_some()
}

/// Why no loop device can be had, if so.
pub(crate) fn no_loop_devices() -> Option<String> {
    if !is_root() {
        return Some("loop devices need root".to_owned());
    }
    let control = File::options().read(true).write(true).open("/dev/loop-control");
    control.err().map(|error| format!("/dev/loop-control cannot be opened: {error}"))
}

/// Why no file system can be served in user space, if so.
pub(crate) fn no_fuse() -> Option<String> {
    let device = File::options().read(true).write(true).open("/dev/fuse");
    device.err().map(|error| format!("/dev/fuse cannot be opened: {error}"))
}

/// Why no Docker engine can be used, if so.
pub(crate) fn no_docker() -> Option<String> {
    if find("docker").is_none() {
        return Some("there is no program `docker`".to_owned());
    }
    let asked =
        run::captured(run::program("docker").args(["version", "--format", "{{.Server.Version}}"]), SHORT);
    match asked {
        Ok(answer) if answer.status.success() => None,
        Ok(answer) => Some(answer.err.trim().to_owned()),
        Err(error) => Some(format!("{error:#}")),
    }
}

/// Where a program lies, if it is there.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = run::search_path();
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| is_program(file))
}

/// Makes sure that the programs are there: installs them where that is possible, else says what to type.
pub(crate) fn require(groups: &[&[Program]]) -> Result<()> {
    let missing = missing(groups);
    if missing.is_empty() {
        return Ok(());
    }
    let names = list(&missing, |program| program.name);
    let packages = list(&missing, |program| program.package);
    let debian = is_debian();
    if debian && is_root() {
        println!("installing what is missing ({}): {}", names.join(", "), packages.join(" "));
        install(&packages).with_context(|| format!("cannot install {}", packages.join(" ")))?;
        return match list(&self::missing(groups), |program| program.name) {
            still if still.is_empty() => Ok(()),
            still => bail!("{} not there, also after installing {}", still.join(", "), packages.join(" ")),
        };
    }
    let hint = if debian {
        format!("{HINT}sudo apt-get install -y --no-install-recommends {}", packages.join(" "))
    } else {
        format!("{HINT}install what Debian has in the packages {}", packages.join(" "))
    };
    Err(anyhow::anyhow!(hint)).context(format!("programs are missing: {}", names.join(", ")))
}

fn missing(groups: &[&[Program]]) -> Vec<Program> {
    groups
        .iter()
        .flat_map(|group| group.iter())
        .filter(|program| find(program.name).is_none())
        .copied()
        .collect()
}

fn list(programs: &[Program], of: impl Fn(&Program) -> &'static str) -> Vec<&'static str> {
    let mut list: Vec<_> = programs.iter().map(of).collect();
    list.sort_unstable();
    list.dedup();
    list
}

fn install(packages: &[&str]) -> Result<()> {
    // Nobody asked for a broker that listens on this machine from now on.
    let _quiet = NoServices::arrange()?;
    let apt = |arguments: &[&str]| {
        let mut command = run::program("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q"]).args(arguments);
        run::shown(&mut command)
    };
    apt(&["update"])?;
    apt(&[&["install", "-y", "--no-install-recommends"], packages].concat())
}

/// What is named by its whole path need not be a program: a header and a library are looked for too.
fn is_program(file: &Path) -> bool {
    let is_part = file.extension().is_some_and(|ending| ending == "h" || ending == "so");
    fs::metadata(file)
        .is_ok_and(|found| found.is_file() && (is_part || found.permissions().mode() & 0o111 != 0))
}

/// As long as this lives, installing a package starts no service.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn arrange() -> Result<Self> {
        let file = File::options().write(true).create_new(true).mode(0o755).open(POLICY);
        match file {
            Ok(mut file) => {
                let ours = Self { ours: true };
                file.write_all(b"#!/bin/sh\nexit 101\n").with_context(|| format!("cannot write {POLICY}"))?;
                Ok(ours)
            }
            // The machine's owner has a policy of their own.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Self { ours: false }),
            Err(error) => Err(error).with_context(|| format!("cannot make {POLICY}")),
        }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("cannot remove {POLICY}, which keeps packages from starting services: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_every_machine_is_found_and_an_invented_one_is_not() {
        assert!(find("sh").is_some());
        assert!(find("dvs-no-such-program").is_none());
    }

    #[test]
    fn packages_are_named_once() {
        assert_eq!(list(EXT, |program| program.package), ["e2fsprogs"]);
        assert_eq!(list(MOSQUITTO, |program| program.package), ["mosquitto", "mosquitto-clients"]);
    }
}
