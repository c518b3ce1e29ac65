//! The one thread that writes: what waits is committed together, and each by itself when that fails.

use crate::database::{JournalFile, Trouble, no_space};
use crate::reserve::Reserve;
use dvs_domain::failure::Failure;
use dvs_domain::job::JobKind;
use dvs_domain::ledger::{Change, Phase, Remembered};
use std::panic::AssertUnwindSafe;
use std::thread;
use tokio::sync::{mpsc, oneshot};

/// How many commits are made durable together.
const GROUP_COMMITS_MAX: usize = 256;

const STEP: &str = "commit to the journal";

/// What the thread is asked. A reply that nobody waits for any more is no error.
pub(crate) enum Message {
    /// Everything that was committed.
    Load(oneshot::Sender<Result<Remembered, Failure>>),
    /// Make these changes durable.
    Commit { changes: Vec<Change>, reply: oneshot::Sender<Result<(), Failure>> },
}

/// A commit that waits.
struct Waiting {
    changes: Vec<Change>,
    reply: oneshot::Sender<Result<(), Failure>>,
}

/// What the thread works with.
pub(crate) struct Writer {
    file: JournalFile,
    reserve: Reserve,
    messages: mpsc::Receiver<Message>,
}

impl Writer {
    pub(crate) fn new(file: JournalFile, reserve: Reserve, messages: mpsc::Receiver<Message>) -> Self {
        Self { file, reserve, messages }
    }

    /// Works until nobody can send any more and everything that was sent is done.
    pub(crate) fn run(mut self) {
        let mut next = self.messages.blocking_recv();
        while let Some(message) = next.take() {
            match message {
                Message::Load(reply) => {
                    let _ = reply.send(self.file.read());
                }
                Message::Commit { changes, reply } => {
                    let mut group = vec![Waiting { changes, reply }];
                    // Others that are about to commit share this one, and its wait for the disk. Where nobody waits
                    // for the processor this takes no time.
                    thread::yield_now();
                    while group.len() < GROUP_COMMITS_MAX {
                        match self.messages.try_recv() {
                            Ok(Message::Commit { changes, reply }) => group.push(Waiting { changes, reply }),
                            Ok(load) => {
                                next = Some(load);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.commit_guarded(group);
                }
            }
            next = next.or_else(|| self.messages.blocking_recv());
        }
    }

    /// A panic within redb ends the group, whose callers are told by the loss of their replies, and not the
    /// thread: the file is opened anew for the next.
    fn commit_guarded(&mut self, group: Vec<Waiting>) {
        if std::panic::catch_unwind(AssertUnwindSafe(|| self.commit_group(group))).is_err() {
            self.file.close();
        }
    }

    fn commit_group(&mut self, group: Vec<Waiting>) {
        self.reserve.renew();
        if group.len() > 1 && (self.reserve.is_held() || group.iter().all(|one| must_succeed(&one.changes))) {
            let all: Vec<&[Change]> = group.iter().map(|waiting| waiting.changes.as_slice()).collect();
            if self.file.write(&all).is_ok() {
                for waiting in group {
                    let _ = waiting.reply.send(Ok(()));
                }
                return;
            }
        }
        for waiting in group {
            let _ = waiting.reply.send(self.commit_one(&waiting.changes));
        }
    }

    fn commit_one(&mut self, changes: &[Change]) -> Result<(), Failure> {
        let must_succeed = must_succeed(changes);
        if !must_succeed && !self.reserve.is_held() {
            // What is still free is for finishing what was begun.
            return Err(no_space(self.file.path()).at_step(STEP));
        }
        match self.file.write(&[changes]) {
            Err(Trouble::NoSpace(_)) if must_succeed && self.reserve.is_held() => {
                self.reserve.release()?;
                self.file.write(&[changes])
            }
            written => written,
        }
        .map_err(|trouble| self.file.failure(trouble, STEP))
    }
}

/// Whether a full disk must not keep these changes from being made: all of them finish or forget something,
/// or accept a delete, which is how room is made. What is forgotten may leave its directories to an attachment that
/// there is already.
fn must_succeed(changes: &[Change]) -> bool {
    let forgets = changes.iter().any(|change| matches!(change, Change::DropAttachment(_)));
    changes.iter().all(|change| match change {
        Change::PutJob(record) => {
            record.phase != Phase::Accepted || record.job.request.kind() == JobKind::Delete
        }
        Change::PutRefusal(..) => false,
        Change::PutAttachment(_) => forgets,
        Change::DropJob(_) | Change::DropRefusal(_) | Change::DropAttachment(_) => true,
    })
}
