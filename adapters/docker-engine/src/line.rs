//! The line to an engine: the connections that stay open from one question to the next, and a client for each
//! question.

use crate::connection::{Connection, SocketFile};
use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, ClientVersion, Docker};
use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, Uri};
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many connections to one engine stay open while nothing is asked on them. To connect takes an engine about as
/// long as to answer.
const UNUSED_COUNT_MAX: usize = 2;

/// The connections to one engine on which nothing is asked: at most [`UNUSED_COUNT_MAX`], and each only for a while.
#[derive(Debug, Default)]
pub(crate) struct Line(Mutex<Vec<Arc<Connection>>>);

impl Line {
    /// A connection to whoever listens at `path` now, if one is left from an earlier question, for a question in a
    /// conversation in which `bytes_left` may be taken. Those to whoever listened there before are closed.
    pub(crate) fn take(&self, path: &Path, bytes_left: &Arc<AtomicUsize>) -> Option<Arc<Connection>> {
        let socket = SocketFile::at(path);
        let mut unused = self.unused();
        unused.retain(|connection| connection.leads_to(socket));
        let connection = unused.pop()?;
        connection.again(Arc::clone(bytes_left));
        Some(connection)
    }

    /// Keeps `connection`, on which an answer was read to its end, for another question.
    pub(crate) async fn keep(&self, connection: Arc<Connection>) {
        if !connection.rest().await {
            return;
        }
        let mut unused = self.unused();
        unused.retain(|connection| !connection.is_closed());
        if unused.len() < UNUSED_COUNT_MAX {
            unused.push(connection);
        }
    }

    fn unused(&self) -> MutexGuard<'_, Vec<Arc<Connection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client for one question on `connection`, in the version `known` to be agreed on, or else for agreeing on one.
pub(crate) fn client(connection: &Arc<Connection>, known: Option<ClientVersion>) -> Result<Docker, Error> {
    // The whole conversation has a limit, which is far less.
    const ANSWER_SECONDS_MAX: u64 = 24 * 60 * 60;
    let connection = Arc::clone(connection);
    let transport = move |request: BollardRequest| {
        let connection = Arc::clone(&connection);
        async move { connection.ask(for_a_server(request, known)?).await }
    };
    let version = known.as_ref().unwrap_or(API_DEFAULT_VERSION);
    Docker::connect_with_custom_transport(transport, Some("http://engine"), ANSWER_SECONDS_MAX, version)
}

/// `request` as it goes to a server rather than to a proxy: a path, with the version that bollard leaves out of it,
/// and a host of some name.
fn for_a_server(request: BollardRequest, known: Option<ClientVersion>) -> Result<Request<String>, Error> {
    debug_assert_eq!(request.method(), Method::GET, "it is asked again where the connection was dead");
    let mut request = request.map(|_| String::new());
    let version = known.map_or_else(String::new, |version| format!("/v{version}"));
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let target = format!("{version}{path}");
    *request.uri_mut() = target.parse::<Uri>()?;
    request.headers_mut().insert(HOST, HeaderValue::from_static("engine"));
    Ok(request)
}
