//! The seam between the store and what it stands on: folders and files, reached by handles. The NFSv3 client is one
//! implementation; a folder of this host is the other, so that the whole store is tested without a server.
//!
//! An answer can be lost on its way, and the call be made again: whoever calls must not take [`Fault::Exists`] or
//! [`Fault::NotThere`] as a proof that somebody else was at work.

mod client;
#[cfg(feature = "testing")]
pub(crate) mod folder;
#[cfg(feature = "testing")]
pub(crate) mod script;
pub(crate) mod wire;

pub(crate) use client::NfsExport;

use async_trait::async_trait;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a store stands on.
pub(crate) trait Export: Send + Sync {
    /// Calls that belong together, and must all have ended `within` this time.
    fn visit(&self, within: Duration) -> Arc<dyn Target>;

    /// How many calls were made so far.
    #[cfg(feature = "testing")]
    fn calls(&self) -> u64;

    /// Forgets what it knows by handles: the server says that they lead nowhere any more.
    fn forget(&self);
}

/// Calls within one limit of time.
#[async_trait]
pub(crate) trait Target: Send + Sync {
    /// The export's own folder.
    async fn root(&self) -> Result<Handle, TargetError>;

    /// What is called `name` in `folder`. A link is found itself, never what it leads to.
    async fn look_up(&self, folder: &Handle, name: &Name) -> Result<Option<Found>, TargetError>;

    /// Makes a folder: with this owner and these permissions and no others, or, with `None`, one for the store itself.
    async fn make_folder(
        &self,
        folder: &Handle,
        name: &Name,
        owner: Option<&Owner>,
    ) -> Result<Handle, TargetError>;

    /// Makes a file with this content, or replaces what a file had, and makes it durable.
    async fn write_file(&self, folder: &Handle, name: &Name, content: &[u8]) -> Result<(), TargetError>;

    /// The first `bytes_max` bytes of a file; `None` when there is none.
    async fn read_file(
        &self,
        folder: &Handle,
        name: &Name,
        bytes_max: u32,
    ) -> Result<Option<Vec<u8>>, TargetError>;

    /// Makes an empty file, or empties the one that is there.
    async fn make_file(&self, folder: &Handle, name: &Name) -> Result<Handle, TargetError>;

    /// Writes some of `content` into a file from `offset` on, and says how many bytes. What is written may be lost when
    /// the server dies.
    async fn write_part(&self, file: &Handle, offset: u64, content: &[u8]) -> Result<usize, TargetError>;

    /// At most `bytes_max` bytes of a file from `offset` on, and whether it ends with them.
    async fn read_part(
        &self,
        file: &Handle,
        offset: u64,
        bytes_max: u32,
    ) -> Result<(Vec<u8>, bool), TargetError>;

    /// Makes a mark with `text` in one step, or fails with [`Fault::Exists`]: of two at once exactly one succeeds.
    async fn mark(&self, folder: &Handle, name: &Name, text: &str) -> Result<(), TargetError>;

    /// The text of a mark; `None` when there is none.
    async fn read_mark(&self, folder: &Handle, name: &Name) -> Result<Option<String>, TargetError>;

    /// Gives something another name, in one step. A folder that is there and empty is replaced, one with something
    /// in it is not.
    async fn rename(&self, from: Place<'_>, to: Place<'_>) -> Result<(), TargetError>;

    /// Some of the entries of `folder`, in no order, from `from` on.
    async fn list(&self, folder: &Handle, from: Option<Bookmark>) -> Result<Page, TargetError>;

    /// Removes what is no folder; says whether it was there.
    async fn remove_file(&self, folder: &Handle, name: &Name) -> Result<bool, TargetError>;

    /// Removes an empty folder; says whether it was there.
    async fn remove_folder(&self, folder: &Handle, name: &Name) -> Result<bool, TargetError>;

    /// How much room there is, in bytes: all of it, and what is free for whoever asks.
    async fn room(&self, folder: &Handle) -> Result<(u64, u64), TargetError>;
}

/// A name in a folder.
pub(crate) type Place<'a> = (&'a Handle, &'a Name);

/// One component of a path: never empty, `.` or `..`, without `/` and NUL. A server may take `../x` for a name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name(Vec<u8>);

impl Name {
    /// What file systems take.
    pub(crate) const BYTES_MAX: usize = 255;

    pub(crate) fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, TargetError> {
        let bytes = bytes.into();
        let plain = !bytes.is_empty()
            && bytes.len() <= Self::BYTES_MAX
            && bytes != b"."
            && bytes != b".."
            && !bytes.iter().any(|byte| matches!(byte, b'/' | 0));
        if plain {
            return Ok(Self(bytes));
        }
        Err(Self::refused(&bytes))
    }

    /// What is said of `bytes` that are no name.
    pub(crate) fn refused(bytes: &[u8]) -> TargetError {
        let shown: String = String::from_utf8_lossy(bytes).escape_debug().take(80).collect();
        TargetError { call: "name", fault: Fault::BadName(shown) }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}`", String::from_utf8_lossy(&self.0).escape_debug())
    }
}

/// What a folder or file is reached by, whatever it is called now.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Handle(pub(crate) Arc<[u8]>);

/// Something that was found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) handle: Handle,
    pub(crate) attributes: Attributes,
}

/// What something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) is_folder: bool,
    pub(crate) owner: Owner,
    /// How long it is, in bytes.
    pub(crate) length_bytes: u64,
    /// Bytes that it takes.
    pub(crate) used_bytes: u64,
    /// Which file system it is on.
    pub(crate) file_system: u64,
    /// Which file it is there.
    pub(crate) file: u64,
    /// When it, or what is in it, was last changed, in seconds and nanoseconds of the server's clock: its `ctime`, which
    /// nobody can set.
    pub(crate) changed: (u32, u32),
}

/// Whose a folder is, and what others may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
}

/// Some entries of a folder.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) entries: Vec<Listed>,
    /// Where to go on; `None` at the end.
    pub(crate) next: Option<Bookmark>,
}

/// One entry of a folder, with what the server cared to tell.
#[derive(Debug)]
pub(crate) struct Listed {
    /// As it came: it need not be a [`Name`].
    pub(crate) name: Vec<u8>,
    pub(crate) handle: Option<Handle>,
    pub(crate) attributes: Option<Attributes>,
}

/// Where to go on in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bookmark {
    pub(crate) cookie: u64,
    pub(crate) verifier: [u8; 8],
}

/// A call that did not do what it should.
#[derive(Debug)]
pub(crate) struct TargetError {
    /// What was asked.
    pub(crate) call: &'static str,
    /// Why not.
    pub(crate) fault: Fault,
}

/// Why a call did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A name that is none. Nothing was sent.
    BadName(String),
    /// Nothing of that name.
    NotThere,
    /// Something of that name.
    Exists,
    /// A folder with something in it.
    NotEmpty,
    /// It is a folder.
    IsFolder,
    /// It is no folder.
    NotAFolder,
    /// Neither the store's user nor uid 0 may do it.
    Refused,
    /// What is there may not be changed by anybody.
    ReadOnly,
    /// No room, or no more quota.
    NoSpace,
    /// The handle leads nowhere any more.
    Stale,
    /// The folder has changed too much to go on from a bookmark.
    LostPlace,
    /// The server cannot do this at all.
    Unsupported,
    /// The server cannot be reached, or closed the connection.
    Unreachable(String),
    /// No answer in time.
    Late,
    /// What came is no answer to what was asked.
    Nonsense(String),
    /// Something else that the server calls by this name.
    Other(String),
}

impl fmt::Display for TargetError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.call)?;
        formatter.write_str(match &self.fault {
            Fault::BadName(name) => return write!(formatter, "`{name}` is no name of a file"),
            Fault::NotThere => "it is not there",
            Fault::Exists => "something of that name is there",
            Fault::NotEmpty => "the folder is not empty",
            Fault::IsFolder => "it is a folder",
            Fault::NotAFolder => "it is no folder",
            Fault::Refused => "permission denied, to the store's user and to uid 0 too",
            Fault::ReadOnly => "the export is read-only",
            Fault::NoSpace => "the server has no room left",
            Fault::Stale => "the server does not know the folder any more",
            Fault::LostPlace => "the folder changes too fast to be listed",
            Fault::Unsupported => "the server does not support it",
            Fault::Unreachable(why) | Fault::Other(why) => why,
            Fault::Late => "no answer in time",
            Fault::Nonsense(what) => return write!(formatter, "the server answers nonsense: {what}"),
        })
    }
}

impl std::error::Error for TargetError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_component_of_a_path_is_no_name() {
        for good in ["a", "-rf", ".hidden", "...", "a\nb", &"n".repeat(255)] {
            assert!(Name::new(good).is_ok(), "{good:?}");
        }
        for bad in ["", ".", "..", "../x", "a/b", "/", "a\0", &"n".repeat(256)] {
            let refused = Name::new(bad).unwrap_err();
            assert!(matches!(refused.fault, Fault::BadName(_)), "{bad:?}");
        }
    }
}
