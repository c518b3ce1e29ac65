//! What the client's calls take and give.

use super::error::{ClientError, Fault};
use std::fmt;
use std::sync::Arc;

pub(crate) type Place<'a> = (&'a Handle, &'a Name);

/// One component of a path: never empty, `.` or `..`, without `/` and NUL. A server may resolve `../x` if it is sent.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name(Vec<u8>);

impl Name {
    /// The limit of common file systems.
    const BYTES_MAX: usize = 255;

    pub(crate) fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, ClientError> {
        let bytes = bytes.into();
        let is_component = !bytes.is_empty()
            && bytes.len() <= Self::BYTES_MAX
            && bytes != b"."
            && bytes != b".."
            && !bytes.iter().any(|byte| matches!(byte, b'/' | 0));
        if is_component {
            return Ok(Self(bytes));
        }
        let shown: String = String::from_utf8_lossy(&bytes).escape_debug().take(80).collect();
        Err(ClientError { call: "check the name", fault: Fault::BadName(shown) })
    }

    /// A name whose parts were checked by their types.
    pub(crate) fn valid(name: impl Into<String>) -> Self {
        let name = Self(name.into().into_bytes());
        debug_assert!(Self::new(name.0.clone()).is_ok(), "{name:?}");
        name
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

/// A file handle: it stays valid when the file is renamed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Handle(pub(crate) Arc<[u8]>);

#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) handle: Handle,
    pub(crate) attributes: Attributes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) is_directory: bool,
    pub(crate) owner: Owner,
    /// The server's `fsid`.
    pub(crate) file_system: u64,
    /// The inode number within the file system.
    pub(crate) file: u64,
    /// `ctime` by the server's clock, in seconds and nanoseconds. No client can set it.
    pub(crate) changed: (u32, u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Permission bits only.
    pub(crate) mode: u32,
}

/// Some entries of a directory.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) entries: Vec<Listed>,
    /// Where the next page starts; `None` at the end.
    pub(crate) next: Option<Cursor>,
}

/// One entry of a directory. A server may leave out handle and attributes.
#[derive(Debug)]
pub(crate) struct Listed {
    /// As the server sent it: not necessarily a valid [`Name`].
    pub(crate) name: Vec<u8>,
    pub(crate) handle: Option<Handle>,
    pub(crate) attributes: Option<Attributes>,
}

/// A position in a directory listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) cookie: u64,
    pub(crate) verifier: [u8; 8],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_single_path_component_is_a_name() {
        for good in ["a", "-rf", ".hidden", "...", "a\nb", &"n".repeat(255)] {
            assert!(Name::new(good).is_ok(), "{good:?}");
        }
        for bad in ["", ".", "..", "../x", "a/b", "/", "a\0", &"n".repeat(256)] {
            let refused = Name::new(bad).unwrap_err();
            assert!(matches!(refused.fault, Fault::BadName(_)), "{bad:?}");
        }
    }
}
