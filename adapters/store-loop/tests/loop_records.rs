//! Records and folders that are damaged, strange, or gone.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use dvs_domain::failure::FailureCode;
use dvs_domain::names::StoreName;
use dvs_domain::ports::{Destroyed, VolumeStore};
use dvs_domain::volume::Entry;
use dvs_store_loop::LoopStore;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use support::{Place, named, volume};
use url::Url;

const COPIES: [&str; 2] = ["record", "record.copy"];

fn reason(entry: Option<&Entry>) -> &str {
    match entry {
        Some(Entry::Damaged { reason, .. }) => reason,
        _ => "",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_one_copy_of_the_record_is_enough() {
    if !support::can_run("loop_one_copy_of_the_record_is_enough") {
        return;
    }
    let place = Place::new();
    let store = place.open();
    let made = volume("a");
    store.create(&made).await.unwrap();
    let sound = Some(Entry::Sound(Box::new(made)));
    for copy in COPIES {
        let path = place.volume("a").join(copy);
        let record = fs::read(&path).unwrap();
        for damage in [&b""[..], b"\0\0\0\0", &record[..record.len() / 2], &vec![b'x'; 1 << 20]] {
            fs::write(&path, damage).unwrap();
            assert_eq!(store.look_up(&named("a")).await.unwrap(), sound, "{copy}");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(store.look_up(&named("a")).await.unwrap(), sound, "{copy} is missing");
        store.source(&named("a")).await.unwrap();
        fs::write(&path, record).unwrap();
    }
    for copy in COPIES {
        fs::remove_file(place.volume("a").join(copy)).unwrap();
    }
    let found = store.look_up(&named("a")).await.unwrap();
    assert!(COPIES.iter().all(|copy| reason(found.as_ref()).contains(copy)), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_a_broken_copy_of_the_record_is_written_anew_when_the_volume_is_given_out() {
    if !support::can_run("loop_a_broken_copy_of_the_record_is_written_anew_when_the_volume_is_given_out") {
        return;
    }
    let place = Place::new();
    let store = place.open();
    store.create(&volume("a")).await.unwrap();
    let whole = fs::read(place.volume("a").join("record")).unwrap();
    let later = String::from_utf8(whole.clone()).unwrap().replace("\"version\": 1", "\"version\": 2");
    for copy in COPIES {
        let path = place.volume("a").join(copy);
        for damage in [&b""[..], b"\0\0\0\0", &whole[..whole.len() / 2]] {
            fs::write(&path, damage).unwrap();
            store.source(&named("a")).await.unwrap();
            assert_eq!(fs::read(&path).unwrap(), whole, "{copy}");
        }
        fs::remove_file(&path).unwrap();
        store.source(&named("a")).await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole, "{copy} was missing");
        fs::write(&path, &later).unwrap();
        store.source(&named("a")).await.unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            later,
            "what a later version wrote is not ours to mend"
        );
        fs::remove_file(&path).unwrap();
        symlink("/dev/null", &path).unwrap();
        store.source(&named("a")).await.unwrap();
        assert!(path.is_symlink(), "no link is followed or replaced");
        fs::remove_file(&path).unwrap();
        fs::write(&path, &whole).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_whatever_is_strange_is_listed_with_its_reason_and_never_touched() {
    if !support::can_run("loop_whatever_is_strange_is_listed_with_its_reason_and_never_touched") {
        return;
    }
    let place = Place::new();
    let store = place.open();
    for name in ["sound", "wrong-size", "no-image", "image-is-link", "pipe", "linked-record", "moved"] {
        store.create(&volume(name)).await.unwrap();
    }
    let image = |name: &str| place.image(name);
    fs::File::options().write(true).open(image("wrong-size")).unwrap().set_len(1 << 20).unwrap();
    fs::remove_file(image("no-image")).unwrap();
    fs::rename(image("image-is-link"), place.volume("image-is-link").join("record.old")).unwrap();
    symlink("record.old", image("image-is-link")).unwrap();
    for copy in COPIES {
        // Reading a pipe would wait for ever; a link could lead anywhere.
        let pipe = place.volume("pipe").join(copy);
        fs::remove_file(&pipe).unwrap();
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let linked = place.volume("linked-record").join(copy);
        fs::remove_file(&linked).unwrap();
        symlink(place.volume("sound").join(copy), &linked).unwrap();
    }
    fs::rename(place.volume("moved"), place.volume("renamed")).unwrap();
    fs::create_dir(place.volume("empty")).unwrap();
    fs::write(place.volume("file"), "").unwrap();
    symlink(place.volume("sound"), place.volume("link")).unwrap();
    fs::create_dir(place.volume("image-only")).unwrap();
    fs::copy(image("sound"), image("image-only")).unwrap();
    fs::create_dir(place.volume(".hidden")).unwrap();

    let expected = [
        ("empty", "missing"),
        ("file", "no folder"),
        ("image-is-link", "no file"),
        ("image-only", "`record` is missing"),
        ("linked-record", "cannot be opened"),
        ("link", "no folder"),
        ("no-image", "image is missing"),
        ("pipe", "no file"),
        ("renamed", "`moved`"),
        ("wrong-size", "1048576 bytes"),
    ];
    drop(store);
    let store = place.open();
    let traces = place.traces();
    let listed = store.list().await.unwrap();
    assert_eq!(listed.len(), expected.len() + 1, "{listed:?}");
    assert_eq!(listed.iter().filter(|entry| matches!(entry, Entry::Sound(_))).count(), 1);
    for (name, why) in expected {
        let entry = listed.iter().find(|entry| entry.name().as_str() == name);
        assert!(reason(entry).contains(why), "{name}: {entry:?}");
        assert_eq!(store.look_up(&named(name)).await.unwrap().as_ref(), entry);
        let volume = volume(name);
        assert_eq!(store.create(&volume).await.unwrap_err().code(), FailureCode::Damaged, "{name}");
        assert_eq!(store.source(&named(name)).await.unwrap_err().code(), FailureCode::Damaged, "{name}");
        assert_eq!(
            store.destroy(&named(name), None).await.unwrap_err().into_failure().code(),
            FailureCode::Damaged,
            "{name}"
        );
        store.usage(&named(name)).await.unwrap();
    }
    assert_eq!(place.traces(), traces);
    assert_eq!(store.destroy(&named("sound"), None).await.unwrap(), Destroyed::Gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_a_store_that_became_another_folder_is_unavailable() {
    if !support::can_run("loop_a_store_that_became_another_folder_is_unavailable") {
        return;
    }
    let place = Place::new();
    let store = place.open();
    store.create(&volume("a")).await.unwrap();
    // As when the disk below is unmounted, and an empty store of the same path appears.
    let away = place.folder.path().join("away");
    fs::rename(place.root(), &away).unwrap();
    place.open().list().await.unwrap();
    let refused = store.create(&volume("b")).await.unwrap_err();
    assert_eq!(refused.code(), FailureCode::StoreUnavailable, "{}", refused.chain());
    assert_eq!(store.list().await.unwrap_err().code(), FailureCode::StoreUnavailable);
    fs::remove_dir_all(place.root()).unwrap();
    fs::rename(&away, place.root()).unwrap();
    assert_eq!(store.list().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn loop_folders_that_cannot_be_a_store_are_unavailable() {
    if !support::can_run("loop_folders_that_cannot_be_a_store_are_unavailable") {
        return;
    }
    let place = Place::new();
    let open = |root: &Path| {
        let url = Url::parse(&format!("loop://{}", root.display())).unwrap();
        LoopStore::open(StoreName::new("loop").unwrap(), &url, None).unwrap()
    };
    let below = |name: &str| place.folder.path().join(name);
    fs::write(below("file"), "").unwrap();
    fs::create_dir_all(below("half")).unwrap();
    fs::write(below("half/volumes"), "").unwrap();
    fs::create_dir_all(below("linked")).unwrap();
    symlink("/tmp", below("linked/staging")).unwrap();
    for bad in ["file", "file/below", "half", "linked"] {
        let refused = open(&below(bad)).list().await.unwrap_err();
        assert_eq!(refused.code(), FailureCode::StoreUnavailable, "{bad}");
    }
    assert_eq!(open(&below("made/with/all its/parents")).list().await.unwrap(), []);
}
