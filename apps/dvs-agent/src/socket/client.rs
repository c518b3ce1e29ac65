//! The socket's client, for the command line.

use super::view::FailureView;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

/// The largest answer that is read, in bytes: some hundred thousand volumes.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// How long an answer may take, in seconds.
const ANSWER_SECONDS_MAX: u64 = 30;

/// Why the agent gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("cannot reach the agent at `{}`", path.display())]
    Unreachable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The agent answered with a failure.
    #[error("{}", .0.error)]
    Failed(FailureView),
    /// The response cannot be parsed.
    #[error("the agent's answer cannot be read: {0}")]
    Garbled(String),
    #[error("the agent gave no answer within {ANSWER_SECONDS_MAX} s")]
    TooSlow,
}

/// Sends a `GET` for `path` to the agent at `socket`.
///
/// # Errors
/// See [`SocketError`].
pub async fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, SocketError> {
    ask_in_time(socket, Method::GET, path).await
}

/// Sends a `POST` for `path` to the agent at `socket`.
///
/// # Errors
/// See [`SocketError`].
pub async fn post<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, SocketError> {
    ask_in_time(socket, Method::POST, path).await
}

async fn ask_in_time<T: DeserializeOwned>(
    socket: &Path,
    method: Method,
    path: &str,
) -> Result<T, SocketError> {
    let limit = Duration::from_secs(ANSWER_SECONDS_MAX);
    tokio::time::timeout(limit, ask(socket, method, path)).await.unwrap_or(Err(SocketError::TooSlow))
}

async fn ask<T: DeserializeOwned>(socket: &Path, method: Method, path: &str) -> Result<T, SocketError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|source| SocketError::Unreachable { path: socket.to_owned(), source })?;
    let garbled = |error: &dyn std::fmt::Display| SocketError::Garbled(error.to_string());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| garbled(&error))?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "dvs")
        .body(Empty::<Bytes>::new())
        .map_err(|error| garbled(&error))?;
    let response = sender.send_request(request).await.map_err(|error| garbled(&error))?;
    let success = response.status().is_success();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| garbled(&error))?
        .to_bytes();
    if success {
        return serde_json::from_slice(&body).map_err(|error| garbled(&error));
    }
    Err(SocketError::Failed(serde_json::from_slice(&body).map_err(|error| garbled(&error))?))
}
