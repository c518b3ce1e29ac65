//! Several nodes on one export.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use dvs_domain::failure::FailureCode;
use dvs_domain::job::{JobKey, JobKind};
use dvs_domain::names::{JobId, SenderId};
use dvs_domain::ports::{Claim, ClaimKind, Created, Destroyed, SharedStore, TakenBack, VolumeStore};
use dvs_domain::time::Timestamp;
use dvs_domain::volume::{Entry, Volume};
use dvs_store_nfs::testing::node;
use std::sync::Arc;
use support::{Ground, named, tidy, volume};

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
            if created == Created::New {
                winner = Some(volume);
            }
            made.push(created);
        }
        let winner = winner.unwrap();
        let expected = Created::AlreadyThere(Box::new(winner.clone()));
        assert_eq!(made.iter().filter(|made| **made == Created::New).count(), 1, "round {round}: {made:?}");
        assert_eq!(made.iter().filter(|made| **made == expected).count(), 1, "round {round}: {made:?}");
        for store in &stores {
            let found = store.look_up(&named("a")).await.unwrap();
            assert_eq!(found, Some(Entry::Sound(Box::new(winner.clone()))), "round {round}");
        }
        let mode = std::fs::metadata(ground.folder.path().join("volumes/a")).unwrap().permissions();
        let mode = std::os::unix::fs::PermissionsExt::mode(&mode) & 0o7777;
        assert_eq!(mode, winner.spec.mode.bits(), "round {round}: the directory is the winner's");
        assert_eq!(stores[round % 2].destroy(&named("a")).await.unwrap(), Destroyed::Gone);
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
        let destroy = tokio::spawn(async move { one.destroy(&named("a")).await });
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
                assert_eq!(refused.code(), FailureCode::InUse, "{}", refused.chain());
                // Its name may not be written yet.
                assert!(refused.to_string().contains(node(2).unwrap().id.as_str()), "{}", refused.chain());
                outcomes[if attached.is_ok() { 1 } else { 2 }] += 1;
                attacher.leave(&named("a")).await.unwrap();
                assert_eq!(destroyer.destroy(&named("a")).await.unwrap(), Destroyed::Gone);
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
        let node = node(number).unwrap();
        Claim { node: node.id, node_name: Some(node.name), kind }
    };
    let both = [claim(1, ClaimKind::Attached), claim(2, ClaimKind::Attached)];
    assert_eq!(store.claims(&named("a")).await.unwrap(), both);
    store.leave(&named("a")).await.unwrap();
    store.leave(&named("a")).await.unwrap();
    let refused = store.destroy(&named("a")).await.unwrap_err();
    assert_eq!(refused.code(), FailureCode::InUse);
    assert!(refused.hint().unwrap().contains("dvs release"));
    assert!(matches!(store.look_up(&named("a")).await.unwrap(), Some(Entry::Sound(_))));

    let id = node(2).unwrap().id;
    assert_eq!(store.release(&named("a"), &node(3).unwrap().id).await.unwrap(), []);
    assert_eq!(store.release(&named("a"), &id).await.unwrap(), [claim(2, ClaimKind::Attached)]);
    assert_eq!(store.destroy(&named("a")).await.unwrap(), Destroyed::Gone);
    assert_eq!(store.claims(&named("a")).await.unwrap(), []);
    store.leave(&named("a")).await.unwrap();
    assert_eq!(store.enter(&named("a")).await.unwrap_err().code(), FailureCode::NotFound);
    tidy(&store).await;
    assert!(ground.traces().is_empty(), "{:?}", ground.traces());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_says_again_that_it_has_a_volume_attached_takes_nothing_back() {
    let ground = Ground::new();
    let (store, other) = (ground.store(1), ground.store(2));
    store.create(&volume(&store, "a")).await.unwrap();
    store.enter(&named("a")).await.unwrap();
    // Another node's destroy stands between its mark and its look for claims.
    let mark = ground.folder.path().join("volumes_metadata/a/deleting");
    std::os::unix::fs::symlink(node(2).unwrap().id.as_str(), &mark).unwrap();
    assert_eq!(store.enter(&named("a")).await.unwrap_err().code(), FailureCode::Busy);
    assert_eq!(other.destroy(&named("a")).await.unwrap_err().code(), FailureCode::InUse);
    assert!(matches!(store.look_up(&named("a")).await.unwrap(), Some(Entry::Sound(_))));
    store.leave(&named("a")).await.unwrap();
    assert_eq!(other.destroy(&named("a")).await.unwrap(), Destroyed::Gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_taken_back_only_while_it_is_nobody_elses() {
    let ground = Ground::new();
    let (store, other) = (ground.store(1), ground.store(2));
    let made = volume(&store, "a");
    store.create(&made).await.unwrap();

    other.enter(&named("a")).await.unwrap();
    assert_eq!(store.take_back(&made).await.unwrap(), TakenBack::Left);
    other.leave(&named("a")).await.unwrap();
    let precious = ground.folder.path().join("volumes/a/precious");
    std::fs::write(&precious, "x").unwrap();
    assert_eq!(store.take_back(&made).await.unwrap(), TakenBack::Left);
    std::fs::remove_file(&precious).unwrap();
    let newer = Volume { made_at: Timestamp(made.made_at.0 + 1), ..made.clone() };
    assert_eq!(store.take_back(&newer).await.unwrap(), TakenBack::Left);
    // What stays is whole: others can attach it.
    other.enter(&named("a")).await.unwrap();
    other.leave(&named("a")).await.unwrap();

    assert_eq!(store.take_back(&made).await.unwrap(), TakenBack::Gone);
    assert_eq!(store.take_back(&made).await.unwrap(), TakenBack::Gone);
    assert!(ground.traces().is_empty(), "{:?}", ground.traces());

    // Whoever makes the same was told that it is there. Nobody is kept by that from destroying it.
    store.create(&made).await.unwrap();
    for _ in 0..2 {
        assert_eq!(other.create(&made).await.unwrap(), Created::AlreadyThere(Box::new(made.clone())));
    }
    assert_eq!(store.take_back(&made).await.unwrap(), TakenBack::Left);
    assert_eq!(store.destroy(&named("a")).await.unwrap(), Destroyed::Gone);
    assert!(ground.traces().is_empty(), "{:?}", ground.traces());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_node_has_made_is_not_taken_back_though_the_same_job_was_sent_to_both() {
    let ground = Ground::new();
    let (maker, other) = (ground.store(1), ground.store(2));
    let sender = SenderId::new("s").unwrap();
    let key = JobKey { sender, kind: JobKind::Create, id: JobId::new("1").unwrap() };
    let made = Volume { made_by: Some(key), ..volume(&maker, "a") };
    assert_eq!(maker.create(&made).await.unwrap(), Created::New);
    // The other one was cut off before it asked its store for anything, and undoes what bears its job's key.
    let Some(Entry::Sound(seen)) = other.look_up(&named("a")).await.unwrap() else { panic!() };
    assert_eq!(other.take_back(&seen).await.unwrap(), TakenBack::Left);
    assert_eq!(maker.look_up(&named("a")).await.unwrap(), Some(Entry::Sound(Box::new(made.clone()))));
    maker.enter(&named("a")).await.unwrap();
    maker.leave(&named("a")).await.unwrap();
    assert_eq!(maker.take_back(&made).await.unwrap(), TakenBack::Gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_implementation_before_this_one_has_made_is_not_taken_back() {
    let ground = Ground::new();
    let store = ground.store(1);
    store.list().await.unwrap();
    let at = |path: &str| ground.folder.path().join(path);
    std::fs::create_dir(at("volumes/old")).unwrap();
    std::fs::create_dir(at("volumes_metadata/old")).unwrap();
    let record = r#"{"DriverOpts":{"Capacity":"2048"},"Name":"old"}"#;
    std::fs::write(at("volumes_metadata/old/DockerMetaData"), record).unwrap();
    let Some(Entry::Sound(seen)) = store.look_up(&named("old")).await.unwrap() else { panic!() };
    assert_eq!(store.take_back(&seen).await.unwrap(), TakenBack::Left);
    assert_eq!(store.look_up(&named("old")).await.unwrap(), Some(Entry::Sound(seen)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_living_node_says_of_itself_is_not_released() {
    let ground = Ground::new();
    let store = ground.store(1);
    store.create(&volume(&store, "a")).await.unwrap();
    store.enter(&named("a")).await.unwrap();
    let own = node(1).unwrap().id;
    let refused = store.release(&named("a"), &own).await.unwrap_err();
    assert_eq!(refused.code(), FailureCode::InUse, "{}", refused.chain());
    assert_eq!(store.claims(&named("a")).await.unwrap().len(), 1);
    store.leave(&named("a")).await.unwrap();
    assert_eq!(store.release(&named("a"), &own).await.unwrap(), []);
}
