//! Work that is cut off between any two calls, with the call or its answer lost: by this node's death, or by the
//! server's. Afterwards a volume is whole or not there, as was answered, and nothing else is left.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use dvs_domain::failure::FailureCode;
use dvs_domain::ports::{Created, DestroyError, Destroyed, SharedStore, VolumeStore};
use dvs_domain::volume::Entry;
use dvs_store_nfs::NfsStore;
use dvs_store_nfs::testing::Lost;
use std::collections::BTreeSet;
use std::fs;
use support::{Ground, named, tidy, tidy_in_the_end, volume};

/// More calls than any operation makes.
const CALLS_MAX: u64 = 60;
/// More calls than what goes on makes until it removes something.
const REFUSED_MAX: u64 = 40;

/// What is there of a whole volume `a`.
async fn whole(ground: &Ground) -> BTreeSet<String> {
    let store = ground.store(1);
    store.create(&volume(&store, "a")).await.unwrap();
    tidy(&store).await;
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
    let store = ground.store(1);
    store.list().await.unwrap();
    tidy(&store).await;
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
    for lost in [Lost::Call, Lost::Answer] {
        let mut outcomes = BTreeSet::new();
        for calls in 0..CALLS_MAX {
            let ground = Ground::new();
            let store = ground.store(1);
            store.list().await.unwrap();
            tidy(&store).await;
            ground.server.script().die_after(calls, lost);
            let created = store.create(&volume(&store, "a")).await;
            drop(store);
            ground.server.script().revive();

            let store = ground.store(1);
            let found = store.look_up(&named("a")).await.unwrap();
            tidy(&store).await;
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
            tidy(&store).await;
            assert!(ground.traces().is_empty(), "after {calls} calls, {lost:?}: {:?}", ground.traces());
            if created.is_ok() {
                break;
            }
        }
        assert!(outcomes.contains(&(true, true)) && outcomes.contains(&(false, false)), "{outcomes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_the_server_did_not_survive_is_not_there_as_was_answered() {
    for lost in [Lost::Call, Lost::Answer] {
        for calls in 0..CALLS_MAX {
            let ground = Ground::new();
            let store = ground.store(1);
            store.list().await.unwrap();
            tidy(&store).await;
            ground.server.script().die_after(calls, lost);
            let created = store.create(&volume(&store, "a")).await;
            ground.server.script().revive();
            if created.is_ok() {
                break;
            }
            // Any contact clears away what the failed one may have made.
            store.list().await.unwrap();
            tidy(&store).await;
            assert!(ground.traces().is_empty(), "after {calls} calls, {lost:?}: {:?}", ground.traces());
            assert_eq!(store.look_up(&named("a")).await.unwrap(), None, "after {calls} calls, {lost:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_create_is_forgotten_when_the_same_is_made_again() {
    for calls in 0..CALLS_MAX {
        let ground = Ground::new();
        let store = ground.store(1);
        store.list().await.unwrap();
        tidy(&store).await;
        ground.server.script().die_after(calls, Lost::Answer);
        let first = store.create(&volume(&store, "a")).await;
        ground.server.script().revive();
        let again = store.create(&volume(&store, "a")).await.unwrap();
        if first.is_ok() {
            assert!(matches!(again, Created::AlreadyThere(_)));
            break;
        }
        tidy(&store).await;
        assert!(again.is_new(), "after {calls} calls");
        assert!(matches!(store.look_up(&named("a")).await.unwrap(), Some(Entry::Sound(_))));
        assert_eq!(ground.traces().len(), 3, "after {calls} calls: {:?}", ground.traces());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroy_that_was_cut_off_is_undecided_or_comes_to_its_end() {
    for lost in [Lost::Call, Lost::Answer] {
        for restarts in [true, false] {
            for calls in 0..CALLS_MAX {
                let ground = Ground::new();
                let before = whole(&ground).await;
                let inside = ground.folder.path().join("volumes/a");
                fs::create_dir_all(inside.join("b/c")).unwrap();
                fs::write(inside.join("b/c/file"), "x").unwrap();
                let mut store = ground.store(1);
                store.list().await.unwrap();
                tidy(&store).await;
                ground.server.script().die_after(calls, lost);
                let destroyed = store.destroy(&named("a"), None).await;
                ground.server.script().revive();
                if restarts {
                    store = ground.store(1);
                }
                let found = store.look_up(&named("a")).await.unwrap();
                assert!(!matches!(found, Some(Entry::Damaged { .. })), "after {calls}, {lost:?}: {found:?}");
                tidy(&store).await;
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
                tidy(&store).await;
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
            let store = ground.store(1);
            store.list().await.unwrap();
            tidy(&store).await;
            ground.server.script().die_after(calls, Lost::Answer);
            let destroyed = store.destroy(&named("a"), None).await;
            let is_half_out =
                ["volumes_metadata/a", "volumes/a"].map(|it| ground.folder.path().join(it).exists());
            if destroyed.is_ok() || is_half_out != [true, false] {
                break;
            }
            decided += 1;
            ground.server.script().revive();
            ground.server.script().refuse_after(refused);
            if let Err(DestroyError::Refused(failure)) = store.destroy(&named("a"), None).await {
                let has_looked = failure.to_string().contains("mark as deleting");
                assert!(!has_looked, "{calls}, {refused}: {}", failure.chain());
            }
            ground.server.script().revive();
            let found = store.look_up(&named("a")).await.unwrap();
            assert!(!matches!(found, Some(Entry::Damaged { .. })), "{calls}, {refused}: {found:?}");
            tidy_in_the_end(&store).await;
            assert_eq!(store.look_up(&named("a")).await.unwrap(), None, "{calls}, {refused}");
            assert!(ground.traces().is_empty(), "{calls}, {refused}: {:?}", ground.traces());
        }
    }
    assert!(0 < decided);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_destroy_says_that_nothing_has_changed_only_of_a_volume_that_stays() {
    let (mut stayed, mut went) = (0, 0);
    for way in [Some(Lost::Call), Some(Lost::Answer), None] {
        for calls in 0..CALLS_MAX {
            let ground = Ground::new();
            let (store, destroyed) = destroy_but(&ground, way, calls).await;
            let Err(error) = destroyed else { break };
            let is_refused = matches!(error, DestroyError::Refused(_));
            tidy_in_the_end(&store).await;
            let is_there = store.look_up(&named("a")).await.unwrap().is_some();
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
        let dead = ground.store(2);
        dead.list().await.unwrap();
        tidy(&dead).await;
        ground.server.script().die_after(calls, Lost::Answer);
        let destroyed = dead.destroy(&named("a"), None).await;
        ground.server.script().revive();
        drop(dead);
        if destroyed.is_ok() {
            break;
        }
        let left = ground.traces();
        let store = ground.store(1);
        store.list().await.unwrap();
        tidy(&store).await;
        assert_eq!(ground.traces(), left, "after {calls} calls: an agent never does that by itself");
        let marked = store.look_up(&named("a")).await.unwrap().is_some();
        if marked && left.iter().any(|path| path.ends_with("/deleting")) {
            let refused = store.destroy(&named("a"), None).await.unwrap_err().into_failure();
            assert_eq!(refused.code(), FailureCode::Busy, "{}", refused.chain());
            assert!(refused.hint().is_some_and(|hint| hint.contains("dvs release")));
        }
        let node = dvs_store_nfs::testing::node(2).unwrap();
        store.shared().unwrap().release(&named("a"), &node.id).await.unwrap();
        assert!(store.destroy(&named("a"), None).await.is_ok(), "after {calls} calls");
        tidy(&store).await;
        assert!(ground.traces().is_empty(), "after {calls} calls: {:?}", ground.traces());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroy_that_came_to_nothing_leaves_a_volume_that_others_can_attach() {
    let mut undecided = 0;
    for way in [Some(Lost::Call), Some(Lost::Answer), None] {
        for restarts in [true, false] {
            for calls in 0..CALLS_MAX {
                let ground = Ground::new();
                let (mut store, destroyed) = destroy_but(&ground, way, calls).await;
                if destroyed.is_ok() {
                    break;
                }
                if restarts {
                    store = ground.store(1);
                }
                store.list().await.unwrap();
                tidy(&store).await;
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
async fn a_failed_create_is_not_undone_when_another_node_was_told_that_its_volume_is_there() {
    let mut told = 0;
    for calls in 0..CALLS_MAX {
        for restarts in [true, false] {
            let ground = Ground::new();
            let (mut store, other) = (ground.store(1), ground.store(2));
            for store in [&store, &other] {
                store.list().await.unwrap();
                tidy(store).await;
            }
            ground.server.script().die_after(calls, Lost::Answer);
            let created = store.create(&volume(&store, "a")).await;
            ground.server.script().revive();
            if created.is_ok() {
                break;
            }
            let Created::AlreadyThere(seen) = other.create(&volume(&other, "a")).await.unwrap() else {
                continue;
            };
            told += 1;
            let before = ground.traces();
            if restarts {
                store = ground.store(1);
            }
            store.list().await.unwrap();
            tidy(&store).await;
            let found = other.look_up(&named("a")).await.unwrap();
            assert_eq!(found, Some(Entry::Sound(seen)), "after {calls} calls");
            assert_eq!(ground.traces(), before, "after {calls} calls");
            other.enter(&named("a")).await.unwrap();
        }
    }
    assert!(0 < told);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_create_has_staged_goes_though_the_name_was_taken_and_it_could_not_go_at_once() {
    for calls in 0..CALLS_MAX {
        let ground = Ground::new();
        let before = whole(&ground).await;
        let other = ground.store(2);
        other.list().await.unwrap();
        tidy(&other).await;
        ground.server.script().refuse_after(calls);
        let created = other.create(&volume(&other, "a")).await;
        ground.server.script().revive();
        other.list().await.unwrap();
        tidy(&other).await;
        let left: Vec<_> = ground.traces().difference(&before).cloned().collect();
        let is_word = |path: &String| path.contains("/a/seen.");
        assert!(left.iter().all(is_word), "after {calls} calls: {created:?}: {left:?}");
        assert!(before.is_subset(&ground.traces()), "after {calls} calls");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_said_in_a_volume_while_it_was_removed_goes_with_it() {
    let ground = Ground::new();
    let before = whole(&ground).await;
    let [own, other] = [1, 2].map(|number| dvs_store_nfs::testing::node(number).unwrap().id);
    let gone = format!(".gone-{own}-{}-a", "0".repeat(32));
    let gone = ground.folder.path().join("volumes_metadata").join(gone);
    for word in ["seen", "attached"] {
        fs::create_dir(&gone).unwrap();
        fs::write(gone.join(format!("{word}.{other}")), "").unwrap();
        let store = ground.store(1);
        store.list().await.unwrap();
        tidy(&store).await;
        assert_eq!(ground.traces(), before, "{word}");
    }
}
