//! What the node must remember, in one file of redb: jobs, answers that wait, attachments.
//!
//! - `rows`: what is written. Rows of this crate's own, read back through the domain's constructors.
//! - `writer`: one thread writes. What waits is committed together, and each by itself when that fails.
//! - `reserve`: room that is kept for a full disk, so that what finishes or forgets something still succeeds.
//! - `database`: the file. Before it is opened it is checked whole, without changing a byte of it (`overlay`).

mod database;
mod failpoint;
mod overlay;
mod reserve;
mod rows;
mod writer;

use crate::database::JournalFile;
use crate::reserve::Reserve;
use crate::writer::{Message, Writer};
use async_trait::async_trait;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::ledger::{Change, Remembered};
use dvs_domain::ports::Journal;
use std::path::Path;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// How many commits may wait for the writing thread; further callers wait for a place.
pub const WAITING_COMMITS_MAX: usize = 256;

/// A journal in one file. A commit whose caller gives up waiting happens whole or not at all. Dropping the
/// journal waits for what was begun, and gives the file free.
#[derive(Debug)]
pub struct RedbJournal {
    /// Gone only while this is being dropped.
    messages: Option<mpsc::Sender<Message>>,
    thread: Option<JoinHandle<()>>,
}

impl RedbJournal {
    /// Opens the journal at `path`, in a folder that is there; makes it if it is missing. Blocks meanwhile.
    ///
    /// # Errors
    /// `busy` when another agent has it open, `damaged` when it is not whole (then it is not touched),
    /// `no-space` when there is no room to make it, or `internal` with the step.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let subject = || format!("cannot open journal `{}`", path.display());
        let (sender, receiver) = mpsc::channel(WAITING_COMMITS_MAX);
        let thread = Reserve::open(path)
            .and_then(|mut reserve| {
                let file = JournalFile::open(path, &mut reserve)?;
                reserve.renew();
                let writer = Writer::new(file, reserve, receiver);
                std::thread::Builder::new().name("journal".to_owned()).spawn(move || writer.run()).map_err(
                    |error| Failure::internal("no thread", error).at_step("start the writing thread"),
                )
            })
            .map_err(|failure| failure.while_doing(subject()))?;
        Ok(Self { messages: Some(sender), thread: Some(thread) })
    }

    /// Hands a message to the writing thread, and waits for its reply.
    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<Result<T, Failure>>) -> Message + Send,
    ) -> Result<T, Failure> {
        let ended = || {
            Failure::new(FailureCode::Internal, "the journal's thread has ended")
                .with_hint("start the agent again")
        };
        let (reply, answer) = oneshot::channel();
        let messages = self.messages.as_ref().ok_or_else(ended)?;
        messages.send(message(reply)).await.map_err(|_| ended())?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

impl Drop for RedbJournal {
    fn drop(&mut self) {
        self.messages = None; // The thread ends when nobody can send any more.
        if let Some(thread) = self.thread.take() {
            // If it panicked, everybody who waited for it has been told.
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Journal for RedbJournal {
    async fn load(&self) -> Result<Remembered, Failure> {
        self.ask(Message::Load).await
    }

    async fn commit(&self, changes: &[Change]) -> Result<(), Failure> {
        let changes = changes.to_vec();
        self.ask(|reply| Message::Commit { changes, reply }).await
    }
}
