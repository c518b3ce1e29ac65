//! What is refused, and that it leaves nothing behind and what was there untouched.

mod support;

use dvs_domain::failure::FailureCode::{Conflict, Damaged, ForbiddenPath, InUse, Internal};
use dvs_domain::ports::{Detached, Mounted, Mounter, Source, SourceKind};
use dvs_domain::volume::FileSystem;
use rustix::fs::{Mode, OFlags, open};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Ground, can_run, mount_point, names_in, run};

#[tokio::test]
async fn links_and_files_are_refused() {
    let ground = Ground::new();
    let attachments = ground.attachments();
    let source = Source::new(SourceKind::Directory(ground.path().join("outside")));
    let root = ground.root();
    fs::create_dir_all(root.join("real/below")).unwrap();
    symlink("real", root.join("link")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    fs::write(root.join("file"), "file").unwrap();
    // What detaching says is a code for each link; of a file it says that nothing is mounted there.
    for (below, code, detached) in [
        ("link", ForbiddenPath, None),
        ("link/below", ForbiddenPath, None),
        ("dangling", ForbiddenPath, None),
        ("file", Conflict, Some(Detached::NothingThere)),
        ("file/below", Conflict, Some(Detached::NothingThere)),
    ] {
        let place = ground.at(below);
        let refused = attachments.survey(&place).await.unwrap_err();
        assert_eq!(refused.code(), code, "{}", refused.chain());
        let named = place.as_str().trim_end_matches("/below");
        assert!(refused.chain().contains(&format!("`{named}`")), "{}", refused.chain());
        let refused = attachments.attach(&source, &place, std::slice::from_ref(&place)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{}", refused.chain());
        match attachments.detach(&source, &place).await {
            Ok(outcome) => assert_eq!(Some(outcome), detached, "{below}"),
            Err(refused) => assert_eq!((refused.code(), None), (code, detached), "{}", refused.chain()),
        }
        attachments.remove_directories(std::slice::from_ref(&place)).await.unwrap();
    }
    assert_eq!(names_in(&ground.root()), ["dangling", "file", "link", "real"]);
    assert_eq!(names_in(&ground.root().join("real")), ["below"]);
    assert_eq!(ground.mounts(), []);
}

#[tokio::test]
async fn only_roots_that_exist_are_open() {
    let ground = Ground::new();
    let attachments = ground.attachments_with(&["missing"]);
    let source = Source::new(SourceKind::Directory(ground.path().join("outside")));
    for (place, hint) in
        [("missing", "make the directory"), ("missing/a", "make the directory"), ("outside/a", "root")]
    {
        let place = mount_point(&ground.path().join(place));
        let refused = attachments.survey(&place).await.unwrap_err();
        assert_eq!(refused.code(), ForbiddenPath, "{}", refused.chain());
        assert!(refused.hint().unwrap().contains(hint), "{place}: {:?}", refused.hint());
        let refused = attachments.attach(&source, &place, std::slice::from_ref(&place)).await.unwrap_err();
        assert_eq!(refused.code(), ForbiddenPath, "{}", refused.chain());
    }
    let below_missing = mount_point(&ground.path().join("missing/a"));
    assert_eq!(attachments.detach(&source, &below_missing).await.unwrap(), Detached::NothingThere);
    attachments.remove_directories(&[below_missing]).await.unwrap();

    // The root is opened anew each time: taken away and put back, it works again.
    fs::remove_dir(ground.root()).unwrap();
    let refused = attachments.survey(&ground.at("a")).await.unwrap_err();
    assert_eq!(refused.code(), ForbiddenPath, "{}", refused.chain());
    symlink("outside", ground.root()).unwrap();
    let refused = attachments.survey(&ground.at("a")).await.unwrap_err();
    assert_eq!(refused.code(), ForbiddenPath, "a link put in the place of a root: {}", refused.chain());
    fs::remove_file(ground.root()).unwrap();
    fs::create_dir(ground.root()).unwrap();
    assert_eq!(attachments.survey(&ground.at("a")).await.unwrap().missing, [ground.at("a")]);
    assert_eq!(names_in(&ground.path().join("outside")), Vec::<String>::new());
}

#[tokio::test]
async fn what_was_not_announced_is_not_made() {
    let ground = Ground::new();
    let attachments = ground.attachments();
    let source = Source::new(SourceKind::Directory(ground.path().join("outside")));
    let (a, b, c) = (ground.at("a"), ground.at("a/b"), ground.at("a/b/c"));
    for announced in [vec![], vec![a.clone()], vec![a.clone(), b.clone()], vec![a, c.clone()]] {
        let refused = attachments.attach(&source, &c, &announced).await.unwrap_err();
        assert_eq!(refused.code(), Conflict, "{}", refused.chain());
        ground.assert_nothing_left(&format!("{announced:?}"));
    }
}

#[tokio::test]
async fn directories_that_hold_something_stay() {
    let ground = Ground::new();
    let attachments = ground.attachments();
    let (a, b, c, d) = (ground.at("a"), ground.at("a/b"), ground.at("a/b/c"), ground.at("a/b/c/d"));
    fs::create_dir_all(c.as_str()).unwrap();
    fs::write(format!("{b}/file"), "").unwrap();
    attachments.remove_directories(&[a.clone(), b.clone(), c, d]).await.unwrap();
    assert_eq!(names_in(Path::new(b.as_str())), ["file"], "what is not there, and what is empty, is gone");

    fs::remove_file(format!("{b}/file")).unwrap();
    symlink("/", format!("{b}/link")).unwrap();
    attachments.remove_directories(&[a.clone(), b.clone(), ground.at("a/b/link")]).await.unwrap();
    assert_eq!(names_in(Path::new(b.as_str())), ["link"]);

    fs::remove_file(format!("{b}/link")).unwrap();
    attachments.remove_directories(&[a, b]).await.unwrap();
    ground.assert_nothing_left("all were empty");
}

#[tokio::test]
async fn real_a_foreign_mount_is_named_and_untouched() {
    if !can_run(
        "real_a_foreign_mount_is_named_and_untouched",
        &["losetup", "mkfs.ext4", "mkfs.btrfs", "mount"],
    ) {
        return;
    }
    let ground = Ground::new();
    let place = ground.at("a");
    fs::create_dir(place.as_str()).unwrap();
    run(Command::new("mount").args(["-t", "tmpfs", "foreign one", place.as_str()]));
    fs::write(format!("{place}/theirs"), "").unwrap();
    let mounted = ground.mount_at(&place);
    let sources =
        [ground.device(FileSystem::Ext4), ground.device(FileSystem::Btrfs), ground.directory("one")];
    for attachments in ground.both_attachments() {
        let survey = attachments.survey(&place).await.unwrap();
        assert_eq!(survey.mounted, Some(Mounted::Something("foreign one (tmpfs)".to_owned())));
        for source in &sources {
            let attach = attachments.attach(source, &place, &[]).await.unwrap_err();
            let detach = attachments.detach(source, &place).await.unwrap_err();
            for refused in [attach, detach] {
                assert_eq!(refused.code(), Conflict, "{}", refused.chain());
                assert!(refused.chain().contains("foreign one (tmpfs)"), "{}", refused.chain());
            }
            assert_eq!(ground.mount_at(&place), mounted);
        }
        attachments.remove_directories(std::slice::from_ref(&place)).await.unwrap();
        assert_eq!(names_in(Path::new(place.as_str())), ["theirs"], "a mount point stays");
    }
}

#[tokio::test]
async fn real_a_directory_with_the_same_inode_of_another_file_system_is_foreign() {
    let test = "real_a_directory_with_the_same_inode_of_another_file_system_is_foreign";
    if !can_run(test, &["mount"]) {
        return;
    }
    let ground = Ground::new();
    let attachments = ground.attachments();
    let (place, own) = (ground.at("a"), ground.path().join("outside/own"));
    for (name, folder) in [("foreign", Path::new(place.as_str())), ("own", &own)] {
        fs::create_dir(folder).unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", name]).arg(folder));
    }
    assert_eq!(fs::metadata(place.as_str()).unwrap().ino(), fs::metadata(&own).unwrap().ino());
    let (source, mounted) = (Source::new(SourceKind::Directory(own)), ground.mount_at(&place));
    for refused in [
        attachments.attach(&source, &place, &[]).await.unwrap_err(),
        attachments.detach(&source, &place).await.unwrap_err(),
    ] {
        assert_eq!(refused.code(), Conflict, "{}", refused.chain());
    }
    assert_eq!(ground.mount_at(&place), mounted);
}

#[tokio::test]
async fn real_a_part_of_the_volume_is_not_the_volume() {
    if !can_run("real_a_part_of_the_volume_is_not_the_volume", &["losetup", "mkfs.ext4", "mount"]) {
        return;
    }
    let ground = Ground::new();
    let attachments = ground.attachments();
    let (source, place, part) = (ground.device(FileSystem::Ext4), ground.at("a"), ground.at("part"));
    attachments.attach(&source, &place, std::slice::from_ref(&place)).await.unwrap();
    fs::create_dir(format!("{place}/sub")).unwrap();
    fs::create_dir(part.as_str()).unwrap();
    run(Command::new("mount").args(["--bind", &format!("{place}/sub"), part.as_str()]));
    for attachments in ground.both_attachments() {
        let refused = attachments.attach(&source, &part, &[]).await.unwrap_err();
        assert_eq!(refused.code(), Conflict, "{}", refused.chain());
        assert!(refused.chain().contains("[/sub] (ext4)"), "{}", refused.chain());
        let refused = attachments.detach(&source, &part).await.unwrap_err();
        assert_eq!(refused.code(), Conflict, "{}", refused.chain());
        ground.mount_at(&part);
    }
}

#[tokio::test]
async fn real_what_is_in_use_stays_mounted() {
    if !can_run("real_what_is_in_use_stays_mounted", &["losetup", "mkfs.ext4", "mount", "umount"]) {
        return;
    }
    let ground = Ground::new();
    let attachments = ground.attachments();
    let (source, place) = (ground.device(FileSystem::Ext4), ground.at("a"));
    attachments.attach(&source, &place, std::slice::from_ref(&place)).await.unwrap();
    let mounted = ground.mount_at(&place);

    let file = File::create(format!("{place}/open")).unwrap();
    let refused = attachments.detach(&source, &place).await.unwrap_err();
    assert_eq!(refused.code(), InUse, "{}", refused.chain());
    assert!(refused.chain().contains("step `unmount`"), "{}", refused.chain());
    assert_eq!(ground.mount_at(&place), mounted);
    drop(file);

    let inside = format!("{place}/inside");
    fs::create_dir(&inside).unwrap();
    run(Command::new("mount").args(["-t", "tmpfs", "nested", &inside]));
    let refused = attachments.detach(&source, &place).await.unwrap_err();
    assert_eq!(refused.code(), InUse, "{}", refused.chain());
    assert!(refused.chain().contains(&format!("nested (tmpfs) at `{inside}`")), "{}", refused.chain());
    assert_eq!(ground.mount_at(&place), mounted);
    run(Command::new("umount").arg(&inside));

    assert_eq!(attachments.detach(&source, &place).await.unwrap(), Detached::Gone);
}

#[tokio::test]
async fn real_a_damaged_volume_leaves_nothing() {
    let test = "real_a_damaged_volume_leaves_nothing";
    if !can_run(test, &["losetup", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs"]) {
        return;
    }
    let ground = Ground::new();
    let attachments = ground.attachments();
    for file_system in FileSystem::ALL {
        let source = ground.device(file_system);
        ground.damage(&source);
        let place = ground.at("a/b/c");
        let missing = attachments.survey(&place).await.unwrap().missing;
        let refused = attachments.attach(&source, &place, &missing).await.unwrap_err();
        assert_eq!(refused.code(), Damaged, "{}", refused.chain());
        assert!(refused.chain().contains("step `mount`"), "{}", refused.chain());
        ground.assert_nothing_left(file_system.as_str());
    }
}

#[tokio::test]
async fn real_a_device_that_is_busy_or_gone_leaves_nothing() {
    if !can_run("real_a_device_that_is_busy_or_gone_leaves_nothing", &["losetup", "mkfs.ext4"]) {
        return;
    }
    let ground = Ground::new();
    let attachments = ground.attachments();
    let (source, place) = (ground.device(FileSystem::Ext4), ground.at("a/b"));
    let missing = attachments.survey(&place).await.unwrap().missing;
    let SourceKind::Device { path, .. } = &source.kind else { unreachable!() };
    let exclusive = open(path, OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let refused = attachments.attach(&source, &place, &missing).await.unwrap_err();
    assert_eq!(refused.code(), InUse, "{}", refused.chain());
    ground.assert_nothing_left("held exclusively");
    drop(exclusive);

    for (path, what) in [(PathBuf::from("/dev/dvs-none"), "cannot open"), (ground.root(), "no block device")]
    {
        let source = Source::new(SourceKind::Device { path, file_system: FileSystem::Ext4 });
        let refused = attachments.attach(&source, &place, &missing).await.unwrap_err();
        assert_eq!(refused.code(), Internal, "{}", refused.chain());
        assert!(refused.chain().contains(what), "{}", refused.chain());
        ground.assert_nothing_left(what);
    }
    attachments.attach(&source, &place, &missing).await.unwrap();
    attachments.detach(&source, &place).await.unwrap();
}
