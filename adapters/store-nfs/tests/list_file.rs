//! The list that nodes share, when it is not what it should be: cut off while it is written, refused, or anything else
//! in its place. It does no harm, and every list is right.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use data_encoding::HEXLOWER;
use dvs_domain::failure::FailureCode;
use dvs_domain::ports::{SharedStore, VolumeStore};
use dvs_store_nfs::testing::{Lost, Refusal, node};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use support::listing::{Many, PAGES, RECORD_CALLS, is_done, ready};
use support::named;

/// How long the checksum at its end is, in bytes.
const CHECKSUM_BYTES: usize = 65;
/// The longest one that is read.
const LIST_BYTES_MAX: u64 = 16 << 20;
/// A call takes so much of it.
const PART_BYTES: u64 = 64 << 10;
/// More calls than sharing takes.
const CALLS_MAX: u64 = 20;

/// With a checksum.
fn summed(said: &str) -> Vec<u8> {
    format!("{said}{}\n", HEXLOWER.encode(&Sha256::digest(said))).into_bytes()
}

/// Asserts that a node that knows nothing lists right, and by no more calls than if no list were shared, but for `reads`
/// in vain.
async fn assert_reads_all(many: &Many, what: &str, reads: u64) {
    let store = many.ready(2).await;
    let (listed, calls) = many.list(&store).await;
    assert_eq!(listed, many.expected(), "{what}");
    assert_eq!(calls, PAGES + reads + RECORD_CALLS * Many::COUNT, "{what}");
    is_done(&store).await;
}

/// Asserts that the next node finds a whole list.
async fn assert_is_whole(many: &Many, what: &str) {
    assert_eq!(many.names_of_lists(), [".list"], "{what}");
    let store = many.ready(3).await;
    assert_eq!(many.list(&store).await, (many.expected(), PAGES + 1), "{what}");
}

#[tokio::test(start_paused = true)]
async fn whatever_is_in_its_place_costs_no_more_than_reading_the_records() {
    let many = Many::listed().await;
    let list = many.ground.folder.path().join("volumes_metadata/.list");
    let whole = fs::read(&list).unwrap();
    let said = String::from_utf8(whole[..whole.len() - CHECKSUM_BYTES].to_vec()).unwrap();
    let later = said.replacen("\"version\":1", "\"version\":2", 1);
    assert_ne!(later, said);
    let odd: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("cut off", whole[..whole.len() / 2].to_vec()),
        ("without its checksum", said.clone().into_bytes()),
        ("one byte off", [b"x", &whole[1..]].concat()),
        ("longer", [&whole[..], b"\n"].concat()),
        ("garbage", vec![0xff; 5000]),
        ("of a later version", summed(&later)),
        ("only a checksum", summed("")),
        ("of nothing", summed("{\"version\":1}\n")),
        ("no list", summed(&"[".repeat(100_000))),
        ("of other things", summed(&format!("{{\"version\":1}}\n{}", "{\"file\":1}\n[]\n\n\0\n".repeat(99)))),
        ("zeros", vec![0; 1 << 20]),
    ];
    for (what, bytes) in odd {
        fs::write(&list, &bytes).unwrap();
        assert_reads_all(&many, what, (bytes.len() as u64).div_ceil(PART_BYTES).max(1)).await;
        assert_is_whole(&many, what).await;
    }
    fs::remove_file(&list).unwrap();
    assert_reads_all(&many, "not there", 0).await;
    assert_is_whole(&many, "not there").await;
    // Of one that is as long as may be too much is read before all of it, for so few volumes.
    for (length, reads) in [(u64::MAX >> 24, 0), (LIST_BYTES_MAX + 1, 0), (LIST_BYTES_MAX, Many::COUNT)] {
        File::create(&list).unwrap().set_len(length).unwrap();
        assert_reads_all(&many, "too long", reads).await;
        assert_is_whole(&many, "too long").await;
    }
    fs::remove_file(&list).unwrap();
    symlink(".list", &list).unwrap();
    assert_reads_all(&many, "a link in a circle", 1).await;
    assert_is_whole(&many, "a link in a circle").await;
    for refusal in [Refusal::Denied, Refusal::Stale, Refusal::NoRoom] {
        many.ground.server.script().refuse_below(&list, refusal);
        assert_reads_all(&many, "not given out", 1).await;
        many.ground.server.script().revive();
        assert_is_whole(&many, "not given out").await;
    }
    fs::remove_file(&list).unwrap();
    fs::create_dir(&list).unwrap();
    fs::write(list.join("somebodys"), "").unwrap();
    assert_reads_all(&many, "a folder", 0).await;
    assert!(list.join("somebodys").exists());
    assert_eq!(many.names_of_lists(), [".list"], "nothing is staged in vain");
}

#[tokio::test(start_paused = true)]
async fn what_a_list_says_of_volumes_that_are_not_there_is_not_shown() {
    let many = Many::listed().await;
    let store = many.ready(1).await;
    for folder in ["volumes", "volumes_metadata"] {
        for number in 0..Many::COUNT / 4 {
            let path = many.ground.folder.path().join(folder).join(format!("v{number:03}"));
            fs::remove_dir_all(path).unwrap();
        }
    }
    let (listed, _) = many.list(&store).await;
    assert_eq!(listed, many.expected()[Many::COUNT as usize / 4..]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_goes_away_while_a_list_is_read_is_waited_for_once() {
    let many = Many::listed().await;
    let store = many.ready(2).await;
    let (script, before) = (many.ground.server.script(), store.calls());
    script.die_after(PAGES, Lost::Call);
    assert_eq!(store.list().await.unwrap_err().code(), FailureCode::StoreUnavailable);
    assert_eq!(store.calls() - before, PAGES + 1);
    script.revive();
    // Perhaps it was this list that it could not give out.
    assert_eq!(many.list(&store).await, (many.expected(), PAGES + RECORD_CALLS * Many::COUNT));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_given_up_while_the_shared_one_is_read_does_not_read_it_once_more() {
    let many = Many::listed().await;
    let store = many.ready(2).await;
    let before = store.calls();
    {
        let mut list = std::pin::pin!(store.list());
        while store.calls() - before < PAGES {
            assert!(futures::poll!(&mut list).is_pending());
        }
    }
    let (listed, calls) = many.list(&store).await;
    assert_eq!(calls, PAGES + RECORD_CALLS * Many::COUNT);
    assert_eq!(listed, many.expected());
}

#[tokio::test(start_paused = true)]
async fn a_list_that_another_node_was_faster_with_is_not_replaced() {
    let many = Many::new().await;
    let (store, list) = (many.ready(1).await, many.ground.folder.path().join("volumes_metadata/.list"));
    assert_eq!(many.list(&store).await.0, many.expected());
    // It has the answer, and the writing only begins.
    assert!(store.is_posting());
    fs::write(&list, "another's").unwrap();
    is_done(&store).await;
    assert_eq!(fs::read_to_string(&list).unwrap(), "another's");
    assert_eq!(many.names_of_lists(), [".list"]);
}

#[tokio::test(start_paused = true)]
async fn a_read_only_store_writes_none() {
    let many = Many::new().await;
    let read_only = ready(&many.ground, 2, "ro=1").await;
    assert_eq!(many.list(&read_only).await.0, many.expected());
    assert!(!read_only.is_posting());
    assert!(many.names_of_lists().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_list_that_cannot_be_written_is_nobodys_trouble() {
    let many = Many::new().await;
    let refuse = |way: &str| match way {
        "renames" => many.ground.server.script().refuse_renames(Refusal::ReadOnly),
        calls => many.ground.server.script().refuse_after(calls.parse().unwrap()),
    };
    // Looking for the one that is there, making, and the only part.
    for way in ["0", "1", "2", "renames"] {
        let store = many.ready(1).await;
        assert_eq!(many.list(&store).await.0, many.expected());
        assert!(store.is_posting());
        refuse(way);
        is_done(&store).await;
        many.ground.server.script().revive();
        assert!(many.names_of_lists().is_empty(), "{way}: {:?}", many.names_of_lists());
        assert_eq!(many.list(&store).await, (many.expected(), PAGES), "{way}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_dies_while_it_writes_leaves_nothing_that_is_wrong() {
    let many = Many::new().await;
    let staged = format!(".list-{}", node(1).unwrap().id);
    let mut has_left = [false; 2];
    for (lost, next) in [(Lost::Call, 1), (Lost::Call, 2), (Lost::Answer, 1), (Lost::Answer, 2)] {
        for calls in 0..=CALLS_MAX {
            for list in many.names_of_lists() {
                fs::remove_file(many.ground.folder.path().join("volumes_metadata").join(list)).unwrap();
            }
            let (store, script) = (many.ready(1).await, many.ground.server.script());
            assert_eq!(many.list(&store).await.0, many.expected());
            // It has the answer, and the writing only begins.
            assert!(store.is_posting());
            let before = script.calls();
            script.die_after(calls, lost);
            is_done(&store).await;
            let is_over = script.calls() - before <= calls;
            script.revive();
            drop(store);
            let is_left = many.names_of_lists().contains(&staged);
            has_left[usize::from(next == 2)] |= is_left;

            let what = format!("after {calls} calls, {lost:?}, node {next} is next");
            let store = many.ready(next).await;
            assert_eq!(many.list(&store).await.0, many.expected(), "{what}");
            is_done(&store).await;
            // What a node left is overwritten by its next list, and goes with what else a dead one has left.
            assert_eq!(many.names_of_lists().contains(&staged), is_left && next == 2, "{what}");
            store.release(&named("v000"), &node(1).unwrap().id).await.unwrap();
            assert_is_whole(&many, &what).await;
            if is_over {
                break;
            }
            assert!(calls < CALLS_MAX, "it does not end");
        }
    }
    assert_eq!(has_left, [true, true], "it was never cut off between");
}
