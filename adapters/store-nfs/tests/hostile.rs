//! A server that misbehaves: whatever it does, nothing panics, nothing takes more memory than an answer may, every
//! operation ends in its time, and the next one works on the same server when it behaves.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests, which tell their figures")]

mod support;

use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::ports::VolumeStore;
use dvs_store_nfs::NfsStore;
use futures::StreamExt;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use support::counting::Counting;
use support::hostile::{
    CREATE, HostileServer, LOOKUP, MKDIR, MNT, Misbehaviour, READ, READDIRPLUS, RENAME, WRITE, handle,
    listing,
};
use support::xdr::packed;
use support::{named, open, volume};

#[global_allocator]
static MEMORY: Counting = Counting::new();

/// How long an operation may take here, and one second for a slow machine.
const LIMIT: Duration = Duration::from_secs(1 + 1);
/// Of the operations of all cases that run at once: a bounded answer each, and what is decoded of it.
const BYTES_MAX: usize = 64 << 20;
/// Cases at once.
const AT_ONCE: usize = 8;

/// Whether an operation can work in spite of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It is odd, and allowed; or what is asked needs no such answer.
    MayWork,
    /// One of the operations must fail.
    Fails,
}

struct Case {
    name: String,
    procedure: Option<u32>,
    how: Misbehaviour,
    outcome: Outcome,
}

fn case(name: impl Into<String>, procedure: Option<u32>, how: Misbehaviour, outcome: Outcome) -> Case {
    Case { name: name.into(), procedure, how, outcome }
}

fn cases() -> Vec<Case> {
    use Misbehaviour::{
        Announce, Body, ByteByByte, CloseAfter, CloseAtOnce, EmptyFragments, Fragments, Late, MoreWords,
        NeverLast, OnlyWords, Silence, Status, StrangerFirst, Twice, Words,
    };
    use Outcome::{Fails, MayWork};
    let mut cases = vec![
        case("closes at once", None, CloseAtOnce, Fails),
        case("says nothing", None, Silence, Fails),
        case("says nothing to a create", Some(CREATE), Silence, Fails),
        case("says nothing to a rename", Some(RENAME), Silence, Fails),
        case("answers late", Some(LOOKUP), Late, Fails),
        case("answers byte by byte", None, ByteByByte, MayWork),
        case("answers in fragments of four bytes", None, Fragments(4), MayWork),
        case("answers in fragments of one byte", None, Fragments(1), MayWork),
        case("sends empty fragments first", None, EmptyFragments(10), MayWork),
        case("sends too many empty fragments", None, EmptyFragments(100_000), Fails),
        case("announces 2 GiB and sends nothing", None, Announce(0xffff_ffff, 0), Fails),
        case("announces 2 GiB and sends much", None, Announce(0xffff_ffff, 1 << 20), Fails),
        case("announces a large fragment that is not the last", None, Announce(0x7fff_ffff, 64), Fails),
        case("announces just what is too much", None, Announce(0x8004_0001, 300 << 10), Fails),
        case("announces what is allowed, and sends half", None, Announce(0x8003_0000, 1000), Fails),
        case("never ends its answer", None, NeverLast, Fails),
        case("answers twice", None, Twice, MayWork),
        case("answers somebody else first", None, StrangerFirst, Fails),
        case("sends nothing as an answer", None, OnlyWords(0), Fails),
        case("sends more than the answer", None, MoreWords(1), Fails),
        case("sends much more than the answer", None, MoreWords(60_000), Fails),
        case("another id", None, Words(&[(0, 0xdead_beef)]), Fails),
        case("id zero", None, Words(&[(0, 0)]), Fails),
        case("calls instead of answering", None, Words(&[(1, 0)]), Fails),
        case("an unknown direction", None, Words(&[(1, 7)]), Fails),
        case("an unknown outcome", None, Words(&[(2, 7)]), Fails),
        case("denied: another version of RPC", None, Words(&[(2, 1), (3, 0)]), Fails),
        case("denied: credentials", None, Words(&[(2, 1), (3, 1), (4, 1)]), Fails),
        case("denied: for an unknown reason", None, Words(&[(2, 1), (3, 1), (4, 99)]), Fails),
        case("an unknown proof", None, Words(&[(3, 77)]), Fails),
        case("a proof that is too long", None, Words(&[(4, 401)]), Fails),
        case("a proof of 4 GiB", None, Words(&[(4, u32::MAX)]), Fails),
        case("an unknown status", None, Status(9999), Fails),
        case("a status of all bits", None, Status(u32::MAX), Fails),
        case("an export without a handle", Some(MNT), Words(&[(7, 0)]), Fails),
        case("an export with a handle that is too long", Some(MNT), Words(&[(7, 65)]), Fails),
        case("an export with a handle of 4 GiB", Some(MNT), Words(&[(7, u32::MAX)]), Fails),
        case("an export with 4 billion ways to log in", Some(MNT), Words(&[(9, u32::MAX)]), Fails),
        case("found without a handle", Some(LOOKUP), Body([0; 12].to_vec()), Fails),
        case("found with a handle of 4 GiB", Some(LOOKUP), Words(&[(7, u32::MAX)]), Fails),
        case("found with a handle that is too long", Some(LOOKUP), Words(&[(7, 68)]), Fails),
        case("attributes that are neither there nor not", Some(LOOKUP), Words(&[(10, 2)]), Fails),
        case("attributes of an unknown kind", Some(LOOKUP), Words(&[(11, 99)]), Fails),
        case("a folder that is a file", Some(LOOKUP), Words(&[(11, 1)]), Fails),
        case("a folder of somebody else", Some(MKDIR), Words(&[(14, 7)]), MayWork),
        case("a made folder without a handle or attributes", Some(MKDIR), Body(vec![0; 16]), MayWork),
        case("a made file without a handle", Some(CREATE), Body(vec![0; 16]), MayWork),
        case("has written nothing", Some(WRITE), Words(&[(9, 0)]), Fails),
        case("has written more than there was", Some(WRITE), Words(&[(9, u32::MAX)]), Fails),
        case("has not made durable", Some(WRITE), Words(&[(10, 0)]), Fails),
        case("has made durable in an unknown way", Some(WRITE), Words(&[(10, 9)]), Fails),
        case("reads 4 GiB", Some(READ), Words(&[(10, u32::MAX)]), Fails),
        case("reads without end", Some(READ), Words(&[(9, 0)]), MayWork),
        case("an end that is neither", Some(READ), Words(&[(9, 2)]), Fails),
        case("a listing that is cut off", Some(READDIRPLUS), OnlyWords(20), Fails),
        case("a listing with a name of 4 GiB", Some(READDIRPLUS), Words(&[(13, u32::MAX)]), Fails),
        case("a listing with a name that is too long", Some(READDIRPLUS), Words(&[(13, 1025)]), Fails),
        case("a listing that stands still", Some(READDIRPLUS), Body(listing(&[(b"v", 0)], false)), Fails),
        case("a listing that is empty and goes on", Some(READDIRPLUS), Body(listing(&[], false)), Fails),
        case("a listing in a circle", Some(READDIRPLUS), Body(listing(&[(b"v", 9)], false)), Fails),
        case("too many makes of handles", Some(CREATE), Body(packed(&handle())), Fails),
    ];
    for name in [&b""[..], b".", b"..", b"../x", b"a/b", b"a\0b", b"a\nb", b"-rf", b"\xff\xfe", &[b'n'; 300]]
    {
        let shown = String::from_utf8_lossy(name).escape_debug().take(10).collect::<String>();
        let body = Body(listing(&[(name, 1), (b"w", 2)], true));
        cases.push(case(format!("lists `{shown}`"), Some(READDIRPLUS), body, MayWork));
    }
    for bytes in [1, 2, 3, 4, 5, 8, 12, 16, 20, 24, 27, 28, 29, 32, 40] {
        cases.push(case(format!("closes after {bytes} bytes"), None, CloseAfter(bytes), Fails));
    }
    for (accept, what) in [
        (1, "no such program"),
        (2, "another version"),
        (3, "no such procedure"),
        (4, "garbage"),
        (5, "its own error"),
        (6, "an unknown refusal"),
    ] {
        let words: &'static [(usize, u32)] = Box::leak(Box::new([(5, accept)]));
        cases.push(case(format!("accepts with {what}"), None, Words(words), Fails));
        let words = 6 + if accept == 2 { 2 } else { 0 };
        cases.push(case(format!("accepts with {what}, and {words} words"), None, OnlyWords(words), Fails));
    }
    for status in [
        1, 2, 5, 6, 13, 17, 18, 19, 20, 21, 22, 27, 28, 30, 31, 63, 66, 69, 70, 71, 10001, 10002, 10003,
        10004, 10005, 10006, 10007, 10008,
    ] {
        for (procedure, of) in
            [(LOOKUP, "look up"), (MKDIR, "mkdir"), (RENAME, "rename"), (READDIRPLUS, "list")]
        {
            // Not there may be what is so, an empty answer, or a thing that another has done.
            // A listing without attributes is asked for instead of one with them.
            let outcome = if matches!(status, 2 | 17 | 10003 | 10004) { MayWork } else { Fails };
            cases.push(case(format!("{of}: status {status}"), Some(procedure), Status(status), outcome));
        }
    }
    cases
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_misbehaves_does_no_harm() {
    let cases = cases();
    let distinct: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(distinct.len(), cases.len(), "two cases have one name");
    let count = cases.len();
    assert!(60 <= count);
    MEMORY.forget_peak();
    let before = MEMORY.now();
    let wrong: Vec<String> = futures::stream::iter(cases)
        .map(harm)
        .buffer_unordered(AT_ONCE)
        .filter_map(async |it| it)
        .collect()
        .await;
    let peak = MEMORY.peak().saturating_sub(before);
    assert!(wrong.is_empty(), "{} cases: {}", wrong.len(), wrong.join("\n"));
    eprintln!("{count} misbehaviours, at most {peak} bytes at once");
    assert!(peak < BYTES_MAX, "{peak} bytes at once");
}

/// What harm a case has done, if any.
async fn harm(case: Case) -> Option<String> {
    // A panic in it is a harm too, and names its case.
    let name = case.name.clone();
    match tokio::spawn(async move { try_case(&case).await }).await {
        Ok(Ok(())) => None,
        Ok(Err(harm)) => Some(format!("{name}: {harm}")),
        Err(panicked) => Some(format!("{name}: {panicked}")),
    }
}

async fn try_case(case: &Case) -> Result<(), String> {
    let server = HostileServer::start().await;
    let store = open(&server.url(), 1);
    // Of some it meets the misbehaviour at the first contact, of some later.
    let mut failed = 0;
    for is_known in [false, true] {
        if is_known {
            works(&store).await.map_err(|failure| format!("on a sane server: {}", failure.chain()))?;
        }
        server.misbehave(case.procedure, case.how.clone());
        failed += in_time("create", store.create(&volume(&store, "a"))).await?;
        failed += in_time("list", store.list()).await?;
        failed += in_time("look up", store.look_up(&named("v"))).await?;
        server.behave();
    }
    // What is still being cleared away meets a sane server again.
    works(&store).await.map_err(|failure| format!("afterwards: {}", failure.chain()))?;
    if case.outcome == Outcome::Fails && failed == 0 {
        return Err("everything worked all the same".to_owned());
    }
    Ok(())
}

/// Whether an operation has failed, after it has ended in time and said what it must.
async fn in_time<T>(what: &str, call: impl Future<Output = Result<T, Failure>>) -> Result<usize, String> {
    let began = Instant::now();
    let Ok(result) = tokio::time::timeout(LIMIT * 4, call).await else {
        return Err(format!("{what} did not end"));
    };
    if LIMIT < began.elapsed() {
        return Err(format!("{what} took {:?}", began.elapsed()));
    }
    let Err(failure) = result else { return Ok(0) };
    let allowed = [
        FailureCode::StoreUnavailable,
        FailureCode::Unsupported,
        FailureCode::NoSpace,
        FailureCode::Internal,
        FailureCode::Damaged,
        FailureCode::Busy,
    ];
    if !allowed.contains(&failure.code()) {
        return Err(format!("{what}: {} {}", failure.code(), failure.chain()));
    }
    Ok(1)
}

async fn works(store: &NfsStore) -> Result<(), Failure> {
    store.create(&volume(store, "a")).await?;
    store.list().await.map(drop)
}
