//! What is asked of an engine by many at the same time: that they share lists, and that nobody's is older than the
//! question.

#![expect(clippy::unwrap_used, reason = "also the helpers of tests may stop a test")]

mod support;

use dvs_docker_engine::ContainerEngines;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::ports::VolumeReferences;
use dvs_domain::user::User;
use futures::future::join_all;
use futures::poll;
use serde_json::json;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Barrier, Mutex};
use std::time::Duration;
use support::{FakeEngine, LONG, Reply, at, bind, running, sane, stopped, volume_a};
use tokio::task::JoinHandle;

/// How many ask while the first list is made.
const OTHERS: usize = 10;

/// An engine that makes a list only when it is told to, and tells when it is about to.
struct Gated {
    fake: FakeEngine,
    asked: Option<Receiver<usize>>,
    go_on: Sender<Reply>,
}

impl Gated {
    fn new() -> Self {
        let ((asks, asked), (go_on, told)) = (channel(), channel());
        let (asks, told) = (Mutex::new(asks), Mutex::new(told));
        let lists = AtomicUsize::new(0);
        let fake = FakeEngine::that(move |path| match path {
            "/containers/json" => {
                let told = told.lock().unwrap(); // Who is asked first is told first.
                let _ended = asks.lock().unwrap().send(lists.fetch_add(1, Ordering::SeqCst));
                told.recv().unwrap_or(Reply::Silence)
            }
            path => sane(path),
        });
        Self { fake, asked: Some(asked), go_on }
    }

    fn engines(&self, limit: Duration) -> ContainerEngines {
        ContainerEngines::new(vec![self.fake.engine()], "dvs").within(limit)
    }

    /// Waits until list `number` is asked for.
    async fn until_asked(&mut self, number: usize) {
        let asked = self.asked.take().unwrap();
        let wait = move || {
            assert_eq!(asked.recv_timeout(LONG).unwrap(), number);
            asked
        };
        self.asked = Some(tokio::task::spawn_blocking(wait).await.unwrap());
    }

    /// Lets somebody ask `engines`, and waits until the list for it is begun, the first after the one by which a version was agreed on.
    async fn is_listing_for(&mut self, engines: &ContainerEngines) -> JoinHandle<Result<Vec<User>, Failure>> {
        let engines = engines.clone();
        let asking = tokio::spawn(async move { users(&engines).await });
        self.until_asked(1).await;
        asking
    }

    fn says_nobody(&self) {
        self.go_on.send(Reply::Json("[]".to_owned())).unwrap();
    }

    fn says_db(&self) {
        self.go_on.send(Reply::Json(json!([bind("db", "running", "/mnt/a")]).to_string())).unwrap();
    }

    fn lists(&self) -> usize {
        self.fake.asked().iter().filter(|path| path.contains("/containers/json")).count()
    }
}

async fn users(engines: &ContainerEngines) -> Result<Vec<User>, Failure> {
    engines.users_of(&volume_a(), Some(&at("/mnt/a"))).await
}

/// Agrees on a version, so that from now on the list is what is asked first.
async fn agreed(engine: &mut Gated, limit: Duration) -> ContainerEngines {
    let engines = engine.engines(limit);
    engine.says_nobody();
    assert_eq!(users(&engines).await.unwrap(), []);
    engine.until_asked(0).await;
    engines
}

#[tokio::test]
async fn who_asks_while_a_list_is_made_shares_the_next_one() {
    let mut engine = Gated::new();
    let engines = agreed(&mut engine, LONG).await;
    let first = engine.is_listing_for(&engines).await;
    let mut others = pin!(join_all((0..OTHERS).map(|_| users(&engines))));
    assert!(poll!(&mut others).is_pending());
    // A container that is made now is none of the first list, which was begun before, and of everybody else's.
    engine.says_nobody();
    engine.says_db();
    assert_eq!(first.await.unwrap().unwrap(), []);
    for answer in others.await {
        assert_eq!(answer.unwrap(), [running("db")]);
    }
    assert_eq!(engine.lists(), 3);
    // It is nobody's any more.
    engine.says_nobody();
    assert_eq!(users(&engines).await.unwrap(), []);
}

#[tokio::test]
async fn a_list_that_fails_is_only_the_failure_of_who_asked_for_it() {
    let mut engine = Gated::new();
    let engines = agreed(&mut engine, LONG).await;
    let first = engine.is_listing_for(&engines).await;
    let mut others = pin!(join_all((0..OTHERS).map(|_| users(&engines))));
    assert!(poll!(&mut others).is_pending());
    engine.go_on.send(Reply::Status(500, json!({"message": "out of order"}).to_string())).unwrap();
    engine.says_db();
    assert_eq!(first.await.unwrap().unwrap_err().code(), FailureCode::StoreUnavailable);
    for answer in others.await {
        assert_eq!(answer.unwrap(), [running("db")]);
    }
}

#[tokio::test]
async fn who_gives_up_leaves_the_list_to_the_next() {
    let mut engine = Gated::new();
    let engines = agreed(&mut engine, LONG).await;
    let first = engine.is_listing_for(&engines).await;
    let mut other = pin!(users(&engines));
    assert!(poll!(&mut other).is_pending());
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    engine.says_nobody(); // To nobody.
    engine.says_db();
    assert_eq!(other.await.unwrap(), [running("db")]);
}

#[tokio::test]
async fn who_shares_a_list_goes_on_in_the_version_that_was_agreed_on_for_it() {
    const NOW: &str = "/v1.30";
    let volume = json!({"Type": "volume", "Name": "v", "Driver": "local", "Source": "", "Destination": "/x"});
    let containers = json!([support::container("db", "exited", &volume)]).to_string();
    let place = json!({"Name": "v", "Driver": "local", "Mountpoint": "/mnt/a", "Labels": {}, "Scope": "local",
        "Options": {}});
    let volumes = json!({"Volumes": [place], "Warnings": null}).to_string();
    let ((asks, mut asked), (go_on, told)) = (tokio::sync::mpsc::unbounded_channel(), channel::<()>());
    let (told, lists) = (Mutex::new(told), AtomicUsize::new(0));
    let fake = FakeEngine::that_sees_versions(move |path| match path {
        "/version" if lists.load(Ordering::SeqCst) == 0 => {
            Reply::Json(json!({"ApiVersion": "1.41"}).to_string())
        }
        "/version" => Reply::Json(json!({"ApiVersion": "1.30"}).to_string()),
        path if path.ends_with("/containers/json") => match lists.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::Json("[]".to_owned()),
            // The last list that the engine makes before it is replaced.
            1 => {
                let _ended = asks.send(());
                let _ended = told.lock().unwrap().recv();
                Reply::Json("[]".to_owned())
            }
            _ if path.starts_with(NOW) => Reply::Json(containers.clone()),
            _ => Reply::Status(400, json!({"message": "client version is too new"}).to_string()),
        },
        path if path == format!("{NOW}/volumes") => Reply::Json(volumes.clone()),
        _ => Reply::Status(400, json!({"message": "client version is too new"}).to_string()),
    });
    let engines = ContainerEngines::new(vec![fake.engine()], "dvs").within(LONG);
    assert_eq!(users(&engines).await.unwrap(), []);
    let first = tokio::spawn({
        let engines = engines.clone();
        async move { users(&engines).await }
    });
    asked.recv().await.unwrap();
    let mut others = pin!(join_all((0..OTHERS).map(|_| users(&engines))));
    assert!(poll!(&mut others).is_pending());
    go_on.send(()).unwrap();
    assert_eq!(first.await.unwrap().unwrap(), []);
    for answer in others.await {
        assert_eq!(answer.unwrap(), [stopped("db")]);
    }
}

#[tokio::test]
async fn an_engine_that_takes_long_is_asked_for_several_lists_at_once() {
    // Each list is made when this many are asked for.
    let together = Barrier::new(OTHERS);
    let fake = FakeEngine::that(move |path| match path {
        "/containers/json" => {
            together.wait();
            Reply::Json(json!([bind("db", "running", "/mnt/a")]).to_string())
        }
        path => sane(path),
    });
    let engines = ContainerEngines::new(vec![fake.engine()], "dvs").within(Duration::from_secs(10));
    for answer in join_all((0..OTHERS).map(|_| users(&engines))).await {
        assert_eq!(answer.unwrap(), [running("db")]);
    }
}
