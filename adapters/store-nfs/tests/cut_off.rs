//! Operations that are cut off at any call, with the call or its reply lost: by this node's death, or by the
//! server's. Afterwards a volume is whole or not there, as was answered, and nothing else is left.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use dvs_domain::failure::FailureCode;
use dvs_domain::ports::{Created, DestroyError, Destroyed, SharedStore, VolumeStore};
use dvs_domain::time::Timestamp;
use dvs_domain::volume::{Entry, Volume};
use dvs_store_nfs::NfsStore;
use std::collections::BTreeSet;
use std::fs;
use support::script::Lost;
use support::{Ground, named, recovered, recovered_in_the_end, volume};

/// More calls than any operation makes.
const CALLS_MAX: u64 = 60;
/// More calls than what goes on makes until it removes something.
const REFUSED_MAX: u64 = 40;

/// What is there of a whole volume `a`.
async fn whole(ground: &Ground) -> BTreeSet<String> {
    let store = ground.store(1);
    store.create(&volume(&store, "a")).await.unwrap();
    recovered(&store).await;
    ground.traces()
}

/// A store in which a whole volume `a` is destroyed, but for what is lost from `calls` calls on, or the one call that is
/// refused then, and what came of that.
async fn destroy_but(
    ground: &Ground,
    way: Option<Lost>,
    calls: u64,
) -> (NfsStore, Result<Destroyed, DestroyError>) {
    whole(ground).await;
    let store = ground.ready(1).await;
    match way {
        Some(lost) => ground.server.script().die_after(calls, lost),
        None => ground.server.script().refuse_after(calls),
    }
    let destroyed = store.destroy(&named("a"), None).await;
    ground.server.script().revive();
    (store, destroyed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_its_node_did_not_survive_is_whole_or_nothing() {
    for lost in [Lost::Call, Lost::Reply] {
        let mut outcomes = BTreeSet::new();
        for calls in 0..CALLS_MAX {
            let ground = Ground::new();
            let store = ground.ready(1).await;
            ground.server.script().die_after(calls, lost);
            let created = store.create(&volume(&store, "a")).await;
            drop(store);
            ground.server.script().revive();

            let store = ground.store(1);
            let found = store.look_up(&named("a")).await.unwrap();
            recovered(&store).await;
            assert_eq!(store.look_up(&named("a")).await.unwrap(), found, "after {calls} calls, {lost:?}");
            match &found {
                None => assert!(ground.traces().is_empty(), "after {calls}, {lost:?}: {:?}", ground.traces()),
                Some(Entry::Sound(_)) => assert_eq!(ground.traces().len(), 3, "{:?}", ground.traces()),
                Some(damaged) => panic!("after {calls} calls, {lost:?}: {damaged:?}"),
            }
            assert!(
                created.is_err() || found.is_some(),
                "after {calls} calls, {lost:?}: it was said to be made"
            );
            outcomes.insert((created.is_ok(), found.is_some()));
            assert!(store.create(&volume(&store, "a")).await.is_ok(), "after {calls} calls, {lost:?}");
            assert_eq!(store.destroy(&named("a"), None).await.unwrap(), Destroyed::Gone);
            recovered(&store).await;
            assert!(ground.traces().is_empty(), "after {calls} calls, {lost:?}: {:?}", ground.traces());
            if created.is_ok() {
                break;
            }
        }
        assert!(outcomes.contains(&(true, true)) && outcomes.contains(&(false, false)), "{outcomes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_create_leaves_a_whole_volume_or_nothing_and_can_be_repeated() {
    let (mut made, mut not_made) = (0, 0);
    for way in [Some(Lost::Call), Some(Lost::Reply), None] {
        for is_asked_at_once in [true, false] {
            for calls in 0..CALLS_MAX {
                let ground = Ground::new();
                let store = ground.ready(1).await;
                match way {
                    Some(lost) => ground.server.script().die_after(calls, lost),
                    None => ground.server.script().refuse_after(calls),
                }
                let first = volume(&store, "a");
                let created = store.create(&first).await;
                ground.server.script().revive();
                let context = format!("after {calls} calls, {way:?}");
                if !is_asked_at_once {
                    store.list().await.unwrap();
                    recovered(&store).await;
                    let found = store.look_up(&named("a")).await.unwrap();
                    match (&found, ground.traces().len()) {
                        (None, 0) => assert!(created.is_err(), "{context}"),
                        (Some(Entry::Sound(found)), 3) => assert_eq!(**found, first, "{context}"),
                        (found, _) => panic!("{context}: {found:?}, {:?}", ground.traces()),
                    }
                }
                // Of another job, as its record would tell.
                let again = Volume { made_at: Timestamp(8), ..first.clone() };
                match store.create(&again).await.unwrap() {
                    Created::AlreadyThere(found) => {
                        assert_eq!(*found, first, "{context}");
                        made += usize::from(created.is_err());
                    }
                    Created::New(_) => {
                        assert!(created.is_err(), "{context}: it was said to be made");
                        not_made += 1;
                    }
                }
                recovered(&store).await;
                assert!(matches!(store.look_up(&named("a")).await.unwrap(), Some(Entry::Sound(_))));
                assert_eq!(ground.traces().len(), 3, "{context}: {:?}", ground.traces());
                if created.is_ok() {
                    break;
                }
            }
        }
    }
    assert!(0 < made && 0 < not_made, "both must have happened: {made}, {not_made}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_another_node_found_stays_when_its_create_fails() {
    let mut found = 0;
    for calls in 0..CALLS_MAX {
        let ground = Ground::new();
        let (store, other) = (ground.ready(1).await, ground.ready(2).await);
        ground.server.script().die_after(calls, Lost::Reply);
        let created = store.create(&volume(&store, "a")).await;
        ground.server.script().revive();
        if created.is_ok() {
            break;
        }
        let Created::AlreadyThere(seen) = other.create(&volume(&other, "a")).await.unwrap() else { continue };
        found += 1;
        drop(store);
        ground.ready(1).await;
        assert_eq!(
            other.look_up(&named("a")).await.unwrap(),
            Some(Entry::Sound(seen)),
            "after {calls} calls"
        );
        other.enter(&named("a")).await.unwrap();
    }
    assert!(0 < found);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroy_that_was_cut_off_is_undecided_or_comes_to_its_end() {
    for lost in [Lost::Call, Lost::Reply] {
        for restarts in [true, false] {
            for calls in 0..CALLS_MAX {
                let ground = Ground::new();
                let before = whole(&ground).await;
                let inside = ground.path("volumes/a");
                fs::create_dir_all(inside.join("b/c")).unwrap();
                fs::write(inside.join("b/c/file"), "x").unwrap();
                let mut store = ground.ready(1).await;
                ground.server.script().die_after(calls, lost);
                let destroyed = store.destroy(&named("a"), None).await;
                ground.server.script().revive();
                if restarts {
                    store = ground.store(1);
                }
                let found = store.look_up(&named("a")).await.unwrap();
                assert!(!matches!(found, Some(Entry::Damaged { .. })), "after {calls}, {lost:?}: {found:?}");
                recovered(&store).await;
                let found = store.look_up(&named("a")).await.unwrap();
                assert!(!matches!(found, Some(Entry::Damaged { .. })), "after {calls}, {lost:?}: {found:?}");
                if destroyed.is_ok() {
                    assert_eq!(found, None, "after {calls} calls, {lost:?}: it was said to be gone");
                } else if found.is_some() && before.is_subset(&ground.traces()) {
                    assert!(
                        inside.join("b/c/file").exists(),
                        "after {calls}: undecided, and something is gone"
                    );
                }
                // Asked again it comes to its end.
                let again = store.destroy(&named("a"), None).await.unwrap();
                assert_eq!(again == Destroyed::Gone, found.is_some(), "after {calls} calls, {lost:?}");
                recovered(&store).await;
                assert!(ground.traces().is_empty(), "after {calls}, {lost:?}: {:?}", ground.traces());
                if destroyed.is_ok() {
                    break;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroy_that_was_decided_stays_decided_when_going_on_fails() {
    let mut decided = 0;
    for calls in 0..CALLS_MAX {
        for refused in 0..REFUSED_MAX {
            let ground = Ground::new();
            whole(&ground).await;
            let store = ground.ready(1).await;
            ground.server.script().die_after(calls, Lost::Reply);
            let destroyed = store.destroy(&named("a"), None).await;
            let is_half_out = ["volumes_metadata/a", "volumes/a"].map(|it| ground.path(it).exists());
            if destroyed.is_ok() || is_half_out != [true, false] {
                break;
            }
            decided += 1;
            ground.server.script().revive();
            ground.server.script().refuse_after(refused);
            if let Err(DestroyError::Refused(failure)) = store.destroy(&named("a"), None).await {
                let has_looked = failure.to_string().contains("lock for deletion");
                assert!(!has_looked, "{calls}, {refused}: {}", failure.chain());
            }
            ground.server.script().revive();
            let found = store.look_up(&named("a")).await.unwrap();
            assert!(!matches!(found, Some(Entry::Damaged { .. })), "{calls}, {refused}: {found:?}");
            recovered_in_the_end(&store).await;
            assert_eq!(store.look_up(&named("a")).await.unwrap(), None, "{calls}, {refused}");
            assert!(ground.traces().is_empty(), "{calls}, {refused}: {:?}", ground.traces());
        }
    }
    assert!(0 < decided);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_destroy_says_that_nothing_has_changed_only_of_a_volume_that_stays() {
    let (mut stayed, mut went) = (0, 0);
    for way in [Some(Lost::Call), Some(Lost::Reply), None] {
        for calls in 0..CALLS_MAX {
            let ground = Ground::new();
            let (store, destroyed) = destroy_but(&ground, way, calls).await;
            let Err(error) = destroyed else { break };
            recovered_in_the_end(&store).await;
            let is_there = store.look_up(&named("a")).await.unwrap().is_some();
            let is_refused = matches!(error, DestroyError::Refused(_));
            let said = error.into_failure().chain();
            assert!(is_there || !is_refused, "after {calls} calls, {way:?}: {said}");
            // Whoever got an answer knows.
            let is_known = way.is_none() || !said.contains("take out of its name");
            assert!(!is_there || is_refused || !is_known, "after {calls} calls, {way:?}: {said}");
            *(if is_there { &mut stayed } else { &mut went }) += 1;
        }
    }
    assert!(0 < stayed && 0 < went, "{stayed}, {went}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_node_has_left_is_not_touched_until_an_operator_says_so() {
    for calls in 0..CALLS_MAX {
        let ground = Ground::new();
        whole(&ground).await;
        let dead = ground.ready(2).await;
        ground.server.script().die_after(calls, Lost::Reply);
        let destroyed = dead.destroy(&named("a"), None).await;
        ground.server.script().revive();
        drop(dead);
        if destroyed.is_ok() {
            break;
        }
        let left = ground.traces();
        let store = ground.ready(1).await;
        assert_eq!(ground.traces(), left, "after {calls} calls: an agent never does that by itself");
        let marked = store.look_up(&named("a")).await.unwrap().is_some();
        if marked && left.iter().any(|path| path.ends_with("/deleting")) {
            let refused = store.destroy(&named("a"), None).await.unwrap_err().into_failure();
            assert_eq!(refused.code(), FailureCode::Busy, "{}", refused.chain());
            assert!(refused.hint().is_some_and(|hint| hint.contains("dvs release")));
        }
        let node = support::node(2);
        store.shared().unwrap().release(&named("a"), &node.id).await.unwrap();
        assert!(store.destroy(&named("a"), None).await.is_ok(), "after {calls} calls");
        recovered(&store).await;
        assert!(ground.traces().is_empty(), "after {calls} calls: {:?}", ground.traces());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroy_that_came_to_nothing_leaves_a_volume_that_others_can_attach() {
    let mut undecided = 0;
    for way in [Some(Lost::Call), Some(Lost::Reply), None] {
        for restarts in [true, false] {
            for calls in 0..CALLS_MAX {
                let ground = Ground::new();
                let (mut store, destroyed) = destroy_but(&ground, way, calls).await;
                if destroyed.is_ok() {
                    break;
                }
                if restarts {
                    // Its agent's journal knows that the delete is unresolved, and has it destroyed again.
                    store = ground.ready(1).await;
                    assert!(store.destroy(&named("a"), None).await.is_ok(), "after {calls} calls, {way:?}");
                    store.create(&volume(&store, "a")).await.unwrap();
                }
                store.list().await.unwrap();
                recovered(&store).await;
                if store.look_up(&named("a")).await.unwrap().is_none() {
                    continue;
                }
                undecided += 1;
                let entered = ground.store(2).enter(&named("a")).await;
                assert!(entered.is_ok(), "after {calls} calls, {way:?}: {}", entered.unwrap_err().chain());
            }
        }
    }
    assert!(0 < undecided);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_create_has_staged_goes_though_the_name_was_taken_and_it_could_not_go_at_once() {
    for calls in 0..CALLS_MAX {
        let ground = Ground::new();
        let before = whole(&ground).await;
        let other = ground.ready(2).await;
        ground.server.script().refuse_after(calls);
        let created = other.create(&volume(&other, "a")).await;
        ground.server.script().revive();
        other.list().await.unwrap();
        recovered(&other).await;
        let left: Vec<_> = ground.traces().difference(&before).cloned().collect();
        assert!(left.is_empty(), "after {calls} calls: {created:?}: {left:?}");
        assert!(before.is_subset(&ground.traces()), "after {calls} calls");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_came_while_its_volume_was_removed_goes_with_it() {
    let ground = Ground::new();
    let before = whole(&ground).await;
    let [own, other] = [1, 2].map(|number| support::node(number).id);
    let gone = format!(".gone-{own}-{}-a", "0".repeat(32));
    let gone = ground.path("volumes_metadata").join(gone);
    fs::create_dir(&gone).unwrap();
    fs::write(gone.join(format!("attached.{other}")), "").unwrap();
    ground.ready(1).await;
    assert_eq!(ground.traces(), before);
}
