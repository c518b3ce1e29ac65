//! The record of a volume on the export.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use dvs_domain::job::{JobKey, JobKind, Maker};
use dvs_domain::names::{AttemptId, JobId, SenderId};
use dvs_domain::ports::VolumeStore;
use dvs_domain::volume::{Entry, Mode, Volume};
use dvs_store_nfs::NfsStore;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::PathBuf;
use support::{Ground, named, volume};

/// A volume `a` whose record is as long as a record can be, and the path of its record.
async fn recorded(ground: &Ground) -> (NfsStore, Volume, PathBuf) {
    let store = ground.ready(1).await;
    let mut longest = volume(&store, "a");
    longest.spec.mode = Mode::parse("2750").unwrap();
    longest.made_by = Some(Maker {
        job: JobKey {
            sender: SenderId::new("\u{10ffff}".repeat(128)).unwrap(),
            kind: JobKind::Create,
            id: JobId::new("\"".repeat(128)).unwrap(),
        },
        attempt: Some(AttemptId::new("f".repeat(80)).unwrap()),
    });
    store.create(&longest).await.unwrap();
    (store, longest, ground.path("volumes_metadata/a/record"))
}

async fn reason(store: &NfsStore) -> String {
    match store.look_up(&named("a")).await.unwrap() {
        Some(Entry::Damaged { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whole_copy_is_enough_and_no_changed_byte_goes_unnoticed() {
    let ground = Ground::new();
    let (store, longest, record) = recorded(&ground).await;
    let sound = Some(Entry::Sound(Box::new(longest)));
    let bytes = fs::read(&record).unwrap();
    let half = bytes.len() / 2;
    for at in (0..bytes.len()).step_by(23) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x11;
        fs::write(&record, &changed).unwrap();
        assert_eq!(store.look_up(&named("a")).await.unwrap(), sound, "byte {at} of one copy");
        // And nothing of the other copy: only a change of layout may be read then.
        let other = if at < half { half + 100..bytes.len() } else { 0..half - 100 };
        changed[other].fill(b'x');
        fs::write(&record, &changed).unwrap();
        let found = store.look_up(&named("a")).await.unwrap();
        assert!(found == sound || matches!(found, Some(Entry::Damaged { .. })), "byte {at}: {found:?}");
    }
    fs::write(&record, "").unwrap();
    reason(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_a_later_version_is_not_guessed_at() {
    let ground = Ground::new();
    let (store, _, record) = recorded(&ground).await;
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replace("\"version\": 1", "\"version\": 2")).unwrap();
    let reason = reason(&store).await;
    assert!(reason.contains("version 2"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_names_the_directory_of_another_volume_is_damaged() {
    let ground = Ground::new();
    let (store, _, record) = recorded(&ground).await;
    let text = fs::read_to_string(&record).unwrap().replace("-a\"", "-b\"");
    // With a valid checksum: over the compact text of the volume.
    let (from, to) = (text.find("\"volume\": ").unwrap() + 10, text.find(",\n  \"sha256\"").unwrap());
    let compact: String = text[from..to].lines().map(str::trim_start).collect();
    let compact = compact.replace("\": ", "\":");
    let at = text.find("\"sha256\": \"").unwrap() + 11;
    let sum = data_encoding::HEXLOWER.encode(&Sha256::digest(compact));
    fs::write(&record, format!("{}{sum}\"\n}}\n", &text[..at])).unwrap();
    let reason = reason(&store).await;
    assert!(reason.contains(".new-") && reason.contains("-b"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_record_tells_the_size() {
    let ground = Ground::new();
    let store = ground.ready(1).await;
    for folder in ["volumes/a", "volumes_metadata/a"] {
        fs::create_dir(ground.path(folder)).unwrap();
    }
    let whole = r#"{"Driver":"vsphere","DriverOpts":{"volumestore":"nfs","capacity":"2GB"},"Name":"a",
        "Labels":{"x":"y"},"AttachHistory":null,"Image":""}"#;
    for (record, mebibytes) in [
        (whole, Some(1908)),
        (r#"{"Name":"a","DriverOpts":{"Capacity":"7"}}"#, Some(7)),
        (r#"{"Name":"a","DriverOpts":null}"#, Some(1024)),
        (r#"{"Name":"b"}"#, None),
        ("{", None),
        (r#"{"Name":"a","DriverOpts":{"capacity":"much"}}"#, None),
    ] {
        fs::write(ground.path("volumes_metadata/a/DockerMetaData"), record).unwrap();
        let size = match store.look_up(&named("a")).await.unwrap().unwrap() {
            Entry::Sound(volume) => Some(volume.spec.size.mebibytes()),
            Entry::Damaged { .. } => None,
        };
        assert_eq!(size, mebibytes, "{record}");
    }
}
