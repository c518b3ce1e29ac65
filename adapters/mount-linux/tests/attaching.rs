//! Attaching and detaching what can be attached, on real file systems.

mod support;

use dvs_domain::ports::{Detached, Mounted, Mounter, Source, SourceKind, Survey};
use dvs_domain::volume::FileSystem;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use support::{Ground, can_run, mount_point, names_in};

const NOTHING: Survey = Survey { missing: Vec::new(), mounted: None, hides_files: false };

#[tokio::test]
async fn real_every_file_system_is_shown_empty_and_taken_away() {
    let test = "real_every_file_system_is_shown_empty_and_taken_away";
    if !can_run(test, &["losetup", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs"]) {
        return;
    }
    let ground = Ground::new();
    let attachments = ground.attachments();
    let (outer, place) = (ground.at("a"), ground.at("a/b"));
    for file_system in FileSystem::ALL {
        let source = ground.device(file_system);
        let survey = attachments.survey(&place).await.unwrap();
        assert_eq!(
            survey,
            Survey { missing: vec![outer.clone(), place.clone()], ..NOTHING },
            "{file_system}"
        );

        attachments.attach(&source, &place, &survey.missing).await.unwrap();
        let mounted = ground.mount_at(&place);
        assert!(mounted.is_confined(), "{file_system}: {mounted:?}");
        let inside: &[&str] = if file_system == FileSystem::Ext2 { &["lost+found"] } else { &[] };
        assert_eq!(names_in(Path::new(place.as_str())), inside, "{file_system}");
        let survey = attachments.survey(&place).await.unwrap();
        let shown = format!("{} ({file_system})", device_of(&source).display());
        assert_eq!(survey, Survey { mounted: Some(Mounted::Something(shown)), ..NOTHING });

        fs::write(format!("{place}/kept"), "kept").unwrap();
        attachments.attach(&source, &place, &[]).await.unwrap();
        assert_eq!(ground.mount_at(&place), mounted, "{file_system}: the second time touches nothing");
        assert_eq!(fs::read_to_string(format!("{place}/kept")).unwrap(), "kept");
        assert_eq!(ground.open_descriptors(), Vec::<std::path::PathBuf>::new());

        assert_eq!(attachments.detach(&source, &place).await.unwrap(), Detached::Gone, "{file_system}");
        assert_eq!(attachments.detach(&source, &place).await.unwrap(), Detached::NothingThere);
        attachments.remove_directories(&[outer.clone(), place.clone()]).await.unwrap();
        assert_eq!(attachments.detach(&source, &place).await.unwrap(), Detached::NothingThere);
        ground.assert_nothing_left(file_system.as_str());
    }
}

#[tokio::test]
async fn real_what_a_check_saved_stays() {
    if !can_run("real_what_a_check_saved_stays", &["losetup", "mkfs.ext4"]) {
        return;
    }
    let ground = Ground::new();
    let attachments = ground.attachments();
    let (source, place) = (ground.device(FileSystem::Ext4), ground.at("a"));
    attachments.attach(&source, &place, std::slice::from_ref(&place)).await.unwrap();
    let saved = format!("{place}/lost+found/#12");
    fs::create_dir(format!("{place}/lost+found")).unwrap();
    fs::write(&saved, "saved").unwrap();
    attachments.detach(&source, &place).await.unwrap();

    attachments.attach(&source, &place, &[]).await.unwrap();
    assert_eq!(fs::read_to_string(&saved).unwrap(), "saved");
    fs::remove_file(&saved).unwrap();
    attachments.detach(&source, &place).await.unwrap();

    attachments.attach(&source, &place, &[]).await.unwrap();
    assert_eq!(names_in(Path::new(place.as_str())), Vec::<String>::new());
    attachments.detach(&source, &place).await.unwrap();
}

/// A loss of power could leave its removal there in part, and no check would repair that without asking.
#[tokio::test]
async fn real_lost_and_found_stays_where_there_is_no_journal() {
    if !can_run("real_lost_and_found_stays_where_there_is_no_journal", &["losetup", "mkfs.ext4"]) {
        return;
    }
    let ground = Ground::new();
    let (attachments, place) = (ground.attachments(), ground.at("a"));
    for (file_system, options, inside) in [
        (FileSystem::Ext2, &[][..], &["lost+found"][..]),
        (FileSystem::Ext4, &["-O", "^has_journal"], &["lost+found"]),
        (FileSystem::Ext4, &[], &[]),
        (FileSystem::Ext3, &[], &[]),
    ] {
        let source = ground.formatted(file_system, options);
        let missing = attachments.survey(&place).await.unwrap().missing;
        attachments.attach(&source, &place, &missing).await.unwrap();
        assert_eq!(names_in(Path::new(place.as_str())), inside, "{file_system} {options:?}");
        attachments.detach(&source, &place).await.unwrap();
    }
}

#[tokio::test]
async fn real_files_that_are_there_are_hidden_and_come_back() {
    if !can_run("real_files_that_are_there_are_hidden_and_come_back", &["losetup", "mkfs.ext4"]) {
        return;
    }
    let ground = Ground::new();
    let attachments = ground.attachments();
    let (source, place) = (ground.device(FileSystem::Ext4), ground.at("full"));
    fs::create_dir(place.as_str()).unwrap();
    assert_eq!(attachments.survey(&place).await.unwrap(), NOTHING);
    fs::write(format!("{place}/old"), "old").unwrap();
    assert_eq!(attachments.survey(&place).await.unwrap(), Survey { hides_files: true, ..NOTHING });

    attachments.attach(&source, &place, &[]).await.unwrap();
    assert_eq!(names_in(Path::new(place.as_str())), Vec::<String>::new());
    attachments.detach(&source, &place).await.unwrap();
    assert_eq!(fs::read_to_string(format!("{place}/old")).unwrap(), "old");

    attachments.remove_directories(std::slice::from_ref(&place)).await.unwrap();
    assert_eq!(names_in(Path::new(place.as_str())), ["old"], "a directory with files stays");
}

#[tokio::test]
async fn real_a_root_is_a_mount_point_and_may_be_a_link() {
    if !can_run("real_a_root_is_a_mount_point_and_may_be_a_link", &["losetup", "mkfs.ext4"]) {
        return;
    }
    let ground = Ground::new();
    symlink("outside", ground.path().join("link")).unwrap();
    let attachments = ground.attachments_with(&["link"]);
    let source = ground.device(FileSystem::Ext4);
    let root = mount_point(&ground.root());
    let link = mount_point(&ground.path().join("link"));
    let below = mount_point(&ground.path().join("link/a"));
    let outside = mount_point(&ground.path().join("outside"));
    let outside_below = mount_point(&ground.path().join("outside/a"));
    for (asked, real) in [(root.clone(), root), (link, outside), (below, outside_below)] {
        let survey = attachments.survey(&asked).await.unwrap();
        attachments.attach(&source, &asked, &survey.missing).await.unwrap();
        attachments.attach(&source, &asked, &[]).await.unwrap();
        assert!(ground.mount_at(&real).is_confined());
        assert_eq!(ground.mounts().len(), 1);
        assert_eq!(attachments.survey(&asked).await.unwrap().missing, []);
        assert_eq!(attachments.detach(&source, &asked).await.unwrap(), Detached::Gone);
        attachments.remove_directories(&survey.missing).await.unwrap();
        attachments.remove_directories(std::slice::from_ref(&asked)).await.unwrap();
        ground.assert_nothing_left(asked.as_str());
    }
    assert!(ground.root().is_dir() && ground.path().join("outside").is_dir(), "roots are never removed");
}

#[tokio::test]
async fn real_any_name_will_do() {
    if !can_run("real_any_name_will_do", &["losetup", "mkfs.ext4"]) {
        return;
    }
    let ground = Ground::new();
    let attachments = ground.attachments();
    let source = ground.device(FileSystem::Ext4);
    let long = "x".repeat(255);
    for name in ["a b", "back\\slash\\040", "ünï/cödé ☃", "'\"quoted\"'", "#", "-rf", "..a", "a,b:c", &long]
    {
        let place = ground.at(name);
        let survey = attachments.survey(&place).await.unwrap();
        attachments.attach(&source, &place, &survey.missing).await.unwrap();
        ground.mount_at(&place);
        attachments.attach(&source, &place, &[]).await.unwrap();
        assert_eq!(ground.mounts().len(), 1, "{name}");
        assert_eq!(attachments.detach(&source, &place).await.unwrap(), Detached::Gone, "{name}");
        attachments.remove_directories(&survey.missing).await.unwrap();
        ground.assert_nothing_left(name);
    }
}

#[tokio::test]
async fn real_a_directory_is_shown_confined() {
    if !can_run("real_a_directory_is_shown_confined", &[]) {
        return;
    }
    let ground = Ground::new();
    let attachments = ground.attachments();
    let (source, other, place) = (ground.directory("one"), ground.directory("other"), ground.at("a/b"));
    let missing = attachments.survey(&place).await.unwrap().missing;
    attachments.attach(&source, &place, &missing).await.unwrap();
    let mounted = ground.mount_at(&place);
    assert!(mounted.is_confined(), "{mounted:?}");
    assert_eq!(fs::read_to_string(format!("{place}/file")).unwrap(), "one");
    attachments.attach(&source, &place, &[]).await.unwrap();
    assert_eq!(ground.mount_at(&place), mounted, "the second time touches nothing");

    let refused = attachments.attach(&other, &place, &[]).await.unwrap_err();
    assert_eq!(refused.code().as_str(), "conflict", "{}", refused.chain());
    let refused = attachments.detach(&other, &place).await.unwrap_err();
    assert_eq!(refused.code().as_str(), "conflict", "{}", refused.chain());
    assert_eq!(ground.mount_at(&place), mounted);

    assert_eq!(attachments.detach(&source, &place).await.unwrap(), Detached::Gone);
    attachments.remove_directories(&missing).await.unwrap();
    ground.assert_nothing_left("a directory");
    let SourceKind::Directory(path) = &source.kind else { unreachable!() };
    assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "one", "the source is untouched");
}

#[tokio::test]
async fn real_many_at_once_come_and_go() {
    const PLACES: usize = 12;
    const ROUNDS: usize = 10;
    if !can_run("real_many_at_once_come_and_go", &["losetup", "mkfs.ext4"]) {
        return;
    }
    let ground = Ground::new();
    let attachments = ground.attachments();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..PLACES {
        let source = ground.device(FileSystem::Ext4);
        let (attachments, place) = (attachments.clone(), ground.at(&format!("{number}/v")));
        tasks.spawn(async move {
            for _ in 0..ROUNDS {
                let missing = attachments.survey(&place).await?.missing;
                attachments.attach(&source, &place, &missing).await?;
                // A program that is started meanwhile has a copy of every descriptor until it runs.
                tokio::process::Command::new("true").status().await.unwrap();
                assert_eq!(attachments.detach(&source, &place).await?, Detached::Gone);
                attachments.remove_directories(&missing).await?;
            }
            Ok::<(), dvs_domain::failure::Failure>(())
        });
    }
    while let Some(outcome) = tasks.join_next().await {
        let outcome = outcome.unwrap();
        assert!(outcome.is_ok(), "{}", outcome.unwrap_err().chain());
    }
    ground.assert_nothing_left("all are gone");
}

fn device_of(source: &Source) -> &Path {
    match &source.kind {
        SourceKind::Device { path, .. } | SourceKind::Directory(path) => path,
        other @ SourceKind::NfsExport { .. } => unreachable!("{other:?}"),
    }
}
