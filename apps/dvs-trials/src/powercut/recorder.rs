//! The disks, as the test sees them: orders to the process that keeps them.

use super::disk::{Cut, Unflushed};
use super::server::PREFIX;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::str::FromStr;

/// The subcommand that keeps the disks.
pub(super) const SUBCOMMAND: &str = "keep-disks";

/// The process that keeps the disks. Dropping it ends it; nothing may be mounted from them any more.
pub(super) struct Recorder {
    process: Child,
    orders: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
    folder: PathBuf,
}

/// A disk of the recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DiskId(u64);

/// An entry of a disk's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogEntry {
    /// When it was made, on the monotonic clock.
    pub(super) at: u64,
    pub(super) is_flush: bool,
}

impl Recorder {
    /// Starts this program once more, with the disks as files in `folder`.
    pub(super) fn start(folder: &Path) -> Result<Self> {
        std::fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let program = std::env::current_exe().context("cannot tell which program this is")?;
        let mut process = Command::new(program)
            .arg(SUBCOMMAND)
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the process that keeps the disks")?;
        let orders = process.stdin.take();
        let replies = BufReader::new(process.stdout.take().context("it has no standard output")?);
        Ok(Self { process, orders, replies, folder: folder.to_owned() })
    }

    /// Where the disks are.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the kernel has `disk`.
    pub(super) fn path(&self, disk: DiskId) -> PathBuf {
        self.folder.join(format!("{PREFIX}{}", disk.0))
    }

    /// A disk full of zeros.
    pub(super) fn add(&mut self, bytes: u64) -> Result<DiskId> {
        Ok(DiskId(number(&self.ask(&format!("new {bytes}"))?)?))
    }

    /// Begins the log of `disk`: what was written before is never lost.
    pub(super) fn seal(&mut self, disk: DiskId) -> Result<()> {
        self.ask(&format!("seal {}", disk.0)).map(drop)
    }

    pub(super) fn log(&mut self, disk: DiskId) -> Result<Vec<LogEntry>> {
        let log = self.ask(&format!("log {}", disk.0))?;
        let entry = |word: &str| {
            let at = number(word.get(1..).unwrap_or_default())?;
            Ok(LogEntry { at, is_flush: word.starts_with('F') })
        };
        log.split_whitespace().map(entry).collect()
    }

    /// The disk as it is found after `cut`, as a disk of its own.
    pub(super) fn cut(&mut self, disk: DiskId, cut: Cut) -> Result<(DiskId, Unflushed)> {
        let Cut { position, seed, ignored_flushes, keeps_all } = cut;
        let keeps_all = u64::from(keeps_all);
        let reply = self.ask(&format!("cut {} {position} {seed} {ignored_flushes} {keeps_all}", disk.0))?;
        let words: Vec<&str> = reply.split(' ').collect();
        let [after, writes, kept, torn] = words.as_slice() else { bail!("`{reply}` is no reply to a cut") };
        let unflushed = Unflushed { writes: number(writes)?, kept: number(kept)?, torn: number(torn)? };
        Ok((DiskId(number(after)?), unflushed))
    }

    pub(super) fn drop(&mut self, disk: DiskId) -> Result<()> {
        self.ask(&format!("drop {}", disk.0)).map(drop)
    }

    fn ask(&mut self, order: &str) -> Result<String> {
        let mut reply = String::new();
        let orders = self.orders.as_mut().context("the disks are gone")?;
        writeln!(orders, "{order}").context("the process that keeps the disks takes no order")?;
        self.replies.read_line(&mut reply).context("the process that keeps the disks does not reply")?;
        let reply = reply.trim_end();
        match reply.strip_prefix("error ") {
            Some(error) => bail!("the process that keeps the disks: {error}"),
            None if reply.is_empty() && !order.starts_with("log") => {
                bail!("the process that keeps the disks has ended")
            }
            None => Ok(reply.to_owned()),
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // It ends with its orders, and unmounts.
        self.orders = None;
        let _ = self.process.wait();
    }
}

fn number<T: FromStr>(word: &str) -> Result<T> {
    word.parse().ok().with_context(|| format!("`{word}` is no number"))
}
