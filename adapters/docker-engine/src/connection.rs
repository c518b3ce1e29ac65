//! One connection to an engine: HTTP over its Unix socket, with a limit to how much is taken from it.

use bollard::errors::Error;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until};

/// The most that is taken from an engine in one conversation. 10,000 containers with three binds each take about
/// 15 MiB; what goes beyond this is an engine gone wild, and must not fill the agent's memory.
pub(crate) const BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long a connection on which nothing is asked stays open. Podman's service, which is started for whoever connects,
/// does not end before.
const UNUSED_MAX: Duration = Duration::from_secs(10);

/// A connection, which is closed when this goes.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Of requests that only ask, and so have no body.
    sender: Mutex<SendRequest<String>>,
    used: Arc<Mutex<Use>>,
    socket: Option<SocketFile>,
}

/// What a connection is used for.
#[derive(Debug)]
enum Use {
    /// To ask a question.
    Question {
        /// What may still be taken from the engine in the conversation.
        bytes_left: Arc<AtomicUsize>,
        /// Whether another question was asked before.
        again: bool,
        /// Whether anything of the answer has come.
        heard: bool,
    },
    /// For nothing.
    Nothing { since: Instant },
}

/// A socket in the file system: an engine that is started again makes another one at the same path. Where inodes
/// are given again at once, the time of its last change still tells it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketFile {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl SocketFile {
    /// The one at `path`, if it can be looked at. Looking does not wait any longer than connecting does, which
    /// looks up the same path just so.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        let file = path.metadata().ok()?;
        let changed = (file.ctime(), file.ctime_nsec());
        Some(Self { device: file.dev(), inode: file.ino(), changed })
    }
}

impl Connection {
    /// A new connection to `path`, for a question in a conversation in which `bytes_left` may be taken.
    pub(crate) async fn open(path: &Path, bytes_left: Arc<AtomicUsize>) -> io::Result<Self> {
        // Before connecting: if the engine is replaced in between, this takes a new connection for an old one.
        let socket = SocketFile::at(path);
        let stream = UnixStream::connect(path).await?;
        let used = Arc::new(Mutex::new(Use::Question { bytes_left, again: false, heard: false }));
        let metered = Metered { stream, used: Arc::clone(&used) };
        let (sender, connection) = http1::handshake(TokioIo::new(metered)).await.map_err(io::Error::other)?;
        let unused = unused_too_long(Arc::clone(&used));
        drop(tokio::spawn(async move {
            tokio::select! {
                // Ends by itself: when the engine hangs up, or when nobody asks or waits for an answer any more.
                // Its error is told to whoever reads the body.
                _ = connection => {}
                () = unused => {}
            }
        }));
        Ok(Self { sender: Mutex::new(sender), used, socket })
    }

    /// The answer to `request`, of which the body is still to be read.
    pub(crate) async fn ask(&self, request: Request<String>) -> Result<Response<Incoming>, Error> {
        let answer = self.sender().send_request(request);
        Ok(answer.await?)
    }

    /// Whether it can be used for another question, after an answer that was read to its end: not when the engine
    /// has closed it or is about to, or has said more than it was asked. It is used for nothing from now on.
    pub(crate) async fn rest(&self) -> bool {
        let ready = poll_fn(|context| self.sender().poll_ready(context)).await;
        *lock(&self.used) = Use::Nothing { since: Instant::now() };
        ready.is_ok() && self.socket.is_some()
    }

    /// From now on used for another question, in a conversation in which `bytes_left` may be taken.
    pub(crate) fn again(&self, bytes_left: Arc<AtomicUsize>) {
        *lock(&self.used) = Use::Question { bytes_left, again: true, heard: false };
    }

    /// Whether it leads to whoever listens at `socket` and is open, as far as is known.
    pub(crate) fn leads_to(&self, socket: Option<SocketFile>) -> bool {
        self.socket == socket && !self.is_closed()
    }

    /// Whether it is known to be closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender().is_closed()
    }

    /// Whether it may have been dead already when the last question was asked on it.
    pub(crate) fn was_stale(&self) -> bool {
        matches!(*lock(&self.used), Use::Question { again: true, heard: false, .. })
    }

    fn sender(&self) -> MutexGuard<'_, SendRequest<String>> {
        lock(&self.sender)
    }
}

/// Ends when a connection has been used for nothing for too long.
async fn unused_too_long(used: Arc<Mutex<Use>>) {
    loop {
        let now = Instant::now();
        let since = match *lock(&used) {
            Use::Question { .. } => now,
            Use::Nothing { since } if now < since + UNUSED_MAX => since,
            Use::Nothing { .. } => return,
        };
        sleep_until(since + UNUSED_MAX).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stream from which no more is read than is left for the whole conversation.
struct Metered {
    stream: UnixStream,
    used: Arc<Mutex<Use>>,
}

impl Metered {
    /// Notes that `read` bytes were read, if they are not too many.
    fn take(&self, read: usize) -> io::Result<()> {
        // What is said unasked ends the connection anyway.
        let Use::Question { bytes_left, heard, .. } = &mut *lock(&self.used) else { return Ok(()) };
        *heard |= 0 < read;
        let take = |left: usize| left.checked_sub(read);
        let taken = bytes_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        let too_much = || io::Error::other(format!("it says more than {} MiB", BYTES_MAX / (1024 * 1024)));
        taken.map(drop).map_err(|_| too_much())
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        match self.take(buffer.filled().len() - before) {
            Ok(()) => polled,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
