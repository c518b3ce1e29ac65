//! Places that cannot be reached: said so, soon, and forgotten when they are back.

use crate::Bench;
use crate::kit::{assert_fails, made, named, sound, volume};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::ports::Destroyed;
use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

/// A store that cannot be reached says so within 3 s (contract.md section 6), and a slow machine gets one more.
const SAID_WITHIN_SECONDS: u64 = 3 + 1;

/// Every operation on a place that cannot be reached is `store-unavailable`, soon.
pub async fn an_unreachable_place_is_said_to_be_so(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    made(bench, &*store, "a").await;
    let (here, new) = (named("a"), volume(bench, &*store, "b"));
    place.make_unreachable().await;
    unavailable("create", store.create(&new)).await;
    unavailable("destroy", store.destroy(&here, None)).await;
    unavailable("destroy of what was never there", store.destroy(&new.spec.id.name, None)).await;
    unavailable("look up", store.look_up(&here)).await;
    unavailable("look up of what was never there", store.look_up(&new.spec.id.name)).await;
    unavailable("list", store.list()).await;
    unavailable("usage", store.usage(&here)).await;
    unavailable("source", store.source(&here)).await;
    assert_eq!(store.describe().name, new.spec.id.store, "what it is called needs no reaching");
}

/// When the place is back, everything is there as before, and works.
pub async fn an_unreachable_place_works_again_when_it_is_back(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    let volume = made(bench, &*store, "a").await;
    let traces = place.traces().await;
    place.make_unreachable().await;
    unavailable("create", store.create(&volume)).await;
    unavailable("destroy", store.destroy(&named("a"), None)).await;
    place.make_reachable().await;
    assert_eq!(place.traces().await, traces, "what was refused has changed nothing");
    assert_eq!(store.list().await.unwrap(), [sound(&volume)]);
    made(bench, &*store, "b").await;
    drop(store.source(&named("a")).await.unwrap());
    assert_eq!(store.destroy(&named("a"), None).await.unwrap(), Destroyed::Gone);
}

async fn unavailable<T: Debug, E: AsRef<Failure>>(what: &str, call: impl Future<Output = Result<T, E>>) {
    match tokio::time::timeout(Duration::from_secs(SAID_WITHIN_SECONDS), call).await {
        Ok(result) => assert_fails(result, FailureCode::StoreUnavailable, what),
        Err(_) => panic!("{what}: no answer within {SAID_WITHIN_SECONDS} s"),
    }
}
