//! What is inside volumes: it is reached through a source, and nobody else touches it.

use crate::Bench;
use crate::kit::{assert_fails, assert_there, assert_traces, made, named, volume};
use dvs_domain::failure::FailureCode;
use dvs_domain::ports::{Created, Destroyed, Source, SourceKind, VolumeStore};
use dvs_domain::size::VolumeSize;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// What the suite writes into a volume: with a device, where an empty file system has nothing yet.
const MARK: &[u8] = b"written by the store contract";
/// How far from its end a device is marked.
const MARK_FROM_END_BYTES: u64 = 64 * 1024;

/// The same volume has the same source, however often it is asked.
pub async fn asking_for_a_source_again_gives_the_same(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    made(bench, &*store, "a").await;
    made(bench, &*store, "b").await;
    let first = store.source(&named("a")).await.unwrap();
    let second = store.source(&named("a")).await.unwrap();
    assert_eq!(first.kind, second.kind);
    let other = store.source(&named("b")).await.unwrap();
    assert_ne!(first.kind, other.kind, "two volumes share a source");
    drop(first);
    assert_eq!(store.source(&named("a")).await.unwrap().kind, second.kind);
    let there = directory_of(&second).unwrap_or_else(|| device_of(&second));
    assert!(fs::exists(&there).unwrap(), "{there:?}");
}

/// The source that a store gives with a new volume is the one that it gives later.
pub async fn the_source_of_a_new_volume_is_the_one_that_is_given_later(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    let before = place.traces().await;
    let asked = volume(bench, &*store, "a");
    let Created::New(given) = store.create(&asked).await.unwrap() else { panic!("nothing was there") };
    let later = store.source(&named("a")).await.unwrap();
    assert!(given.as_ref().is_none_or(|given| given.kind == later.kind), "{given:?} is not {later:?}");
    assert_there(&store.create(&asked).await.unwrap(), &asked);
    drop((given, later));
    assert_eq!(store.destroy(&named("a"), None).await.unwrap(), Destroyed::Gone);
    assert_traces(&*place, &before, "destroyed").await;
}

/// A volume is destroyed by its source as it is without, and another that was made under its name is none of the
/// source's.
pub async fn a_volume_is_destroyed_by_its_source(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    made(bench, &*store, "a").await;
    let source = store.source(&named("a")).await.unwrap();
    assert_eq!(store.destroy(&named("a"), Some(&source)).await.unwrap(), Destroyed::Gone);
    assert_eq!(store.destroy(&named("a"), Some(&source)).await.unwrap(), Destroyed::NothingThere);
    made(bench, &*store, "a").await;
    place.damage(&named("a")).await;
    let refused = store.destroy(&named("a"), Some(&source)).await;
    assert_fails(refused, FailureCode::Damaged, "the source was of another volume");
}

/// There is nothing to attach for what is not there.
pub async fn sources_of_unknown_names_are_not_found(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    assert_fails(store.source(&named("a")).await, FailureCode::NotFound, "before");
    made(bench, &*store, "a").await;
    drop(store.source(&named("a")).await.unwrap());
    assert_eq!(store.destroy(&named("a"), None).await.unwrap(), Destroyed::Gone);
    assert_fails(store.source(&named("a")).await, FailureCode::NotFound, "after");
}

/// A create of what is there touches no byte of it, also after opening again.
pub async fn creating_again_leaves_the_content_alone(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    let volume = made(bench, &*store, "a").await;
    let source = store.source(&named("a")).await.unwrap();
    mark(&source, bench.volume_size());
    let content = content_of(&source);
    drop(source);

    assert_there(&store.create(&volume).await.unwrap(), &volume);
    assert!(content_of(&store.source(&named("a")).await.unwrap()) == content, "created again");
    drop(store);
    let store = place.open().await;
    assert_there(&store.create(&volume).await.unwrap(), &volume);
    assert!(content_of(&store.source(&named("a")).await.unwrap()) == content, "opened and created again");
}

/// A volume that has a destroyed one's name is new, and has nothing of it inside.
pub async fn a_volume_made_again_is_empty(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    made(bench, &*store, "a").await;
    let source = store.source(&named("a")).await.unwrap();
    mark(&source, bench.volume_size());
    assert!(is_marked(&source, bench.volume_size()), "the suite must see its own mark");
    drop(source);
    assert_eq!(store.destroy(&named("a"), None).await.unwrap(), Destroyed::Gone);
    assert!(create(bench, &*store, "a").await.is_new());
    let source = store.source(&named("a")).await.unwrap();
    assert!(!is_marked(&source, bench.volume_size()), "something of the destroyed volume is inside");
    if let Some(path) = directory_of(&source) {
        assert_eq!(fs::read_dir(path).unwrap().count(), 0, "a new volume is empty");
    }
}

async fn create(bench: &dyn Bench, store: &dyn VolumeStore, name: &str) -> Created {
    store.create(&volume(bench, store, name)).await.unwrap()
}

/// Writes the mark into the volume, and makes it durable.
fn mark(source: &Source, size: VolumeSize) {
    if let Some(path) = directory_of(source) {
        return fs::write(path.join("mark"), MARK).unwrap();
    }
    let device = OpenOptions::new().write(true).open(device_of(source)).unwrap();
    device.write_all_at(MARK, size.bytes() - MARK_FROM_END_BYTES).unwrap();
    device.sync_all().unwrap();
}

fn is_marked(source: &Source, size: VolumeSize) -> bool {
    if let Some(path) = directory_of(source) {
        return fs::exists(path.join("mark")).unwrap();
    }
    let mut read = vec![0; MARK.len()];
    let device = File::open(device_of(source)).unwrap();
    device.read_exact_at(&mut read, size.bytes() - MARK_FROM_END_BYTES).unwrap();
    read == MARK
}

/// Every byte of a device, or the names and bytes of the files in a directory.
fn content_of(source: &Source) -> Vec<u8> {
    let mut content = Vec::new();
    match directory_of(source) {
        None => {
            File::open(device_of(source)).unwrap().read_to_end(&mut content).unwrap();
        }
        Some(path) => {
            let mut files: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
            files.sort();
            for file in files {
                content.extend(file.as_os_str().as_encoded_bytes());
                content.extend(fs::read(&file).unwrap());
            }
        }
    }
    content
}

/// The directory of this host that a source is, if it is none on a device. A server that a bench uses exports a
/// folder of this host under its own path.
fn directory_of(source: &Source) -> Option<PathBuf> {
    match &source.kind {
        SourceKind::Device { .. } => None,
        SourceKind::Directory(path) => Some(path.clone()),
        SourceKind::NfsExport { path, .. } => Some(PathBuf::from(path)),
    }
}

fn device_of(source: &Source) -> PathBuf {
    match &source.kind {
        SourceKind::Device { path, .. } => path.clone(),
        other => panic!("{other:?} is no device"),
    }
}
