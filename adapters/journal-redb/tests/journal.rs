//! What a journal remembers, and what it does with a file that is not whole.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

mod common;

use common::{attachment, create, delete, finished, refusal, remembered};
use dvs_domain::failure::FailureCode;
use dvs_domain::ledger::{Change, RefusalNumber, Remembered};
use dvs_domain::ports::Journal;
use dvs_journal_redb::RedbJournal;
use redb::{Database, TableDefinition};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tempfile::TempDir;

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
    let path = folder.path().join("journal.redb");
    (folder, path)
}

fn code_of_opening(path: &Path) -> FailureCode {
    match RedbJournal::open(path) {
        Ok(_) => panic!("{path:?} was opened"),
        Err(failure) => failure.code(),
    }
}

/// A journal with `count` jobs and what belongs to them, closed.
async fn filled(path: &Path, count: u64) -> Remembered {
    let journal = RedbJournal::open(path).unwrap();
    let mut changes = Vec::new();
    for number in 0..count {
        let job = create(number);
        changes.push(Change::PutAttachment(attachment(&job)));
        changes.push(Change::PutJob(Box::new(job)));
        changes.push(Change::PutRefusal(RefusalNumber(number), refusal(number)));
    }
    journal.commit(&changes).await.unwrap();
    remembered(&journal).await
}

#[tokio::test]
async fn what_was_committed_is_there_after_reopening_and_what_was_dropped_is_not() {
    let (_folder, path) = folder();
    let journal = RedbJournal::open(&path).unwrap();
    assert_eq!(journal.load().await.unwrap(), Remembered::default());
    let (first, second, gone) = (create(1), delete(1), create(3));
    journal
        .commit(&[
            Change::PutJob(Box::new(first.clone())),
            Change::PutJob(Box::new(second.clone())),
            Change::PutJob(Box::new(gone.clone())),
            Change::PutRefusal(RefusalNumber(u64::MAX), refusal(1)),
            Change::PutRefusal(RefusalNumber(0), refusal(2)),
            Change::PutAttachment(attachment(&first)),
            Change::PutAttachment(attachment(&gone)),
        ])
        .await
        .unwrap();
    drop(journal);

    let journal = RedbJournal::open(&path).unwrap();
    journal
        .commit(&[
            Change::PutJob(Box::new(finished(&first))),
            Change::DropJob(gone.key()),
            Change::DropRefusal(RefusalNumber(0)),
            Change::DropAttachment(attachment(&gone).mount_point),
        ])
        .await
        .unwrap();
    // What is not there is dropped without a word.
    journal.commit(&[Change::DropJob(gone.key()), Change::DropRefusal(RefusalNumber(7))]).await.unwrap();
    journal.commit(&[]).await.unwrap();
    drop(journal);

    let journal = RedbJournal::open(&path).unwrap();
    let expected = Remembered {
        jobs: vec![finished(&first), second],
        refusals: vec![(RefusalNumber(u64::MAX), refusal(1))],
        attachments: vec![attachment(&first)],
    };
    assert_eq!(remembered(&journal).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_at_once_all_land() {
    const COMMITS: u64 = 64;
    let (_folder, path) = folder();
    let journal = Arc::new(RedbJournal::open(&path).unwrap());
    let commits: Vec<_> = (0..COMMITS)
        .map(|number| {
            let journal = Arc::clone(&journal);
            tokio::spawn(async move {
                journal.commit(&[Change::PutJob(Box::new(create(number)))]).await.unwrap();
                journal.commit(&[Change::PutJob(Box::new(finished(&create(number))))]).await.unwrap();
            })
        })
        .collect();
    for commit in commits {
        commit.await.unwrap();
    }
    drop(journal);
    let expected: Vec<_> = (0..COMMITS).map(|number| finished(&create(number))).collect();
    assert_eq!(remembered(&RedbJournal::open(&path).unwrap()).await.jobs, expected);
}

#[tokio::test]
async fn a_commit_that_nobody_waits_for_is_whole_or_not_there() {
    let (_folder, path) = folder();
    let journal = RedbJournal::open(&path).unwrap();
    for number in 0..100 {
        let job = create(number);
        let changes = [Change::PutAttachment(attachment(&job)), Change::PutJob(Box::new(job))];
        let mut commit = pin!(journal.commit(&changes));
        if number % 2 == 0 {
            let polled = commit.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(polled, Poll::Pending | Poll::Ready(Ok(()))), "{polled:?}");
        }
    }
    drop(journal);
    let remembered = remembered(&RedbJournal::open(&path).unwrap()).await;
    let jobs: Vec<u64> = remembered.jobs.iter().map(|record| record.number).collect();
    assert_eq!(jobs, (0..100).step_by(2).collect::<Vec<_>>(), "what was handed over is done");
    assert_eq!(remembered.attachments.len(), jobs.len());
}

#[tokio::test]
async fn a_second_agent_is_refused_until_the_first_has_ended() {
    let (_folder, path) = folder();
    let first = RedbJournal::open(&path).unwrap();
    let refused = RedbJournal::open(&path).err().unwrap();
    assert_eq!(refused.code(), FailureCode::Busy);
    assert!(refused.to_string().contains("in use by another agent"), "{refused}");
    first.commit(&[Change::PutJob(Box::new(create(1)))]).await.unwrap();
    drop(first);
    assert_eq!(remembered(&RedbJournal::open(&path).unwrap()).await.jobs, [create(1)]);
}

#[tokio::test]
async fn files_are_for_their_owner_only() {
    let (folder, path) = folder();
    let _journal = RedbJournal::open(&path).unwrap();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.path());
    }
}

#[tokio::test]
async fn an_interrupted_making_is_begun_anew() {
    let (folder, path) = folder();
    fs::write(folder.path().join("journal.redb.new"), "half of a journal").unwrap();
    let expected = filled(&path, 1).await;
    assert_eq!(remembered(&RedbJournal::open(&path).unwrap()).await, expected);
    assert!(!fs::exists(folder.path().join("journal.redb.new")).unwrap());
}

#[tokio::test]
async fn what_is_no_journal_is_damaged_and_stays_as_it_is() {
    let (_folder, path) = folder();
    filled(&path, 100).await;
    let whole = fs::read(&path).unwrap();
    let other = [0xa5; 100_000];
    for content in [&b""[..], b"text", &other, &whole[..whole.len() / 2], &whole[..4096], &[0; 8192]] {
        fs::write(&path, content).unwrap();
        assert_eq!(code_of_opening(&path), FailureCode::Damaged, "{} bytes", content.len());
        assert!(fs::read(&path).unwrap() == content, "{} bytes were changed", content.len());
    }
    fs::write(&path, &whole).unwrap();
    RedbJournal::open(&path).unwrap();
}

#[tokio::test]
async fn a_changed_byte_is_damage_or_changes_nothing() {
    const EVERY_BYTES: usize = 1531;
    let (_folder, path) = folder();
    let expected = filled(&path, 200).await;
    let whole = fs::read(&path).unwrap();
    let mut damaged = 0;
    for position in (0..whole.len()).step_by(EVERY_BYTES) {
        let mut changed = whole.clone();
        changed[position] ^= 0x40;
        fs::write(&path, &changed).unwrap();
        match RedbJournal::open(&path) {
            Err(failure) => {
                assert_eq!(failure.code(), FailureCode::Damaged, "at {position}: {}", failure.chain());
                assert!(fs::read(&path).unwrap() == changed, "at {position}: the file was changed");
                damaged += 1;
            }
            Ok(journal) => assert_eq!(remembered(&journal).await, expected, "at {position}"),
        }
    }
    assert!(damaged >= 10, "only {damaged} of the changed bytes were noticed");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_named() {
    let job = create(1);
    let foreign = br#"{"v":1,"sender":"host.example","id":"2","request":{"delete":{"store":null,"name":"x",
        "mount_point":null}},"number":1,"received_ms":1,"phase":"accepted"}"#;
    for (row, reason) in [
        (&b"{\"v\":9}"[..], "version 9"),
        (b"\xff", "expected"),
        (b"{\"v\":1}", "sender"),
        (foreign, "delete/2"),
    ] {
        let (_folder, path) = folder();
        let journal = RedbJournal::open(&path).unwrap();
        journal.commit(&[Change::PutJob(Box::new(job.clone()))]).await.unwrap();
        drop(journal);
        let database = Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let jobs: TableDefinition<&str, &[u8]> = TableDefinition::new("jobs");
        transaction.open_table(jobs).unwrap().insert("host.example/create/7", row).unwrap();
        transaction.commit().unwrap();
        drop(database);

        let journal = RedbJournal::open(&path).unwrap();
        let failure = journal.load().await.unwrap_err();
        assert_eq!(failure.code(), FailureCode::Damaged);
        let chain = failure.chain();
        for part in ["jobs", "host.example/create/7", reason] {
            assert!(chain.contains(part), "`{part}` is not in: {chain}");
        }
    }
}
