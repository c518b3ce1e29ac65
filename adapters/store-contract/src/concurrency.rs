//! One volume, one operation at a time; different volumes side by side; calls that are given up.

use crate::Bench;
use crate::kit::{assert_absent, assert_traces, is_there, made, named, sound, volume};
use dvs_domain::ports::{Created, Destroyed};
use futures::future::join_all;
use std::sync::Arc;

/// How many calls are made at once.
const CALLS: usize = 16;

/// Of creates of one name at once exactly one makes it, and the others find it.
pub async fn concurrent_creates_of_one_name_make_one_volume(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    let volume = volume(bench, &*store, "a");
    let calls = (0..CALLS).map(|_| {
        let (store, volume) = (Arc::clone(&store), volume.clone());
        tokio::spawn(async move { store.create(&volume).await.unwrap() })
    });
    let outcomes: Vec<Created> = join_all(calls).await.into_iter().map(|made| made.unwrap()).collect();
    let new = outcomes.iter().filter(|created| created.is_new()).count();
    assert_eq!(new, 1, "{outcomes:?}");
    assert!(outcomes.iter().all(|made| made.is_new() || is_there(made, &volume)));
    assert_eq!(store.list().await.unwrap(), [sound(&volume)]);
}

/// Creates of different names at once all succeed, and so do their destroys.
pub async fn concurrent_creates_of_different_names_all_succeed(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    let before = place.traces().await;
    let volumes: Vec<_> = (0..CALLS).map(|number| volume(bench, &*store, &format!("v{number:02}"))).collect();
    let calls = volumes.iter().cloned().map(|volume| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.create(&volume).await.unwrap() })
    });
    assert!(join_all(calls).await.into_iter().all(|made| made.unwrap().is_new()));
    assert_eq!(store.list().await.unwrap(), volumes.iter().map(sound).collect::<Vec<_>>());
    let calls = volumes.iter().cloned().map(|volume| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.destroy(&volume.spec.id.name, None).await.unwrap() })
    });
    assert!(join_all(calls).await.into_iter().all(|gone| gone.unwrap() == Destroyed::Gone));
    assert_eq!(store.list().await.unwrap(), []);
    assert_traces(&*place, &before, "destroying all").await;
}

/// Creates and destroys of one name at once each do what they say: what was made and not destroyed is there.
pub async fn concurrent_creates_and_destroys_of_one_name_agree(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    let before = place.traces().await;
    let volume = volume(bench, &*store, "a");
    let calls = (0..CALLS).map(|number| {
        let (store, volume) = (Arc::clone(&store), volume.clone());
        tokio::spawn(async move {
            if number % 2 == 0 {
                i32::from(store.create(&volume).await.unwrap().is_new())
            } else {
                -i32::from(store.destroy(&volume.spec.id.name, None).await.unwrap() == Destroyed::Gone)
            }
        })
    });
    let there: i32 = join_all(calls).await.into_iter().map(|change| change.unwrap()).sum();
    match there {
        0 => assert_absent(&*store, "a").await,
        1 => {
            assert_eq!(store.look_up(&named("a")).await.unwrap(), Some(sound(&volume)));
            assert_eq!(store.list().await.unwrap(), [sound(&volume)]);
            store.source(&named("a")).await.unwrap();
            assert_eq!(store.destroy(&named("a"), None).await.unwrap(), Destroyed::Gone);
        }
        _ => panic!("made minus destroyed is {there}"),
    }
    assert_traces(&*place, &before, "creating and destroying at once").await;
}

/// Callers that give up waiting leave a whole volume or none, and nothing of theirs happens later: what is
/// done afterwards holds.
pub async fn an_abandoned_create_is_whole_or_nothing(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    let before = place.traces().await;
    for yields in 0..CALLS {
        let calls: Vec<_> = (0..CALLS)
            .map(|_| {
                let (store, volume) = (Arc::clone(&store), volume(bench, &*store, "a"));
                tokio::spawn(async move { store.create(&volume).await })
            })
            .collect();
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        calls.iter().for_each(tokio::task::JoinHandle::abort);
        for call in calls {
            assert!(call.await.map_or_else(|ended| ended.is_cancelled(), |created| created.is_ok()));
        }
        let volume = volume(bench, &*store, "a");
        let created = store.create(&volume).await.unwrap();
        assert!(created.is_new() || is_there(&created, &volume), "{created:?}");
        assert_eq!(store.list().await.unwrap(), [sound(&volume)]);
        drop(store.source(&named("a")).await.unwrap());
        assert_eq!(store.destroy(&named("a"), None).await.unwrap(), Destroyed::Gone);
        assert_absent(&*store, "a").await;
    }
    assert_traces(&*place, &before, "giving up").await;
    made(bench, &*store, "a").await;
}
