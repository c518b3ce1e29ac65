//! Recovery of what unfinished operations left: it ends whatever is in its way.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use dvs_domain::ports::{SharedStore, VolumeStore};
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Instant;
use support::script::Lost;
use support::{Ground, SOON, named, node, recovered, recovered_in_the_end, volume};

/// The temporary name of a destroy of node 1.
fn gone(token: &str, volume: &str) -> String {
    format!(".gone-{}-{}-{volume}", node(1).id, token.repeat(32))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leftover_that_cannot_be_removed_prevents_the_recovery_of_no_other() {
    let ground = Ground::new();
    let store = ground.ready(1).await;
    store.create(&volume(&store, "a")).await.unwrap();
    // In the place of the delete lock is a directory.
    let stuck = ground.path("volumes_metadata").join(gone("0", "stuck"));
    let free = ground.path("volumes").join(gone("f", "free"));
    fs::create_dir_all(stuck.join("deleting")).unwrap();
    fs::create_dir_all(free.join("b")).unwrap();
    let store = ground.store(1);
    let until = Instant::now() + SOON;
    while free.exists() {
        assert!(Instant::now() < until, "what can be removed is still there");
        store.list().await.unwrap();
    }
    assert!(stuck.exists());
    fs::remove_dir(stuck.join("deleting")).unwrap();
    recovered_in_the_end(&store).await;
    assert!(!stuck.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_that_the_server_cuts_off_again_and_again_ends() {
    let ground = Ground::new();
    let store = ground.ready(1).await;
    for number in 0..10 {
        let left = ground.path("volumes").join(gone("0", &format!("v{number}")));
        fs::create_dir_all(left.join("b/c")).unwrap();
    }
    let (restarted, script) = (ground.store(1), ground.server.script());
    drop(store);
    let until = Instant::now() + SOON;
    while restarted.has_leftovers() {
        assert!(Instant::now() < until, "{:?}", ground.traces());
        script.revive();
        script.die_after(30, Lost::Call);
        let _may_be_away = restarted.look_up(&named("none")).await;
    }
    script.revive();
    assert!(ground.traces().is_empty(), "{:?}", ground.traces());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_lock_that_could_not_be_removed_is_removed_when_the_server_answers() {
    for calls in 0..40 {
        let ground = Ground::new();
        let store = ground.ready(1).await;
        store.create(&volume(&store, "a")).await.unwrap();
        recovered(&store).await;
        ground.server.script().die_after(calls, Lost::Reply);
        let destroyed = store.destroy(&named("a"), None).await;
        ground.server.script().revive();
        let is_locked = fs::symlink_metadata(ground.path("volumes_metadata/a/deleting")).is_ok();
        if destroyed.is_err() && is_locked && ground.path("volumes/a").exists() {
            store.look_up(&named("a")).await.unwrap();
            recovered(&store).await;
            ground.store(2).enter(&named("a")).await.unwrap();
            return;
        }
    }
    panic!("no destroy was cut off between its lock and its decision");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attach_removes_the_delete_lock_that_a_destroy_of_this_node_left_before_a_restart() {
    let ground = Ground::new();
    let store = ground.ready(1).await;
    store.create(&volume(&store, "a")).await.unwrap();
    symlink(node(1).id.as_str(), ground.path("volumes_metadata/a/deleting")).unwrap();
    ground.ready(1).await.enter(&named("a")).await.unwrap();
    ground.store(2).enter(&named("a")).await.unwrap();
}
