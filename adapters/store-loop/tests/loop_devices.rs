//! Loop devices: free ones are found by many at once, and one image has one.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use dvs_domain::failure::FailureCode;
use dvs_domain::ports::{Source, VolumeStore};
use dvs_domain::volume::{FileSystem, Provision};
use dvs_store_loop::device::{self, BackingFile};
use rustix::fd::OwnedFd;
use rustix::fs::{OFlags, fstat, ftruncate, minor, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::Barrier;
use std::time::Duration;
use support::{Mounted, Place, device_of, named, volume, volume_of};

/// How often a device is tried that another test may be using.
const TRIES_MAX: u32 = 1000;
const RELEASED_WITHIN: Duration = Duration::from_secs(10);

fn image(path: &Path) -> File {
    let image = File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap();
    image.set_len(1 << 20).unwrap();
    image
}

#[test]
fn loop_many_threads_attach_at_once_and_none_is_told_that_a_device_is_busy() {
    const THREADS: usize = 8;
    const EACH: usize = 25;
    if !support::can_run("loop_many_threads_attach_at_once_and_none_is_told_that_a_device_is_busy") {
        return;
    }
    let place = Place::new();
    let start = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (place, start) = (&place, &start);
            scope.spawn(move || {
                start.wait();
                for number in 0..EACH {
                    let image = image(&place.folder.path().join(format!("{thread}-{number}")));
                    let file = BackingFile::of(&image).unwrap();
                    let device = device::attach(&image).unwrap();
                    assert!(device.is_bound_to(file));
                    let found = device::find(file).unwrap();
                    let numbers: Vec<u32> = found.iter().map(device::LoopDevice::number).collect();
                    assert_eq!(numbers, [device.number()], "the image is bound once, and found");
                }
            });
        }
    });
    support::wait_until("all devices are free", || place.traces().is_empty() && none_below(&place));
}

fn none_below(place: &Place) -> bool {
    support::bound_devices().iter().all(|(_, file)| !file.starts_with(place.folder.path()))
}

#[test]
fn loop_devices_are_free_when_the_last_one_closes_them_and_not_before() {
    if !support::can_run("loop_devices_are_free_when_the_last_one_closes_them_and_not_before") {
        return;
    }
    let place = Place::new();
    let image = image(&place.folder.path().join("image"));
    let file = BackingFile::of(&image).unwrap();
    let device = device::attach(&image).unwrap();
    let number = device.number();
    let again = device::open_if_bound_to(number, file).unwrap().unwrap();
    drop(device);
    assert!(!device::wait_until_released(number, file, Duration::from_millis(50)));
    drop(again);
    assert!(device::wait_until_released(number, file, RELEASED_WITHIN));
    assert!(device::find(file).unwrap().is_empty());
}

#[test]
fn loop_direct_io_is_used_where_the_file_system_below_can() {
    if !support::can_run("loop_direct_io_is_used_where_the_file_system_below_can") {
        return;
    }
    let place = Place::new();
    let image = image(&place.folder.path().join("image"));
    // A file that can be opened for direct I/O, on a file system of whole sectors, can be bound with it.
    let path = place.folder.path().join("image");
    let can = rustix::fs::open(path, OFlags::RDWR | OFlags::DIRECT, rustix::fs::Mode::empty()).is_ok();
    let device = device::attach(&image).unwrap();
    assert_eq!(device.has_direct_io(), can);
    assert!(device.is_whole() && !device.is_read_only());
}

#[test]
fn loop_images_are_known_on_file_systems_with_large_device_numbers() {
    /// More than fit into the lower eight bits of a minor number.
    const FILE_SYSTEMS: usize = 300;
    if !support::can_run("loop_images_are_known_on_file_systems_with_large_device_numbers") {
        return;
    }
    // Mounted nowhere: gone with its descriptor. Each has a device number of its own.
    let mount = |_| {
        let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        fsconfig_create(&context).unwrap();
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap()
    };
    let mounts: Vec<OwnedFd> = (0..FILE_SYSTEMS).map(mount).collect();
    let minor_of = |mount: &OwnedFd| minor(fstat(mount).unwrap().st_dev);
    let largest = mounts.iter().max_by_key(|mount| minor_of(mount)).unwrap();
    assert!(minor_of(largest) > 255, "{} is not large", minor_of(largest));

    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let image = openat(largest, "image", flags, rustix::fs::Mode::RUSR).unwrap();
    ftruncate(&image, 1 << 20).unwrap();
    let file = BackingFile::of(&image).unwrap();
    let device = device::attach(&image).unwrap();
    assert!(device.is_bound_to(file));
    let found = device::find(file).unwrap();
    assert_eq!(found.iter().map(device::LoopDevice::number).collect::<Vec<_>>(), [device.number()]);
    let other = openat(&mounts[0], "image", flags, rustix::fs::Mode::RUSR).unwrap();
    assert!(device::find(BackingFile::of(&other).unwrap()).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_an_image_has_one_device_under_whichever_name_it_was_bound() {
    if !support::can_run("loop_an_image_has_one_device_under_whichever_name_it_was_bound") {
        return;
    }
    let place = Place::new();
    let store = place.open();
    store.create(&volume("a")).await.unwrap();
    let other_name = place.folder.path().join("hard link");
    fs::hard_link(place.image("a"), &other_name).unwrap();
    let linked = File::options().read(true).write(true).open(&other_name).unwrap();
    let device = device::attach(&linked).unwrap();
    fs::remove_file(&other_name).unwrap();

    let source = store.source(&named("a")).await.unwrap();
    assert_eq!(device_of(&source).0, device.path());
    // A store that was opened by another way to the same folder gives the same as well.
    let link = place.folder.path().join("link");
    std::os::unix::fs::symlink(place.root(), &link).unwrap();
    let other = support::open(&link, "overcommit=100");
    drop(device);
    let again = other.source(&named("a")).await.unwrap();
    assert_eq!(again.kind, source.kind);
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_two_stores_that_ask_at_once_get_one_device() {
    const ROUNDS: usize = 20;
    if !support::can_run("loop_two_stores_that_ask_at_once_get_one_device") {
        return;
    }
    let place = Place::new();
    let stores = [place.open(), place.open()];
    stores[0].create(&volume("a")).await.unwrap();
    for _ in 0..ROUNDS {
        let a = named("a");
        let (first, second) = tokio::join!(stores[0].source(&a), stores[1].source(&a));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!(first.kind, second.kind);
    }
    assert_eq!(stores[1].destroy(&named("a"), None).await.unwrap(), dvs_domain::ports::Destroyed::Gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_devices_that_others_bound_otherwise_are_refused() {
    if !support::can_run("loop_devices_that_others_bound_otherwise_are_refused") {
        return;
    }
    let place = Place::new();
    let store = place.open();
    store.create(&volume("a")).await.unwrap();
    let image = place.image("a");
    for arguments in [&["--read-only"][..], &["--offset", "4096"], &["--sizelimit", "8192"]] {
        let device = ByHand::to_a_free_device(arguments, &image);
        let refused = store.source(&named("a")).await.unwrap_err();
        assert_eq!(refused.code(), FailureCode::Conflict, "{arguments:?}: {}", refused.chain());
        assert!(refused.to_string().contains(&device.0), "{refused}");
    }
    let (first, second) = (ByHand::to_a_free_device(&[], &image), ByHand::to_a_free_device(&[], &image));
    let refused = store.source(&named("a")).await.unwrap_err();
    assert_eq!(refused.code(), FailureCode::Conflict);
    assert!(refused.to_string().contains(&first.0) && refused.to_string().contains(&second.0), "{refused}");
    // Both are free afterwards, though nobody asked the kernel to free them at their last close.
    store.destroy(&named("a"), None).await.unwrap();
    support::wait_until("both devices are free", || none_below(&place));
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_what_others_bind_besides_while_a_volume_is_attached_keeps_it() {
    if !support::can_run("loop_what_others_bind_besides_while_a_volume_is_attached_keeps_it") {
        return;
    }
    let place = Place::new();
    let store = place.open();
    store.create(&volume("a")).await.unwrap();
    let source = store.source(&named("a")).await.unwrap();
    let second = ByHand::to_a_free_device(&["--read-only"], &place.image("a"));
    let traces = place.traces();
    let refused = store.destroy(&named("a"), None).await.unwrap_err().into_failure();
    assert_eq!(refused.code(), FailureCode::Conflict, "{}", refused.chain());
    let first = device_of(&source).0.display().to_string();
    assert!(refused.to_string().contains(&first) && refused.to_string().contains(&second.0), "{refused}");
    assert_eq!(place.traces(), traces, "nothing has changed");
    drop(second);
    support::wait_until("the second is free", || place.traces() != traces);
    assert_eq!(store.destroy(&named("a"), None).await.unwrap(), dvs_domain::ports::Destroyed::Gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_what_others_bind_is_found_also_after_more_events_than_the_kernel_queues() {
    /// Each causes several events, and by default about 160 fit into a socket's queue.
    const BOUND_MEANWHILE: usize = 200;
    if !support::can_run("loop_what_others_bind_is_found_also_after_more_events_than_the_kernel_queues") {
        return;
    }
    let place = Place::new();
    let store = place.open();
    store.create(&volume("a")).await.unwrap();
    let source = store.source(&named("a")).await.unwrap();
    let other = image(&place.folder.path().join("other"));
    let second = ByHand::to_a_free_device(&["--read-only"], &place.image("a"));
    for _ in 0..BOUND_MEANWHILE {
        drop(device::attach(&other).unwrap());
    }
    let third = ByHand::to_a_free_device(&["--read-only"], &place.image("a"));
    let refused = store.destroy(&named("a"), None).await.unwrap_err().into_failure();
    let devices = [device_of(&source).0.display().to_string(), second.0.clone(), third.0.clone()];
    assert!(devices.iter().all(|device| refused.to_string().contains(device)), "{refused}");
    drop((second, third));
    support::wait_until("both are free", || device::find(file_of(&place.image("a"))).unwrap().len() == 1);
    assert_eq!(store.destroy(&named("a"), None).await.unwrap(), dvs_domain::ports::Destroyed::Gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_a_device_that_another_image_has_now_is_no_source() {
    if !support::can_run("loop_a_device_that_another_image_has_now_is_no_source") {
        return;
    }
    let place = Place::new();
    let store = place.open();
    store.create(&volume("a")).await.unwrap();
    let number = |source: &Source| device_of(source).0.clone();
    let other = place.folder.path().join("other");
    image(&other);
    // Whatever is bound now to the device that the volume had. Another test may be faster, and then it is tried again.
    let mut tries = 0..TRIES_MAX;
    let (before, _taken) = loop {
        let before = number(&store.source(&named("a")).await.unwrap());
        if let Some(taken) = ByHand::to(&before, &other) {
            break (before, taken);
        }
        tries.next().expect("the device is never free");
    };
    let source = store.source(&named("a")).await.unwrap();
    assert_ne!(number(&source), before);
    let image = File::open(place.image("a")).unwrap();
    let found = device::find(BackingFile::of(&image).unwrap()).unwrap();
    assert_eq!(found.iter().map(|device| device.path()).collect::<Vec<_>>(), [number(&source)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_a_device_that_somebody_keeps_open_is_no_source_once_there_is_another() {
    if !support::can_run("loop_a_device_that_somebody_keeps_open_is_no_source_once_there_is_another") {
        return;
    }
    let place = Place::new();
    let store = place.open();
    store.create(&volume("a")).await.unwrap();
    let source = store.source(&named("a")).await.unwrap();
    let _stranger = File::open(device_of(&source).0).unwrap();
    drop(source);
    let second = ByHand::to_a_free_device(&[], &place.image("a"));
    let refused = store.source(&named("a")).await.unwrap_err();
    assert_eq!(refused.code(), FailureCode::Conflict, "{}", refused.chain());
    assert!(refused.to_string().contains(&second.0), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_a_device_of_another_program_whose_disk_has_failed_hinders_nobody() {
    if !support::can_run("loop_a_device_of_another_program_whose_disk_has_failed_hinders_nobody") {
        return;
    }
    let place = Place::new();
    let store = place.open();
    store.create(&volume("a")).await.unwrap();
    store.create(&volume_of("disk", 300, FileSystem::Xfs, Provision::Thin)).await.unwrap();
    let disk = store.source(&named("disk")).await.unwrap();
    let (path, file_system) = device_of(&disk);
    let mounted = Mounted::new(&path, file_system);
    let foreign = device::attach(image(&mounted.path().join("image"))).unwrap();
    let shutdown =
        Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(mounted.path()).output().unwrap();
    assert!(shutdown.status.success(), "{}", String::from_utf8_lossy(&shutdown.stderr));

    let source = store.source(&named("a")).await.unwrap();
    drop(source);
    assert_eq!(store.destroy(&named("a"), None).await.unwrap(), dvs_domain::ports::Destroyed::Gone);
    drop(foreign);
}

/// A loop device that was bound by hand, until this goes.
struct ByHand(String, BackingFile);

impl ByHand {
    fn to_a_free_device(arguments: &[&str], image: &Path) -> Self {
        let mut losetup = Command::new("losetup");
        let output = losetup.args(["--find", "--show"]).args(arguments).arg(image).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(String::from_utf8(output.stdout).unwrap().trim().to_owned(), file_of(image))
    }

    /// Binds `device`, if it is free.
    fn to(device: &Path, image: &Path) -> Option<Self> {
        let output = Command::new("losetup").arg(device).arg(image).output().unwrap();
        output.status.success().then(|| Self(device.display().to_string(), file_of(image)))
    }
}

fn file_of(image: &Path) -> BackingFile {
    BackingFile::of(File::open(image).unwrap()).unwrap()
}

impl Drop for ByHand {
    fn drop(&mut self) {
        // The kernel may have freed the device already, and another test may have it now.
        let bound = device::find(self.1).unwrap_or_default();
        if bound.iter().any(|device| device.path() == Path::new(&self.0)) {
            let _ = Command::new("losetup").args(["--detach", &self.0]).output();
        }
    }
}
