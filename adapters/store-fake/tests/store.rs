//! What the fake store promises beyond the store port: room, failures on demand, one agent at a time.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::CreateRequest;
use dvs_domain::mount_point::MountPoint;
use dvs_domain::names::{StoreName, VolumeName};
use dvs_domain::ports::{Created, Destroyed, SourceKind, VolumeStore};
use dvs_domain::size::VolumeSize;
use dvs_domain::time::Timestamp;
use dvs_domain::volume::{Entry, Mode, Provision, Volume};
use dvs_store_fake::{Action, FakeStore};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;
use url::Url;

const MIB: u64 = VolumeSize::BYTES_PER_MEBIBYTE;

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap()
}

fn open(folder: &Path) -> FakeStore {
    FakeStore::at(StoreName::new("try").unwrap(), folder)
}

fn named(name: &str) -> VolumeName {
    VolumeName::new(name).unwrap()
}

fn volume(store: &FakeStore, name: &str, mebibytes: u64, provision: Option<Provision>) -> Volume {
    let size = VolumeSize::from_mebibytes(mebibytes).unwrap();
    let request = CreateRequest {
        provision,
        ..CreateRequest::at(MountPoint::new(format!("/mnt/{name}")).unwrap(), size)
    };
    let spec = request.complete(&store.describe(), named(name)).unwrap();
    Volume { spec, made_by: None, made_at: Timestamp(1) }
}

async fn create(store: &FakeStore, name: &str, mebibytes: u64) -> Result<Created, Failure> {
    store.create(&volume(store, name, mebibytes, None)).await
}

async fn data(store: &FakeStore, name: &str) -> PathBuf {
    match store.source(&named(name)).await.unwrap().kind {
        SourceKind::Directory(path) => path,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_url_makes_a_store_with_its_defaults() {
    let around = folder();
    let url = format!("fake://{}/new/deep?fs=xfs&provision=thick&mode=0700", around.path().display());
    let store = FakeStore::open(StoreName::new("try").unwrap(), &Url::parse(&url).unwrap(), None).unwrap();
    assert!(!around.path().join("new").exists(), "opening makes nothing");
    assert_eq!(store.describe().provision, Some(Provision::Thick));
    create(&store, "a", 300).await.unwrap();
    let data = fs::metadata(data(&store, "a").await).unwrap();
    assert_eq!(data.permissions().mode() & 0o7777, 0o700);
}

#[tokio::test]
async fn modes_hold_whatever_they_are_and_owners_where_root_asks() {
    let around = folder();
    let store = open(around.path());
    for (name, mode) in [("closed", "0001"), ("shared", "2775"), ("sticky", "1777")] {
        let mut volume = volume(&store, name, 1, None);
        volume.spec.mode = Mode::parse(mode).unwrap();
        if rustix::process::geteuid().is_root() {
            (volume.spec.uid, volume.spec.gid) = (12_345, 54_321);
        }
        store.create(&volume).await.unwrap();
        let found = fs::metadata(data(&store, name).await).unwrap();
        assert_eq!(found.permissions().mode() & 0o7777, volume.spec.mode.bits(), "{name}");
        assert_eq!((found.uid(), found.gid()), (volume.spec.uid, volume.spec.gid), "{name}");
        assert_eq!(store.destroy(&named(name), None).await.unwrap(), Destroyed::Gone);
    }
}

#[tokio::test]
async fn thin_volumes_are_held_against_the_over_commit_and_thick_ones_against_what_is_free() {
    let around = folder();
    let store = open(around.path()).with_capacity(100 * MIB);
    create(&store, "a", 150).await.unwrap();
    let refused = create(&store, "b", 51).await.unwrap_err();
    assert_eq!(refused.code(), FailureCode::NoSpace);
    assert!(refused.to_string().contains("150 of 200 MiB"), "{refused}");
    assert_eq!(store.look_up(&named("b")).await.unwrap(), None);

    let thick = |name, mebibytes| volume(&store, name, mebibytes, Some(Provision::Thick));
    assert!(store.create(&thick("c", 40)).await.unwrap().is_new());
    assert_eq!(store.usage(&named("c")).await.unwrap().allocated_bytes, 40 * MIB);
    assert_eq!(store.destroy(&named("a"), None).await.unwrap(), Destroyed::Gone);
    let refused = store.create(&thick("d", 61)).await.unwrap_err();
    assert_eq!(refused.code(), FailureCode::NoSpace);
    assert!(store.create(&thick("d", 59)).await.unwrap().is_new());
}

#[tokio::test(flavor = "multi_thread")]
async fn creates_at_once_are_not_promised_the_same_room() {
    let around = folder();
    let store = Arc::new(open(around.path()).with_capacity(100 * MIB));
    let creates: Vec<_> = (0..16)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { create(&store, &format!("v{number}"), 50).await })
        })
        .collect();
    let mut made = 0;
    for create in creates {
        match create.await.unwrap() {
            Ok(created) => {
                assert!(created.is_new());
                made += 1;
            }
            Err(refused) => assert_eq!(refused.code(), FailureCode::NoSpace, "{}", refused.chain()),
        }
    }
    assert_eq!(made, 4, "100 MiB, promised twice, are four times 50");
}

#[tokio::test]
async fn more_than_the_file_system_below_can_ever_hold_is_refused() {
    let around = folder();
    let store = open(around.path());
    let refused = create(&store, "a", VolumeSize::MEBIBYTES_MAX).await.unwrap_err();
    assert_eq!(refused.code(), FailureCode::NoSpace, "{}", refused.chain());
}

#[tokio::test]
async fn usage_grows_with_what_is_written() {
    let around = folder();
    let store = open(around.path());
    create(&store, "a", 8).await.unwrap();
    let before = store.usage(&named("a")).await.unwrap().allocated_bytes;
    fs::write(data(&store, "a").await.join("file"), vec![1; 3 * 1024 * 1024]).unwrap();
    let after = store.usage(&named("a")).await.unwrap().allocated_bytes;
    assert!((3 * MIB..4 * MIB).contains(&(after - before)), "{before} -> {after}");
}

#[tokio::test]
async fn failures_on_demand_come_once_and_in_order_and_change_nothing() {
    let around = folder();
    let store = open(around.path());
    store.failing_next(Action::Create, FailureCode::Timeout);
    store.failing_next(Action::Create, FailureCode::Internal);
    store.failing_next(Action::List, FailureCode::StoreUnavailable);
    assert_eq!(create(&store, "a", 1).await.unwrap_err().code(), FailureCode::Timeout);
    assert_eq!(create(&store, "a", 1).await.unwrap_err().code(), FailureCode::Internal);
    assert_eq!(store.list().await.unwrap_err().code(), FailureCode::StoreUnavailable);
    assert_eq!(store.list().await.unwrap(), []);
    assert!(create(&store, "a", 1).await.unwrap().is_new());
    store.failing_next(Action::Destroy, FailureCode::InUse);
    assert_eq!(store.destroy(&named("a"), None).await.unwrap_err().into_failure().code(), FailureCode::InUse);
    assert_eq!(store.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_second_agent_in_the_same_folder_is_refused_until_the_first_ends() {
    let around = folder();
    let (first, second) = (open(around.path()), open(around.path()));
    assert_eq!(first.list().await.unwrap(), []);
    let refused = second.list().await.unwrap_err();
    assert_eq!(refused.code(), FailureCode::StoreUnavailable);
    assert!(refused.to_string().contains("another agent"), "{refused}");
    drop(first);
    assert_eq!(second.list().await.unwrap(), []);
}

#[tokio::test]
async fn one_broken_copy_of_a_record_does_no_harm_and_missing_data_does() {
    let around = folder();
    let store = open(around.path());
    for name in ["first", "second", "gone"] {
        create(&store, name, 1).await.unwrap();
    }
    let volumes = around.path().join("volumes");
    fs::write(volumes.join("first/record"), "x").unwrap();
    fs::remove_file(volumes.join("second/record.copy")).unwrap();
    fs::remove_dir(volumes.join("gone/data")).unwrap();
    fs::write(volumes.join("file"), "x").unwrap();
    fs::write(volumes.join("no volume's name"), "x").unwrap();
    let listed: Vec<String> = store.list().await.unwrap().iter().map(shown).collect();
    assert_eq!(
        listed,
        ["file: it is no directory", "first", "gone: its directory `data` is missing", "second"]
    );
}

fn shown(entry: &Entry) -> String {
    match entry {
        Entry::Sound(volume) => volume.spec.id.name.to_string(),
        Entry::Damaged { name, reason } => format!("{name}: {reason}"),
    }
}

#[tokio::test]
async fn a_store_under_another_name_has_the_same_volumes() {
    let around = folder();
    create(&open(around.path()), "a", 1).await.unwrap();
    let renamed = FakeStore::at(StoreName::new("other").unwrap(), around.path());
    match renamed.look_up(&named("a")).await.unwrap() {
        Some(Entry::Sound(volume)) => assert_eq!(volume.spec.id.to_string(), "other/a"),
        other => panic!("{other:?}"),
    }
}

/// A mounted directory, kept open: it is unmounted when the test ends, however it ends and wherever it was
/// moved to.
struct Mounted(File);

impl Drop for Mounted {
    fn drop(&mut self) {
        let wherever = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        let _ = rustix::mount::unmount(wherever, rustix::mount::UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn real_a_mount_inside_a_volume_keeps_it_from_being_destroyed() {
    const TEST: &str = "real_a_mount_inside_a_volume_keeps_it_from_being_destroyed";
    let around = folder();
    let store = open(around.path());
    create(&store, "a", 1).await.unwrap();
    create(&store, "a.b", 1).await.unwrap();
    let inside = data(&store, "a").await.join("inside it");
    fs::create_dir(&inside).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "dvs-test"]).arg(&inside).output();
    if !mounted.as_ref().is_ok_and(|mounted| mounted.status.success()) {
        eprintln!("NOT RUN: {TEST}: cannot mount a tmpfs: {mounted:?}");
        return;
    }
    let mounted = Mounted(File::open(&inside).unwrap());
    fs::write(inside.join("precious"), "data").unwrap();
    let refused = store.destroy(&named("a"), None).await.unwrap_err().into_failure();
    assert_eq!(refused.code(), FailureCode::InUse, "{}", refused.chain());
    assert_eq!(fs::read_to_string(inside.join("precious")).unwrap(), "data");
    assert_eq!(store.destroy(&named("a.b"), None).await.unwrap(), Destroyed::Gone, "a neighbour is not used");
    drop(mounted);
    assert_eq!(store.destroy(&named("a"), None).await.unwrap(), Destroyed::Gone);
}
