//! A disk that is full to the last byte.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where something is not as it must be, and says why it did not run"
)]

mod common;

use common::{attachment, create, delete, finished, refusal, remembered};
use dvs_domain::failure::FailureCode;
use dvs_domain::ledger::{Change, RefusalNumber};
use dvs_domain::ports::Journal;
use dvs_journal_redb::RedbJournal;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// How many jobs there are when the disk becomes full.
const JOBS: u64 = 300;

/// A small file system, mounted until it is dropped.
struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// A tmpfs, or an ext4 on an image.
    fn mounted(file_system: &str) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let disk = Self { folder };
        fs::create_dir(disk.path()).unwrap();
        let image = disk.folder.path().join("image");
        let mount_point = disk.path();
        if file_system == "tmpfs" {
            run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=12m", "dvs-test"]).arg(mount_point))?;
        } else {
            File::create(&image).unwrap().set_len(24 << 20).unwrap();
            run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image))?;
            run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(mount_point))?;
        }
        Ok(disk)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Writes until not one more byte goes in.
    fn fill(&self) {
        let mut ballast = File::options().append(true).create(true).open(self.ballast()).unwrap();
        for piece in [1 << 20, 1 << 16, 1 << 12, 1] {
            while ballast.write_all(&vec![1; piece]).and_then(|()| ballast.sync_all()).is_ok() {}
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        ended => Err(format!("{command:?} ended with {ended:?}")),
    }
}

async fn a_full_disk_prevents_no_delete(test: &str, file_system: &str) {
    let disk = match SmallDisk::mounted(file_system) {
        Ok(disk) => disk,
        Err(why) => return eprintln!("NOT RUN: {test}: {why}"),
    };
    let path = disk.path().join("journal.redb");
    let put = |record| Change::PutJob(Box::new(record));
    let mut journal = RedbJournal::open(&path).unwrap();
    let reserved = || fs::metadata(disk.path().join("journal.redb.reserve")).unwrap().blocks() * 512;
    assert!(reserved() >= 4 << 20);
    for number in 0..JOBS {
        let job = create(number);
        journal.commit(&[Change::PutAttachment(attachment(&job)), put(job)]).await.unwrap();
    }

    // What is accepted while the file has room of its own, until there is none.
    disk.fill();
    let mut accepted = JOBS;
    let refused = loop {
        let job = create(accepted);
        match journal.commit(&[Change::PutAttachment(attachment(&job)), put(job)]).await {
            Ok(()) => accepted += 1,
            Err(refused) => break refused,
        }
        disk.fill();
    };
    assert_eq!(refused.code(), FailureCode::NoSpace, "{}", refused.chain());
    assert!(reserved() >= 4 << 20, "the room that is kept is not for new jobs");
    assert_eq!(remembered(&journal).await.jobs.len() as u64, accepted);

    // All of it is finished, and as many deletes are accepted, finished and forgotten.
    let mut reserve_was_used = false;
    for number in 0..accepted {
        journal.commit(&[put(finished(&create(number)))]).await.unwrap();
        journal.commit(&[put(delete(number))]).await.unwrap();
        let gone = attachment(&create(number));
        // Another volume below keeps the directories that this one's job has made.
        let heir = Some(number + 1).filter(|next| *next < accepted).map(|next| {
            let mut heir = attachment(&create(next));
            heir.made_directories.extend(gone.made_directories.clone());
            Change::PutAttachment(heir)
        });
        let changes: Vec<_> = heir.into_iter().chain([Change::DropAttachment(gone.mount_point)]).collect();
        journal.commit(&changes).await.unwrap();
        journal.commit(&[put(finished(&delete(number)))]).await.unwrap();
        reserve_was_used |= reserved() == 0;
        if number % 50 == 0 {
            // As after a restart.
            drop(journal);
            journal = RedbJournal::open(&path).unwrap();
            let refused = journal.commit(&[put(create(accepted))]).await.unwrap_err();
            assert_eq!(refused.code(), FailureCode::NoSpace, "{}", refused.chain());
        }
    }
    assert!(reserve_was_used, "the disk was not as full as this test needs it");
    let mut expected: Vec<_> =
        (0..accepted).flat_map(|number| [finished(&create(number)), finished(&delete(number))]).collect();
    let mut found = remembered(&journal).await;
    let by_key = |one: &dvs_domain::ledger::JobRecord| one.key();
    expected.sort_by_key(by_key);
    found.jobs.sort_by_key(by_key);
    assert_eq!(found.jobs, expected);
    assert_eq!(found.attachments, []);
    for number in 0..accepted {
        let changes = [Change::DropJob(create(number).key()), Change::DropJob(delete(number).key())];
        journal.commit(&changes).await.unwrap();
    }

    // With room again everything is accepted, and the room for the next time is kept.
    fs::remove_file(disk.ballast()).unwrap();
    journal.commit(&[put(create(1))]).await.unwrap();
    journal.commit(&[Change::PutRefusal(RefusalNumber(1), refusal(1))]).await.unwrap();
    assert!(reserved() >= 4 << 20);
    drop(journal);
    assert_eq!(remembered(&RedbJournal::open(&path).unwrap()).await.jobs, [create(1)]);
}

#[tokio::test]
async fn real_a_full_tmpfs_prevents_no_delete() {
    a_full_disk_prevents_no_delete("real_a_full_tmpfs_prevents_no_delete", "tmpfs").await;
}

#[tokio::test]
async fn real_a_full_ext4_prevents_no_delete() {
    a_full_disk_prevents_no_delete("real_a_full_ext4_prevents_no_delete", "ext4").await;
}

#[tokio::test]
async fn real_a_journal_is_not_made_on_a_full_disk_and_says_so() {
    const TEST: &str = "real_a_journal_is_not_made_on_a_full_disk_and_says_so";
    let disk = match SmallDisk::mounted("tmpfs") {
        Ok(disk) => disk,
        Err(why) => return eprintln!("NOT RUN: {TEST}: {why}"),
    };
    disk.fill();
    let path: &Path = &disk.path().join("journal.redb");
    let refused = RedbJournal::open(path).unwrap_err();
    assert_eq!(refused.code(), FailureCode::NoSpace, "{}", refused.chain());
    assert!(!fs::exists(path).unwrap());
    fs::remove_file(disk.ballast()).unwrap();
    RedbJournal::open(path).unwrap();
}
