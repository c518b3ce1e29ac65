//! File systems that were not unmounted in order, or are broken: what is checked, when, and what becomes of it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use dvs_domain::failure::FailureCode;
use dvs_domain::ports::VolumeStore;
use dvs_domain::volume::{FileSystem, Provision};
use dvs_store_loop::LoopStore;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use support::{Mounted, Place, device_of, named, volume_of};

const CONTENT: &[u8] = b"precious";

/// A volume `a` with a file in it, as a host leaves it that loses power: the image was copied while it was mounted.
async fn cut_off(place: &Place, store: &LoopStore, file_system: FileSystem) {
    let size = match file_system {
        FileSystem::Xfs => 300,
        FileSystem::Btrfs => 109,
        _ => 16,
    };
    store.create(&volume_of("a", size, file_system, Provision::Thin)).await.unwrap();
    let source = store.source(&named("a")).await.unwrap();
    let (device, to_mount) = device_of(&source);
    let mounted = Mounted::new(&device, to_mount);
    let mut file = File::create(mounted.path().join("file")).unwrap();
    file.write_all(CONTENT).unwrap();
    file.sync_all().unwrap();
    File::open(mounted.path()).unwrap().sync_all().unwrap();
    drop(file);
    let copy = place.folder.path().join("copy");
    fs::copy(place.image("a"), &copy).unwrap();
    drop(mounted.end());
    drop(source);
    support::wait_until("its device is free", || {
        support::bound_devices().iter().all(|(_, file)| *file != place.image("a"))
    });
    fs::rename(&copy, place.image("a")).unwrap();
}

fn e2fsck_n(image: &Path) -> (Option<i32>, String) {
    let output = Command::new("/usr/sbin/e2fsck").arg("-fn").arg(image).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn debugfs(image: &Path, request: &str) {
    let output = Command::new("/usr/sbin/debugfs").args(["-w", "-R", request]).arg(image).output().unwrap();
    assert!(output.status.success(), "{request}: {}", String::from_utf8_lossy(&output.stderr));
}

/// `s_state` of the superblock of ext2, ext3 and ext4.
fn state_of(image: &Path) -> u16 {
    let mut state = [0; 2];
    File::open(image).unwrap().read_exact_at(&mut state, 1024 + 0x3a).unwrap();
    u16::from_le_bytes(state)
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_a_volume_that_was_cut_off_is_whole_again_when_it_is_given_out() {
    if !support::can_run("loop_a_volume_that_was_cut_off_is_whole_again_when_it_is_given_out") {
        return;
    }
    for file_system in FileSystem::ALL {
        let place = Place::new();
        let store = place.open();
        cut_off(&place, &store, file_system).await;
        let source = store.source(&named("a")).await.unwrap();
        let (device, to_mount) = device_of(&source);
        if to_mount.to_string().starts_with("ext") {
            let (code, said) = e2fsck_n(&device);
            assert_eq!(code, Some(0), "{file_system} is not clean before it is mounted: {said}");
        }
        let mounted = Mounted::new(&device, to_mount);
        assert_eq!(fs::read(mounted.path().join("file")).unwrap(), CONTENT, "{file_system}");
        assert_eq!(support::names_in(mounted.path()), ["file"], "{file_system}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_a_volume_in_which_the_kernel_has_found_errors_is_checked() {
    if !support::can_run("loop_a_volume_in_which_the_kernel_has_found_errors_is_checked") {
        return;
    }
    const ERRORS: u16 = 2;
    for file_system in [FileSystem::Ext2, FileSystem::Ext3, FileSystem::Ext4] {
        let place = Place::new();
        let store = place.open();
        store.create(&volume_of("a", 16, file_system, Provision::Thin)).await.unwrap();
        debugfs(&place.image("a"), "set_super_value state 3");
        assert_eq!(state_of(&place.image("a")) & ERRORS, ERRORS);
        let source = store.source(&named("a")).await.unwrap();
        let (device, to_mount) = device_of(&source);
        assert_eq!(e2fsck_n(&device).0, Some(0), "{file_system}");
        assert_eq!(state_of(&place.image("a")) & ERRORS, 0, "it was checked");
        let mounted = Mounted::new(&device, to_mount);
        let inside = support::names_in(mounted.path());
        assert!(inside.is_empty(), "its check left {inside:?} in the {file_system}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_what_cannot_be_mended_without_a_decision_is_damaged_and_stays_as_it_is() {
    if !support::can_run("loop_what_cannot_be_mended_without_a_decision_is_damaged_and_stays_as_it_is") {
        return;
    }
    let place = Place::new();
    let store = place.open();
    store.create(&volume_of("a", 16, FileSystem::Ext4, Provision::Thin)).await.unwrap();
    debugfs(&place.image("a"), "clri <2>");
    debugfs(&place.image("a"), "set_super_value state 0");
    for _ in 0..2 {
        let refused = store.source(&named("a")).await.unwrap_err();
        assert_eq!(refused.code(), FailureCode::Damaged, "{}", refused.chain());
        assert!(
            refused.chain().contains("step `check`") && refused.chain().contains("UNEXPECTED INCONSISTENCY")
        );
        assert!(refused.hint().unwrap().contains(place.image("a").to_str().unwrap()));
        assert_ne!(e2fsck_n(&place.image("a")).0.unwrap() & 4, 0, "it was not mended by force");
    }
    support::wait_until("no device is left", || {
        support::bound_devices().iter().all(|(_, file)| *file != place.image("a"))
    });
    store.look_up(&named("a")).await.unwrap().expect("it keeps its name");
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_what_is_mounted_is_not_checked() {
    if !support::can_run("loop_what_is_mounted_is_not_checked") {
        return;
    }
    let place = Place::new();
    let store = place.open();
    store.create(&volume_of("a", 16, FileSystem::Ext4, Provision::Thin)).await.unwrap();
    let source = store.source(&named("a")).await.unwrap();
    let mounted = Mounted::new(&device_of(&source).0, FileSystem::Ext4);
    fs::write(mounted.path().join("file"), CONTENT).unwrap();
    drop(source);
    let again = store.source(&named("a")).await.unwrap();
    drop(mounted.end());
    assert_eq!(device_of(&again).1, FileSystem::Ext4);
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_a_volume_that_cannot_be_checked_because_its_store_is_full_is_not_called_damaged() {
    if !support::can_run(
        "loop_a_volume_that_cannot_be_checked_because_its_store_is_full_is_not_called_damaged",
    ) {
        return;
    }
    let outer = Place::new();
    let outer_store = outer.open();
    outer_store.create(&volume_of("disk", 64, FileSystem::Ext4, Provision::Thin)).await.unwrap();
    let disk_source = outer_store.source(&named("disk")).await.unwrap();
    let disk = Mounted::new(&device_of(&disk_source).0, FileSystem::Ext4);
    {
        let store = support::open(&disk.path().join("store"), "overcommit=100");
        let (image, copy) = (disk.path().join("store/volumes/a/image"), outer.folder.path().join("copy"));
        store.create(&volume_of("a", 100, FileSystem::Ext4, Provision::Thin)).await.unwrap();
        let source = store.source(&named("a")).await.unwrap();
        let mounted = Mounted::new(&device_of(&source).0, FileSystem::Ext4);
        // In the journal, and not yet where it belongs: in parts of the image that take no room so far.
        for number in 0..500 {
            let folder = mounted.path().join(number.to_string());
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("file"), CONTENT).unwrap();
        }
        rustix::fs::syncfs(File::open(mounted.path()).unwrap()).unwrap();
        copy_sparsely(&image, &copy);
        drop(mounted.end());
        drop(source);
        support::wait_until("its device is free", || {
            support::bound_devices().iter().all(|(_, file)| *file != image)
        });
        copy_sparsely(&copy, &image);

        let filler = disk.path().join("filler");
        let mut filling = File::create(&filler).unwrap();
        while filling.write_all(&[7; 1 << 16]).is_ok() {}
        while filling.write_all(&[7; 512]).is_ok() {}
        drop(filling);
        let refused = store.source(&named("a")).await.unwrap_err();
        assert_eq!(refused.code(), FailureCode::NoSpace, "{}", refused.chain());
        assert!(refused.chain().contains("step `check`"), "{}", refused.chain());
        fs::remove_file(&filler).unwrap();
        let mounted = Mounted::new(&device_of(&store.source(&named("a")).await.unwrap()).0, FileSystem::Ext4);
        assert_eq!(fs::read(mounted.path().join("499/file")).unwrap(), CONTENT);
        drop(mounted.end());
    }
    disk.end();
}

fn copy_sparsely(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("--sparse=always").args([from, to]).status().unwrap();
    assert!(copied.success());
}
