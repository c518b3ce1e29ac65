//! What a server does only after everybody has given up.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use dvs_domain::failure::FailureCode;
use dvs_domain::ports::{Destroyed, VolumeStore};
use dvs_domain::volume::Entry;
use dvs_store_nfs::NfsStore;
use std::fs;
use std::path::Path;
use support::hostile::{HostileServer, Misbehaviour, WRITE};
use support::script::Lost;
use support::{Ground, named, open, recovered, volume};

/// More calls than a destroy makes.
const CALLS_MAX: u64 = 60;
const FOLDERS: [&str; 2] = ["volumes", "volumes_metadata"];

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_given_up_does_not_arrive_later() {
    let server = HostileServer::start_narrow();
    let store = open(&server.url(), 1);
    store.create(&volume(&store, "a")).await.unwrap();
    // The record is more than the server takes at once: the rest is still here when nobody waits any more.
    server.misbehave(Some(WRITE), Misbehaviour::ReadsLater);
    let failure = store.create(&volume(&store, "b")).await.unwrap_err();
    assert_eq!(failure.code(), FailureCode::StoreUnavailable, "{}", failure.chain());
    server.behave();
    assert!(!server.has_come_whole().await, "the server got the whole call after all");
}

/// What is called so that it is being removed, in `folder`.
fn gone_in(folder: &Path) -> Option<String> {
    let mut names =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.find(|name| name.starts_with(".gone-"))
}

/// Destroys the volume `a` until one of the renames that take it out of its name is done, and its answer lost. Gives
/// the folder of that rename, and the name that it gives.
async fn cut_off_in_a_rename(
    ground: &Ground,
    store: &NfsStore,
    calls: u64,
) -> Option<(&'static str, String)> {
    store.create(&volume(store, "a")).await.unwrap();
    recovered(store).await;
    ground.server.script().die_after(calls, Lost::Reply);
    let destroyed = store.destroy(&named("a"), None).await;
    ground.server.script().revive();
    let [volumes, metadata] = FOLDERS.map(|folder| gone_in(&ground.folder.path().join(folder)));
    match (destroyed, volumes, metadata) {
        (Err(_), Some(gone), None) => Some((FOLDERS[0], gone)),
        (Err(_), Some(_), Some(gone)) => Some((FOLDERS[1], gone)),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_of_a_destroy_that_is_done_late_costs_no_newer_volume_anything() {
    let mut renames = Vec::new();
    for calls in 0..CALLS_MAX {
        for (maker, restarts) in [(1, false), (1, true), (2, false), (2, true)] {
            let ground = Ground::new();
            let mut store = ground.store(1);
            let Some((folder, gone)) = cut_off_in_a_rename(&ground, &store, calls).await else { continue };
            // As if the server had not done it yet.
            let at = |name: &str| ground.folder.path().join(folder).join(name);
            fs::rename(at(&gone), at("a")).unwrap();
            assert_eq!(store.destroy(&named("a"), None).await.unwrap(), Destroyed::Gone);
            recovered(&store).await;
            assert!(ground.traces().is_empty(), "after {calls} calls: {:?}", ground.traces());
            let other = ground.store(maker);
            let newer = volume(&other, "a");
            other.create(&newer).await.unwrap();
            recovered(&other).await;
            fs::write(ground.folder.path().join("volumes/a/precious"), "x").unwrap();
            fs::rename(at("a"), at(&gone)).unwrap();

            renames.push(folder);
            if restarts {
                store = ground.store(1);
            }
            store.list().await.unwrap();
            recovered(&store).await;
            let found = store.look_up(&named("a")).await.unwrap();
            assert_eq!(found, Some(Entry::Sound(Box::new(newer))), "after {calls} calls, {folder}");
            let precious = ground.folder.path().join("volumes/a/precious");
            assert!(precious.exists(), "after {calls} calls, {folder}: {:?}", ground.traces());
            assert_eq!(ground.traces().len(), 4, "{:?}", ground.traces());
        }
    }
    assert!(FOLDERS.iter().all(|folder| renames.contains(folder)), "{renames:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_nobody_knows_the_volume_of_is_left_alone() {
    let ground = Ground::new();
    let (first, second) = (ground.store(1), ground.store(2));
    let mut gone = None;
    for calls in 0..CALLS_MAX {
        if let Some((folder, name)) = cut_off_in_a_rename(&ground, &first, calls).await
            && folder == FOLDERS[0]
        {
            gone = Some(name);
            break;
        }
    }
    let gone = gone.unwrap();
    fs::rename(ground.folder.path().join("volumes").join(&gone), ground.folder.path().join("kept")).unwrap();
    first.destroy(&named("a"), None).await.unwrap();
    recovered(&first).await;
    // A newer one has the name, whose record cannot be read and whose directory is not there.
    second.create(&volume(&second, "a")).await.unwrap();
    fs::write(ground.folder.path().join("volumes_metadata/a/record"), "{").unwrap();
    fs::write(ground.folder.path().join("volumes/a/precious"), "x").unwrap();
    fs::rename(ground.folder.path().join("volumes/a"), ground.folder.path().join("volumes").join(&gone))
        .unwrap();
    let store = ground.store(1);
    let found = store.look_up(&named("a")).await.unwrap();
    recovered(&store).await;
    assert!(matches!(found, Some(Entry::Damaged { .. })), "{found:?}");
    assert!(ground.folder.path().join("volumes").join(&gone).join("precious").exists());
}
