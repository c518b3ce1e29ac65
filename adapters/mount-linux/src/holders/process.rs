//! Processes, and what they hold: working directory, root, program, open files, mapped files.

use crate::holders::Search;
use crate::holders::namespace::Namespace;
use crate::holders::trace::Trace;
use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, statx};
use std::collections::BTreeSet;
use std::fs::{read, read_dir, read_link};
use std::path::{Path, PathBuf};

/// What the files are on by which a process is recognised.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// How the mounts of the volume are told from others.
    pub(crate) trace: &'a Trace,
    /// The numbers of those mounts, and of the guard below.
    pub(crate) mounts: BTreeSet<u64>,
    /// The device, where no other file has it.
    pub(crate) device: Option<(u32, u32)>,
}

impl Wanted<'_> {
    /// The kernel gives the number of a mount that is gone to the next one: a number alone proves nothing.
    fn includes(&self, state: &Statx, namespace: &Namespace) -> bool {
        self.device == Some((state.stx_dev_major, state.stx_dev_minor))
            || self.mounts.contains(&state.stx_mnt_id)
                && namespace.table_now().is_some_and(|table| {
                    let fits = |entry| self.trace.fits(entry) || entry.is_guard();
                    table.entry(state.stx_mnt_id).is_some_and(fits)
                })
    }
}

/// The ids of all processes, in order.
pub(crate) fn ids() -> BTreeSet<u32> {
    let Ok(entries) = read_dir("/proc") else { return BTreeSet::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// What the process is called; nothing when it has ended.
pub(crate) fn name_of(id: u32) -> Option<String> {
    Some(shown_name(&read(format!("/proc/{id}/comm")).ok()?))
}

/// A process chooses its own name: what is no plain character is escaped.
fn shown_name(comm: &[u8]) -> String {
    let name = comm.strip_suffix(b"\n").unwrap_or(comm);
    String::from_utf8_lossy(name).chars().flat_map(char::escape_debug).collect()
}

/// Whether the process, which is in `namespace`, has something there. One that has ended, or that may not be
/// looked at, has nothing.
pub(crate) fn is_on(id: u32, wanted: &Wanted<'_>, namespace: &Namespace, search: &Search) -> bool {
    let process = PathBuf::from(format!("/proc/{id}"));
    let leads_there = |link: &Path, target: &Path| {
        // Pipes, sockets and the like have other names; they are on no mount.
        target.has_root() && !namespace.is_remote(target) && leads_to(link, wanted, namespace)
    };
    let single = ["cwd", "root", "exe"].into_iter().any(|name| {
        let link = process.join(name);
        read_link(&link).is_ok_and(|target| leads_there(&link, &target))
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

/// Looks at the file itself, as its file system last knew it: nobody is asked.
fn leads_to(link: &Path, wanted: &Wanted<'_>, namespace: &Namespace) -> bool {
    let flags = AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    statx(CWD, link, flags, StatxFlags::INO | StatxFlags::MNT_ID)
        .is_ok_and(|state| wanted.includes(&state, namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_processes_choose_do_no_harm() {
        for (comm, shown) in [
            (&b"postgres\n"[..], "postgres"),
            (b"a b", "a b"),
            (b"\x1b[2J\n\n", "\\u{1b}[2J\\n"),
            (b"\xff\n", "\u{fffd}"),
            (b"", ""),
        ] {
            assert_eq!(shown_name(comm), shown);
        }
        assert!(ids().contains(&std::process::id()));
        assert_eq!(name_of(u32::MAX), None);
    }

    #[test]
    fn a_number_that_another_mount_has_now_proves_nothing() {
        let state = statx(CWD, "/proc", AtFlags::empty(), StatxFlags::INO | StatxFlags::MNT_ID).unwrap();
        let namespaces = Namespace::all(&Search::begin());
        let ours = namespaces.iter().find(|namespace| namespace.is_ours).unwrap();
        let now = ours.table_now().unwrap().entry(state.stx_mnt_id).unwrap().device;
        for (device, expected) in [((7, 7), false), (now, true)] {
            let mounts = BTreeSet::from([state.stx_mnt_id]);
            let wanted = Wanted { trace: &Trace::Device(device), mounts, device: None };
            assert_eq!(wanted.includes(&state, ours), expected, "{device:?}");
        }
    }
}
