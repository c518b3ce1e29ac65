//! The journal's file: made whole, checked before it is used, opened again after an I/O error.

use crate::failpoint::{between, failpoint, is_left_out};
use crate::overlay::Overlay;
use crate::reserve::{Reserve, in_use};
use crate::rows;
use dvs_domain::failure::{BoxError, Failure, FailureCode};
use dvs_domain::ledger::{Change, RefusalNumber, Remembered};
use redb::{Builder, Database, Key, ReadableDatabase, ReadableTable, TableDefinition};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

/// How much of the file redb keeps in memory: the journal is written often and read once.
const CACHE_BYTES: usize = 1024 * 1024;

const JOBS: TableDefinition<&str, &[u8]> = TableDefinition::new("jobs");
const REFUSALS: TableDefinition<u64, &[u8]> = TableDefinition::new("refusals");
const ATTACHMENTS: TableDefinition<&str, &[u8]> = TableDefinition::new("attachments");
/// The number of the last commit, under the key 0: so that it shows after an error whether it was made.
const LAST_COMMIT: TableDefinition<u64, u64> = TableDefinition::new("last_commit");

/// The file, open or to be opened again.
pub(crate) struct JournalFile {
    path: PathBuf,
    database: Option<Database>,
    /// The number of the last commit that is known to be there.
    last_commit: u64,
}

/// Why the file could not be written or read.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The disk is full.
    NoSpace(BoxError),
    /// The disk, or the file system, failed.
    Io(BoxError),
    /// Anything else.
    Failed(Failure),
}

impl JournalFile {
    /// Opens the journal at `path`; makes it if it is missing. Gives the reserve up if that takes it.
    pub(crate) fn open(path: &Path, reserve: &mut Reserve) -> Result<Self, Failure> {
        if !fs::exists(path).map_err(|error| internal("look for the journal", error))? {
            create(path)?;
        }
        check(path)?;
        let mut file = Self { path: path.to_owned(), database: None, last_commit: 0 };
        match file.reopen() {
            Err(Trouble::NoSpace(_)) if reserve.is_held() => {
                reserve.release()?;
                file.reopen()
            }
            opened => opened,
        }
        .map_err(|trouble| file.failure(trouble, "open the journal"))?;
        Ok(file)
    }

    /// Makes all the changes of all of `commits` durable, or none of them. After an I/O error it shows in the
    /// file which of the two it was.
    pub(crate) fn write(&mut self, commits: &[&[Change]]) -> Result<(), Trouble> {
        let number = self.last_commit + 1;
        match self.write_as(number, commits) {
            Err(trouble @ (Trouble::NoSpace(_) | Trouble::Io(_))) => {
                // redb refuses all further use of this instance.
                self.close();
                self.reopen()?;
                if self.last_commit < number {
                    return Err(trouble);
                }
                // It is there, and perhaps only in memory: written once more it is durable, or fails.
                self.write_as(number + 1, commits).inspect_err(|_| self.close())
            }
            written => written,
        }
    }

    /// Everything that is in the file.
    pub(crate) fn read(&mut self) -> Result<Remembered, Failure> {
        self.read_rows().map_err(|trouble| self.failure(trouble, "read the journal"))
    }

    /// Closes the file; it is opened again when it is next used.
    pub(crate) fn close(&mut self) {
        self.database = None;
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What a caller is told.
    pub(crate) fn failure(&self, trouble: Trouble, step: &'static str) -> Failure {
        let path = self.path.display();
        match trouble {
            Trouble::NoSpace(error) => no_space(&self.path).caused_by(error),
            Trouble::Io(error) => Failure::internal(format!("journal `{path}`"), error)
                .with_hint("see what the kernel's log says about the disk"),
            Trouble::Failed(failure) => failure,
        }
        .at_step(step)
    }

    fn read_rows(&mut self) -> Result<Remembered, Trouble> {
        let transaction = self.opened()?.begin_read().map_err(trouble)?;
        let mut remembered = Remembered::default();
        each(&transaction, JOBS, |key, row| {
            let record = rows::read_job(row)?;
            matches(key, &rows::job_key(&record.key()))?;
            remembered.jobs.push(record);
            Ok(())
        })?;
        each(&transaction, REFUSALS, |number, row| {
            remembered.refusals.push((RefusalNumber(number), rows::read_refusal(row)?));
            Ok(())
        })?;
        each(&transaction, ATTACHMENTS, |key, row| {
            let attachment = rows::read_attachment(row)?;
            matches(key, attachment.mount_point.as_str())?;
            remembered.attachments.push(attachment);
            Ok(())
        })?;
        Ok(remembered)
    }

    fn write_as(&mut self, number: u64, commits: &[&[Change]]) -> Result<(), Trouble> {
        failpoint("journal.commit").map_err(|failure| match failure.code() {
            FailureCode::NoSpace => Trouble::NoSpace(failure.into()),
            _ => Trouble::Failed(failure),
        })?;
        let mut transaction = self.opened()?.begin_write().map_err(trouble)?;
        if is_left_out("skip.journal") {
            transaction
                .set_durability(redb::Durability::None)
                .map_err(|error| Trouble::Failed(Failure::internal("the journal", error)))?;
        }
        {
            let mut jobs = transaction.open_table(JOBS).map_err(trouble)?;
            let mut refusals = transaction.open_table(REFUSALS).map_err(trouble)?;
            let mut attachments = transaction.open_table(ATTACHMENTS).map_err(trouble)?;
            for change in commits.iter().copied().flatten() {
                match change {
                    Change::PutJob(record) => {
                        let key = rows::job_key(&record.key());
                        jobs.insert(key.as_str(), &*rows::write_job(record)).map(drop)
                    }
                    Change::DropJob(key) => jobs.remove(rows::job_key(key).as_str()).map(drop),
                    Change::PutRefusal(number, refusal) => {
                        refusals.insert(number.0, &*rows::write_refusal(refusal)).map(drop)
                    }
                    Change::DropRefusal(number) => refusals.remove(number.0).map(drop),
                    Change::PutAttachment(attachment) => {
                        let key = attachment.mount_point.as_str();
                        attachments.insert(key, &*rows::write_attachment(attachment)).map(drop)
                    }
                    Change::DropAttachment(mount_point) => attachments.remove(mount_point.as_str()).map(drop),
                }
                .map_err(trouble)?;
            }
            let mut last_commit = transaction.open_table(LAST_COMMIT).map_err(trouble)?;
            last_commit.insert(0, number).map_err(trouble)?;
        }
        transaction.commit().map_err(trouble)?;
        between("journal.committed");
        self.last_commit = number;
        Ok(())
    }

    fn opened(&mut self) -> Result<&Database, Trouble> {
        if self.database.is_none() {
            self.reopen()?;
        }
        Ok(self.database.as_ref().expect("it has just been opened"))
    }

    fn reopen(&mut self) -> Result<(), Trouble> {
        self.close();
        let opened = File::options().read(true).write(true).open(&self.path).map_err(io_trouble)?;
        let database = builder().create_file(opened).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => Trouble::Failed(in_use(&self.path)),
            error => trouble(error),
        })?;
        let last_commit = {
            let transaction = database.begin_read().map_err(trouble)?;
            let table = transaction.open_table(LAST_COMMIT).map_err(trouble)?;
            table.get(0).map_err(trouble)?.map_or(0, |number| number.value())
        };
        (self.database, self.last_commit) = (Some(database), last_commit);
        Ok(())
    }
}

/// The failure of a commit that accepts something new on a full disk.
pub(crate) fn no_space(journal: &Path) -> Failure {
    Failure::new(FailureCode::NoSpace, format!("no room to write to journal `{}`", journal.display()))
        .with_hint("free space on the file system of the agent's state folder")
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Makes an empty journal under another name, and gives it its own when it is whole.
fn create(path: &Path) -> Result<(), Failure> {
    const STEP: &str = "make the journal";
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let remove = || match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(internal("remove an unfinished journal", error))
        }
        _ => Ok(()),
    };
    remove()?; // What an interrupted run has left.
    let make = || -> Result<(), Trouble> {
        let mut options = File::options();
        let file =
            options.read(true).write(true).create_new(true).mode(0o600).open(&new).map_err(io_trouble)?;
        between("journal.make");
        let database = builder().create_file(file).map_err(trouble)?;
        let transaction = database.begin_write().map_err(trouble)?;
        transaction.open_table(JOBS).map_err(trouble)?;
        transaction.open_table(REFUSALS).map_err(trouble)?;
        transaction.open_table(ATTACHMENTS).map_err(trouble)?;
        transaction.open_table(LAST_COMMIT).map_err(trouble)?.insert(0, 0).map_err(trouble)?;
        transaction.commit().map_err(trouble)?;
        drop(database); // Closed, so that it need not be recovered.
        between("journal.name");
        renameat_with(CWD, &new, CWD, path, RenameFlags::NOREPLACE)
            .map_err(|errno| io_trouble(errno.into()))?;
        between("journal.named");
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new("."))).map_err(io_trouble)?;
        folder.sync_all().map_err(io_trouble)
    };
    make().map_err(|trouble| {
        let failure = match trouble {
            Trouble::NoSpace(error) => no_space(path).caused_by(error),
            Trouble::Io(error) => Failure::internal(format!("`{}`", path.display()), error),
            Trouble::Failed(failure) => failure,
        }
        .at_step(STEP);
        match remove() {
            Ok(()) => failure,
            Err(undo) => failure.undo_failed(undo),
        }
    })
}

/// Checks the whole file, with every checksum in it, and changes nothing. An interrupted commit is no damage.
fn check(path: &Path) -> Result<(), Failure> {
    const STEP: &str = "check the journal";
    let damaged = |what: BoxError| {
        Failure::new(FailureCode::Damaged, format!("journal `{}` is damaged", path.display()))
            .caused_by(what)
            .at_step(STEP)
            .with_hint(
                "restore it from a backup, or move it away: volumes stay, and what the agent knew of jobs and \
                 mount points is forgotten",
            )
    };
    let file = File::open(path).map_err(|error| internal(STEP, error))?;
    let is_empty = file.metadata().map_err(|error| internal(STEP, error))?.len() == 0;
    if is_empty {
        return Err(damaged("it is empty".into()));
    }
    let overlay = Overlay::over(file).map_err(|error| internal(STEP, error))?;
    let checked = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let mut database = builder().create_with_backend(overlay)?;
        database.check_integrity()
    }));
    match checked {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(damaged("its checksums are wrong".into())),
        Ok(Err(redb::DatabaseError::UpgradeRequired(version))) => Err(Failure::new(
            FailureCode::Unsupported,
            format!(
                "journal `{}` has file format {version}, which this program does not know",
                path.display()
            ),
        )
        .at_step(STEP)),
        Ok(Err(error)) => Err(damaged(error.into())),
        Err(_) => Err(damaged("its structure is broken".into())),
    }
}

/// Calls `read` with the key and the bytes of every row of a table.
fn each<K: Key + 'static>(
    transaction: &redb::ReadTransaction,
    definition: TableDefinition<K, &'static [u8]>,
    mut read: impl FnMut(K::SelfType<'_>, &[u8]) -> Result<(), BoxError>,
) -> Result<(), Trouble> {
    let table = transaction.open_table(definition).map_err(trouble)?;
    for row in table.iter().map_err(trouble)? {
        let (key, bytes) = row.map_err(trouble)?;
        read(key.value(), bytes.value()).map_err(|cause| {
            Trouble::Failed(
                Failure::new(
                    FailureCode::Damaged,
                    format!("row `{:?}` of table `{definition}` cannot be read", key.value()),
                )
                .caused_by(cause),
            )
        })?;
    }
    Ok(())
}

fn matches(key: &str, expected: &str) -> Result<(), BoxError> {
    if key == expected { Ok(()) } else { Err(format!("it is the row of `{expected}`").into()) }
}

fn trouble(error: impl Into<redb::Error>) -> Trouble {
    match error.into() {
        redb::Error::Io(error) => io_trouble(error),
        error @ (redb::Error::PreviousIo | redb::Error::DatabaseClosed) => Trouble::Io(error.into()),
        error @ redb::Error::Corrupted(_) => {
            Trouble::Failed(Failure::new(FailureCode::Damaged, "the journal is damaged").caused_by(error))
        }
        error => Trouble::Failed(Failure::internal("the journal", error)),
    }
}

fn io_trouble(error: io::Error) -> Trouble {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Trouble::NoSpace(error.into()),
        _ => Trouble::Io(error.into()),
    }
}

fn internal(step: &'static str, error: io::Error) -> Failure {
    Failure::internal("the journal's file", error).at_step(step)
}
