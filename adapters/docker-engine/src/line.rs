//! The line to an engine: HTTP over its Unix socket, with a limit to how much is taken from it.

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, ClientVersion, Docker};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::{Response, Uri};
use hyper_util::rt::TokioIo;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// The most that is taken from an engine while one question is asked of it. 10,000 containers with three binds
/// each take about 15 MiB; what goes beyond this is an engine gone wild, and must not fill the agent's memory.
pub(crate) const BYTES_MAX: usize = 64 * 1024 * 1024;

/// The line to one engine.
pub(crate) struct Line {
    parts: Arc<Parts>,
}

struct Parts {
    socket: PathBuf,
    /// The connection for the first request. Each further one is made anew, as Docker's own clients do.
    first: Mutex<Option<UnixStream>>,
    /// The version of the API in which is asked, once that is agreed on.
    version: OnceLock<String>,
    bytes_left: Arc<AtomicUsize>,
}

impl Line {
    /// The line to `socket`, to which `first` is connected.
    pub(crate) fn new(socket: &Path, first: UnixStream) -> Self {
        let parts = Parts {
            socket: socket.to_owned(),
            first: Mutex::new(Some(first)),
            version: OnceLock::new(),
            bytes_left: Arc::new(AtomicUsize::new(BYTES_MAX)),
        };
        Self { parts: Arc::new(parts) }
    }

    /// A client on this line, in the version `known` to be agreed on, or else in one that it agrees on with the
    /// engine.
    pub(crate) async fn client(&self, known: Option<ClientVersion>) -> Result<Docker, Error> {
        // The whole conversation has a limit, which is far less.
        const ANSWER_SECONDS_MAX: u64 = 24 * 60 * 60;
        let parts = Arc::clone(&self.parts);
        let transport = move |request: BollardRequest| {
            let parts = Arc::clone(&parts);
            async move { parts.answer(request).await }
        };
        let address = Some("http://engine");
        let docker = Docker::connect_with_custom_transport(
            transport,
            address,
            ANSWER_SECONDS_MAX,
            known.as_ref().unwrap_or(API_DEFAULT_VERSION),
        )?;
        let docker = if known.is_some() { docker } else { docker.negotiate_version().await? };
        self.parts.version.get_or_init(|| format!("/v{}", docker.client_version()));
        Ok(docker)
    }
}

impl Parts {
    async fn answer(&self, request: BollardRequest) -> Result<Response<Incoming>, Error> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let stream = match first {
            Some(stream) => stream,
            None => UnixStream::connect(&self.socket).await?,
        };
        let metered = Metered { stream, bytes_left: Arc::clone(&self.bytes_left) };
        let (mut sender, connection) = http1::handshake(TokioIo::new(metered)).await?;
        // Ends by itself: with the answer's body, or when nobody waits for it any more. Its error is told to
        // whoever reads the body.
        drop(tokio::spawn(connection));
        Ok(sender.send_request(self.for_a_server(request)?).await?)
    }

    /// `request` as it goes to a server rather than to a proxy: a path, with the version that bollard leaves out
    /// of it, and a host of some name.
    fn for_a_server(&self, mut request: BollardRequest) -> Result<BollardRequest, Error> {
        let version = self.version.get().map_or("", String::as_str);
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let target = format!("{version}{path}");
        *request.uri_mut() = target.parse::<Uri>()?;
        request.headers_mut().insert(HOST, HeaderValue::from_static("engine"));
        Ok(request)
    }
}

/// A connection from which no more is read than is left for the whole question.
struct Metered {
    stream: UnixStream,
    bytes_left: Arc<AtomicUsize>,
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let read = buffer.filled().len() - before;
        let take = |left: usize| left.checked_sub(read);
        if self.bytes_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            let text = format!("it says more than {} MiB", BYTES_MAX / (1024 * 1024));
            return Poll::Ready(Err(io::Error::other(text)));
        }
        polled
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
