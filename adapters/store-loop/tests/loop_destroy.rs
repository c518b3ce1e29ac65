//! What a destroy refuses, and what it leaves.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use dvs_domain::failure::FailureCode;
use dvs_domain::ports::{Destroyed, VolumeStore};
use dvs_domain::volume::{Entry, FileSystem};
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use support::{Mounted, Place, device_of, named, volume};

/// A process in a mount namespace of its own, which keeps what was mounted when it began.
struct Namespace(Child);

impl Namespace {
    fn new() -> Self {
        let mut child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", "echo ready; read end"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // After `end` there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_a_volume_that_is_mounted_is_in_use_and_unchanged() {
    if !support::can_run("loop_a_volume_that_is_mounted_is_in_use_and_unchanged") {
        return;
    }
    let place = Place::new();
    let store = place.open();
    store.create(&volume("a")).await.unwrap();
    let source = store.source(&named("a")).await.unwrap();
    let mounted = Mounted::new(&device_of(&source).0, FileSystem::Ext4);
    fs::write(mounted.path().join("file"), "content").unwrap();
    drop(source);
    let traces = place.traces();

    let refused = store.destroy(&named("a"), None).await.unwrap_err().into_failure();
    assert_eq!(refused.code(), FailureCode::InUse, "{}", refused.chain());
    assert_eq!(place.traces(), traces, "nothing has changed");
    assert_eq!(fs::read_to_string(mounted.path().join("file")).unwrap(), "content");
    mounted.end();
    assert_eq!(store.destroy(&named("a"), None).await.unwrap(), Destroyed::Gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_a_second_mount_namespace_keeps_a_volume_in_use() {
    if !support::can_run("loop_a_second_mount_namespace_keeps_a_volume_in_use") {
        return;
    }
    let place = Place::new();
    let store = place.open();
    store.create(&volume("a")).await.unwrap();
    let source = store.source(&named("a")).await.unwrap();
    let mounted = Mounted::new(&device_of(&source).0, FileSystem::Ext4);
    let namespace = Namespace::new();
    let _folder = mounted.end();

    let refused = store.destroy(&named("a"), None).await.unwrap_err().into_failure();
    assert_eq!(refused.code(), FailureCode::InUse, "{}", refused.chain());
    assert!(refused.to_string().contains("another mount namespace"), "{refused}");
    assert!(matches!(store.look_up(&named("a")).await.unwrap(), Some(Entry::Sound(_))));
    assert_eq!(store.source(&named("a")).await.unwrap().kind, source.kind);

    namespace.end();
    assert_eq!(store.destroy(&named("a"), None).await.unwrap(), Destroyed::Gone);
    assert_eq!(place.traces(), BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_a_source_that_is_kept_does_not_keep_the_volume() {
    if !support::can_run("loop_a_source_that_is_kept_does_not_keep_the_volume") {
        return;
    }
    let place = Place::new();
    let store = place.open();
    store.create(&volume("a")).await.unwrap();
    let kept = store.source(&named("a")).await.unwrap();
    assert_eq!(store.destroy(&named("a"), None).await.unwrap(), Destroyed::Gone);
    assert_eq!(place.traces(), BTreeSet::new(), "neither a file nor a loop device");
    // The next volume of that name has nothing to do with what is still kept.
    store.create(&volume("a")).await.unwrap();
    let next = store.source(&named("a")).await.unwrap();
    drop(kept);
    assert!(fs::exists(device_of(&next).0).unwrap());
    assert_eq!(store.source(&named("a")).await.unwrap().kind, next.kind);
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_the_room_is_free_even_when_a_stranger_looks_at_the_device() {
    if !support::can_run("loop_the_room_is_free_even_when_a_stranger_looks_at_the_device") {
        return;
    }
    let place = Place::new();
    let store = place.open();
    store.create(&volume("a")).await.unwrap();
    let source = store.source(&named("a")).await.unwrap();
    let image = File::open(place.image("a")).unwrap();
    let stranger = File::open(device_of(&source).0).unwrap();
    assert_eq!(store.destroy(&named("a"), None).await.unwrap(), Destroyed::Gone);
    assert_eq!(rustix::fs::fstat(&image).unwrap().st_blocks, 0);
    drop(stranger);
    drop(image);
    support::wait_until("the device is free", || place.traces() == BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_files_that_are_not_ours_are_never_removed() {
    if !support::can_run("loop_files_that_are_not_ours_are_never_removed") {
        return;
    }
    let place = Place::new();
    let store = place.open();
    store.create(&volume("a")).await.unwrap();
    let somebodys = place.volume("a").join("backup of the image");
    fs::write(&somebodys, "precious").unwrap();
    let traces = place.traces();
    let refused = store.destroy(&named("a"), None).await.unwrap_err().into_failure();
    assert_eq!(refused.code(), FailureCode::Conflict, "{}", refused.chain());
    assert!(refused.to_string().contains("backup of the image"), "{refused}");
    assert_eq!(place.traces(), traces);
    fs::remove_file(&somebodys).unwrap();
    assert_eq!(store.destroy(&named("a"), None).await.unwrap(), Destroyed::Gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_opening_removes_what_is_ours_in_staging_and_nothing_else() {
    if !support::can_run("loop_opening_removes_what_is_ours_in_staging_and_nothing_else") {
        return;
    }
    let place = Place::new();
    place.open().list().await.unwrap();
    let staging = place.root().join("staging");
    let random = "0123456789abcdef0123456789abcdef";
    let elsewhere = place.folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("image"), "precious").unwrap();

    let make = |name: &str, files: &[&str]| {
        fs::create_dir(staging.join(name)).unwrap();
        for file in files {
            fs::write(staging.join(name).join(file), "x").unwrap();
        }
    };
    make(&format!("a-{random}"), &["image"]);
    make(&format!("b-{random}"), &[]);
    make(&format!("deleting-c-{random}"), &["image", "record", "record.copy"]);
    make("somebodys", &["image"]);
    make(&format!("d-{random}"), &["image", "note"]);
    make(&format!("locked-{random}"), &["image"]);
    std::os::unix::fs::symlink(&elsewhere, staging.join(format!("e-{random}"))).unwrap();
    std::os::unix::fs::symlink(elsewhere.join("image"), staging.join(format!("b-{random}")).join("record"))
        .unwrap();
    let locked = File::open(staging.join(format!("locked-{random}"))).unwrap();
    flock(&locked, FlockOperation::LockExclusive).unwrap();

    place.open().list().await.unwrap();
    let left = [format!("d-{random}"), format!("e-{random}"), format!("locked-{random}"), "somebodys".into()];
    assert_eq!(place.staged(), left);
    assert_eq!(support::names_in(&staging.join(format!("d-{random}"))), ["note"]);
    assert_eq!(fs::read_to_string(elsewhere.join("image")).unwrap(), "precious", "no link is followed");
    drop(locked);
    place.open().list().await.unwrap();
    assert!(!place.staged().contains(&format!("locked-{random}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_a_volume_that_another_process_works_on_is_busy() {
    if !support::can_run("loop_a_volume_that_another_process_works_on_is_busy") {
        return;
    }
    let place = Place::new();
    let (store, second) = (place.open(), place.open());
    store.create(&volume("a")).await.unwrap();
    let other = File::open(place.volume("a")).unwrap();
    flock(&other, FlockOperation::LockExclusive).unwrap();
    let a = named("a");
    let (destroyed, source) = tokio::join!(store.destroy(&a, None), second.source(&a));
    assert_eq!(destroyed.unwrap_err().into_failure().code(), FailureCode::Busy);
    assert_eq!(source.unwrap_err().code(), FailureCode::Busy);
    assert_eq!(store.list().await.unwrap().len(), 1, "looking needs no lock");
    drop(other);
    assert_eq!(store.destroy(&named("a"), None).await.unwrap(), Destroyed::Gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_a_record_that_was_read_for_the_source_is_not_read_again() {
    if !support::can_run("loop_a_record_that_was_read_for_the_source_is_not_read_again") {
        return;
    }
    let place = Place::new();
    let store = place.open();
    store.create(&volume("a")).await.unwrap();
    let source = store.source(&named("a")).await.unwrap();
    for record in ["record", "record.copy"] {
        fs::write(place.volume("a").join(record), "").unwrap();
    }
    let refused = store.destroy(&named("a"), None).await.unwrap_err().into_failure();
    assert_eq!(refused.code(), FailureCode::Damaged, "{}", refused.chain());
    assert_eq!(store.destroy(&named("a"), Some(&source)).await.unwrap(), Destroyed::Gone);
}
