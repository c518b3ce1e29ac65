//! Guards: laid over mount points, mounted over, taken away.

mod support;

use dvs_domain::failure::FailureCode::{Conflict, ForbiddenPath, InUse};
use dvs_domain::ports::{Detached, Mounted, Mounter, Survey};
use dvs_domain::volume::FileSystem;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;
use support::{Ground, can_run, names_in, run};

const NOTHING: Survey = Survey { missing: Vec::new(), mounted: None, hides_files: false };
const GUARDED: Survey = Survey { missing: Vec::new(), mounted: Some(Mounted::Guard), hides_files: false };

#[tokio::test]
async fn real_nobody_writes_below_a_guard() {
    if !can_run("real_nobody_writes_below_a_guard", &["mount"]) {
        return;
    }
    let ground = Ground::new();
    let attachments = ground.attachments();
    let place = ground.at("a/b/c");
    let missing = attachments.survey(&place).await.unwrap().missing;
    assert_eq!(missing.len(), 3);
    attachments.guard(&place, &missing).await.unwrap();
    assert_eq!(attachments.survey(&place).await.unwrap(), GUARDED);
    let mounted = ground.mount_at(&place);
    assert!(mounted.is_confined(), "{mounted:?}");
    for option in ["ro", "noexec"] {
        assert!(mounted.options.split(',').any(|other| other == option), "{option}: {mounted:?}");
    }
    let state = fs::metadata(place.as_str()).unwrap();
    assert_eq!((state.mode() & 0o7777, state.uid(), state.gid()), (0, 0, 0));
    assert_eq!(names_in(Path::new(place.as_str())), Vec::<String>::new());

    attachments.guard(&place, &[]).await.unwrap();
    assert_eq!(ground.mount_at(&place), mounted, "the second time touches nothing");

    // The root of this host, and one who has made a copy writable, as a container's engine may.
    let copy = ground.at("copy");
    fs::create_dir(copy.as_str()).unwrap();
    run(Command::new("mount").args(["--bind", place.as_str(), copy.as_str()]));
    run(Command::new("mount").args(["-o", "remount,bind,rw", copy.as_str()]));
    assert!(ground.mount_at(&copy).options.starts_with("rw"));
    for folder in [&place, &copy] {
        let refused = fs::create_dir(format!("{folder}/sub")).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        let refused = File::create(format!("{folder}/file")).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    }
    attachments.unguard(&copy).await.unwrap();
    fs::remove_dir(copy.as_str()).unwrap();

    attachments.remove_directories(&missing).await.unwrap();
    assert_eq!(ground.mount_at(&place), mounted, "a guarded directory stays");
    attachments.unguard(&place).await.unwrap();
    assert_eq!(attachments.survey(&place).await.unwrap(), NOTHING);
    attachments.unguard(&place).await.unwrap();
    attachments.remove_directories(&missing).await.unwrap();
    attachments.unguard(&place).await.unwrap();
    ground.assert_nothing_left("the guard is gone");
}

#[tokio::test]
async fn real_a_volume_lies_on_its_guard_and_takes_it_along() {
    let test = "real_a_volume_lies_on_its_guard_and_takes_it_along";
    if !can_run(test, &["losetup", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs"]) {
        return;
    }
    let ground = Ground::new();
    let attachments = ground.attachments();
    let place = ground.at("a");
    fs::create_dir(place.as_str()).unwrap();
    fs::write(format!("{place}/hidden"), "").unwrap();
    for file_system in FileSystem::ALL {
        let source = ground.device(file_system);
        attachments.guard(&place, &[]).await.unwrap();
        let guard = ground.mount_at(&place);
        attachments.attach(&source, &place, &[]).await.unwrap();
        let mounts = ground.mounts();
        assert_eq!(mounts.len(), 2, "{mounts:?}");
        assert_eq!(mounts[0], guard, "{file_system}: the guard is below");
        assert!(mounts[1].is_confined() && mounts[1].at == guard.at, "{mounts:?}");
        fs::write(format!("{place}/file"), "").unwrap();
        attachments.attach(&source, &place, &[]).await.unwrap();
        assert_eq!(ground.mounts(), mounts, "{file_system}: the second time touches nothing");

        let refused = attachments.guard(&place, &[]).await.unwrap_err();
        assert_eq!(refused.code(), Conflict, "over a volume: {}", refused.chain());
        attachments.unguard(&place).await.unwrap();
        assert_eq!(ground.mounts(), mounts, "{file_system}: what a volume lies on stays");

        assert_eq!(attachments.detach(&source, &place).await.unwrap(), Detached::Gone);
        assert_eq!(ground.mounts(), [], "{file_system}");
        assert_eq!(names_in(Path::new(place.as_str())), ["hidden"]);
        attachments.guard(&place, &[]).await.unwrap();
        assert_eq!(attachments.detach(&source, &place).await.unwrap(), Detached::NothingThere);
        assert_eq!(ground.mounts(), [], "{file_system}: a guard alone is taken away too");
    }
}

#[tokio::test]
async fn real_a_guard_is_laid_over_nothing_foreign() {
    if !can_run("real_a_guard_is_laid_over_nothing_foreign", &["mount"]) {
        return;
    }
    let ground = Ground::new();
    let attachments = ground.attachments();
    let place = ground.at("a");
    fs::create_dir(place.as_str()).unwrap();
    // One that has the name, and is no tmpfs, and one that is a tmpfs, and has not the name.
    for (kind, name) in [("ramfs", "dvs-guard"), ("tmpfs", "dvs-guards")] {
        run(Command::new("mount").args(["-t", kind, name, place.as_str()]));
        let mounted = ground.mount_at(&place);
        let refused = attachments.guard(&place, &[]).await.unwrap_err();
        assert_eq!(refused.code(), Conflict, "{}", refused.chain());
        assert!(refused.chain().contains(&format!("{name} ({kind})")), "{}", refused.chain());
        let survey = attachments.survey(&place).await.unwrap();
        assert_eq!(survey.mounted, Some(Mounted::Something(format!("{name} ({kind})"))));
        attachments.unguard(&place).await.unwrap();
        assert_eq!(ground.mount_at(&place), mounted);
        run(Command::new("umount").arg(place.as_str()));
    }
    fs::write(ground.root().join("file"), "").unwrap();
    symlink("a", ground.root().join("link")).unwrap();
    for (below, code) in [("file", Conflict), ("file/x", Conflict), ("link", ForbiddenPath)] {
        let place = ground.at(below);
        let refused = attachments.guard(&place, std::slice::from_ref(&place)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{}", refused.chain());
    }
    let refused = attachments.guard(&ground.at("b/c"), &[ground.at("b")]).await.unwrap_err();
    assert_eq!(refused.code(), Conflict, "not all were announced: {}", refused.chain());
    assert_eq!(names_in(&ground.root()), ["a", "file", "link"]);
    assert_eq!(ground.mounts(), []);
    let refused = attachments.unguard(&ground.at("link")).await.unwrap_err();
    assert_eq!(refused.code(), ForbiddenPath, "{}", refused.chain());
    attachments.unguard(&ground.at("file/x")).await.unwrap();
}

#[tokio::test]
async fn real_a_guard_in_use_stays_and_so_does_the_volume_on_it() {
    let test = "real_a_guard_in_use_stays_and_so_does_the_volume_on_it";
    if !can_run(test, &["losetup", "mkfs.ext4"]) {
        return;
    }
    let ground = Ground::new();
    let attachments = ground.attachments();
    let (source, place) = (ground.device(FileSystem::Ext4), ground.at("a"));
    attachments.guard(&place, std::slice::from_ref(&place)).await.unwrap();
    let guard = ground.mount_at(&place);
    let held = File::open(place.as_str()).unwrap();
    let refused = attachments.unguard(&place).await.unwrap_err();
    assert_eq!(refused.code(), InUse, "{}", refused.chain());
    assert!(refused.chain().starts_with("step `unguard`: "), "{}", refused.chain());
    assert_eq!(ground.mount_at(&place), guard);

    attachments.attach(&source, &place, &[]).await.unwrap();
    fs::write(format!("{place}/kept"), "kept").unwrap();
    let refused = attachments.detach(&source, &place).await.unwrap_err();
    assert_eq!(refused.code(), InUse, "{}", refused.chain());
    assert!(refused.chain().contains("the guard at `"), "{}", refused.chain());
    assert!(!refused.chain().contains("undoing"), "{}", refused.chain());
    assert_eq!(ground.mounts().len(), 2, "nothing has changed");
    assert_eq!(fs::read_to_string(format!("{place}/kept")).unwrap(), "kept");
    drop(held);
    assert_eq!(attachments.detach(&source, &place).await.unwrap(), Detached::Gone);
    attachments.remove_directories(std::slice::from_ref(&place)).await.unwrap();
    ground.assert_nothing_left("afterwards");
}

#[tokio::test]
async fn real_a_damaged_volume_leaves_its_guard() {
    if !can_run("real_a_damaged_volume_leaves_its_guard", &["losetup", "mkfs.ext4"]) {
        return;
    }
    let ground = Ground::new();
    let attachments = ground.attachments();
    let (source, place) = (ground.device(FileSystem::Ext4), ground.at("a"));
    ground.damage(&source);
    attachments.guard(&place, std::slice::from_ref(&place)).await.unwrap();
    let guard = ground.mount_at(&place);
    attachments.attach(&source, &place, &[]).await.unwrap_err();
    assert_eq!(ground.mount_at(&place), guard);
}

#[tokio::test]
async fn real_volumes_and_guards_are_recognised_on_older_kernels_too() {
    let test = "real_volumes_and_guards_are_recognised_on_older_kernels_too";
    if !can_run(test, &["losetup", "mkfs.ext4", "mkfs.btrfs", "mount"]) {
        return;
    }
    let ground = Ground::new();
    let place = ground.at("a");
    fs::create_dir(place.as_str()).unwrap();
    let sources =
        [ground.device(FileSystem::Ext4), ground.device(FileSystem::Btrfs), ground.directory("one")];
    for source in &sources {
        // What one has mounted is recognised by the other.
        let [new, old] = ground.both_attachments();
        for (mounting, recognising) in [(&new, &old), (&old, &new)] {
            mounting.guard(&place, &[]).await.unwrap();
            assert_eq!(recognising.survey(&place).await.unwrap(), GUARDED);
            recognising.guard(&place, &[]).await.unwrap();
            mounting.attach(source, &place, &[]).await.unwrap();
            recognising.attach(source, &place, &[]).await.unwrap();
            assert_eq!(ground.mounts().len(), 2, "the guard, and the volume once: {:?}", ground.mounts());
            let refused = recognising.guard(&place, &[]).await.unwrap_err();
            assert_eq!(refused.code(), Conflict, "{}", refused.chain());
            recognising.unguard(&place).await.unwrap();
            assert_eq!(ground.mounts().len(), 2, "a volume is no guard");
            assert_eq!(recognising.detach(source, &place).await.unwrap(), Detached::Gone);
            assert_eq!(ground.mounts(), []);
        }
    }
}
