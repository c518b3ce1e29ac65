//! What is there, and what is not: create, destroy, look up, list, and opening again.

use crate::Bench;
use crate::kit::{assert_absent, assert_there, assert_traces, made, named, sound, volume, volume_as};
use dvs_domain::job::CreateRequest;
use dvs_domain::mount_point::MountPoint;
use dvs_domain::ports::Destroyed;
use dvs_domain::size::VolumeSize;
use dvs_domain::time::Timestamp;
use dvs_domain::volume::{Entry, Mode, Volume};

/// A volume that was made is listed, found by its name, and tells its use.
pub async fn a_created_volume_is_there(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    let volume = made(bench, &*store, "a").await;
    assert_eq!(store.look_up(&named("a")).await.unwrap(), Some(sound(&volume)));
    assert_eq!(store.list().await.unwrap(), [sound(&volume)]);
    store.usage(&named("a")).await.unwrap();
}

/// What was settled about a volume is what is read back, field by field.
pub async fn volumes_keep_every_field(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    let request = CreateRequest {
        uid: Some(12_345),
        gid: Some(54_321),
        mode: Some(Mode::parse("2750").unwrap()),
        ..CreateRequest::at(MountPoint::new("/mnt/x").unwrap(), bench.volume_size())
    };
    let mut by_job = volume_as(&*store, "by-job", &request);
    by_job.made_at = Timestamp(u64::MAX / 2);
    let by_nobody = Volume { made_by: None, ..volume(bench, &*store, "by-nobody") };
    for volume in [&by_job, &by_nobody] {
        assert!(store.create(volume).await.unwrap().is_new());
        assert_eq!(store.look_up(&volume.spec.id.name).await.unwrap(), Some(sound(volume)));
    }
}

/// Creating the same again finds the volume as it was recorded, and changes nothing.
pub async fn creating_twice_changes_nothing(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    let first = made(bench, &*store, "a").await;
    let traces = place.traces().await;
    let again = Volume { made_at: Timestamp(first.made_at.0 + 1), made_by: None, ..first.clone() };
    assert_there(&store.create(&again).await.unwrap(), &first);
    assert_eq!(store.list().await.unwrap(), [sound(&first)]);
    assert_traces(&*place, &traces, "creating again").await;
}

/// Creating other content gives the original: the caller compares.
pub async fn creating_other_content_gives_the_original(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    let original = made(bench, &*store, "a").await;
    let mut other = original.clone();
    other.spec.size = VolumeSize::from_mebibytes(original.spec.size.mebibytes() + 1).unwrap();
    other.spec.uid += 1;
    assert_there(&store.create(&other).await.unwrap(), &original);
    assert_eq!(store.look_up(&named("a")).await.unwrap(), Some(sound(&original)));
}

/// Destroying leaves nothing of the volume, and the others as they are.
pub async fn destroying_leaves_nothing(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    let stays = made(bench, &*store, "stays").await;
    let before = place.traces().await;
    made(bench, &*store, "goes").await;
    assert_ne!(place.traces().await, before, "the bench must show what a volume consists of");
    assert_eq!(store.destroy(&named("goes"), None).await.unwrap(), Destroyed::Gone);
    assert_absent(&*store, "goes").await;
    assert_eq!(store.list().await.unwrap(), [sound(&stays)]);
    assert_traces(&*place, &before, "destroying").await;
}

/// Destroying what is not there, or not any more, is no error.
pub async fn destroying_twice_finds_nothing_there(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    assert_eq!(store.destroy(&named("a"), None).await.unwrap(), Destroyed::NothingThere);
    made(bench, &*store, "a").await;
    assert_eq!(store.destroy(&named("a"), None).await.unwrap(), Destroyed::Gone);
    assert_eq!(store.destroy(&named("a"), None).await.unwrap(), Destroyed::NothingThere);
}

/// Names that nothing has are not there, also one that begins like another.
pub async fn unknown_names_are_not_there(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    assert_eq!(store.list().await.unwrap(), []);
    made(bench, &*store, "a.b").await;
    for unknown in ["a", "a.", "a.b.c", "A.B", "x", &"n".repeat(128)] {
        assert_absent(&*store, unknown).await;
    }
}

/// Lists are in order of names, whatever the order of making.
pub async fn lists_are_in_order_of_names(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    for name in ["b", "a", "C", "a.img", "10", "9", &"z".repeat(128)] {
        made(bench, &*store, name).await;
    }
    let listed = store.list().await.unwrap();
    let names: Vec<&str> = listed.iter().map(|entry| entry.name().as_str()).collect();
    assert_eq!(names, ["10", "9", "C", "a", "a.img", "b", &"z".repeat(128)]);
}

/// What was said is on disk: a new instance on the same place sees exactly the same.
pub async fn reopening_shows_the_same_volumes(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    for name in ["a", "b", "c"] {
        made(bench, &*store, name).await;
    }
    store.destroy(&named("b"), None).await.unwrap();
    let before: Vec<Entry> = store.list().await.unwrap();
    let traces = place.traces().await;
    drop(store);

    let store = place.open().await;
    assert_eq!(store.list().await.unwrap(), before);
    assert_traces(&*place, &traces, "opening again").await;
    assert_eq!(store.destroy(&named("b"), None).await.unwrap(), Destroyed::NothingThere);
    assert_eq!(store.destroy(&named("a"), None).await.unwrap(), Destroyed::Gone);
    made(bench, &*store, "b").await;
}
