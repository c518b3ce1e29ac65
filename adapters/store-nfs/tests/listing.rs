//! Listing: right whatever was known before, and cheap when nothing changed.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use dvs_domain::ports::{SharedStore, VolumeStore};
use dvs_domain::volume::{Entry, Mode};
use std::fs;
use std::os::unix::fs::symlink;
use support::{Ground, named, node, recovered, volume};

const VOLUMES: u64 = 50;

async fn many(ground: &Ground) -> Vec<Entry> {
    let store = ground.ready(1).await;
    let mut entries = Vec::new();
    for number in 0..VOLUMES {
        let volume = volume(&store, &format!("v{number:03}"));
        store.create(&volume).await.unwrap();
        entries.push(Entry::Sound(Box::new(volume)));
    }
    entries
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_reads_each_record_once() {
    let ground = Ground::new();
    let expected = many(&ground).await;
    let store = ground.ready(2).await;
    // Listing again takes pages only: less than a call for each volume.
    let before = ground.server.script().calls();
    assert_eq!(store.list().await.unwrap(), expected);
    let calls = ground.server.script().calls() - before;
    assert!(calls < VOLUMES, "{calls} calls");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_since_the_last_listing_is_listed_as_it_is() {
    let ground = Ground::new();
    many(&ground).await;
    let (store, other) = (ground.ready(1).await, ground.ready(3).await);
    other.destroy(&named("v000"), None).await.unwrap();
    other.destroy(&named("v001"), None).await.unwrap();
    let mut anew = volume(&other, "v001");
    anew.spec.mode = Mode::parse("0700").unwrap();
    other.create(&anew).await.unwrap();
    other.enter(&named("v002")).await.unwrap();
    let metadata = |name: &str| ground.path("volumes_metadata").join(name);
    let directory = |name: &str| ground.path("volumes").join(name);
    for locked in ["v003", "v004"] {
        symlink(node(4).id.as_str(), metadata(locked).join("deleting")).unwrap();
    }
    fs::remove_dir(directory("v004")).unwrap();
    fs::remove_dir(directory("v005")).unwrap();
    fs::remove_dir(directory("v006")).unwrap();
    fs::write(directory("v006"), "").unwrap();
    fs::rename(metadata("v007"), metadata("w007")).unwrap();
    fs::remove_file(metadata("v008").join("record")).unwrap();
    fs::remove_dir_all(metadata("v009")).unwrap();
    fs::write(metadata("v009"), "").unwrap();
    other.create(&volume(&other, "v200")).await.unwrap();
    recovered(&other).await;

    let listed = store.list().await.unwrap();
    let mut found = Vec::new();
    for number in 0..=200 {
        found.extend(store.look_up(&named(&format!("v{number:03}"))).await.unwrap());
    }
    found.extend(store.look_up(&named("w007")).await.unwrap());
    assert_eq!(listed, found);
    assert_eq!(listed[0], Entry::Sound(Box::new(anew)));
    let damaged: Vec<&str> = listed
        .iter()
        .filter(|entry| matches!(entry, Entry::Damaged { .. }))
        .map(|entry| entry.name().as_str())
        .collect();
    assert_eq!(damaged, ["v005", "v006", "v007", "v008", "v009", "w007"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_overwritten_in_place_is_found_by_a_look_up_and_then_by_listings() {
    let ground = Ground::new();
    let mut expected = many(&ground).await;
    let store = ground.ready(1).await;
    let record = ground.path("volumes_metadata/v015/record");
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replace("\"mebibytes\": 8", "\"mebibytes\": 9")).unwrap();
    let found = store.look_up(&named("v015")).await.unwrap().unwrap();
    assert!(matches!(found, Entry::Damaged { .. }), "{found:?}");
    expected[15] = found;
    assert_eq!(store.list().await.unwrap(), expected);
}
