//! The file systems' own programs: where they are, and who has them when they are missing.

use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::volume::FileSystem;
use rustix::fs::{Access, access};
use std::env;
use std::ffi::OsStr;
use std::path::PathBuf;

/// Where programs are also looked for: a service's `PATH` may lack these folders.
const ALSO_IN: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Checks ext file systems.
pub(crate) const CHECKER: &str = "e2fsck";

/// Changes ext file systems that are not mounted.
pub(crate) const EDITOR: &str = "debugfs";

/// The program that formats.
pub(crate) fn formatter(file_system: FileSystem) -> &'static str {
    match file_system {
        FileSystem::Ext2 => "mkfs.ext2",
        FileSystem::Ext3 => "mkfs.ext3",
        FileSystem::Ext4 => "mkfs.ext4",
        FileSystem::Xfs => "mkfs.xfs",
        FileSystem::Btrfs => "mkfs.btrfs",
    }
}

/// The absolute path of the program `name`, which comes with the programs of `file_system`.
pub(crate) fn find(name: &str, file_system: FileSystem) -> Result<PathBuf, Failure> {
    find_in(name, &env::var_os("PATH").unwrap_or_default()).ok_or_else(|| missing(name, package(file_system)))
}

/// Relative entries of `search` are left out: what they mean depends on where the agent was started.
fn find_in(name: &str, search: &OsStr) -> Option<PathBuf> {
    env::split_paths(search)
        .chain(ALSO_IN.map(PathBuf::from))
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|program| program.is_file() && access(program, Access::EXEC_OK).is_ok())
}

fn missing(name: &str, package: &str) -> Failure {
    Failure::new(FailureCode::Unsupported, format!("the program `{name}` is missing"))
        .with_hint(format!("install it; on Debian: apt-get install {package}"))
}

/// Debian's package with the file system's programs.
fn package(file_system: FileSystem) -> &'static str {
    match file_system {
        FileSystem::Ext2 | FileSystem::Ext3 | FileSystem::Ext4 => "e2fsprogs",
        FileSystem::Xfs => "xfsprogs",
        FileSystem::Btrfs => "btrfs-progs",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_absolute_folders_only() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let program = folder.path().join("mkfs.nothing");
        std::fs::write(&program, "#!/bin/sh\n").unwrap();
        assert_eq!(find_in("mkfs.nothing", folder.path().as_os_str()), None, "not executable");
        rustix::fs::chmod(&program, rustix::fs::Mode::RWXU).unwrap();
        assert_eq!(find_in("mkfs.nothing", folder.path().as_os_str()), Some(program));
        assert_eq!(find_in("mkfs.nothing", OsStr::new("relative:.:")), None);
        assert!(find_in("../../bin/sh", OsStr::new("")).is_some(), "only ever called with plain names");
        assert!(missing("mkfs.xfs", package(FileSystem::Xfs)).hint().unwrap().contains("xfsprogs"));
    }
}
