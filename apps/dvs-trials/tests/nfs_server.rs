//! The store on a real NFSv3 server: nfs-ganesha.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests, which tell their figures")]

mod nfs_support;

use async_trait::async_trait;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::VolumeName;
use dvs_domain::ports::{DestroyError, Destroyed, SharedStore, VolumeStore};
use dvs_domain::volume::Entry;
use dvs_store_contract::{Bench, Place};
use dvs_store_nfs::NfsStore;
use dvs_trials::nfs::DroppingPort;
use dvs_trials::nfs::ganesha::ExportOptions;
use nfs_support::{Real, can_run, named, node, recovered, store_name, volume};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use url::Url;

struct RealBench(Arc<Real>);

#[async_trait]
impl Bench for RealBench {
    async fn place(&self) -> Box<dyn Place> {
        let folder = self.0.folder();
        Box::new(RealPlace { real: Arc::clone(&self.0), folder })
    }
}

struct RealPlace {
    real: Arc<Real>,
    folder: PathBuf,
}

#[async_trait]
impl Place for RealPlace {
    async fn open(&self) -> Arc<dyn VolumeStore> {
        Arc::new(self.real.store(&self.folder, 1, "uid=0"))
    }

    async fn damage(&self, name: &VolumeName) {
        let record = self.folder.join("volumes_metadata").join(name.as_str()).join("record");
        fs::write(record, "{").unwrap();
    }

    async fn make_unreachable(&self) {
        self.real.server.cut();
    }

    async fn make_reachable(&self) {
        self.real.server.mend();
    }

    async fn put_another(&self) -> bool {
        false
    }

    async fn take_another_away(&self) {}

    async fn traces(&self) -> BTreeSet<String> {
        nfs_support::traces(&self.folder)
    }

    fn ways_to_fail(&self) -> Vec<&'static str> {
        Vec::new() // Those are tried over a folder.
    }

    async fn fail_next_create(&self, _: &'static str) {}
}

impl Drop for RealPlace {
    fn drop(&mut self) {
        self.real.server.mend();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_server_keeps_every_promise() {
    if can_run("real_server_keeps_every_promise") {
        dvs_store_contract::all(&RealBench(Arc::new(Real::start(ExportOptions::default())))).await;
    }
}

/// The code, the chain and the hint of a failure, and how long it took.
async fn failing<T: std::fmt::Debug>(
    call: impl Future<Output = Result<T, Failure>>,
) -> (FailureCode, String, Duration) {
    let began = Instant::now();
    let failure = call.await.unwrap_err();
    (failure.code(), format!("{} ({})", failure.chain(), failure.hint().unwrap_or("-")), began.elapsed())
}

async fn destroy(store: &NfsStore, name: &str) -> Result<Destroyed, Failure> {
    store.destroy(&named(name), None).await.map_err(DestroyError::into_failure)
}

#[tokio::test(flavor = "multi_thread")]
async fn real_server_shows_owner_and_mode_and_takes_a_tree_of_ten_thousand_files_away() {
    const TEST: &str = "real_server_shows_owner_and_mode_and_takes_a_tree_of_ten_thousand_files_away";
    if !can_run(TEST) {
        return;
    }
    let real = Real::start(ExportOptions::default());
    let store = real.store(&real.export(), 1, "uid=1000&gid=1001");
    let volume = volume(&store, "v1");
    assert!(store.create(&volume).await.unwrap().is_new());
    recovered(&store).await;
    let before = real.server.calls();
    assert!(store.create(&nfs_support::volume(&store, "v2")).await.unwrap().is_new());
    assert!(real.server.calls() - before <= 6, "a create took {} calls", real.server.calls() - before);

    let top = real.export().join("volumes/v1");
    let seen = fs::metadata(&top).unwrap();
    assert_eq!((seen.uid(), seen.gid(), seen.mode() & 0o7777), (1000, 1001, 0o755));
    let outside = real.export().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "x").unwrap();
    for folder in 0..200 {
        let path = top.join(format!("d{folder}"));
        fs::create_dir(&path).unwrap();
        for file in 0..50 {
            fs::write(path.join(format!("f{file}")), "").unwrap();
        }
        symlink(&outside, path.join("link")).unwrap();
        let owner = if folder % 2 == 0 { Some(0) } else { Some(1000) };
        chown(&path, owner, owner).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    }
    symlink(outside.join("precious"), top.join("link")).unwrap();
    let before = real.server.calls();
    let began = Instant::now();
    assert_eq!(store.destroy(&named("v1"), None).await.unwrap(), Destroyed::Gone);
    let calls = real.server.calls() - before;
    eprintln!("10,000 files in 200 folders: {:?}, {calls} calls", began.elapsed());
    assert!(
        calls < 10_000 + 200 + 5 * 200 + 100,
        "{calls} calls: more than one for each file and a few for a folder"
    );
    assert!(!top.exists());
    assert_eq!(fs::read_to_string(outside.join("precious")).unwrap(), "x");
    recovered(&store).await;
    assert_eq!(store.list().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn real_server_that_is_not_there_is_said_so_in_time() {
    if !can_run("real_server_that_is_not_there_is_said_so_in_time") {
        return;
    }
    let real = Real::start(ExportOptions::default());
    let limit = Duration::from_secs(3 + 1);
    let unavailable = async |store: &NfsStore, what: &str, says: &str| {
        let (code, text, took) = failing(store.create(&volume(store, "a"))).await;
        eprintln!("{what}: {took:?}: {text}");
        assert_eq!(code, FailureCode::StoreUnavailable, "{what}: {text}");
        assert!(took < limit, "{what} took {took:?}");
        assert!(text.contains("store `shared`") && text.contains("step `"), "{what}: {text}");
        assert!(text.contains(says), "{what}: {text}");
    };
    let at = |url: &str| NfsStore::open(store_name(), &Url::parse(url).unwrap(), node(1)).unwrap();
    let path = real.export();
    let (address, ports) = real.server.address();
    let nfs_port = address.rsplit(':').next().unwrap();
    unavailable(&at("nfs://no-such-host.invalid/v"), "name unknown", "no-such-host.invalid").await;
    unavailable(&at("nfs://127.0.0.1:1/v?mountport=1"), "refused", "refused").await;
    let full = DroppingPort::open().unwrap();
    let dropped = format!("nfs://127.0.0.1:{0}/v?mountport={0}", full.port);
    unavailable(&at(&dropped), "packets dropped", "no answer within 3 s").await;
    let nowhere = format!("{address}{}/nowhere?{ports}", path.display());
    unavailable(&at(&nowhere), "no such export", "nowhere").await;
    let wrong = format!("{address}{}?mountport={nfs_port}", path.display());
    unavailable(&at(&wrong), "wrong program on the port", "127.0.0.1").await;

    let store = real.store(&path, 1, "");
    store.create(&volume(&store, "here")).await.unwrap();
    real.server.freeze().unwrap();
    unavailable(&store, "frozen", "no answer within 3 s").await;
    let (code, _, took) = failing(store.list()).await;
    assert!(code == FailureCode::StoreUnavailable && took < limit, "{took:?}");
    real.server.thaw().unwrap();
    assert_eq!(store.list().await.unwrap().len(), 1, "it is used again when it is back");
    recovered(&store).await;
    assert_eq!(store.list().await.unwrap().len(), 1, "a create that was late is not there");
    real.server.kill().unwrap();
    unavailable(&store, "killed", "127.0.0.1").await;
    real.server.start_again().unwrap();
    assert!(store.create(&volume(&store, "back")).await.unwrap().is_new());
    assert_eq!(store.list().await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn real_server_that_exports_read_only_or_squashes_root_says_why() {
    if !can_run("real_server_that_exports_read_only_or_squashes_root_says_why") {
        return;
    }
    let real = Real::start(ExportOptions { read_only: true, ..ExportOptions::default() });
    let store = real.store(&real.export(), 1, "");
    assert_eq!(store.list().await.unwrap(), []);
    let (code, text, _) = failing(store.create(&volume(&store, "a"))).await;
    assert_eq!(code, FailureCode::Unsupported, "{text}");
    assert!(text.contains("read-only"), "{text}");
    // Made by somebody else, on the server.
    let (metadata, data) = (real.export().join("volumes_metadata/old"), real.export().join("volumes/old"));
    fs::create_dir_all(&metadata).unwrap();
    fs::create_dir_all(&data).unwrap();
    fs::write(metadata.join("DockerMetaData"), r#"{"Name":"old"}"#).unwrap();
    assert_eq!(store.list().await.unwrap().len(), 1);
    store.source(&named("old")).await.unwrap();
    let (code, text, _) = failing(destroy(&store, "old")).await;
    assert_eq!(code, FailureCode::Unsupported, "{text}");
    drop(real);

    let real = Real::start(ExportOptions { squashes_root: true, ..ExportOptions::default() });
    let store = real.store(&real.export(), 1, "uid=1000");
    let (code, text, _) = failing(store.create(&volume(&store, "a"))).await;
    assert_eq!(code, FailureCode::StoreUnavailable, "the export is root's: {text}");
    assert!(text.contains("permission denied") && text.contains("no_root_squash"), "{text}");
    chown(real.export(), Some(1000), Some(1000)).unwrap();
    assert!(store.create(&volume(&store, "a")).await.unwrap().is_new());
    let inside = real.export().join("volumes/a/roots");
    fs::create_dir(&inside).unwrap();
    fs::write(inside.join("file"), "x").unwrap();
    fs::set_permissions(&inside, fs::Permissions::from_mode(0o700)).unwrap();
    let (code, text, _) = failing(destroy(&store, "a")).await;
    assert_eq!(code, FailureCode::StoreUnavailable, "{text}");
    assert!(text.contains("uid 0"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_server_that_dies_again_and_again_leaves_each_name_as_was_answered() {
    const TEST: &str = "real_server_that_dies_again_and_again_leaves_each_name_as_was_answered";
    const OPERATIONS_MIN: usize = 200;
    const DEATHS_MIN: usize = 10;
    if !can_run(TEST) {
        return;
    }
    let real = Arc::new(Real::start(ExportOptions::default()));
    let stores = [1, 2].map(|number| Arc::new(real.store(&real.export(), number, "timeout=2")));
    let is_over = Arc::new(AtomicBool::new(false));
    let deaths = Arc::new(AtomicUsize::new(0));
    let killer = {
        let (real, is_over, deaths) = (Arc::clone(&real), Arc::clone(&is_over), Arc::clone(&deaths));
        std::thread::spawn(move || {
            let mut random = 0x2545_f491_u64;
            while !is_over.load(Ordering::Acquire) {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let until = Instant::now() + Duration::from_millis(50 + (random >> 33) % 400);
                while Instant::now() < until && !is_over.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
                real.server.kill().unwrap();
                real.server.start_again().unwrap();
                deaths.fetch_add(1, Ordering::AcqRel);
            }
        })
    };
    let mut tasks = Vec::new();
    for (node, store) in stores.iter().enumerate() {
        for lane in 0..4 {
            let (store, deaths) = (Arc::clone(store), Arc::clone(&deaths));
            tasks.push(tokio::spawn(async move {
                let (mut answered, mut good) = (0, 0);
                // Whether a name must be there; `None` after a destroy that failed: it may have been decided.
                let mut must_be = BTreeMap::new();
                while answered < OPERATIONS_MIN / 8 || deaths.load(Ordering::Acquire) < DEATHS_MIN {
                    // Half of the lanes have names of their own, half share theirs with the other node.
                    let of = if lane % 2 == 0 { format!("n{node}") } else { "both".to_owned() };
                    let name = format!("{of}-{lane}-{}", answered / 2 % 3);
                    let is_there = must_be.get(&name).copied().unwrap_or(Some(false));
                    let (is_good, now) = if (answered + node) % 2 == 0 {
                        let created = store.create(&volume(&*store, &name)).await;
                        // A create that failed may have published its volume, and then it stays.
                        let may_be = if is_there == Some(true) { Some(true) } else { None };
                        (created.is_ok(), if created.is_ok() { Some(true) } else { may_be })
                    } else {
                        let destroyed = store.destroy(&named(&name), None).await;
                        let may_be = if is_there == Some(false) { Some(false) } else { None };
                        (destroyed.is_ok(), if destroyed.is_ok() { Some(false) } else { may_be })
                    };
                    if lane % 2 == 0 {
                        must_be.insert(name, now);
                    }
                    good += usize::from(is_good);
                    answered += 1;
                }
                (answered, good, must_be)
            }));
        }
    }
    let (mut answered, mut good, mut must_be) = (0, 0, BTreeMap::new());
    for task in tasks {
        let (of_task, good_of_task, must_be_of_task) = task.await.unwrap();
        answered += of_task;
        good += good_of_task;
        must_be.extend(must_be_of_task);
    }
    is_over.store(true, Ordering::Release);
    killer.join().unwrap();
    let deaths = deaths.load(Ordering::Acquire);
    eprintln!("{answered} operations answered, {good} of them good, {deaths} deaths of the server");
    assert!(0 < good && good < answered);
    for store in &stores {
        store.list().await.unwrap();
        recovered(store).await;
    }
    let listed = stores[0].list().await.unwrap();
    for (name, must_be) in must_be {
        let is_there = listed.iter().any(|entry| entry.name().as_str() == name);
        assert!(must_be.is_none_or(|must_be| must_be == is_there), "{name}: {must_be:?}, and is {is_there}");
    }
    drop(stores);

    // After the next start of both nodes: each name once and whole, or not at all.
    let stores = [1, 2].map(|number| real.store(&real.export(), number, ""));
    for store in &stores {
        store.list().await.unwrap();
        recovered(store).await;
    }
    let listed = stores[0].list().await.unwrap();
    let damaged: Vec<_> = listed.iter().filter(|entry| matches!(entry, Entry::Damaged { .. })).collect();
    assert!(damaged.is_empty(), "{damaged:?}");
    let traces = nfs_support::traces(&real.export());
    assert!(traces.iter().all(|path| !path.contains("/.new-") && !path.contains("/.gone-")), "{traces:?}");
    for entry in &listed {
        // Its own node goes on with a destroy that was marked and cut off before its decision.
        let gone = match stores[0].destroy(entry.name(), None).await {
            Err(failure) if failure.as_ref().code() == FailureCode::Busy => {
                stores[1].destroy(entry.name(), None).await
            }
            gone => gone,
        };
        assert_eq!(gone.unwrap(), Destroyed::Gone);
    }
    assert!(nfs_support::traces(&real.export()).is_empty(), "{:?}", nfs_support::traces(&real.export()));
}

#[tokio::test(flavor = "multi_thread")]
async fn real_server_lets_a_destroy_and_an_attach_never_both_succeed() {
    const TEST: &str = "real_server_lets_a_destroy_and_an_attach_never_both_succeed";
    if !can_run(TEST) {
        return;
    }
    let real = Real::start(ExportOptions::default());
    let [destroyer, attacher] = [1, 2].map(|number| Arc::new(real.store(&real.export(), number, "")));
    let mut outcomes = [0; 3];
    for round in 0..500 {
        destroyer.create(&volume(&*destroyer, "a")).await.unwrap();
        let (one, other) = (Arc::clone(&destroyer), Arc::clone(&attacher));
        let destroy = tokio::spawn(async move { one.destroy(&named("a"), None).await });
        let attach = tokio::spawn(async move { other.enter(&named("a")).await });
        let (destroyed, attached) = (destroy.await.unwrap(), attach.await.unwrap());
        assert!(destroyed.is_err() || attached.is_err(), "round {round}: both succeeded");
        outcomes[if destroyed.is_ok() { 0 } else { usize::from(attached.is_err()) + 1 }] += 1;
        attacher.leave(&named("a")).await.unwrap();
        destroyer.destroy(&named("a"), None).await.unwrap();
    }
    eprintln!("destroyed {}, attached {}, both withdrew {}", outcomes[0], outcomes[1], outcomes[2]);
    assert!(nfs_support::traces(&real.export()).is_empty(), "{:?}", nfs_support::traces(&real.export()));
}
