//! What a loss of power must not bring back: directories that were removed. The disk is an image, and what it would hold
//! after a loss of power is a copy of it: what the file system has not written by then is not in it.

#![expect(clippy::unwrap_used, reason = "also the helpers of tests may stop a test")]

mod support;

use dvs_domain::mount_point::{AllowedRoots, MountPoint};
use dvs_domain::ports::{Mounter, Source, SourceKind};
use dvs_domain::volume::FileSystem;
use dvs_mount_linux::LinuxMounter;
use rustix::fs::syncfs;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use support::{Ground, can_run, mount_point, names_in, run};

/// A disk with an allowed root in it, on a file system that writes nothing by itself for the time of a test.
struct Disk {
    image: PathBuf,
    place: PathBuf,
}

impl Disk {
    fn mounted(ground: &Ground) -> Self {
        let SourceKind::Device { path, .. } = ground.device(FileSystem::Ext4).kind else { unreachable!() };
        let place = ground.path().join("disk");
        fs::create_dir(&place).unwrap();
        run(Command::new("mount").args(["-o", "commit=3600"]).arg(&path).arg(&place));
        fs::create_dir(place.join("root")).unwrap();
        Self { image: ground.path().join("image-0"), place }
    }

    fn root(&self) -> MountPoint {
        mount_point(&self.place.join("root"))
    }

    fn at(&self, below: &str) -> MountPoint {
        mount_point(&self.place.join("root").join(below))
    }

    fn mounter(&self) -> LinuxMounter {
        LinuxMounter::new(AllowedRoots::with([self.root()]))
    }

    fn sync(&self) {
        syncfs(File::open(&self.place).unwrap()).unwrap();
    }

    /// What is in the root after a loss of power at this moment.
    fn root_after_power_loss(&self, ground: &Ground) -> Vec<String> {
        let (image, place) = (ground.path().join("after"), ground.path().join("after-disk"));
        fs::copy(&self.image, &image).unwrap();
        fs::create_dir(&place).unwrap();
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&place));
        let names = names_in(&place.join("root"));
        run(Command::new("umount").arg(&place));
        fs::remove_dir(&place).unwrap();
        names
    }
}

fn source(ground: &Ground, name: &str) -> Source {
    let path = ground.path().join("outside").join(name);
    fs::create_dir(&path).unwrap();
    Source::new(SourceKind::Directory(path))
}

#[tokio::test]
async fn real_directories_that_were_removed_do_not_come_back_after_a_loss_of_power() {
    let test = "real_directories_that_were_removed_do_not_come_back_after_a_loss_of_power";
    if !can_run(test, &["losetup", "mkfs.ext4", "mount", "umount"]) {
        return;
    }
    // One test at a time: what the other one makes fail would fail here.
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    let ground = Ground::new();
    let disk = Disk::mounted(&ground);
    let (mounter, place, source) = (disk.mounter(), disk.at("a/b/c"), source(&ground, "one"));
    let missing = mounter.survey(&place).await.unwrap().missing;
    mounter.attach(&source, &place, &missing).await.unwrap();
    disk.sync();
    assert_eq!(disk.root_after_power_loss(&ground), ["a"], "nothing else would show that it is gone");

    mounter.detach(&source, &place).await.unwrap();
    mounter.remove_directories(&missing).await.unwrap();
    assert_eq!(disk.root_after_power_loss(&ground), Vec::<String>::new());

    // As after a removal that was cut off before it was durable: the directories are gone already.
    fs::create_dir_all(place.as_str()).unwrap();
    disk.sync();
    fs::remove_dir_all(disk.at("a").as_str()).unwrap();
    assert_eq!(disk.root_after_power_loss(&ground), ["a"]);
    mounter.remove_directories(&missing).await.unwrap();
    assert_eq!(disk.root_after_power_loss(&ground), Vec::<String>::new());
}

#[cfg(feature = "failpoints")]
#[tokio::test]
async fn real_directories_of_a_failed_attach_do_not_come_back_after_a_loss_of_power() {
    let test = "real_directories_of_a_failed_attach_do_not_come_back_after_a_loss_of_power";
    if !can_run(test, &["losetup", "mkfs.ext4", "mount", "umount"]) {
        return;
    }
    let scenario = fail::FailScenario::setup();
    let ground = Ground::new();
    let disk = Disk::mounted(&ground);
    let (mounter, place, source) = (disk.mounter(), disk.at("a/b"), source(&ground, "one"));
    let missing = mounter.survey(&place).await.unwrap().missing;
    let root = disk.place.clone();
    // The directories are on the disk before the attach fails.
    fail::cfg_callback("mount.mount", move || sync_of(&root)).unwrap();
    fail::cfg("mount.move", "return(internal)").unwrap();
    mounter.attach(&source, &place, &missing).await.unwrap_err();
    assert_eq!(disk.root_after_power_loss(&ground), Vec::<String>::new());

    fail::cfg("mount.sync-directories", "return(internal)").unwrap();
    let failure = mounter.attach(&source, &place, &missing).await.unwrap_err();
    assert!(!failure.is_undone(), "{}", failure.chain());
    let failure = mounter.remove_directories(&missing).await.unwrap_err();
    assert_eq!(failure.chain(), "step `sync directories`: failed on demand");
    scenario.teardown();
}

#[cfg(feature = "failpoints")]
fn sync_of(place: &std::path::Path) {
    syncfs(File::open(place).unwrap()).unwrap();
}
