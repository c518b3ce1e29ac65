//! Engines that are away, say nothing, break off or talk nonsense: refused in time, and named.

#![expect(clippy::unwrap_used, reason = "also the helpers of tests may stop a test")]

mod support;

use dvs_docker_engine::{ContainerEngines, Engine};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::ports::VolumeReferences;
use serde_json::json;
use std::time::{Duration, Instant};
use support::{FakeEngine, LONG, Reply, at, bind, folder, running, sane, volume_a};

const SHORT: Duration = Duration::from_millis(300);

/// The failure of both questions to `engine`, which must be the same and come within the limit.
async fn refused(engine: &Engine, limit: Duration) -> Failure {
    // Neither knows what the other has agreed on with the engine.
    let engines = || ContainerEngines::new(vec![engine.clone()], "dvs").within(limit);
    let begun = Instant::now();
    let failure = engines().users_of(&volume_a(), Some(&at("/mnt/a"))).await.unwrap_err();
    let bound = engines().bound_at(&at("/mnt/a")).await.unwrap_err();
    assert!(begun.elapsed() < 2 * limit + Duration::from_secs(5), "took {:?}", begun.elapsed());
    assert_eq!((failure.code(), failure.chain()), (bound.code(), bound.chain()));
    assert_eq!(failure.code(), FailureCode::StoreUnavailable);
    let chain = failure.chain();
    assert!(chain.contains("`docker`") && chain.contains(engine.socket().to_str().unwrap()), "{chain}");
    assert!(failure.hint().unwrap().contains("configuration"));
    failure
}

#[tokio::test]
async fn an_engine_that_is_absent_is_named_with_its_socket() {
    let folder = folder();
    let engine = Engine::new("docker", folder.path().join("no.sock"));
    let chain = refused(&engine, LONG).await.chain();
    assert!(
        chain.starts_with("step `connect`: ") && chain.ends_with("No such file or directory (os error 2)"),
        "{chain}"
    );

    drop(std::os::unix::net::UnixListener::bind(engine.socket()).unwrap());
    let chain = refused(&engine, LONG).await.chain();
    assert!(chain.contains("cannot be reached: Connection refused"), "{chain}");
}

#[tokio::test]
async fn an_engine_that_never_answers_is_given_up_at_the_limit_and_left_alone() {
    let silent = FakeEngine::that(|_| Reply::Silence);
    let chain = refused(&silent.engine(), SHORT).await.chain();
    assert!(chain.starts_with("step `agree on an API version`: "), "{chain}");
    assert!(chain.ends_with("does not answer within 0.3 s"), "{chain}");
    tokio::task::spawn_blocking(move || silent.until_left_alone()).await.unwrap();
}

#[tokio::test]
async fn an_engine_that_falls_silent_later_is_given_up_at_that_step() {
    let silent = FakeEngine::that(|path| if path == "/version" { sane(path) } else { Reply::Silence });
    let chain = refused(&silent.engine(), SHORT).await.chain();
    assert!(chain.starts_with("step `list containers`: ") && chain.ends_with("within 0.3 s"), "{chain}");
}

#[tokio::test]
async fn the_limit_is_for_the_whole_answer_however_it_drips() {
    let dripping = FakeEngine::that(|path| match path {
        "/version" => sane(path),
        _ => Reply::Trickle("[".to_owned()),
    });
    let chain = refused(&dripping.engine(), SHORT).await.chain();
    assert!(chain.starts_with("step `list containers`: ") && chain.ends_with("within 0.3 s"), "{chain}");
}

#[tokio::test]
async fn the_limit_is_for_all_answers_together() {
    const EACH: Duration = Duration::from_millis(1100);
    let slow = FakeEngine::that(|path| match path {
        "/version" => Reply::Late(EACH, r#"{"ApiVersion":"1.41"}"#.to_owned()),
        _ => Reply::Late(EACH, "[]".to_owned()),
    });
    let chain = refused(&slow.engine(), Duration::from_secs(2)).await.chain();
    assert!(chain.starts_with("step `list containers`: ") && chain.ends_with("within 2 s"), "{chain}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_answer() {
    let breaking = FakeEngine::that(|path| match path {
        "/version" => sane(path),
        _ => Reply::CutOff("[]".to_owned()),
    });
    let chain = refused(&breaking.engine(), LONG).await.chain();
    assert!(chain.starts_with("step `list containers`: ") && chain.contains("no usable answer"), "{chain}");

    let hanging_up = FakeEngine::that(|_| Reply::Raw(Vec::new()));
    let chain = refused(&hanging_up.engine(), LONG).await.chain();
    assert!(chain.contains("no usable answer"), "{chain}");
}

#[tokio::test]
async fn what_an_engine_says_of_its_own_failure_is_told_in_short() {
    let failing = FakeEngine::that(|path| match path {
        "/version" => sane(path),
        _ => Reply::Status(500, format!(r#"{{"message":"out of\n{}"}}"#, "luck ".repeat(10_000))),
    });
    let chain = refused(&failing.engine(), LONG).await.chain();
    assert!(chain.contains("refuses to answer: status 500: out of\\nluck luck"), "{chain}");
    assert!(chain.len() < 1000, "{} bytes", chain.len());
}

#[tokio::test]
async fn garbage_is_no_answer() {
    for garbage in [
        "not JSON",
        "{}",
        r#"{"message":"ok"}"#,
        "[1]",
        r#"[{"Names":7}]"#,
        "\u{fffd}",
        "",
        "[{\"Mounts\":[{\"Source\":[[[[[[[[",
    ] {
        let babbling = FakeEngine::that(move |path| match path {
            "/version" => sane(path),
            _ => Reply::Json(garbage.to_owned()),
        });
        let chain = refused(&babbling.engine(), LONG).await.chain();
        assert!(chain.starts_with("step `list containers`: "), "{garbage}: {chain}");
    }
    for raw in [b"HTTP/1.1 999999 \r\n\r\n".to_vec(), b"SSH-2.0-OpenSSH\r\n".to_vec(), vec![0xff; 100_000]] {
        let babbling = FakeEngine::that(move |_| Reply::Raw(raw.clone()));
        let chain = refused(&babbling.engine(), LONG).await.chain();
        assert!(chain.contains("no usable answer"), "{chain}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_before_it_fills_the_memory() {
    let endless = FakeEngine::that(|path| match path {
        "/version" => sane(path),
        _ => Reply::Endless(format!("[{}", " ".repeat(1 << 20))),
    });
    let chain = refused(&endless.engine(), LONG).await.chain();
    assert!(chain.ends_with("its answers exceed 64 MiB"), "{chain}");
}

#[tokio::test]
async fn the_limit_to_the_length_of_answers_is_for_each_session() {
    let long = format!("[{}]", " ".repeat(40 << 20));
    let lengthy = FakeEngine::that(move |path| match path {
        "/version" => sane(path),
        _ => Reply::Json(long.clone()),
    });
    let engines = ContainerEngines::new(vec![lengthy.engine()], "dvs").within(LONG);
    for _ in 0..2 {
        assert_eq!(engines.users_of(&volume_a(), Some(&at("/mnt/a"))).await.unwrap(), []);
    }
}

#[tokio::test]
async fn an_engine_that_is_stopped_and_started_again_is_asked_at_its_new_socket() {
    let mut before = FakeEngine::with(json!([]), json!([]));
    let engines = ContainerEngines::new(vec![before.engine()], "dvs").within(LONG);
    let users = async || engines.users_of(&volume_a(), Some(&at("/mnt/a"))).await;
    assert_eq!(users().await.unwrap(), []);
    let gone = before.socket().with_extension("gone");
    std::fs::rename(before.socket(), &gone).unwrap();
    let chain = users().await.unwrap_err().chain();
    assert!(chain.starts_with("step `connect`: ") && chain.contains("No such file"), "{chain}");
    std::fs::rename(&gone, before.socket()).unwrap();
    let _after = before.replaced_with(json!([bind("db", "running", "/mnt/a")]));
    assert_eq!(users().await.unwrap(), [running("db")]);
}

#[tokio::test]
async fn one_engine_that_answers_does_not_stand_in_for_another() {
    let fake = FakeEngine::with(json!([bind("db", "running", "/mnt/a")]), json!([]));
    let absent = Engine::new("podman", fake.socket().with_extension("podman"));
    let both = ContainerEngines::new(vec![fake.engine(), absent], "dvs");
    let failure = both.users_of(&volume_a(), Some(&at("/mnt/a"))).await.unwrap_err();
    assert!(failure.to_string().contains("container engine `podman`"), "{failure}");

    let twice = ContainerEngines::new(vec![fake.engine(), fake.engine()], "dvs");
    assert_eq!(twice.users_of(&volume_a(), Some(&at("/mnt/a"))).await.unwrap(), [running("db")], "each once");

    let none = ContainerEngines::new(Vec::new(), "dvs");
    assert_eq!(none.users_of(&volume_a(), Some(&at("/mnt/a"))).await.unwrap(), []);
    assert_eq!(none.bound_at(&at("/mnt/a")).await.unwrap(), []);
}

#[tokio::test]
async fn a_version_that_is_none_is_no_answer() {
    let odd = FakeEngine::that(|_| Reply::Json(r#"{"ApiVersion":"new"}"#.to_owned()));
    let chain = refused(&odd.engine(), LONG).await.chain();
    assert!(
        chain.starts_with("step `agree on an API version`: ") && chain.contains("no usable answer"),
        "{chain}"
    );
}

#[tokio::test]
async fn a_state_that_docker_does_not_have_and_that_stays_is_no_answer() {
    let stuck = FakeEngine::with(json!([bind("stuck", "stopped", "/mnt/a")]), json!([]));
    let chain = refused(&stuck.engine(), SHORT).await.chain();
    assert!(chain.contains("unknown variant `stopped`"), "{chain}");
}
