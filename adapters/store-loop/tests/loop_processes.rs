//! One image, and many who attach it at once: it never has two loop devices.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use dvs_domain::failure::FailureCode;
use dvs_domain::ports::VolumeStore;
use dvs_store_loop::device::{self, BackingFile, LoopDevice};
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use support::{Place, device_of, named, volume};
use tokio::runtime::Runtime;

/// Tells a child process of a test where the store is.
const CHILD: &str = "DVS_TEST_LOOP_PROCESS";
/// How often a child process attaches before it ends by itself.
const ATTACHED_TIMES: usize = 40;

/// A process that attaches the volume. It ends with its test.
struct Process(Child);

impl Process {
    fn start(test: &str, root: &Path) -> Self {
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", test])
            .env(CHILD, root)
            .stdout(Stdio::null()) // Its own count of tests is none of ours.
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn loop_processes_that_are_killed_while_they_attach_one_volume_never_bind_it_twice() {
    const TEST: &str = "loop_processes_that_are_killed_while_they_attach_one_volume_never_bind_it_twice";
    const PROCESSES: usize = 8;
    const KILLS: usize = 120;
    if let Some(root) = env::var_os(CHILD) {
        return attach_again_and_again(&PathBuf::from(root));
    }
    if !support::can_run(TEST) {
        return;
    }
    let place = Place::new();
    Runtime::new().unwrap().block_on(place.open().create(&volume("a"))).unwrap();
    let file = BackingFile::of(File::open(place.image("a")).unwrap()).unwrap();
    let mut processes: Vec<_> = (0..PROCESSES).map(|_| Process::start(TEST, &place.root())).collect();
    let (mut kills, mut ends, mut bound, mut free) = (0, 0, 0, 0);
    while kills < KILLS || ends < PROCESSES {
        for process in &mut processes {
            // Found devices stay open until all are found, so that two cannot be one after the other.
            let found = device::find(file).unwrap();
            let numbers: Vec<u32> = found.iter().map(LoopDevice::number).collect();
            assert!(numbers.len() <= 1, "after {kills} kills the image is bound to {numbers:?} at once");
            if numbers.is_empty() {
                free += 1;
            } else {
                bound += 1;
            }
            drop(found);
            match process.0.try_wait().unwrap() {
                Some(status) => {
                    assert!(status.success(), "a process ended with {status}");
                    ends += 1;
                }
                // Killed wherever it happens to be.
                None if bound % 16 == 0 => kills += 1,
                None => continue,
            }
            *process = Process::start(TEST, &place.root());
        }
    }
    drop(processes);
    assert!(free > 0 && bound > 0, "{free} times free, {bound} times bound: nobody bound it anew");
    support::wait_until("the device is free", || device::find(file).unwrap().is_empty());
}

/// The child process: the kernel frees the device each time, unless another process has it too.
fn attach_again_and_again(root: &Path) {
    let runtime = Runtime::new().unwrap();
    let store = support::open(root, "overcommit=100");
    for _ in 0..ATTACHED_TIMES {
        if let Err(failure) = runtime.block_on(store.source(&named("a"))) {
            assert_eq!(failure.code(), FailureCode::Busy, "{}", failure.chain());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_two_volumes_whose_image_is_one_file_get_one_device() {
    const ROUNDS: usize = 60;
    if !support::can_run("loop_two_volumes_whose_image_is_one_file_get_one_device") {
        return;
    }
    let place = Place::new();
    let stores = [place.open(), place.open()];
    for name in ["a", "b"] {
        stores[0].create(&volume(name)).await.unwrap();
    }
    fs::remove_file(place.image("b")).unwrap();
    fs::hard_link(place.image("a"), place.image("b")).unwrap();
    let file = BackingFile::of(File::open(place.image("a")).unwrap()).unwrap();
    let (a, b) = (named("a"), named("b"));
    for round in 0..ROUNDS {
        let (first, second) = tokio::join!(stores[0].source(&a), stores[1].source(&b));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!(device_of(&first).0, device_of(&second).0, "round {round}");
        drop((first, second));
        support::wait_until("the device is free", || device::find(file).unwrap().is_empty());
    }
}
