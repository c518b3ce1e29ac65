//! What the store does and refuses, over a folder of this host.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use dvs_domain::failure::FailureCode;
use dvs_domain::ports::{Created, DestroyError, Destroyed, SharedStore, SourceKind, VolumeStore};
use dvs_domain::volume::Entry;
use nfs3_client::nfs3_types::nfs3::nfsstat3;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use support::script::Lost;
use support::{Ground, named, volume};

/// The calls of a create, after the first contact.
const CREATE_CALLS: u64 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn a_create_takes_at_most_six_calls_after_the_first_contact() {
    let ground = Ground::new();
    let store = ground.store(1);
    store.create(&volume(&store, "first")).await.unwrap();
    support::recovered(&store).await;
    let before = ground.server.script().calls();
    store.create(&volume(&store, "a")).await.unwrap();
    assert!(ground.server.script().calls() - before <= CREATE_CALLS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_of_any_depth_goes_and_nothing_that_links_lead_to() {
    let ground = Ground::new();
    let store = ground.store(1);
    let outside = ground.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "x").unwrap();
    store.create(&volume(&store, "a")).await.unwrap();
    let top = ground.path("volumes/a");
    for number in 0..20 {
        fs::create_dir(top.join(format!("d{number}"))).unwrap();
        for file in 0..20 {
            fs::write(top.join(format!("d{number}/f{file}")), "x").unwrap();
        }
        symlink(&outside, top.join(format!("d{number}/link"))).unwrap();
        symlink(outside.join("precious"), top.join(format!("link{number}"))).unwrap();
        symlink("../../..", top.join(format!("up{number}"))).unwrap();
    }
    // Shorter than what a path can be, deeper than what anybody makes by hand.
    let mut deep = top.join("deep");
    for _ in 0..300 {
        fs::create_dir(&deep).unwrap();
        deep.push("d");
    }
    fs::write(deep.parent().unwrap().join("a\nb"), "x").unwrap();
    assert_eq!(store.destroy(&named("a"), None).await.unwrap(), Destroyed::Gone);
    assert_eq!(fs::read_to_string(outside.join("precious")).unwrap(), "x");
    let left = ground.traces();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_of_the_earlier_implementation_are_volumes() {
    let ground = Ground::new();
    let root = ground.folder.path();
    fs::create_dir_all(root.join("volumes/old")).unwrap();
    fs::create_dir_all(root.join("volumes_metadata/old")).unwrap();
    fs::write(root.join("volumes/old/data"), "x").unwrap();
    let json = r#"{"Driver":"vsphere","DriverOpts":{"VolumeStore":"nfs","Capacity":"2048"},"Name":"old","Labels":{}}"#;
    fs::write(root.join("volumes_metadata/old/DockerMetaData"), json).unwrap();
    let store = ground.store(1);
    let Some(Entry::Sound(found)) = store.look_up(&named("old")).await.unwrap() else { unreachable!() };
    assert_eq!((found.spec.size.mebibytes(), found.spec.mode.bits()), (2048, 0o755));
    assert_eq!(store.list().await.unwrap(), [Entry::Sound(found.clone())]);
    let again = volume(&store, "old");
    let Created::AlreadyThere(there) = store.create(&again).await.unwrap() else { unreachable!() };
    assert_eq!(there, found);
    assert!(root.join("volumes/old/data").exists());
    store.source(&named("old")).await.unwrap();
    store.enter(&named("old")).await.unwrap();
    store.leave(&named("old")).await.unwrap();
    assert_eq!(store.destroy(&named("old"), None).await.unwrap(), Destroyed::Gone);
    assert!(ground.traces().is_empty(), "{:?}", ground.traces());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_whole_is_damaged_and_left_alone() {
    let ground = Ground::new();
    let store = ground.store(1);
    let root = ground.folder.path().to_owned();
    store.create(&volume(&store, "sound")).await.unwrap();
    for name in ["no-directory", "directory-is-a-file", "record-is-a-folder"] {
        store.create(&volume(&store, name)).await.unwrap();
    }
    fs::remove_dir(root.join("volumes/no-directory")).unwrap();
    fs::remove_dir(root.join("volumes/directory-is-a-file")).unwrap();
    fs::write(root.join("volumes/directory-is-a-file"), "x").unwrap();
    fs::remove_file(root.join("volumes_metadata/record-is-a-folder/record")).unwrap();
    fs::create_dir(root.join("volumes_metadata/record-is-a-folder/record")).unwrap();
    fs::create_dir(root.join("volumes/no-record")).unwrap();
    fs::write(root.join("volumes/no-record/data"), "x").unwrap();
    fs::create_dir(root.join("volumes_metadata/only-metadata")).unwrap();
    fs::write(root.join("volumes_metadata/a-file"), "x").unwrap();
    // What no volume can be called is nobody's business.
    for ignored in [".snapshot", "lost+found", "-rf", "a b"] {
        fs::create_dir(root.join("volumes").join(ignored)).unwrap();
    }
    let before = ground.traces();
    let listed = ground.store(1).list().await;
    // A record that cannot be read by a server's fault is a fault of the store, not of the volume.
    let listed = match listed {
        Ok(listed) => listed,
        Err(failure) => panic!("{}", failure.chain()),
    };
    let damaged: Vec<&str> = listed
        .iter()
        .filter(|entry| matches!(entry, Entry::Damaged { .. }))
        .map(|entry| entry.name().as_str())
        .collect();
    let expected =
        ["a-file", "directory-is-a-file", "no-directory", "no-record", "only-metadata", "record-is-a-folder"];
    assert_eq!(damaged, expected);
    assert_eq!(listed.len(), expected.len() + 1);
    for name in expected {
        let name = named(name);
        assert_eq!(
            store.destroy(&name, None).await.unwrap_err().into_failure().code(),
            FailureCode::Damaged,
            "{name}"
        );
        assert_eq!(store.source(&name).await.unwrap_err().code(), FailureCode::Damaged, "{name}");
        assert_eq!(store.enter(&name).await.unwrap_err().code(), FailureCode::Damaged, "{name}");
    }
    for name in ["a-file", "directory-is-a-file", "no-directory", "no-record", "record-is-a-folder"] {
        let created = store.create(&volume(&store, name)).await;
        assert_eq!(created.unwrap_err().code(), FailureCode::Damaged, "{name}");
    }
    support::recovered(&store).await;
    assert_eq!(ground.traces(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_store_gives_and_changes_nothing() {
    let ground = Ground::new();
    let read_only = ground.store_with(2, "ro=1");
    assert_eq!(read_only.list().await.unwrap(), []);
    assert!(fs::read_dir(ground.folder.path()).unwrap().next().is_none(), "looking makes nothing");
    let store = ground.store(1);
    store.create(&volume(&store, "a")).await.unwrap();
    support::recovered(&store).await;
    let before = ground.traces();

    assert_eq!(read_only.list().await.unwrap().len(), 1);
    let source = read_only.source(&named("a")).await.unwrap();
    let SourceKind::NfsExport { server, path, read_only: true, .. } = &source.kind else { unreachable!() };
    assert_eq!(server, "127.0.0.1");
    assert_eq!(*path, format!("{}/volumes/a", ground.folder.path().display()));
    let calls = ground.server.script().calls();
    for refused in [
        read_only.create(&volume(&read_only, "b")).await.map(drop),
        read_only.destroy(&named("a"), None).await.map(drop).map_err(DestroyError::into_failure),
        read_only.enter(&named("a")).await,
    ] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), FailureCode::Unsupported);
        assert!(refused.to_string().contains("read-only"), "{refused}");
    }
    assert_eq!(ground.server.script().calls(), calls, "refused without asking the server");
    assert_eq!(ground.traces(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_were_made_anew_on_the_server_are_looked_up_again() {
    let ground = Ground::new();
    let store = ground.store(1);
    store.create(&volume(&store, "a")).await.unwrap();
    support::recovered(&store).await;
    for folder in ["volumes", "volumes_metadata"] {
        fs::rename(ground.path(folder), ground.path("away")).unwrap();
        // So that nothing there has the number of what was.
        fs::create_dir(ground.path(folder)).unwrap();
        fs::remove_dir_all(ground.path("away")).unwrap();
    }
    assert_eq!(store.list().await.unwrap(), []);
    assert!(store.create(&volume(&store, "a")).await.unwrap().is_new());
    assert_eq!(store.list().await.unwrap().len(), 1);
}

/// Lays a volume `half` that exists, and whose directory has not got its name yet.
async fn lay_half_made(ground: &Ground) {
    let is_there = |folder: &str| ground.path(folder).join("half").exists();
    for calls in 0..=CREATE_CALLS {
        let store = ground.store(1);
        store.list().await.unwrap();
        support::recovered(&store).await;
        ground.server.script().die_after(calls, Lost::Call);
        let _cut_off = store.create(&volume(&store, "half")).await;
        ground.server.script().revive();
        if is_there("volumes_metadata") && !is_there("volumes") {
            return;
        }
    }
    unreachable!("no create was cut off between its renames");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_cannot_be_put_in_its_place_exists_and_hides_no_other() {
    for way in
        [Some(nfsstat3::NFS3ERR_NOSPC), Some(nfsstat3::NFS3ERR_ROFS), Some(nfsstat3::NFS3ERR_ACCES), None]
    {
        let ground = Ground::new();
        lay_half_made(&ground).await;
        let whole = ground.store(2);
        whole.create(&volume(&whole, "whole")).await.unwrap();
        let store = match way {
            Some(refusal) => {
                ground.server.script().refuse_renames(refusal);
                ground.store(2)
            }
            None => ground.store_with(2, "ro=1"),
        };
        let listed = store.list().await;
        let listed = listed.unwrap_or_else(|failure| panic!("{way:?}: {}", failure.chain()));
        let sound = |name| Entry::Sound(Box::new(volume(&store, name)));
        assert_eq!(listed, [sound("half"), sound("whole")], "{way:?}");
        assert_eq!(store.source(&named("half")).await.unwrap_err().code(), FailureCode::Busy, "{way:?}");
        store.source(&named("whole")).await.unwrap();

        ground.server.script().revive();
        ground.store(2).source(&named("half")).await.unwrap();
        store.source(&named("half")).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_the_server_does_not_give_out_is_damaged_and_hides_no_other() {
    for refusal in [nfsstat3::NFS3ERR_ACCES, nfsstat3::NFS3ERR_STALE] {
        let ground = Ground::new();
        let store = ground.store(1);
        for name in ["denied", "sound"] {
            store.create(&volume(&store, name)).await.unwrap();
        }
        support::recovered(&store).await;
        let denied = ground.path("volumes_metadata/denied");
        ground.server.script().refuse_below(&denied, refusal);
        let listed = ground.store(2).list().await;
        let listed = listed.unwrap_or_else(|failure| panic!("{refusal:?}: {}", failure.chain()));
        assert!(matches!(&listed[0], Entry::Damaged { name, .. } if *name == named("denied")), "{listed:?}");
        assert_eq!(listed[1..], [Entry::Sound(Box::new(volume(&store, "sound")))], "{refusal:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_mounted_on_the_server_inside_a_volume_is_not_removed_with_it() {
    let ground = Ground::new();
    let store = ground.ready(1).await;
    store.create(&volume(&store, "a")).await.unwrap();
    let (mounted, beside) = (ground.path("volumes/a/mounted"), ground.path("volumes/a/beside"));
    for folder in [&mounted, &beside] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("file"), "x").unwrap();
    }
    ground.server.script().mount("mounted");
    let refused = store.destroy(&named("a"), None).await.unwrap_err().into_failure();
    assert_eq!(refused.code(), FailureCode::InUse, "{}", refused.chain());
    // Wherever the volume's own tree was renamed to.
    let is_there = |traces: &BTreeSet<String>| traces.iter().any(|path| path.ends_with("/mounted/file"));
    assert!(is_there(&ground.traces()), "{:?}", ground.traces());
    for _ in 0..3 {
        store.list().await.unwrap();
    }
    assert!(is_there(&ground.traces()), "{:?}", ground.traces());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_a_loss_of_power_of_the_server() {
    let ground = Ground::new();
    let store = ground.ready(1).await;
    let made = volume(&store, "a");
    store.create(&made).await.unwrap();
    store.enter(&named("a")).await.unwrap();
    ground.server.lose_power();
    let store = ground.ready(1).await;
    assert_eq!(store.look_up(&named("a")).await.unwrap(), Some(Entry::Sound(Box::new(made))));
    let claims = store.claims(&named("a")).await.unwrap();
    assert_eq!(claims[0].node_name.as_deref(), Some("node1"), "{claims:?}");
}
