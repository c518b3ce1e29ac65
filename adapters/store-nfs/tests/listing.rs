//! What listing costs, and that it is right whatever was known before, and whatever lies on the export as the list that
//! nodes share.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests, which tell their figures")]

mod support;

use dvs_domain::ports::{SharedStore, VolumeStore};
use dvs_domain::volume::{Entry, Mode};
use dvs_store_nfs::NfsStore;
use dvs_store_nfs::testing::ganesha::ExportOptions;
use dvs_store_nfs::testing::node;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;
use support::listing::{BELIEVED, Many, PAGES, RECORD_CALLS, is_done, posted, ready, shares};
use support::real::{Real, can_run};
use support::{Ground, named, tidy, volume};

/// So many volumes are read again by one list.
const AGAIN: u64 = 32;
/// What a server that is only slow, or a test that is stopped meanwhile, does not exceed.
const PATIENT: &str = "timeout=60";

#[tokio::test(start_paused = true)]
async fn a_list_reads_only_the_record_of_what_nobody_has_listed_and_nothing_of_what_is_known() {
    let many = Many::new().await;
    let store = many.ready(1).await;
    let (first, calls) = many.list(&store).await;
    assert_eq!(first, many.expected());
    assert_eq!(calls, PAGES + RECORD_CALLS * Many::COUNT);
    assert!(shares(&store, &many.ground).await);
    assert_eq!(many.list(&store).await, (first, PAGES));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_knows_nothing_lists_by_what_another_has_found() {
    let many = Many::listed().await;
    for options in ["", "ro=1"] {
        let new = ready(&many.ground, 2, options).await;
        assert_eq!(many.list(&new).await, (many.expected(), PAGES + 1), "one read of the shared list");
        assert_eq!(many.list(&new).await, (many.expected(), PAGES));
        assert!(!new.is_posting(), "it has read nothing that it could share");
    }
    let again = many.ready(1).await;
    assert_eq!(many.list(&again).await, (many.expected(), PAGES + 1), "after a start");
}

#[tokio::test(start_paused = true)]
async fn what_is_known_is_read_again_a_few_at_a_time() {
    let many = Many::new().await;
    let store = many.ready(1).await;
    many.list(&store).await;
    assert!(shares(&store, &many.ground).await);
    tokio::time::advance(BELIEVED).await;
    let mut left = Many::COUNT;
    while 0 < left {
        let (listed, calls) = many.list(&store).await;
        assert_eq!(listed, many.expected());
        assert_eq!(calls, PAGES + RECORD_CALLS * left.min(AGAIN), "{left} were not read lately");
        left = left.saturating_sub(AGAIN);
    }
    assert_eq!(many.list(&store).await.1, PAGES);
    // However long nobody lists.
    tokio::time::advance(BELIEVED * 10_000).await;
    assert_eq!(many.list(&store).await.1, PAGES + RECORD_CALLS * AGAIN);
}

#[tokio::test(start_paused = true)]
async fn what_was_written_over_by_hand_is_found_in_time() {
    for (is_new, is_looked_up) in [(false, false), (true, false), (false, true), (true, true)] {
        let many = Many::new().await;
        let mut store = many.ready(1).await;
        many.list(&store).await;
        assert!(shares(&store, &many.ground).await);
        if is_new {
            store = many.ready(2).await;
            many.list(&store).await;
        }
        let record = many.ground.folder.path().join("volumes_metadata/v150/record");
        let text = fs::read_to_string(&record).unwrap();
        fs::write(&record, text.replace("\"mebibytes\": 8", "\"mebibytes\": 9")).unwrap();
        tokio::time::advance(BELIEVED).await;
        let most = if is_looked_up {
            store.look_up(&named("v150")).await.unwrap();
            1
        } else {
            Many::COUNT.div_ceil(AGAIN)
        };
        let mut lists = 0;
        loop {
            lists += 1;
            assert!(lists <= most, "nobody has found it: {is_new} {is_looked_up}");
            let (mut listed, _) = many.list(&store).await;
            let damaged = listed.remove(150);
            let mut expected = many.expected();
            let was = expected.remove(150);
            assert_eq!(listed, expected);
            if damaged != was {
                assert!(matches!(damaged, Entry::Damaged { .. }), "{damaged:?}");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_changed_since_another_node_listed_is_listed_as_it_is() {
    let many = Many::listed().await;
    let (other, root) = (many.ready(3).await, many.ground.folder.path().to_owned());
    other.destroy(&named("v000"), None).await.unwrap();
    other.destroy(&named("v001"), None).await.unwrap();
    let mut anew = volume(&other, "v001");
    anew.spec.mode = Mode::parse("0700").unwrap();
    other.create(&anew).await.unwrap();
    other.enter(&named("v002")).await.unwrap();
    let metadata = |name: &str| root.join("volumes_metadata").join(name);
    let directory = |name: &str| root.join("volumes").join(name);
    for marked in ["v003", "v004"] {
        symlink(node(4).unwrap().id.as_str(), metadata(marked).join("deleting")).unwrap();
    }
    fs::remove_dir(directory("v004")).unwrap();
    fs::remove_dir(directory("v005")).unwrap();
    fs::remove_dir(directory("v006")).unwrap();
    fs::write(directory("v006"), "").unwrap();
    fs::rename(metadata("v007"), metadata("w007")).unwrap();
    fs::remove_file(metadata("v008").join("record")).unwrap();
    fs::remove_dir_all(metadata("v009")).unwrap();
    fs::write(metadata("v009"), "").unwrap();
    other.create(&volume(&other, "v200")).await.unwrap();
    tidy(&other).await;

    let new = many.ready(2).await;
    let (listed, calls) = many.list(&new).await;
    let mut names: Vec<String> = (0..=200).map(|number| format!("v{number:03}")).collect();
    names.push("w007".to_owned());
    let mut found = Vec::new();
    for name in names {
        found.extend(new.look_up(&named(&name)).await.unwrap());
    }
    assert_eq!(listed, found);
    assert_eq!(listed[0], Entry::Sound(Box::new(anew)));
    let damaged: Vec<&str> = listed
        .iter()
        .filter(|entry| matches!(entry, Entry::Damaged { .. }))
        .map(|entry| entry.name().as_str())
        .collect();
    assert_eq!(damaged, ["v005", "v006", "v007", "v008", "v009", "w007"]);
    assert!(calls < PAGES + 100, "{calls} calls for ten volumes");
}

#[tokio::test(start_paused = true)]
async fn volumes_of_the_earlier_implementation_are_listed_by_what_another_has_found() {
    let ground = Ground::new();
    for number in 0..Many::COUNT {
        let name = format!("v{number:03}");
        let (data, metadata) =
            (ground.folder.path().join("volumes").join(&name), ground.folder.path().join("volumes_metadata"));
        fs::create_dir_all(&data).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o750)).unwrap();
        fs::create_dir_all(metadata.join(&name)).unwrap();
        let record = format!(r#"{{"DriverOpts":{{"Capacity":"2048"}},"Name":"{name}"}}"#);
        fs::write(metadata.join(&name).join("DockerMetaData"), record).unwrap();
    }
    let store = ready(&ground, 1, "").await;
    let listed = store.list().await.unwrap();
    assert!(shares(&store, &ground).await);
    let new = ready(&ground, 2, "").await;
    let calls = new.calls();
    assert_eq!(new.list().await.unwrap(), listed);
    assert_eq!(new.calls() - calls, PAGES + 1);
    let Entry::Sound(volume) = &listed[7] else { panic!("{:?}", listed[7]) };
    assert_eq!((volume.spec.size.mebibytes(), volume.spec.mode.bits()), (2048, 0o750));
}

#[tokio::test(start_paused = true)]
async fn a_list_is_shared_neither_for_few_nor_often() {
    let ground = Ground::new();
    let store = ground.store(1);
    for number in 0..63 {
        store.create(&volume(&store, &format!("v{number:03}"))).await.unwrap();
    }
    tidy(&store).await;
    assert_eq!(store.list().await.unwrap().len(), 63);
    assert!(!store.is_posting());
    store.create(&volume(&store, "one-more")).await.unwrap();
    assert_eq!(store.list().await.unwrap().len(), 64);
    assert!(!store.is_posting(), "only one had to be read");

    let many = Many::new().await;
    let store = many.ready(1).await;
    many.list(&store).await;
    assert!(shares(&store, &many.ground).await);
    let first = posted(&many.ground);
    let touch_all = |mode| {
        for entry in many.expected() {
            let folder = many.ground.folder.path().join("volumes_metadata").join(entry.name().as_str());
            fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    touch_all(0o750);
    assert_eq!(many.list(&store).await, (many.expected(), PAGES + 1 + RECORD_CALLS * Many::COUNT));
    assert!(!store.is_posting(), "it has just shared one");
    tokio::time::advance(Duration::from_secs(61)).await;
    touch_all(0o755);
    assert_eq!(many.list(&store).await.0, many.expected());
    assert!(shares(&store, &many.ground).await);
    assert_ne!(posted(&many.ground), first);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_share_at_once_leave_one_whole_list() {
    let many = Many::new().await;
    let stores = [many.ready(1).await, many.ready(2).await, many.ready(3).await];
    let lists = stores.each_ref().map(NfsStore::list);
    for listed in futures::future::join_all(lists).await {
        assert_eq!(listed.unwrap(), many.expected());
    }
    for store in &stores {
        assert!(shares(store, &many.ground).await);
    }
    assert_eq!(many.names_of_lists(), [".list"]);
    let new = many.ready(4).await;
    assert_eq!(many.list(&new).await, (many.expected(), PAGES + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn real_server_lists_for_a_new_node_by_what_another_has_found() {
    const VOLUMES: u64 = 400;
    if !can_run("real_server_lists_for_a_new_node_by_what_another_has_found") {
        return;
    }
    let real = Real::start(ExportOptions::default());
    let store = real.store(&real.export(), 1, &format!("uid=0&{PATIENT}"));
    let mut expected = Vec::new();
    for number in 0..VOLUMES {
        let volume = volume(&store, &format!("v{number:03}"));
        store.create(&volume).await.unwrap();
        expected.push(Entry::Sound(Box::new(volume)));
    }
    tidy(&store).await;
    let counted = async |store: &NfsStore| {
        let calls = store.calls();
        assert_eq!(store.list().await.unwrap(), expected);
        store.calls() - calls
    };
    let first = counted(&store).await;
    is_done(&store).await;
    let again = counted(&store).await;
    let new = real.store(&real.export(), 2, &format!("uid=1000&{PATIENT}"));
    new.look_up(&named("v000")).await.unwrap();
    tidy(&new).await;
    let of_new = counted(&new).await;
    eprintln!("{VOLUMES} volumes: {first} calls, {again} when listed again, {of_new} on a new node");
    assert!(again < VOLUMES / 4, "{again} calls");
    assert!(of_new <= again + 4, "{of_new} calls");
    assert!(first <= again + 2 * VOLUMES, "{first} calls");
}
