//! Creates that fail.

use crate::Bench;
use crate::kit::{assert_absent, assert_traces, made, sound, volume};
use dvs_domain::names::VolumeName;

/// A create that fails, in whichever way, leaves nothing, says the step, and works when it is tried again.
pub async fn a_failing_create_leaves_nothing(bench: &dyn Bench) {
    let place = bench.place().await;
    let store = place.open().await;
    let other = made(bench, &*store, "other").await;
    let before = place.traces().await;
    let ways = place.ways_to_fail();
    if ways.is_empty() {
        eprintln!("NOT RUN: a_failing_create_leaves_nothing: this bench makes nothing fail");
    }
    for way in ways {
        place.fail_next_create(way).await;
        let volume = volume(bench, &*store, "a");
        match store.create(&volume).await {
            Err(failure) => assert!(failure.to_string().contains("step `"), "{way}: {}", failure.chain()),
            Ok(created) => panic!("failing by {way}: {created:?}"),
        }
        assert_absent(&*store, "a").await;
        assert_eq!(store.list().await.unwrap(), [sound(&other)], "after failing by {way}");
        assert_traces(&*place, &before, way).await;

        made(bench, &*store, "a").await;
        store.destroy(&VolumeName::new("a").unwrap(), None).await.unwrap();
    }
}
