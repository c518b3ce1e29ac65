//! Several nodes on one export.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use dvs_domain::failure::FailureCode;
use dvs_domain::ports::{Claim, ClaimKind, Created, Destroyed, SharedStore, VolumeStore};
use dvs_domain::volume::Entry;
use std::sync::Arc;
use support::{Ground, named, node, recovered, volume};

/// How often a race is run.
const ROUNDS: usize = 500;

#[tokio::test(flavor = "multi_thread")]
async fn of_creates_on_two_nodes_exactly_one_succeeds_and_both_see_its_volume() {
    let ground = Ground::new();
    let stores = [Arc::new(ground.store(1)), Arc::new(ground.store(2))];
    for round in 0..ROUNDS {
        let calls = stores.iter().enumerate().map(|(index, store)| {
            let store = Arc::clone(store);
            let mut volume = volume(&*store, "a");
            volume.spec.mode = dvs_domain::volume::Mode::parse(["0700", "0750"][index]).unwrap();
            tokio::spawn(async move { (store.create(&volume).await.unwrap(), volume) })
        });
        let mut made = Vec::new();
        let mut winner = None;
        for call in calls.collect::<Vec<_>>() {
            let (created, volume) = call.await.unwrap();
            if created.is_new() {
                winner = Some(volume);
            }
            made.push(created);
        }
        let winner = winner.unwrap();
        let found = |made: &&Created| matches!(made, Created::AlreadyThere(there) if **there == winner);
        assert_eq!(made.iter().filter(|made| made.is_new()).count(), 1, "round {round}: {made:?}");
        assert_eq!(made.iter().filter(found).count(), 1, "round {round}: {made:?}");
        for store in &stores {
            let found = store.look_up(&named("a")).await.unwrap();
            assert_eq!(found, Some(Entry::Sound(Box::new(winner.clone()))), "round {round}");
        }
        let mode = std::fs::metadata(ground.path("volumes/a")).unwrap().permissions();
        let mode = std::os::unix::fs::PermissionsExt::mode(&mode) & 0o7777;
        assert_eq!(mode, winner.spec.mode.bits(), "round {round}: the directory is the winner's");
        assert_eq!(stores[round % 2].destroy(&named("a"), None).await.unwrap(), Destroyed::Gone);
        assert!(ground.traces().is_empty(), "round {round}: {:?}", ground.traces());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroy_and_an_attach_on_another_node_never_both_succeed() {
    let ground = Ground::new();
    let (destroyer, attacher) = (Arc::new(ground.store(1)), Arc::new(ground.store(2)));
    let mut outcomes = [0; 3];
    for round in 0..ROUNDS {
        destroyer.create(&volume(&*destroyer, "a")).await.unwrap();
        let (one, other) = (Arc::clone(&destroyer), Arc::clone(&attacher));
        let destroy = tokio::spawn(async move { one.destroy(&named("a"), None).await });
        let attach = tokio::spawn(async move { other.enter(&named("a")).await });
        let (destroyed, attached) = (destroy.await.unwrap(), attach.await.unwrap());
        let there = destroyer.look_up(&named("a")).await.unwrap().is_some();
        assert_eq!(there, destroyed.is_err(), "round {round}");
        assert!(destroyed.is_err() || attached.is_err(), "round {round}: both succeeded");
        match (destroyed, attached) {
            (Ok(_), Err(refused)) => {
                outcomes[0] += 1;
                let expected = [FailureCode::Busy, FailureCode::NotFound].contains(&refused.code());
                assert!(expected, "{}", refused.chain());
            }
            (Err(refused), attached) => {
                let refused = refused.into_failure();
                assert_eq!(refused.code(), FailureCode::InUse, "{}", refused.chain());
                // Its name may not be written yet.
                assert!(refused.to_string().contains(node(2).id.as_str()), "{}", refused.chain());
                outcomes[if attached.is_ok() { 1 } else { 2 }] += 1;
                attacher.leave(&named("a")).await.unwrap();
                assert_eq!(destroyer.destroy(&named("a"), None).await.unwrap(), Destroyed::Gone);
            }
            (Ok(_), Ok(())) => unreachable!(),
        }
        assert!(ground.traces().is_empty(), "round {round}: {:?}", ground.traces());
    }
    assert!(0 < outcomes[0] && 0 < outcomes[1] + outcomes[2], "each must have happened: {outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nodes_say_is_shown_and_can_be_released_by_an_operator_only() {
    let ground = Ground::new();
    let (store, dead) = (ground.store(1), ground.store(2));
    store.create(&volume(&store, "a")).await.unwrap();
    store.enter(&named("a")).await.unwrap();
    store.enter(&named("a")).await.unwrap();
    dead.enter(&named("a")).await.unwrap();
    drop(dead);
    let claim = |number: u8, kind| {
        let node = node(number);
        Claim { node: node.id, node_name: Some(node.name), kind }
    };
    let both = [claim(1, ClaimKind::Attached), claim(2, ClaimKind::Attached)];
    assert_eq!(store.claims(&named("a")).await.unwrap(), both);
    store.leave(&named("a")).await.unwrap();
    store.leave(&named("a")).await.unwrap();
    let refused = store.destroy(&named("a"), None).await.unwrap_err().into_failure();
    assert_eq!(refused.code(), FailureCode::InUse);
    assert!(refused.hint().unwrap().contains("dvs release"));
    assert!(matches!(store.look_up(&named("a")).await.unwrap(), Some(Entry::Sound(_))));

    let id = node(2).id;
    assert_eq!(store.release(&named("a"), &node(3).id).await.unwrap(), []);
    assert_eq!(store.release(&named("a"), &id).await.unwrap(), [claim(2, ClaimKind::Attached)]);
    assert_eq!(store.destroy(&named("a"), None).await.unwrap(), Destroyed::Gone);
    assert_eq!(store.claims(&named("a")).await.unwrap(), []);
    store.leave(&named("a")).await.unwrap();
    assert_eq!(store.enter(&named("a")).await.unwrap_err().code(), FailureCode::NotFound);
    recovered(&store).await;
    assert!(ground.traces().is_empty(), "{:?}", ground.traces());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_says_again_that_it_has_a_volume_attached_takes_nothing_back() {
    let ground = Ground::new();
    let (store, other) = (ground.store(1), ground.store(2));
    store.create(&volume(&store, "a")).await.unwrap();
    store.enter(&named("a")).await.unwrap();
    // Another node's destroy stands between its mark and its look for claims.
    let mark = ground.path("volumes_metadata/a/deleting");
    std::os::unix::fs::symlink(node(2).id.as_str(), &mark).unwrap();
    assert_eq!(store.enter(&named("a")).await.unwrap_err().code(), FailureCode::Busy);
    assert_eq!(other.destroy(&named("a"), None).await.unwrap_err().into_failure().code(), FailureCode::InUse);
    assert!(matches!(store.look_up(&named("a")).await.unwrap(), Some(Entry::Sound(_))));
    store.leave(&named("a")).await.unwrap();
    assert_eq!(other.destroy(&named("a"), None).await.unwrap(), Destroyed::Gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_living_node_says_of_itself_is_not_released() {
    let ground = Ground::new();
    let store = ground.store(1);
    store.create(&volume(&store, "a")).await.unwrap();
    store.enter(&named("a")).await.unwrap();
    let own = node(1).id;
    let refused = store.release(&named("a"), &own).await.unwrap_err();
    assert_eq!(refused.code(), FailureCode::InUse, "{}", refused.chain());
    assert_eq!(store.claims(&named("a")).await.unwrap().len(), 1);
    store.leave(&named("a")).await.unwrap();
    assert_eq!(store.release(&named("a"), &own).await.unwrap(), []);
}
