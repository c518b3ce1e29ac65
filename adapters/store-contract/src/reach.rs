//! Places that cannot be reached, or hold another store: reported so, soon, and forgotten when they are back.

use crate::Bench;
use crate::kit::{assert_fails, assert_traces, made, named, sound, volume};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::ports::{Destroyed, VolumeStore};
use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

/// A store that cannot be reached answers so within 3 s (contract.md section 6), and a slow machine gets one more.
const ANSWERED_WITHIN_SECONDS: u64 = 3 + 1;

/// Every operation on a place that cannot be reached is `store-unavailable`, soon.
pub async fn an_unreachable_place_is_unavailable(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    made(bench, &*store, "a").await;
    place.make_unreachable().await;
    assert_unavailable(bench, &*store).await;
}

/// When the place is back, everything is there as before, and works.
pub async fn an_unreachable_place_works_again_when_it_is_back(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    let volume = made(bench, &*store, "a").await;
    let traces = place.traces().await;
    place.make_unreachable().await;
    assert_unavailable(bench, &*store).await;
    place.make_reachable().await;
    assert_eq!(place.traces().await, traces, "what was refused has changed nothing");
    assert_eq!(store.list().await.unwrap(), [sound(&volume)]);
    made(bench, &*store, "b").await;
    drop(store.source(&named("a")).await.unwrap());
    assert_eq!(store.destroy(&named("a"), None).await.unwrap(), Destroyed::Gone);
}

/// A place that cannot be reached when the store starts is neither made anew nor taken for empty, and works without
/// another start once it is back.
pub async fn a_place_that_is_away_at_start_is_neither_made_nor_taken_for_empty(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    let volume = made(bench, &*store, "a").await;
    let traces = place.traces().await;
    drop(store);
    place.make_unreachable().await;
    let store = place.open().await;
    assert_unavailable(bench, &*store).await;
    place.make_reachable().await;
    assert_eq!(store.list().await.unwrap(), [sound(&volume)]);
    assert_traces(&*place, &traces, "waiting for the place").await;
    assert_eq!(store.destroy(&named("a"), None).await.unwrap(), Destroyed::Gone);
}

/// Another store in the same place, such as what lies below where a disk is mounted, is not used in its stead: neither
/// by a store that runs, nor by one that starts.
pub async fn another_store_in_its_place_is_not_used(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    let volume = made(bench, &*store, "a").await;
    place.make_unreachable().await;
    if !place.put_another().await {
        eprintln!("NOT RUN: another_store_in_its_place_is_not_used: this bench has no place for another");
        return;
    }
    let another = place.traces().await;
    assert_unavailable(bench, &*store).await;
    drop(store);
    let store = place.open().await;
    assert_unavailable(bench, &*store).await;
    assert_eq!(place.traces().await, another, "nothing is made in the other store");
    place.take_another_away().await;
    place.make_reachable().await;
    assert_eq!(store.list().await.unwrap(), [sound(&volume)]);
}

/// A store has claims exactly where it describes itself as shared.
pub async fn a_shared_store_describes_itself_so(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    assert_eq!(store.describe().is_shared, store.shared().is_some());
}

async fn assert_unavailable(bench: &dyn Bench, store: &dyn VolumeStore) {
    let (here, new) = (named("a"), volume(bench, store, "b"));
    unavailable("create", store.create(&new)).await;
    unavailable("destroy", store.destroy(&here, None)).await;
    unavailable("destroy of what was never there", store.destroy(&new.spec.id.name, None)).await;
    unavailable("look up", store.look_up(&here)).await;
    unavailable("look up of what was never there", store.look_up(&new.spec.id.name)).await;
    unavailable("list", store.list()).await;
    unavailable("usage", store.usage(&here)).await;
    unavailable("source", store.source(&here)).await;
    unavailable("probe", async { store.probe().await.space }).await;
    assert_eq!(store.describe().name, new.spec.id.store, "what it is called needs no reaching");
}

async fn unavailable<T: Debug, E: AsRef<Failure>>(what: &str, call: impl Future<Output = Result<T, E>>) {
    match tokio::time::timeout(Duration::from_secs(ANSWERED_WITHIN_SECONDS), call).await {
        Ok(result) => assert_fails(result, FailureCode::StoreUnavailable, what),
        Err(_) => panic!("{what}: no answer within {ANSWERED_WITHIN_SECONDS} s"),
    }
}
