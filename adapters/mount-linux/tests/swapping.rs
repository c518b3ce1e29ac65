//! A directory on the way is swapped for a link, again and again, while volumes are attached below it.

mod support;

use dvs_domain::failure::FailureCode;
use dvs_domain::ports::{Detached, Mounter};
use dvs_domain::volume::FileSystem;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use support::{Ground, can_run, names_in};

const ATTACHES: usize = 200;
/// How long a detach is tried until it finds the directory where it belongs.
const DETACH_LIMIT: Duration = Duration::from_secs(10);

/// Exchanges two paths until it is dropped.
struct Swapper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Swapper {
    fn start(one: &Path, other: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, one, other) = (Arc::clone(&stop), one.to_owned(), other.to_owned());
        let thread = std::thread::spawn(move || {
            let mut swaps = 0;
            // An even number of swaps: everything ends where it was.
            while !told.load(Ordering::Relaxed) || swaps % 2 == 1 {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE)
                    .expect("the two can be exchanged");
                swaps += 1;
            }
            swaps
        });
        Self { stop, thread: Some(thread) }
    }

    fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("it is ended once").join().expect("it ends well")
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

#[tokio::test]
async fn real_a_swapped_link_never_leads_out_of_the_root() {
    if !can_run("real_a_swapped_link_never_leads_out_of_the_root", &["losetup", "mkfs.ext4"]) {
        return;
    }
    let ground = Ground::new();
    let attachments = ground.attachments();
    let outside = ground.path().join("outside");
    fs::create_dir_all(ground.root().join("way")).unwrap();
    symlink(&outside, ground.root().join("link")).unwrap();
    // Where an attach would land that followed the link, already there and still to be made.
    fs::create_dir_all(outside.join("there/v")).unwrap();
    fs::create_dir_all(ground.root().join("way/there/v")).unwrap();
    let source = ground.device(FileSystem::Ext4);
    let swapper = Swapper::start(&ground.root().join("way"), &ground.root().join("link"));

    let (mut attached, mut refused) = (0_u32, 0_u32);
    for number in 0..ATTACHES {
        let (parent, place) = match number % 2 {
            0 => (ground.at("way/there"), ground.at("way/there/v")),
            _ => (ground.at("way/new"), ground.at("way/new/v")),
        };
        let missing = [parent, place.clone()];
        let outcome = attachments.attach(&source, &place, &missing).await;
        let mounts = ground.mounts();
        assert!(mounts.iter().all(|mounted| mounted.at.starts_with(ground.root())), "{mounts:?}");
        assert_eq!(names_in(&outside), ["there"], "nothing was made outside");
        match outcome {
            Ok(()) => {
                attached += 1;
                assert_eq!(mounts.len(), 1, "{mounts:?}");
                let begun = Instant::now();
                loop {
                    let outcome = attachments.detach(&source, &place).await;
                    if matches!(outcome, Ok(Detached::Gone)) {
                        break;
                    }
                    assert!(begun.elapsed() < DETACH_LIMIT, "{outcome:?}: {:?}", ground.mounts());
                }
            }
            Err(failure) => {
                refused += 1;
                assert_eq!(failure.code(), FailureCode::ForbiddenPath, "{}", failure.chain());
                assert!(!failure.chain().contains("undoing"), "{}", failure.chain());
                assert_eq!(mounts, [], "{}", failure.chain());
            }
        }
    }
    let swaps = swapper.end();
    assert_eq!(ground.mounts(), []);
    assert_eq!(names_in(&outside.join("there/v")), Vec::<String>::new());
    // Otherwise the two never met, and nothing was tested.
    assert!(0 < attached && 0 < refused, "{attached} attached, {refused} refused, {swaps} swaps");
}
