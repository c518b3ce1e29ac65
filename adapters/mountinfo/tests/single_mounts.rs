//! Single mounts, told by the kernel one by one and by the whole table: both tell the same.

#![expect(clippy::unwrap_used, reason = "also the helpers of tests may stop a test")]

use dvs_mountinfo::{Mount, MountTable, Mounts, unique_id_at};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use std::path::{Path, PathBuf};

/// Both ways of looking up mounts.
fn both() -> [(&'static str, Mounts); 2] {
    [("singly", Mounts::new()), ("by table", Mounts::by_table_only())]
}

/// The mount that is on top at its mount point, in each way of looking it up.
fn looked_up(mounts: &Mounts, path: &Path) -> Option<Mount> {
    let flags = AtFlags::NO_AUTOMOUNT | AtFlags::SYMLINK_NOFOLLOW;
    let id = statx(CWD, path, flags, StatxFlags::MNT_ID).ok()?.stx_mnt_id;
    mounts.get(id, unique_id_at(CWD, path.as_os_str(), flags)).unwrap()
}

#[test]
fn single_mounts_are_what_the_table_tells() {
    for (way, mounts) in both() {
        // Other programs mount and unmount meanwhile: what is the same before and afterwards was so in between.
        let before = MountTable::read().unwrap();
        let found: Vec<Option<Mount>> =
            before.mounts().iter().map(|mount| looked_up(&mounts, &mount.mount_point)).collect();
        let after = MountTable::read().unwrap();
        let mut compared = 0;
        for (path, found) in before.mounts().iter().map(|mount| &mount.mount_point).zip(found) {
            let Some(found) = found else { continue };
            let (then, now) = (before.get(found.id), after.get(found.id));
            if then == now {
                assert_eq!(Some(&found), now, "{way}: {}", path.display());
                compared += 1;
            }
        }
        assert!(0 < compared, "{way}");
    }
}

#[test]
fn a_mount_that_is_gone_or_was_replaced_is_not_found() {
    let root = unique_id_at(CWD, "/".as_ref(), AtFlags::empty());
    for (way, mounts) in both() {
        assert_eq!(mounts.get(u64::from(u32::MAX), root).unwrap(), None, "{way}");
    }
}

#[test]
fn what_may_block_is_found_in_both_ways() {
    let [(_, singly), (_, by_table)] = both();
    for _ in 0..2 {
        // The second time the older mounts are known already. Other programs mount and unmount meanwhile.
        let before = by_table.blocking().unwrap();
        let found = singly.blocking().unwrap();
        let after = by_table.blocking().unwrap();
        assert!(found.contains(&PathBuf::from("/proc")), "{found:?}");
        for path in before.iter().filter(|path| after.contains(path)) {
            assert!(found.contains(path), "{} in {found:?}", path.display());
        }
    }
}
