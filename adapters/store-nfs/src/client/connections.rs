//! The connections to one server. Every call has a deadline. A connection whose call timed out, was cancelled or got an
//! invalid reply is closed, because a late reply could follow on it. A few connections are kept, so that calls run in
//! parallel: each carries one call at a time.

use super::contact::Contact;
use super::dial;
use super::error::{ClientError, Fault, is_closed};
use super::framed::Framed;
use super::procedure::{Procedure, RpcClient};
use super::types::Handle;
use crate::settings::Settings;
use nfs3_client::RpcError;
use nfs3_client::nfs3_types::nfs3::{Nfs3Result, nfsstat3};
use nfs3_client::nfs3_types::rpc::{auth_unix, opaque_auth};
use nfs3_client::nfs3_types::xdr_codec::Opaque;
use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// How many calls run in parallel.
pub(crate) const CONNECTIONS_MAX: usize = 8;
const CONNECT: &str = "connect";
/// Pause before a call is repeated that the server postponed (`NFS3ERR_JUKEBOX`); doubled each time.
const WAIT_MILLISECONDS_FIRST: u64 = 50;
const WAIT_MILLISECONDS_MAX: u64 = 500;
/// How many directories are remembered to which only uid 0 has access.
const ROOT_DIRECTORIES_MAX: usize = 4096;

/// The user that a connection's calls are made as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Identity {
    /// The store's user.
    Owner,
    /// Uid 0, for directories that containers made and the store's user has no access to.
    Root,
}

pub(crate) struct Connections {
    settings: Settings,
    contact: tokio::sync::Mutex<Option<Arc<Contact>>>,
    idle: Mutex<Vec<Connection>>,
    root_directories: Mutex<HashSet<Handle>>,
    /// Limits the calls in parallel.
    slots: Semaphore,
}

struct Connection {
    identity: Identity,
    contact: Arc<Contact>,
    client: RpcClient,
    stream: std::net::TcpStream,
}

type Reply<P> = Nfs3Result<<P as Procedure>::Good, <P as Procedure>::Bad>;

impl Connections {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            contact: tokio::sync::Mutex::default(),
            idle: Mutex::default(),
            root_directories: Mutex::default(),
            slots: Semaphore::new(CONNECTIONS_MAX),
        }
    }

    /// Drops idle connections and the known addresses: the next call contacts the server anew.
    pub(crate) fn forget(&self) {
        self.idle().clear();
        if let Ok(mut contact) = self.contact.try_lock() {
            *contact = None;
        }
    }

    /// The server's address and the handle of the export.
    pub(crate) async fn contact(&self, deadline: Instant) -> Result<Arc<Contact>, ClientError> {
        let late = |_| ClientError { call: CONNECT, fault: Fault::Timeout };
        let mut known = timeout_at(deadline, self.contact.lock()).await.map_err(late)?;
        if let Some(contact) = known.as_ref() {
            return Ok(Arc::clone(contact));
        }
        let contact = Arc::new(Contact::make(&self.settings, deadline).await?);
        *known = Some(Arc::clone(&contact));
        Ok(contact)
    }

    /// Makes a call as the store's user, or as uid 0 where that user has no access. For a directory where that was so,
    /// later calls are made as uid 0 at once: a container's directory may have thousands of files.
    pub(crate) async fn call<P: Procedure>(
        &self,
        directory: &Handle,
        call: &P,
        deadline: Instant,
    ) -> Result<P::Good, ClientError> {
        let is_root_only = self.root_directories().contains(directory);
        let first = if is_root_only { Identity::Root } else { Identity::Owner };
        match self.call_as(first, call, deadline).await {
            Err(ClientError { fault: Fault::AccessDenied, .. }) if is_root_only => {
                self.root_directories().remove(directory);
                self.call_as(Identity::Owner, call, deadline).await
            }
            Err(ClientError { fault: Fault::AccessDenied, .. }) if self.settings.uid != 0 => {
                let answer = self.call_as(Identity::Root, call, deadline).await;
                if answer.is_ok() {
                    let mut known = self.root_directories();
                    if ROOT_DIRECTORIES_MAX <= known.len() {
                        known.clear();
                    }
                    known.insert(directory.clone());
                }
                answer
            }
            answered => answered,
        }
    }

    /// Makes a call that only uid 0 may make.
    pub(crate) async fn call_as_root<P: Procedure>(
        &self,
        call: &P,
        deadline: Instant,
    ) -> Result<P::Good, ClientError> {
        let identity = if self.settings.uid == 0 { Identity::Owner } else { Identity::Root };
        self.call_as(identity, call, deadline).await
    }

    async fn call_as<P: Procedure>(
        &self,
        identity: Identity,
        call: &P,
        deadline: Instant,
    ) -> Result<P::Good, ClientError> {
        let failed = |fault| ClientError { call: P::NAME, fault };
        let mut wait = WAIT_MILLISECONDS_FIRST;
        loop {
            match self.exchange(identity, call, deadline).await? {
                Nfs3Result::Ok(good) => return Ok(good),
                Nfs3Result::Err((nfsstat3::NFS3ERR_JUKEBOX, _)) => {
                    let again = Instant::now() + Duration::from_millis(wait);
                    if deadline <= again {
                        return Err(failed(Fault::Timeout));
                    }
                    tokio::time::sleep_until(again).await;
                    wait = (wait * 2).min(WAIT_MILLISECONDS_MAX);
                }
                Nfs3Result::Err((status, _)) => return Err(failed(Fault::of_status(status))),
            }
        }
    }

    /// Sends a call and waits for the reply. The server may have closed an idle connection meanwhile: then the call is
    /// sent once more on a new one.
    async fn exchange<P: Procedure>(
        &self,
        identity: Identity,
        call: &P,
        deadline: Instant,
    ) -> Result<Reply<P>, ClientError> {
        let failed = |fault| ClientError { call: P::NAME, fault };
        let Ok(Ok(_slot)) = timeout_at(deadline, self.slots.acquire()).await else {
            return Err(failed(Fault::Timeout));
        };
        let mut again = true;
        loop {
            let mut connection = self.connection(identity, deadline).await?;
            match timeout_at(deadline, call.call(&mut connection.client)).await {
                Ok(Ok(reply)) => {
                    self.keep(connection);
                    return Ok(reply);
                }
                Ok(Err(RpcError::Io(error))) if again && is_closed(&error) => again = false,
                Ok(Err(error)) => return Err(failed(Fault::of_rpc(&error))),
                Err(_) => return Err(failed(Fault::Timeout)),
            }
        }
    }

    async fn connection(&self, identity: Identity, deadline: Instant) -> Result<Connection, ClientError> {
        let contact = self.contact(deadline).await?;
        while let Some(connection) = self.take_idle(identity) {
            if Arc::ptr_eq(&connection.contact, &contact) && is_alive(&connection.stream) {
                return Ok(connection);
            }
        }
        // The server may have another address when it is back.
        let stream = dial::connect(contact.nfs, CONNECT, deadline).await.inspect_err(|_| self.forget())?;
        let failed = |error: io::Error| Fault::Unreachable(error.to_string());
        let (stream, twin) =
            twin(stream).map_err(|error| ClientError { call: CONNECT, fault: failed(error) })?;
        let client =
            RpcClient::new_with_auth(Framed::new(stream), self.credential(identity), opaque_auth::default());
        Ok(Connection { identity, contact, client, stream: twin })
    }

    fn take_idle(&self, identity: Identity) -> Option<Connection> {
        let mut idle = self.idle();
        let at = idle.iter().rposition(|connection| connection.identity == identity)?;
        Some(idle.swap_remove(at))
    }

    /// Keeps an idle connection. If there are too many, the oldest is closed.
    fn keep(&self, connection: Connection) {
        let mut idle = self.idle();
        if CONNECTIONS_MAX <= idle.len() {
            idle.remove(0);
        }
        idle.push(connection);
    }

    fn credential(&self, identity: Identity) -> opaque_auth<'static> {
        let (uid, gid) = match identity {
            Identity::Owner => (self.settings.uid, self.settings.gid),
            Identity::Root => (0, 0),
        };
        let machinename = Opaque::borrowed(b"dvs");
        opaque_auth::auth_unix(&auth_unix { machinename, uid, gid, ..auth_unix::default() })
    }

    fn root_directories(&self) -> MutexGuard<'_, HashSet<Handle>> {
        self.root_directories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Duplicates the descriptor: the library keeps one, the other serves to check whether the connection is open.
fn twin(stream: TcpStream) -> io::Result<(TcpStream, std::net::TcpStream)> {
    let stream = stream.into_std()?;
    let twin = stream.try_clone()?;
    Ok((TcpStream::from_std(stream)?, twin))
}

/// Whether the connection is open and no unexpected data has arrived.
fn is_alive(stream: &std::net::TcpStream) -> bool {
    matches!(stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}
