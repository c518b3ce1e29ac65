//! Connections that stay open from one question to the next: what is saved by them, and that they spoil nothing.

#![expect(clippy::unwrap_used, reason = "also the helpers of tests may stop a test")]

mod support;

use dvs_docker_engine::ContainerEngines;
use dvs_domain::failure::Failure;
use dvs_domain::ports::VolumeReferences;
use dvs_domain::user::User;
use futures::future::join_all;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};
use support::{FakeEngine, LONG, Reply, at, bind, running, sane, volume_a};

const SHORT: Duration = Duration::from_millis(300);
/// How long a connection stays open that is not used, and a little more.
const UNUSED: Duration = Duration::from_millis(10_100);

const NOBODY: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]";

fn engines(fake: &FakeEngine) -> ContainerEngines {
    ContainerEngines::new(vec![fake.engine()], "dvs").within(LONG)
}

async fn users(engines: &ContainerEngines) -> Result<Vec<User>, Failure> {
    engines.users_of(&volume_a(), Some(&at("/mnt/a"))).await
}

/// An engine whose lists, each with its number, are what `list` says.
fn listing(list: impl Fn(usize) -> Reply + Send + Sync + 'static) -> FakeEngine {
    let lists = AtomicUsize::new(0);
    FakeEngine::that(move |path| match path {
        "/containers/json" => list(lists.fetch_add(1, Ordering::SeqCst)),
        path => sane(path),
    })
}

fn nobody() -> Reply {
    Reply::Json("[]".to_owned())
}

/// Lets `time` pass for the agent.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// What is waited for by a thread of its own while the agent goes on.
async fn waited<T: Send + 'static>(wait: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(wait).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_questions_are_asked_on_one_connection() {
    const ROUNDS: usize = 100;
    let volumes = json!([{"Name": "v", "Driver": "local", "Mountpoint": "/mnt/a", "Labels": {}, "Scope": "local",
        "Options": {}}]);
    let volume = json!({"Type": "volume", "Name": "v", "Driver": "local", "Source": "", "Destination": "/x"});
    let fake = FakeEngine::with(json!([support::container("db", "running", &volume)]), volumes);
    let engines = engines(&fake);
    for _ in 0..ROUNDS {
        assert_eq!(users(&engines).await.unwrap(), [running("db")]);
    }
    // The version, and then each time containers, volumes and the first process of the user.
    assert_eq!((fake.asked().len(), fake.connections()), (1 + 3 * ROUNDS, 1));
}

#[tokio::test]
async fn an_engine_that_closes_after_each_answer_is_asked_on_a_new_connection_each_time() {
    let told = NOBODY.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    for (answer, hangs_up) in [(told.clone(), false), (told, true), (NOBODY.to_owned(), true)] {
        let bytes = answer.clone().into_bytes();
        let closing =
            listing(
                move |_| if hangs_up { Reply::Raw(bytes.clone()) } else { Reply::Exactly(bytes.clone()) },
            );
        let engines = engines(&closing);
        for _ in 0..3 {
            assert_eq!(users(&engines).await.unwrap(), [], "{answer}");
        }
        assert_eq!((closing.asked().len(), closing.connections()), (4, 3), "{answer}");
    }
}

#[tokio::test]
async fn an_engine_that_was_started_again_is_asked_at_its_new_socket() {
    let mut before = listing(|_| nobody());
    let engines = engines(&before);
    assert_eq!(users(&engines).await.unwrap(), []);
    before.hang_up();
    let after = before.replaced_with(json!([bind("db", "running", "/mnt/a")]));
    drop(before);
    for _ in 0..2 {
        assert_eq!(users(&engines).await.unwrap(), [running("db")]);
    }
    assert_eq!(after.connections(), 1);
}

#[tokio::test]
async fn an_engine_whose_socket_is_now_anothers_is_left_alone() {
    let mut before = listing(|_| nobody());
    let engines = engines(&before);
    assert_eq!(users(&engines).await.unwrap(), []);
    let asked = before.asked();
    let after = before.replaced_with(json!([bind("db", "running", "/mnt/a")]));
    assert_eq!(users(&engines).await.unwrap(), [running("db")]);
    assert_eq!((before.asked(), after.connections()), (asked, 1), "the old one would have said nobody");
    waited(move || before.until_left_alone()).await;
}

#[tokio::test]
async fn an_engine_that_is_stopped_cannot_be_reached_by_an_old_connection() {
    let fake = listing(|_| nobody());
    let engines = engines(&fake);
    assert_eq!(users(&engines).await.unwrap(), []);
    std::fs::rename(fake.socket(), fake.socket().with_extension("gone")).unwrap();
    let chain = users(&engines).await.unwrap_err().chain();
    assert!(chain.starts_with("step `connect`: ") && chain.contains("No such file"), "{chain}");
    std::fs::rename(fake.socket().with_extension("gone"), fake.socket()).unwrap();
    assert_eq!(users(&engines).await.unwrap(), []);
}

#[tokio::test]
async fn a_connection_that_died_while_it_was_unused_is_no_failure() {
    let fake = listing(|_| nobody());
    let engines = engines(&fake);
    for connections in 1..=3 {
        assert_eq!(users(&engines).await.unwrap(), []);
        assert_eq!(fake.connections(), connections);
        fake.hang_up();
    }
}

#[tokio::test]
async fn a_question_that_dies_with_an_old_connection_is_asked_once_more_on_a_new_one() {
    let hanging_up = listing(|list| if list == 1 { Reply::HangUp(Duration::ZERO) } else { nobody() });
    let engines = engines(&hanging_up);
    for _ in 0..3 {
        assert_eq!(users(&engines).await.unwrap(), []);
    }
    assert_eq!((hanging_up.asked().len(), hanging_up.connections()), (1 + 4, 2));
}

#[tokio::test]
async fn a_question_is_not_asked_for_ever() {
    let hanging_up = listing(|list| if list == 0 { nobody() } else { Reply::HangUp(Duration::ZERO) });
    let engines = engines(&hanging_up);
    assert_eq!(users(&engines).await.unwrap(), []);
    let chain = users(&engines).await.unwrap_err().chain();
    assert!(chain.starts_with("step `list containers`: ") && chain.contains("no usable answer"), "{chain}");
    assert_eq!((hanging_up.asked().len(), hanging_up.connections()), (1 + 3, 2));
}

#[tokio::test]
async fn the_limit_is_for_both_times_together() {
    const EACH: Duration = Duration::from_millis(1100);
    let slow = listing(|list| match list {
        0 => nobody(),
        1 => Reply::HangUp(EACH),
        _ => Reply::Late(EACH, "[]".to_owned()),
    });
    let engines = engines(&slow).within(Duration::from_secs(2));
    assert_eq!(users(&engines).await.unwrap(), []);
    let begun = Instant::now();
    let chain = users(&engines).await.unwrap_err().chain();
    assert!(chain.starts_with("step `list containers`: ") && chain.ends_with("within 2 s"), "{chain}");
    assert!(begun.elapsed() < Duration::from_secs(7), "took {:?}", begun.elapsed());
    assert_eq!(slow.connections(), 2);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_neither_asked_for_again_nor_mixed_up_with_the_next() {
    let (cut, late) = NOBODY.split_at(60);
    for broken in [
        || Reply::CutOff("[]".to_owned()),
        || Reply::Raw(NOBODY[..60].into()),
        || Reply::Raw(b"H".into()),
        || Reply::Json("[".to_owned()),
        || Reply::Status(500, "{}".to_owned()),
    ] {
        let fake = listing(move |list| if list == 1 { broken() } else { nobody() });
        let engines = engines(&fake);
        assert_eq!(users(&engines).await.unwrap(), []);
        let chain = users(&engines).await.unwrap_err().chain();
        assert!(chain.starts_with("step `list containers`: "), "{chain}");
        assert_eq!((fake.asked().len(), fake.connections()), (3, 1), "{chain}");
        assert_eq!(users(&engines).await.unwrap(), []);
        assert_eq!((fake.asked().len(), fake.connections()), (4, 2), "{chain}");
    }
    // What comes only with the next question is no answer to that.
    let (cut, late) = (cut.to_owned().into_bytes(), late.to_owned().into_bytes());
    let fake = listing(move |list| match list {
        1 => Reply::Exactly(cut.clone()),
        2 => Reply::Exactly(late.clone()),
        _ => nobody(),
    });
    let engines = engines(&fake).within(SHORT);
    assert_eq!(users(&engines).await.unwrap(), []);
    for _ in 0..2 {
        let chain = users(&engines).await.unwrap_err().chain();
        assert!(chain.starts_with("step `list containers`: "), "{chain}");
    }
    assert_eq!(users(&engines).await.unwrap(), []);
}

#[tokio::test]
async fn a_connection_on_which_the_limit_was_passed_is_closed() {
    let silent = listing(|list| if list == 1 { Reply::Silence } else { nobody() });
    let engines = engines(&silent).within(SHORT);
    assert_eq!(users(&engines).await.unwrap(), []);
    let chain = users(&engines).await.unwrap_err().chain();
    assert!(chain.starts_with("step `list containers`: ") && chain.ends_with("within 0.3 s"), "{chain}");
    let silent = waited(move || {
        silent.until_left_alone();
        silent
    })
    .await;
    assert_eq!(users(&engines).await.unwrap(), []);
    assert_eq!((silent.asked().len(), silent.connections()), (4, 2));
}

#[tokio::test]
async fn what_an_engine_says_unasked_is_no_answer() {
    let mine = json!([bind("mine", "running", "/mnt/a")]).to_string();
    let unasked = format!("{NOBODY}{NOBODY}").into_bytes();
    let babbling = listing(move |list| match list {
        0 => Reply::Exactly(unasked.clone()),
        _ => Reply::Json(mine.clone()),
    });
    let engines = engines(&babbling);
    assert_eq!(users(&engines).await.unwrap(), []);
    assert_eq!(users(&engines).await.unwrap(), [running("mine")]);
}

#[tokio::test]
async fn each_time_as_much_may_be_said_as_on_a_new_connection_and_no_more() {
    let long = format!("[{}]", " ".repeat(40 << 20));
    let fake = listing(move |list| match list {
        0 | 1 => Reply::Json(long.clone()),
        _ => Reply::Endless(format!("[{}", " ".repeat(1 << 20))),
    });
    let engines = engines(&fake);
    for _ in 0..2 {
        assert_eq!(users(&engines).await.unwrap(), []);
    }
    let chain = users(&engines).await.unwrap_err().chain();
    assert!(chain.ends_with("it says more than 64 MiB"), "{chain}");
    assert_eq!(fake.connections(), 1);
    waited(move || fake.until_left_alone()).await;
}

#[tokio::test]
async fn a_connection_that_is_not_used_is_closed_after_a_while() {
    let fake = listing(|_| nobody());
    let engines = engines(&fake);
    // As long as it is used now and then, it stays.
    for _ in 0..4 {
        assert_eq!(users(&engines).await.unwrap(), []);
        pass(UNUSED * 2 / 3).await;
    }
    assert_eq!(fake.connections(), 1);
    pass(UNUSED).await;
    let fake = waited(move || {
        fake.until_left_alone();
        fake
    })
    .await;
    assert_eq!(users(&engines).await.unwrap(), []);
    assert_eq!(fake.connections(), 2);
}

#[tokio::test]
async fn an_answer_may_take_longer_than_a_connection_stays_unused() {
    let (asked, until_asked) = channel();
    let (go_on, until_told): (Sender<()>, Receiver<()>) = channel();
    let until_told = Mutex::new(until_told);
    let slow = listing(move |list| {
        if list == 1 {
            asked.send(()).unwrap();
            until_told.lock().unwrap().recv().unwrap();
        }
        nobody()
    });
    let engines = engines(&slow);
    assert_eq!(users(&engines).await.unwrap(), []);
    let asking = tokio::spawn(async move { users(&engines).await });
    waited(move || until_asked.recv_timeout(LONG).unwrap()).await;
    for _ in 0..3 {
        pass(UNUSED).await;
    }
    go_on.send(()).unwrap();
    assert_eq!(asking.await.unwrap().unwrap(), []);
    assert_eq!((slow.asked().len(), slow.connections()), (3, 1));
}

#[tokio::test]
async fn few_connections_stay_open_however_many_there_were() {
    const AT_ONCE: usize = 8;
    let together = Arc::new(Barrier::new(AT_ONCE));
    // Lists are shared by who asks at the same time, and volumes are not.
    let volume = json!({"Type": "volume", "Name": "v", "Driver": "local", "Source": "", "Destination": "/x"});
    let containers = json!([support::container("db", "running", &volume)]).to_string();
    let asked = AtomicUsize::new(0);
    let fake = FakeEngine::that(move |path| match path {
        "/containers/json" => Reply::Json(containers.clone()),
        "/volumes" => {
            if 0 < asked.fetch_add(1, Ordering::SeqCst) {
                together.wait();
            }
            let place = json!({"Name": "v", "Driver": "local", "Mountpoint": "/srv/v", "Labels": {}, "Scope": "local",
                "Options": {}});
            Reply::Json(json!({"Volumes": [place], "Warnings": null}).to_string())
        }
        path => sane(path),
    });
    let engines = engines(&fake);
    assert_eq!(users(&engines).await.unwrap(), []);
    let answers = join_all((0..AT_ONCE).map(|_| users(&engines))).await;
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().is_empty()));
    assert_eq!(fake.connections(), AT_ONCE);
    // None is closed because it was not used for long.
    tokio::time::pause();
    waited(move || fake.until_open(2)).await;
}
