//! HTTP over an engine's Unix socket: one connection for each request, and a limit to how much is read.

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, ClientVersion, Docker};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// The most that is read from an engine in one session. 10,000 containers with three binds each take about 15 MiB; an
/// engine that sends more than this is broken, and must not fill the agent's memory.
pub(crate) const BYTES_MAX: usize = 64 * 1024 * 1024;

/// A client for the engine at `socket` that reads at most `bytes_left`, in the version `agreed`, or else for agreeing on
/// one. A connection that fails is [`Error::IOError`].
pub(crate) fn client(
    socket: &Path,
    bytes_left: &Arc<AtomicUsize>,
    agreed: Option<ClientVersion>,
) -> Result<Docker, Error> {
    // The whole session has a limit, which is far less.
    const ANSWER_SECONDS_MAX: u64 = 24 * 60 * 60;
    let (socket, bytes_left) = (socket.to_owned(), Arc::clone(bytes_left));
    let transport = move |request: BollardRequest| {
        let (socket, bytes_left) = (socket.clone(), Arc::clone(&bytes_left));
        async move { ask(&socket, bytes_left, for_a_server(request, agreed)?).await }
    };
    let version = agreed.as_ref().unwrap_or(API_DEFAULT_VERSION);
    Docker::connect_with_custom_transport(transport, Some("http://engine"), ANSWER_SECONDS_MAX, version)
}

/// The response to `request`, of which the body is still to be read.
async fn ask(
    socket: &Path,
    bytes_left: Arc<AtomicUsize>,
    request: Request<String>,
) -> Result<Response<Incoming>, Error> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(Metered { stream, bytes_left })).await?;
    // Ends when the body is read or dropped, or when the request is cancelled. Reading the body returns its error.
    drop(tokio::spawn(connection));
    Ok(sender.send_request(request).await?)
}

/// `request` as it goes to a server rather than to a proxy: a path, with the version that bollard leaves out of it,
/// and a host of some name.
fn for_a_server(request: BollardRequest, agreed: Option<ClientVersion>) -> Result<Request<String>, Error> {
    debug_assert_eq!(request.method(), Method::GET, "it may be sent again");
    let mut request = request.map(|_| String::new());
    let version = agreed.map_or_else(String::new, |version| format!("/v{version}"));
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let target = format!("{version}{path}");
    *request.uri_mut() = target.parse::<Uri>()?;
    request.headers_mut().insert(HOST, HeaderValue::from_static("engine"));
    Ok(request)
}

/// A stream from which no more is read than is left for the whole session.
struct Metered {
    stream: UnixStream,
    bytes_left: Arc<AtomicUsize>,
}

impl Metered {
    /// Counts `read` bytes, if they are not too many.
    fn take(&self, read: usize) -> io::Result<()> {
        let take = |left: usize| left.checked_sub(read);
        let taken = self.bytes_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        let too_much = || io::Error::other(format!("its answers exceed {} MiB", BYTES_MAX / (1024 * 1024)));
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
