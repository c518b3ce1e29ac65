//! Removing a tree that strangers filled: no link is followed, no mount point is crossed, and however deep it
//! is, it takes neither stack nor open files. Each directory found inside is moved flat into staging, where
//! nobody else can swap anything, and is emptied there.

use crate::step::AtStep;
use dvs_domain::failure::Failure;
use rustix::fs::{CWD, Mode, OFlags, open, renameat};
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// How often a directory is emptied again when somebody who still works in it fills it meanwhile.
const ROUNDS_MAX: usize = 100;

/// Removes `tree`, which lies in staging, by way of names beside it that `fresh_name` gives.
///
/// # Errors
/// When something cannot be removed; what is left is in staging, and removing can be tried again.
pub(crate) fn remove_tree(tree: &Path, fresh_name: impl Fn() -> PathBuf) -> Result<(), Failure> {
    let mut work = vec![tree.to_owned()];
    let mut rounds = 0;
    while let Some(found) = work.pop() {
        let kind = match fs::symlink_metadata(&found) {
            Ok(kind) => kind,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error).at("remove the data", &found),
        };
        if !kind.is_dir() {
            fs::remove_file(&found).at("remove the data", &found)?;
            continue;
        }
        let inner = empty(&found, &fresh_name)?;
        match fs::remove_dir(&found) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty && rounds < ROUNDS_MAX => {
                rounds += 1;
                work.push(found);
            }
            Err(error) => return Err(error).at("remove the data", &found),
        }
        work.extend(inner);
    }
    Ok(())
}

/// Removes the files in `directory`, and moves its directories beside it; gives where they are now.
fn empty(directory: &Path, fresh_name: &impl Fn() -> PathBuf) -> Result<Vec<PathBuf>, Failure> {
    // The owner of a directory may have taken its own rights to it away.
    fs::set_permissions(directory, Permissions::from_mode(0o700)).at("remove the data", directory)?;
    let mut moved = Vec::new();
    for entry in fs::read_dir(directory).at("remove the data", directory)? {
        let entry = entry.at("remove the data", directory)?;
        let path = entry.path();
        if entry.file_type().at("remove the data", &path)?.is_dir() {
            let place = fresh_name();
            move_directory(&path, &place).at("remove the data", &path)?;
            moved.push(place);
        } else {
            fs::remove_file(&path).at("remove the data", &path)?;
        }
    }
    Ok(moved)
}

/// Moving a directory changes its `..`, so its owner needs the right to write into it.
fn move_directory(from: &Path, to: &Path) -> io::Result<()> {
    match renameat(CWD, from, CWD, to) {
        Err(rustix::io::Errno::ACCESS) => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = open(from, flags, Mode::empty())?;
            let by_descriptor = format!("/proc/self/fd/{}", opened.as_raw_fd());
            fs::set_permissions(by_descriptor, Permissions::from_mode(0o700))?;
            Ok(renameat(CWD, from, CWD, to)?)
        }
        renamed => Ok(renamed?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{mkdirat, openat};
    use std::cell::Cell;

    #[test]
    fn deep_trees_unreadable_directories_and_links_are_removed_and_nothing_else() {
        const DEPTH: usize = 5000;
        let staging = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let outside = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        fs::write(outside.path().join("precious"), "data").unwrap();

        let tree = staging.path().join("tree");
        fs::create_dir(&tree).unwrap();
        std::os::unix::fs::symlink(outside.path(), tree.join("link")).unwrap();
        let closed = tree.join("closed");
        fs::create_dir(&closed).unwrap();
        fs::write(closed.join("file"), "x").unwrap();
        fs::set_permissions(&closed, Permissions::from_mode(0o0)).unwrap();
        let mut deep = open(&tree, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        for _ in 0..DEPTH {
            mkdirat(&deep, "d", Mode::RWXU).unwrap();
            deep = openat(&deep, "d", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        }

        let number = Cell::new(0);
        remove_tree(&tree, || {
            number.set(number.get() + 1);
            staging.path().join(format!("tree~{}", number.get()))
        })
        .unwrap();
        assert_eq!(fs::read_dir(staging.path()).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(outside.path().join("precious")).unwrap(), "data");
    }
}
