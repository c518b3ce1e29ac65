//! The owner of the connections to one export. Every call has a moment by which it must have ended; a connection
//! whose call timed out, was given up, or was answered with nonsense is dropped, because nobody knows what would come
//! on it next. A few connections are kept, so that calls run side by side: each carries one call at a time.

mod contact;
mod dial;
mod framed;
mod procedure;
mod shape;

pub(crate) use framed::Framed;
pub(crate) use procedure::Procedure;

use crate::settings::Settings;
use crate::target::{Fault, Handle, TargetError};
use contact::Contact;
use nfs3_client::RpcError;
use nfs3_client::nfs3_types::nfs3::{Nfs3Result, nfsstat3};
use nfs3_client::nfs3_types::rpc::{auth_unix, opaque_auth};
use nfs3_client::nfs3_types::xdr_codec::Opaque;
use procedure::Client;
use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// So many calls are made side by side.
pub(crate) const CONNECTIONS_MAX: usize = 8;
/// A server that asks to come back later is asked again after this, then after twice as long, and so on.
const WAIT_MILLISECONDS_FIRST: u64 = 50;
/// How long at most until it is asked again.
const WAIT_MILLISECONDS_MAX: u64 = 500;

/// So many folders are remembered in which only uid 0 may do what is asked.
const FOLDERS_OF_ROOT_MAX: usize = 4096;

/// Who the server sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Identity {
    /// The store's user.
    Owner,
    /// For what the store's user may not do: folders that containers made.
    Root,
}

/// The connections to one export.
pub(crate) struct Connections {
    settings: Settings,
    contact: tokio::sync::Mutex<Option<Arc<Contact>>>,
    idle: Mutex<Vec<Connection>>,
    folders_of_root: Mutex<HashSet<Handle>>,
    free: Semaphore,
    calls: AtomicU64,
}

/// A connection that no call is on.
struct Connection {
    identity: Identity,
    contact: Arc<Contact>,
    client: Client,
    stream: std::net::TcpStream,
}

/// What a call came to that was answered at all.
type Answer<P> = Nfs3Result<<P as Procedure>::Good, <P as Procedure>::Bad>;

impl Connections {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            contact: tokio::sync::Mutex::default(),
            idle: Mutex::default(),
            folders_of_root: Mutex::default(),
            free: Semaphore::new(CONNECTIONS_MAX),
            calls: AtomicU64::new(0),
        }
    }

    /// How many calls were sent so far.
    #[cfg(feature = "testing")]
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Begins anew with the next call, as if nothing were known of the server.
    pub(crate) fn forget(&self) {
        self.idle().clear();
        if let Ok(mut contact) = self.contact.try_lock() {
            *contact = None;
        }
    }

    /// Where the server is, and the handle of the export.
    pub(crate) async fn contact(&self, until: Instant) -> Result<Arc<Contact>, TargetError> {
        let late = |_| TargetError { call: "connect", fault: Fault::Late };
        let mut known = timeout_at(until, self.contact.lock()).await.map_err(late)?;
        if let Some(contact) = known.as_ref() {
            return Ok(Arc::clone(contact));
        }
        let contact = Arc::new(Contact::make(&self.settings, until).await?);
        *known = Some(Arc::clone(&contact));
        Ok(contact)
    }

    /// Makes a call that is about `folder` as the store's user, or as uid 0 where that one may not. In a folder where
    /// that was so, uid 0 asks first from then on: a container's folder may have thousands of files.
    pub(crate) async fn call<P: Procedure>(
        &self,
        folder: &Handle,
        call: &P,
        until: Instant,
    ) -> Result<P::Good, TargetError> {
        let is_roots = self.folders_of_root().contains(folder);
        let first = if is_roots { Identity::Root } else { Identity::Owner };
        match self.call_as(first, call, until).await {
            Err(TargetError { fault: Fault::Refused, .. }) if is_roots => {
                self.folders_of_root().remove(folder);
                self.call_as(Identity::Owner, call, until).await
            }
            Err(TargetError { fault: Fault::Refused, .. }) if self.settings.uid != 0 => {
                let answer = self.call_as(Identity::Root, call, until).await;
                if answer.is_ok() {
                    let mut folders = self.folders_of_root();
                    if FOLDERS_OF_ROOT_MAX <= folders.len() {
                        folders.clear();
                    }
                    folders.insert(folder.clone());
                }
                answer
            }
            answered => answered,
        }
    }

    /// Makes a call as uid 0, for what only that one may.
    pub(crate) async fn call_as_root<P: Procedure>(
        &self,
        call: &P,
        until: Instant,
    ) -> Result<P::Good, TargetError> {
        let identity = if self.settings.uid == 0 { Identity::Owner } else { Identity::Root };
        self.call_as(identity, call, until).await
    }

    async fn call_as<P: Procedure>(
        &self,
        identity: Identity,
        call: &P,
        until: Instant,
    ) -> Result<P::Good, TargetError> {
        let failed = |fault| TargetError { call: P::NAME, fault };
        let mut wait = WAIT_MILLISECONDS_FIRST;
        loop {
            match self.answer(identity, call, until).await? {
                Nfs3Result::Ok(good) => return Ok(good),
                Nfs3Result::Err((nfsstat3::NFS3ERR_JUKEBOX, _)) => {
                    let again = Instant::now() + Duration::from_millis(wait);
                    if until <= again {
                        return Err(failed(Fault::Late));
                    }
                    tokio::time::sleep_until(again).await;
                    wait = (wait * 2).min(WAIT_MILLISECONDS_MAX);
                }
                Nfs3Result::Err((status, _)) => return Err(failed(fault_of(status))),
            }
        }
    }

    /// The answer to a call. A connection may have been closed since its last call: then the call is made once more.
    async fn answer<P: Procedure>(
        &self,
        identity: Identity,
        call: &P,
        until: Instant,
    ) -> Result<Answer<P>, TargetError> {
        let failed = |fault| TargetError { call: P::NAME, fault };
        let Ok(Ok(_place)) = timeout_at(until, self.free.acquire()).await else {
            return Err(failed(Fault::Late));
        };
        let mut again = true;
        loop {
            let mut connection = self.connection(identity, until).await?;
            self.calls.fetch_add(1, Ordering::Relaxed);
            match timeout_at(until, call.call(&mut connection.client)).await {
                Ok(Ok(answer)) => {
                    self.idle().push(connection);
                    return Ok(answer);
                }
                Ok(Err(RpcError::Io(error))) if again && is_closed(&error) => again = false,
                Ok(Err(error)) => return Err(failed(fault_of_rpc(&error))),
                Err(_) => return Err(failed(Fault::Late)),
            }
        }
    }

    async fn connection(&self, identity: Identity, until: Instant) -> Result<Connection, TargetError> {
        let contact = self.contact(until).await?;
        while let Some(connection) = self.take_idle(identity) {
            if Arc::ptr_eq(&connection.contact, &contact) && is_alive(&connection.stream) {
                return Ok(connection);
            }
        }
        let failed = |fault| TargetError { call: "connect", fault };
        let stream = match timeout_at(until, dial::connect(contact.nfs)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                // Perhaps it is somewhere else when it is back.
                self.forget();
                return Err(failed(Fault::Unreachable(format!("{}: {error}", contact.nfs))));
            }
            Err(_) => {
                self.forget();
                return Err(failed(Fault::Late));
            }
        };
        let system = |error: io::Error| failed(Fault::Unreachable(error.to_string()));
        let (stream, twin) = twin(stream).map_err(system)?;
        let client =
            Client::new_with_auth(Framed::new(stream), self.credential(identity), opaque_auth::default());
        Ok(Connection { identity, contact, client, stream: twin })
    }

    fn take_idle(&self, identity: Identity) -> Option<Connection> {
        let mut idle = self.idle();
        let at = idle.iter().rposition(|connection| connection.identity == identity);
        // One too many of the other identity makes room for a new one.
        match at {
            Some(at) => Some(idle.swap_remove(at)),
            None => {
                if CONNECTIONS_MAX <= idle.len() {
                    idle.swap_remove(0);
                }
                None
            }
        }
    }

    fn credential(&self, identity: Identity) -> opaque_auth<'static> {
        let (uid, gid) = match identity {
            Identity::Owner => (self.settings.uid, self.settings.gid),
            Identity::Root => (0, 0),
        };
        opaque_auth::auth_unix(&auth_unix {
            stamp: 0,
            machinename: Opaque::borrowed(b"dvs"),
            uid,
            gid,
            gids: Vec::new(),
        })
    }

    fn folders_of_root(&self) -> MutexGuard<'_, HashSet<Handle>> {
        self.folders_of_root.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same stream twice: once for the library, which keeps it, and once to see whether it is still open.
fn twin(stream: TcpStream) -> io::Result<(TcpStream, std::net::TcpStream)> {
    let stream = stream.into_std()?;
    let twin = stream.try_clone()?;
    Ok((TcpStream::from_std(stream)?, twin))
}

/// Whether the server has neither closed the connection nor sent anything that was not asked for.
fn is_alive(stream: &std::net::TcpStream) -> bool {
    matches!(stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

fn fault_of_rpc(error: &RpcError) -> Fault {
    match error {
        RpcError::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            Fault::Nonsense(error.to_string())
        }
        RpcError::Io(error) if is_closed(error) => {
            Fault::Unreachable("the server closed the connection".to_owned())
        }
        RpcError::Io(error) => Fault::Unreachable(error.to_string()),
        RpcError::Auth(why) => Fault::Other(format!("the server does not take our credentials: {why}")),
        RpcError::ProgUnavail | RpcError::ProgMismatch { .. } | RpcError::RpcMismatch { .. } => {
            Fault::Nonsense(format!("no NFSv3 is spoken there ({error})"))
        }
        RpcError::ProcUnavail => Fault::Unsupported,
        RpcError::SystemErr => Fault::Other("the server has an error of its own".to_owned()),
        other => Fault::Nonsense(other.to_string()),
    }
}

fn fault_of(status: nfsstat3) -> Fault {
    match status {
        nfsstat3::NFS3ERR_PERM | nfsstat3::NFS3ERR_ACCES => Fault::Refused,
        nfsstat3::NFS3ERR_NOENT => Fault::NotThere,
        nfsstat3::NFS3ERR_EXIST => Fault::Exists,
        nfsstat3::NFS3ERR_NOTEMPTY => Fault::NotEmpty,
        nfsstat3::NFS3ERR_NOTDIR => Fault::NotAFolder,
        nfsstat3::NFS3ERR_ISDIR => Fault::IsFolder,
        nfsstat3::NFS3ERR_ROFS => Fault::ReadOnly,
        nfsstat3::NFS3ERR_NOSPC | nfsstat3::NFS3ERR_DQUOT => Fault::NoSpace,
        nfsstat3::NFS3ERR_STALE | nfsstat3::NFS3ERR_BADHANDLE => Fault::Stale,
        nfsstat3::NFS3ERR_BAD_COOKIE => Fault::LostPlace,
        nfsstat3::NFS3ERR_NOTSUPP => Fault::Unsupported,
        other => Fault::Other(format!("the server says {other}")),
    }
}
