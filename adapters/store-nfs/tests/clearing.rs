//! Clearing away what unfinished work has left, beside everything else: it comes to its end whatever is in its way.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use dvs_domain::names::VolumeName;
use dvs_domain::ports::{SharedStore, VolumeStore};
use dvs_store_nfs::testing::{Lost, Refusal};
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Instant;
use support::{Ground, SOON, named, tidy, tidy_in_the_end, volume};

/// More volumes than can be looked into while the server answers.
const VOLUMES: u64 = 28;
const ANSWERED: u64 = 30;

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_cleared_away_keeps_nothing_else_from_it() {
    let ground = Ground::new();
    let made = ground.store(1);
    made.create(&volume(&made, "a")).await.unwrap();
    tidy(&made).await;
    let node = dvs_store_nfs::testing::node(1).unwrap().id;
    let gone = |token: &str, volume| format!(".gone-{node}-{}-{volume}", token.repeat(32));
    // In the place of the mark is something that is none.
    let stuck = ground.folder.path().join("volumes_metadata").join(gone("0", "stuck"));
    let free = ground.folder.path().join("volumes").join(gone("f", "free"));
    fs::create_dir_all(stuck.join("deleting")).unwrap();
    fs::create_dir_all(free.join("b")).unwrap();
    let store = ground.store(1);
    let until = Instant::now() + SOON;
    while free.exists() {
        assert!(Instant::now() < until, "what could go is still there");
        store.list().await.unwrap();
    }
    assert!(stuck.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn contact_while_clearing_away_still_fails_has_it_done_again() {
    let ground = Ground::new();
    let (store, script) = (ground.store(1), ground.server.script());
    script.hold_lists();
    store.look_up(&named("none")).await.unwrap();
    let until = Instant::now() + SOON;
    while script.held() == 0 {
        assert!(Instant::now() < until, "nobody clears away");
        tokio::task::yield_now().await;
    }
    store.look_up(&named("none")).await.unwrap();
    script.revive();
    tidy(&store).await;
}

/// A store of many volumes, the last of which this node had begun to destroy before it died.
async fn many_with_a_mark(ground: &Ground) -> VolumeName {
    let store = ground.store(1);
    for number in 0..VOLUMES {
        store.create(&volume(&store, &format!("v{number}"))).await.unwrap();
    }
    tidy(&store).await;
    let marked = format!("v{}", VOLUMES - 1);
    let mark = ground.folder.path().join("volumes_metadata").join(&marked).join("deleting");
    symlink(dvs_store_nfs::testing::node(1).unwrap().id.as_str(), mark).unwrap();
    named(&marked)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_little_at_a_time_keeps_nothing_from_being_cleared_away_in_the_end() {
    let ground = Ground::new();
    let marked = many_with_a_mark(&ground).await;
    let node = dvs_store_nfs::testing::node(1).unwrap().id;
    let left = ground.folder.path().join("volumes").join(format!(".gone-{node}-{}-z", "0".repeat(32)));
    fs::create_dir(&left).unwrap();
    let (store, script) = (ground.store(1), ground.server.script());
    let until = Instant::now() + SOON;
    while store.is_untidy() {
        script.revive();
        let last = script.calls() + ANSWERED;
        script.die_after(ANSWERED, Lost::Call);
        let _may_be_away = store.look_up(&named("none")).await;
        while store.is_untidy() && script.calls() <= last {
            assert!(Instant::now() < until, "is {} gone? {}", left.display(), !left.exists());
            tokio::task::yield_now().await;
        }
    }
    script.revive();
    assert!(!left.exists());
    ground.store(2).enter(&marked).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_could_not_be_read_is_looked_for_again() {
    let ground = Ground::new();
    let marked = many_with_a_mark(&ground).await;
    let (store, script) = (ground.store(1), ground.server.script());
    script
        .refuse_below(&ground.folder.path().join("volumes_metadata").join(marked.as_str()), Refusal::Denied);
    store.look_up(&named("none")).await.unwrap();
    let until = Instant::now() + SOON;
    while script.refused_below() == 0 {
        assert!(Instant::now() < until, "nobody looks for marks");
        tokio::task::yield_now().await;
    }
    script.revive();
    tidy_in_the_end(&store).await;
    ground.store(2).enter(&marked).await.unwrap();
}
