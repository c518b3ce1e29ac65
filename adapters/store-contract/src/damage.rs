//! Damaged entries: told with their reason, left alone, and never in the way of others.

use crate::Bench;
use crate::kit::{assert_fails, assert_traces, made, named, sound, volume};
use dvs_domain::failure::FailureCode;
use dvs_domain::ports::VolumeStore;
use dvs_domain::volume::Entry;

/// A damaged entry is listed as damaged, with its reason, and the others are listed and work as ever.
pub async fn a_damaged_entry_hides_no_other(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    let before = made(bench, &*store, "a").await;
    made(bench, &*store, "b").await;
    let after = made(bench, &*store, "c").await;
    place.damage(&named("b")).await;
    let listed = store.list().await.unwrap();
    assert_eq!(listed.len(), 3, "{listed:?}");
    assert_eq!((&listed[0], &listed[2]), (&sound(&before), &sound(&after)));
    assert_damaged(&*store, "b").await;
    store.source(&named("a")).await.unwrap();
    store.destroy(&named("c"), None).await.unwrap();
    made(bench, &*store, "d").await;
}

/// What is damaged may be somebody's data: it is not made anew, not attached, not removed.
pub async fn a_damaged_entry_is_neither_created_over_nor_destroyed(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    made(bench, &*store, "a").await;
    place.damage(&named("a")).await;
    let traces = place.traces().await;
    let again = volume(bench, &*store, "a");
    assert_fails(store.create(&again).await, FailureCode::Damaged, "create over what is damaged");
    assert_fails(store.source(&named("a")).await, FailureCode::Damaged, "source of what is damaged");
    assert_fails(store.destroy(&named("a"), None).await, FailureCode::Damaged, "destroy what is damaged");
    assert_traces(&*place, &traces, "refusing what is damaged").await;
    assert_damaged(&*store, "a").await;
}

/// A restart neither forgets nor removes what is damaged.
pub async fn a_damaged_entry_is_still_damaged_after_reopening(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    made(bench, &*store, "a").await;
    let other = made(bench, &*store, "b").await;
    place.damage(&named("a")).await;
    let traces = place.traces().await;
    drop(store);
    let store = place.open().await;
    assert_damaged(&*store, "a").await;
    assert_eq!(store.look_up(&named("b")).await.unwrap(), Some(sound(&other)));
    assert_traces(&*place, &traces, "opening again").await;
}

/// Asserts that `name` is damaged, for whoever lists and whoever looks it up, with the same reason.
async fn assert_damaged(store: &dyn VolumeStore, name: &str) {
    let listed = store.list().await.unwrap();
    let entry = listed.iter().find(|entry| entry.name().as_str() == name);
    match entry {
        Some(Entry::Damaged { reason, .. }) => assert!(!reason.is_empty(), "{name} has no reason"),
        other => panic!("`{name}` is damaged, and listed as {other:?}"),
    }
    assert_eq!(store.look_up(&named(name)).await.unwrap().as_ref(), entry);
}
