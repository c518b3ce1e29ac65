//! What a created volume is: formatted, owned, allocated as asked, within the over-commit.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use dvs_domain::failure::FailureCode;
use dvs_domain::ports::{Destroyed, VolumeStore};
use dvs_domain::volume::{FileSystem, Mode, Provision, Volume};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::process::Command;
use support::{Mounted, Place, allocated, device_of, named, names_in, volume, volume_of};

const MIB: u64 = 1 << 20;

fn owned(mut volume: Volume, uid: u32, gid: u32, mode: &str) -> Volume {
    (volume.spec.uid, volume.spec.gid) = (uid, gid);
    volume.spec.mode = Mode::parse(mode).unwrap();
    volume
}

/// The least sizes, and one that is larger than any group or chunk of the file systems' layouts.
fn sizes(file_system: FileSystem) -> [u64; 2] {
    [file_system.mebibytes_min(), 700]
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_every_file_system_is_made_with_its_owner_and_mode() {
    if !support::can_run("loop_every_file_system_is_made_with_its_owner_and_mode") {
        return;
    }
    let place = Place::new();
    let store = place.open();
    let owners = [(0, 0, "0755"), (1000, 100, "0755"), (70_000, 4_000_000_000, "2750"), (0, 5, "1777")];
    for file_system in FileSystem::ALL {
        for mebibytes in sizes(file_system) {
            for (uid, gid, mode) in owners {
                let what = format!("{file_system} {mebibytes} MiB {uid}:{gid} {mode}");
                let asked = owned(volume_of("a", mebibytes, file_system, Provision::Thin), uid, gid, mode);
                assert!(store.create(&asked).await.unwrap().is_new(), "{what}");
                support::assert_sound(&place.image("a"), file_system);
                let source = store.source(&named("a")).await.unwrap();
                let (device, file_system_there) = device_of(&source);
                let mounted = Mounted::new(&device, file_system_there);
                let top = fs::metadata(mounted.path()).unwrap();
                assert_eq!((top.uid(), top.gid()), (uid, gid), "{what}");
                assert_eq!(top.permissions().mode() & 0o7777, asked.spec.mode.bits(), "{what}");
                let inside = names_in(mounted.path());
                assert!(inside.is_empty(), "{what}: {inside:?}");
                fs::write(mounted.path().join("file"), "content").unwrap();
                mounted.end();
                drop(source);
                assert_eq!(store.destroy(&named("a"), None).await.unwrap(), Destroyed::Gone, "{what}");
            }
        }
    }
    assert_eq!(place.traces(), BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_extended_volumes_reserve_no_blocks() {
    if !support::can_run("loop_extended_volumes_reserve_no_blocks") {
        return;
    }
    let place = Place::new();
    let store = place.open();
    for file_system in [FileSystem::Ext2, FileSystem::Ext3, FileSystem::Ext4] {
        store.create(&volume_of("a", 100, file_system, Provision::Thin)).await.unwrap();
        // `s_r_blocks_count_lo` of the superblock. What the kernel keeps back for itself is another matter.
        let mut reserved = [0; 4];
        fs::File::open(place.image("a")).unwrap().read_exact_at(&mut reserved, 1024 + 8).unwrap();
        assert_eq!(u32::from_le_bytes(reserved), 0, "{file_system}");
        store.destroy(&named("a"), None).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_thick_volumes_stay_allocated_and_thin_ones_are_not() {
    if !support::can_run("loop_thick_volumes_stay_allocated_and_thin_ones_are_not") {
        return;
    }
    let place = Place::new();
    let store = place.open();
    for file_system in FileSystem::ALL {
        for mode in ["0755", "0700"] {
            let asked = owned(volume_of("thick", 310, file_system, Provision::Thick), 0, 0, mode);
            store.create(&asked).await.unwrap();
            support::assert_sound(&place.image("thick"), file_system);
            let usage = store.usage(&named("thick")).await.unwrap();
            assert!(usage.allocated_bytes >= 310 * MIB, "{file_system} {mode}: {usage:?}");
            assert_eq!(usage.allocated_bytes, allocated(&place.image("thick")));
            store.destroy(&named("thick"), None).await.unwrap();

            let asked = owned(volume_of("thin", 310, file_system, Provision::Thin), 0, 0, mode);
            store.create(&asked).await.unwrap();
            let usage = store.usage(&named("thin")).await.unwrap();
            assert!(usage.allocated_bytes < 100 * MIB, "{file_system} {mode}: {usage:?}");
            store.destroy(&named("thin"), None).await.unwrap();
        }
    }
}

/// A kernel that has mounted an ext4 zeroes, some seconds later, the tables of inodes that formatting left for later. A
/// loop device does that by punching holes into the image.
#[tokio::test(flavor = "multi_thread")]
async fn loop_nothing_of_a_thick_volume_is_left_for_the_kernel_to_zero() {
    if !support::can_run("loop_nothing_of_a_thick_volume_is_left_for_the_kernel_to_zero") {
        return;
    }
    let place = Place::new();
    let store = place.open();
    store.create(&volume_of("thick", 310, FileSystem::Ext4, Provision::Thick)).await.unwrap();
    let output = Command::new("dumpe2fs").arg(place.image("thick")).output().unwrap();
    let dump = String::from_utf8(output.stdout).unwrap();
    let groups: Vec<&str> = dump.lines().filter(|line| line.contains(": (Blocks ")).collect();
    assert!(groups.len() > 1, "no groups in: {dump}");
    let left: Vec<_> = groups.iter().filter(|group| !group.contains("ITABLE_ZEROED")).collect();
    assert!(left.is_empty(), "left for later: {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_only_root_sees_what_the_store_makes() {
    if !support::can_run("loop_only_root_sees_what_the_store_makes") {
        return;
    }
    let place = Place::new();
    let store = place.open();
    store.create(&volume("a")).await.unwrap();
    let mode = |path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    for folder in
        [place.root(), place.root().join("volumes"), place.root().join("staging"), place.volume("a")]
    {
        assert_eq!(mode(folder.clone()), 0o700, "{}", folder.display());
    }
    assert_eq!(names_in(&place.volume("a")), ["image", "record", "record.copy"]);
    for file in names_in(&place.volume("a")) {
        assert_eq!(mode(place.volume("a").join(&file)), 0o600, "{file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_ids_that_are_nobodys_are_refused() {
    if !support::can_run("loop_ids_that_are_nobodys_are_refused") {
        return;
    }
    let place = Place::new();
    let store = place.open();
    for (uid, gid) in [(u32::MAX, 0), (0, u32::MAX)] {
        let refused = store.create(&owned(volume("a"), uid, gid, "0755")).await.unwrap_err();
        assert_eq!(refused.code(), FailureCode::BadRequest);
    }
    assert_eq!(place.traces(), BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_no_more_is_promised_than_the_over_commit_allows() {
    if !support::can_run("loop_no_more_is_promised_than_the_over_commit_allows") {
        return;
    }
    // A file system of its own below the store, so that what is free is known and nobody else's.
    let outer = Place::new();
    let outer_store = outer.open();
    outer_store.create(&volume_of("disk", 256, FileSystem::Ext4, Provision::Thin)).await.unwrap();
    let source = outer_store.source(&named("disk")).await.unwrap();
    let mounted = Mounted::new(&device_of(&source).0, FileSystem::Ext4);
    {
        let root = mounted.path().join("store");
        let store = support::open(&root, "overcommit=2");
        let refused = |failure: dvs_domain::failure::Failure| {
            assert_eq!(failure.code(), FailureCode::NoSpace, "{}", failure.chain());
            assert!(failure.to_string().contains("step `reserve`"), "{failure}");
        };
        let thin = |name, mebibytes| volume_of(name, mebibytes, FileSystem::Ext4, Provision::Thin);
        refused(store.create(&thin("huge", 600)).await.unwrap_err());
        store.create(&thin("a", 300)).await.unwrap();
        refused(store.create(&thin("b", 300)).await.unwrap_err());
        store.create(&thin("b", 100)).await.unwrap();
        refused(store.create(&volume_of("c", 250, FileSystem::Ext4, Provision::Thick)).await.unwrap_err());

        // What is destroyed, refused or failed is promised to nobody.
        store.destroy(&named("a"), None).await.unwrap();
        store.create(&thin("a", 300)).await.unwrap();
        // What was made before the store was opened counts as well.
        drop(store);
        let store = support::open(&root, "overcommit=2");
        refused(store.create(&thin("c", 300)).await.unwrap_err());
        // What somebody removed by hand does not.
        fs::remove_dir_all(root.join("volumes/a")).unwrap();
        store.create(&thin("c", 300)).await.unwrap();

        // Volumes that fill up take their own room, not that of promises.
        let image = fs::File::options().write(true).open(root.join("volumes/c/image")).unwrap();
        rustix::fs::fallocate(&image, rustix::fs::FallocateFlags::empty(), 0, 120 * MIB).unwrap();
        drop(image);
        store.create(&thin("d", 40)).await.unwrap();
    }
    mounted.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_a_full_disk_is_told_and_nothing_stays() {
    if !support::can_run("loop_a_full_disk_is_told_and_nothing_stays") {
        return;
    }
    let outer = Place::new();
    let outer_store = outer.open();
    outer_store.create(&volume_of("disk", 64, FileSystem::Ext4, Provision::Thin)).await.unwrap();
    let source = outer_store.source(&named("disk")).await.unwrap();
    let mounted = Mounted::new(&device_of(&source).0, FileSystem::Ext4);
    {
        let root = mounted.path().join("store");
        let store = support::open(&root, "overcommit=1000");
        store.create(&volume_of("small", 2, FileSystem::Ext4, Provision::Thin)).await.unwrap();
        // Everything is taken but a little: too little for what formatting writes.
        let filler = fs::File::create(mounted.path().join("filler")).unwrap();
        let room = rustix::fs::statvfs(mounted.path()).unwrap();
        let bytes = room.f_bavail * room.f_frsize - 16 * 1024;
        rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), 0, bytes).unwrap();
        let full = store.create(&volume_of("a", 50, FileSystem::Ext2, Provision::Thin)).await.unwrap_err();
        assert_eq!(full.code(), FailureCode::NoSpace, "{}", full.chain());
        assert!(full.to_string().contains("step `"), "{full}");
        assert_eq!(names_in(&root.join("staging")), [""; 0]);
        assert_eq!(names_in(&root.join("volumes")), ["small"]);
        // A full disk never prevents a destroy.
        assert_eq!(store.destroy(&named("small"), None).await.unwrap(), Destroyed::Gone);
    }
    mounted.end();
}
