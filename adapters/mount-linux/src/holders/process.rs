//! What a process holds: working directory, root, program, open files, mapped files.

use crate::holders::namespace::Namespace;
use crate::holders::pattern::MountPattern;
use crate::holders::search::Search;
use crate::new_mount::is_guard;
use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, statx};
use std::collections::BTreeSet;
use std::fs::{read_dir, read_link};
use std::path::{Path, PathBuf};

/// Where a file lies whose holder is searched for.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    /// How the mounts of the volume are recognised.
    pub(crate) pattern: &'a MountPattern,
    /// The ids of those mounts, and of the guard below.
    pub(crate) mounts: BTreeSet<u64>,
    /// The device number of the volume's files, where no other file has it.
    pub(crate) device: Option<(u32, u32)>,
}

impl Target<'_> {
    /// The kernel gives the id of a mount that is gone to a later one: an id alone proves nothing.
    fn includes(&self, state: &Statx, namespace: &Namespace) -> bool {
        self.device == Some((state.stx_dev_major, state.stx_dev_minor))
            || self.mounts.contains(&state.stx_mnt_id)
                && namespace.table_now().is_some_and(|table| {
                    let matches = |mount: &_| self.pattern.matches(mount) || is_guard(mount);
                    table.get(state.stx_mnt_id).is_some_and(matches)
                })
    }
}

/// Whether the process, which is in `namespace`, holds a file of `target`. One that has ended, or that may not be
/// inspected, holds none.
pub(crate) fn holds(id: u32, target: &Target<'_>, namespace: &Namespace, search: &Search) -> bool {
    let process = PathBuf::from(format!("/proc/{id}"));
    let leads_there = |link: &Path, path: &Path| {
        // Pipes, sockets and the like have other names; they are on no mount.
        path.has_root() && !namespace.may_block(path) && leads_to(link, target, namespace)
    };
    let single = ["cwd", "root", "exe"].into_iter().any(|name| {
        let link = process.join(name);
        read_link(&link).is_ok_and(|path| leads_there(&link, &path))
    });
    single || ["fd", "map_files"].into_iter().any(|name| any_link(&process.join(name), search, leads_there))
}

/// Whether a link in `folder` passes `test`. Parts of one file are mapped one after another: it is tested once.
fn any_link(folder: &Path, search: &Search, test: impl Fn(&Path, &Path) -> bool) -> bool {
    let Ok(entries) = read_dir(folder) else { return false };
    let mut before = PathBuf::new();
    for entry in entries.flatten() {
        if search.is_over() {
            return false;
        }
        let link = entry.path();
        let Ok(target) = read_link(&link) else { continue };
        if target != before && test(&link, &target) {
            return true;
        }
        before = target;
    }
    false
}

/// Inspects the file itself, as its file system last knew it: no server is asked.
fn leads_to(link: &Path, target: &Target<'_>, namespace: &Namespace) -> bool {
    let flags = AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    statx(CWD, link, flags, StatxFlags::INO | StatxFlags::MNT_ID)
        .is_ok_and(|state| target.includes(&state, namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_another_mount_has_now_proves_nothing() {
        let state = statx(CWD, "/proc", AtFlags::empty(), StatxFlags::INO | StatxFlags::MNT_ID).unwrap();
        let namespaces = Namespace::all(&Search::begin());
        let ours = namespaces.iter().find(|namespace| namespace.is_ours).unwrap();
        let now = ours.table_now().unwrap().get(state.stx_mnt_id).unwrap().device;
        for (device, expected) in [((7, 7), false), (now, true)] {
            let mounts = BTreeSet::from([state.stx_mnt_id]);
            let target = Target { pattern: &MountPattern::Device(device), mounts, device: None };
            assert_eq!(target.includes(&state, ours), expected, "{device:?}");
        }
    }
}
