//! Commits that fail. On its own: failing on demand holds for a whole process.

mod common;

use common::{attachment, create, delete, finished, refusal, remembered};
use dvs_domain::failure::FailureCode;
use dvs_domain::ledger::{Change, RefusalNumber};
use dvs_domain::ports::Journal;
use dvs_journal_redb::RedbJournal;
use std::fs;
use std::sync::Arc;

const STEP: &str = "journal.commit";

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_fails_changes_nothing_and_the_next_one_works() {
    let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
    let path = folder.path().join("journal.redb");
    let reserve = folder.path().join("journal.redb.reserve");
    let journal = Arc::new(RedbJournal::open(&path).unwrap());
    let put = |record| Change::PutJob(Box::new(record));
    journal.commit(&[put(create(1)), Change::PutAttachment(attachment(&create(1)))]).await.unwrap();
    let before = remembered(&journal).await;

    // Whatever fails without a full disk.
    fail::cfg(STEP, "1*return(internal)").unwrap();
    let changes = [put(finished(&create(1))), Change::DropAttachment(common::at("/mnt/1"))];
    let failure = journal.commit(&changes).await.unwrap_err();
    assert_eq!(failure.code(), FailureCode::Internal);
    assert!(failure.to_string().contains("step `journal.commit`"), "{failure}");
    assert_eq!(remembered(&journal).await, before);

    // A full disk, for what accepts something new.
    for change in [
        put(create(2)),
        Change::PutRefusal(RefusalNumber(1), refusal(1)),
        Change::PutAttachment(attachment(&create(2))),
    ] {
        fail::cfg(STEP, "1*return(no-space)").unwrap();
        let failure = journal.commit(&[change]).await.unwrap_err();
        assert_eq!(failure.code(), FailureCode::NoSpace);
        assert!(failure.hint().unwrap().contains("state folder"), "{:?}", failure.hint());
        assert_eq!(remembered(&journal).await, before);
    }

    // A full disk, for what must succeed all the same.
    for change in [put(delete(3)), put(finished(&delete(3))), Change::DropJob(delete(3).key())] {
        fail::cfg(STEP, "1*return(no-space)").unwrap();
        journal.commit(&[change]).await.unwrap();
        assert_eq!(fs::metadata(&reserve).unwrap().len(), 0, "the reserve was given up for it");
    }
    journal.commit(&changes).await.unwrap();
    assert_ne!(fs::metadata(&reserve).unwrap().len(), 0, "and taken again when there was room");

    // One failure among many that are committed together.
    fail::cfg(STEP, "1*return(internal)").unwrap();
    let commits: Vec<_> = (100..164)
        .map(|number| {
            let journal = Arc::clone(&journal);
            tokio::spawn(async move { journal.commit(&[Change::PutJob(Box::new(create(number)))]).await })
        })
        .collect();
    let mut landed = Vec::new();
    for (number, commit) in (100..164).zip(commits) {
        if commit.await.unwrap().is_ok() {
            landed.push(create(number));
        }
    }
    assert!(landed.len() >= 63, "{} of 64 landed", landed.len());
    drop(journal);
    let remembered = remembered(&RedbJournal::open(&path).unwrap()).await;
    assert_eq!(remembered.jobs[0], finished(&create(1)));
    assert_eq!(remembered.jobs[1..], landed, "exactly those that were said to be there");
}
