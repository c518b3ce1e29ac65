//! How a call fails.

use nfs3_client::RpcError;
use nfs3_client::nfs3_types::nfs3::nfsstat3;
use std::fmt;
use std::io;

#[derive(Debug)]
pub(crate) struct ClientError {
    /// The call, as users read it.
    pub(crate) call: &'static str,
    pub(crate) fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not a valid file name. Nothing was sent.
    BadName(String),
    NotFound,
    Exists,
    NotEmpty,
    IsDirectory,
    NotDirectory,
    /// Refused for the store's user and for uid 0.
    AccessDenied,
    ReadOnly,
    /// No space, or the quota is used up.
    NoSpace,
    /// The handle is not valid any more.
    Stale,
    /// The directory changed so much that the listing cannot be continued.
    BadCookie,
    /// The server does not implement the call.
    Unsupported,
    Unreachable(String),
    Timeout,
    /// The reply violates the protocol.
    Protocol(String),
    /// Any other error status.
    Other(String),
}

impl Fault {
    pub(crate) fn of_status(status: nfsstat3) -> Self {
        match status {
            nfsstat3::NFS3ERR_PERM | nfsstat3::NFS3ERR_ACCES => Self::AccessDenied,
            nfsstat3::NFS3ERR_NOENT => Self::NotFound,
            nfsstat3::NFS3ERR_EXIST => Self::Exists,
            nfsstat3::NFS3ERR_NOTEMPTY => Self::NotEmpty,
            nfsstat3::NFS3ERR_NOTDIR => Self::NotDirectory,
            nfsstat3::NFS3ERR_ISDIR => Self::IsDirectory,
            nfsstat3::NFS3ERR_ROFS => Self::ReadOnly,
            nfsstat3::NFS3ERR_NOSPC | nfsstat3::NFS3ERR_DQUOT => Self::NoSpace,
            nfsstat3::NFS3ERR_STALE | nfsstat3::NFS3ERR_BADHANDLE => Self::Stale,
            nfsstat3::NFS3ERR_BAD_COOKIE => Self::BadCookie,
            nfsstat3::NFS3ERR_NOTSUPP => Self::Unsupported,
            other => Self::Other(format!("the server answers {other}")),
        }
    }

    pub(crate) fn of_rpc(error: &RpcError) -> Self {
        match error {
            RpcError::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                Self::Protocol(error.to_string())
            }
            RpcError::Io(error) if is_closed(error) => {
                Self::Unreachable("the server closed the connection".to_owned())
            }
            RpcError::Io(error) => Self::Unreachable(error.to_string()),
            RpcError::Auth(why) => Self::Other(format!("the server rejects the credentials: {why}")),
            RpcError::ProgUnavail | RpcError::ProgMismatch { .. } | RpcError::RpcMismatch { .. } => {
                Self::Protocol(format!("no NFSv3 service there ({error})"))
            }
            RpcError::ProcUnavail => Self::Unsupported,
            RpcError::SystemErr => Self::Other("the server has an internal error".to_owned()),
            other => Self::Protocol(other.to_string()),
        }
    }

    pub(crate) fn protocol(call: &'static str, what: &str) -> ClientError {
        ClientError { call, fault: Self::Protocol(what.to_owned()) }
    }
}

pub(crate) fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// Turns [`Fault::NotFound`] into `None`.
pub(crate) fn or_none<T>(reply: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match reply {
        Err(ClientError { fault: Fault::NotFound, .. }) => Ok(None),
        reply => reply.map(Some),
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.call)?;
        formatter.write_str(match &self.fault {
            Fault::BadName(name) => return write!(formatter, "`{name}` cannot be a file name"),
            Fault::NotFound => "not found",
            Fault::Exists => "the name exists already",
            Fault::NotEmpty => "the directory is not empty",
            Fault::IsDirectory => "it is a directory",
            Fault::NotDirectory => "it is not a directory",
            Fault::AccessDenied => "permission denied for the store's user and for uid 0",
            Fault::ReadOnly => "the export is read-only",
            Fault::NoSpace => "the server has no space left",
            Fault::Stale => "stale file handle",
            Fault::BadCookie => "the directory changes too fast to be listed",
            Fault::Unsupported => "the server does not support it",
            Fault::Unreachable(why) | Fault::Other(why) => why,
            Fault::Timeout => "no answer in time",
            Fault::Protocol(what) => return write!(formatter, "invalid reply from the server: {what}"),
        })
    }
}

impl std::error::Error for ClientError {}
