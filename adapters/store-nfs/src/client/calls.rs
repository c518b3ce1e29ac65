//! The calls on files and directories. All calls made through one [`Calls`] share one deadline.

use super::connections::Connections;
use super::error::{ClientError, Fault, or_none};
use super::procedure::Procedure;
use super::types::{Attributes, Cursor, Found, Handle, Name, Owner, Page, Place};
use super::wire::{self, at, attributes_of, handle_of, mode_only, optional_attributes, owner_and_mode, raw};
use crate::settings::Settings;
use nfs3_client::nfs3_types::nfs3::{
    CREATE3args, FSSTAT3args, GETATTR3args, LOOKUP3args, MKDIR3args, Nfs3Option, READ3args, READDIR3args,
    READDIRPLUS3args, READLINK3args, REMOVE3args, RENAME3args, RMDIR3args, SETATTR3args, SYMLINK3args,
    WRITE3args, cookieverf3, createhow3, nfspath3, sattr3, stable_how, symlinkdata3,
};
use nfs3_client::nfs3_types::xdr_codec::Opaque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How much of a directory listing is asked for at once.
const PAGE_BYTES: u32 = 64 * 1024;
const FILE_MODE: u32 = 0o644;
/// Mode of the directories that the store makes for itself.
const DIRECTORY_MODE: u32 = 0o755;

pub(crate) struct Client {
    connections: Connections,
    /// The owner of what the store makes for itself.
    own: Owner,
    /// The server has no READDIRPLUS.
    lists_names_only: AtomicBool,
}

/// Calls that must all end before one deadline.
#[derive(Clone)]
pub(crate) struct Calls {
    client: Arc<Client>,
    deadline: Instant,
}

impl Client {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            connections: Connections::new(settings.clone()),
            own: Owner { uid: settings.uid, gid: settings.gid, mode: DIRECTORY_MODE },
            lists_names_only: AtomicBool::new(false),
        }
    }

    pub(crate) fn calls(self: &Arc<Self>, within: Duration) -> Calls {
        Calls { client: Arc::clone(self), deadline: Instant::now() + within }
    }

    /// Drops connections and handles: the next call contacts the server anew.
    pub(crate) fn forget(&self) {
        self.connections.forget();
    }
}

impl Calls {
    /// The export's root directory.
    pub(crate) async fn root(&self) -> Result<Handle, ClientError> {
        Ok(self.client.connections.contact(self.deadline).await?.root.clone())
    }

    /// Looks up a name. Symbolic links are not followed.
    pub(crate) async fn look_up(
        &self,
        directory: &Handle,
        name: &Name,
    ) -> Result<Option<Found>, ClientError> {
        let found = self.call(directory, &LOOKUP3args { what: at(directory, name) }).await;
        let Some(found) = or_none(found)? else { return Ok(None) };
        let handle = handle_of(&found.object)?;
        let attributes = match optional_attributes(&found.obj_attributes) {
            Some(attributes) => attributes,
            None => self.attributes(&handle).await?,
        };
        Ok(Some(Found { handle, attributes }))
    }

    /// Makes a directory with exactly this owner and mode, or with `None` one for the store itself.
    pub(crate) async fn make_directory(
        &self,
        directory: &Handle,
        name: &Name,
        owner: Option<&Owner>,
    ) -> Result<Handle, ClientError> {
        let exactly = owner;
        let owner = owner.unwrap_or(&self.client.own);
        let call = MKDIR3args { where_: at(directory, name), attributes: owner_and_mode(owner) };
        let made = match self.call(directory, &call).await {
            // A server may refuse to set a foreign owner in MKDIR.
            Err(ClientError { fault: Fault::AccessDenied | Fault::Other(_), .. }) => {
                let plain = MKDIR3args { where_: at(directory, name), attributes: mode_only(owner) };
                self.call(directory, &plain).await?
            }
            made => made?,
        };
        let (handle, attributes) = match made.obj {
            Nfs3Option::Some(handle) => (handle_of(&handle)?, optional_attributes(&made.obj_attributes)),
            Nfs3Option::None => match self.look_up(directory, name).await? {
                Some(found) => (found.handle, Some(found.attributes)),
                None => return Err(ClientError { call: "make a directory", fault: Fault::NotFound }),
            },
        };
        if let Some(owner) = exactly {
            self.set_owner(&handle, attributes, owner).await?;
        }
        Ok(handle)
    }

    /// Creates or replaces a file; the content is on the server's disk afterwards.
    pub(crate) async fn write_file(
        &self,
        directory: &Handle,
        name: &Name,
        content: &[u8],
    ) -> Result<(), ClientError> {
        let attributes =
            sattr3 { mode: Nfs3Option::Some(FILE_MODE), size: Nfs3Option::Some(0), ..sattr3::default() };
        let call = CREATE3args { where_: at(directory, name), how: createhow3::UNCHECKED(attributes) };
        let file = match self.call(directory, &call).await?.obj {
            Nfs3Option::Some(handle) => handle_of(&handle)?,
            Nfs3Option::None => match self.look_up(directory, name).await? {
                Some(found) => found.handle,
                None => return Err(ClientError { call: "make a file", fault: Fault::NotFound }),
            },
        };
        let mut written = 0;
        while let Some(rest) = content.get(written..).filter(|rest| !rest.is_empty()) {
            written += self.write(&file, written as u64, rest).await?;
        }
        Ok(())
    }

    /// Writes durably; returns how many bytes the server took.
    async fn write(&self, file: &Handle, offset: u64, content: &[u8]) -> Result<usize, ClientError> {
        let call = WRITE3args {
            file: raw(file),
            offset,
            count: u32::try_from(content.len()).unwrap_or(u32::MAX),
            stable: stable_how::FILE_SYNC,
            data: Opaque::borrowed(content),
        };
        let written = self.call(file, &call).await?;
        if written.committed != stable_how::FILE_SYNC {
            return Err(Fault::protocol("write a file", "a synchronous write was not made durable"));
        }
        match usize::try_from(written.count) {
            Ok(count) if (1..=content.len()).contains(&count) => Ok(count),
            _ => Err(Fault::protocol("write a file", "an impossible number of bytes was written")),
        }
    }

    /// The first `bytes_max` bytes of a file; `None` if there is no such file.
    pub(crate) async fn read_file(
        &self,
        directory: &Handle,
        name: &Name,
        bytes_max: u32,
    ) -> Result<Option<Vec<u8>>, ClientError> {
        let found = self.call(directory, &LOOKUP3args { what: at(directory, name) }).await;
        let Some(found) = or_none(found)? else { return Ok(None) };
        let mut content = Vec::new();
        while content.len() < bytes_max as usize {
            let call = READ3args {
                file: found.object.clone(),
                offset: content.len() as u64,
                count: bytes_max - u32::try_from(content.len()).unwrap_or(bytes_max),
            };
            let read = self.call(directory, &call).await?;
            content.extend_from_slice(&read.data);
            if read.eof || read.data.is_empty() {
                break;
            }
        }
        content.truncate(bytes_max as usize);
        Ok(Some(content))
    }

    /// Makes a symbolic link, the only object that NFSv3 makes with its content in one call. Fails with
    /// [`Fault::Exists`] if the name is taken: of two nodes exactly one succeeds.
    pub(crate) async fn make_link(
        &self,
        directory: &Handle,
        name: &Name,
        text: &str,
    ) -> Result<(), ClientError> {
        let call = SYMLINK3args {
            where_: at(directory, name),
            symlink: symlinkdata3 {
                symlink_attributes: sattr3::default(),
                symlink_data: nfspath3::from(text.as_bytes()),
            },
        };
        self.call(directory, &call).await.map(drop)
    }

    /// The text of a symbolic link; `None` if there is none.
    pub(crate) async fn read_link(
        &self,
        directory: &Handle,
        name: &Name,
    ) -> Result<Option<String>, ClientError> {
        let Some(found) = self.look_up(directory, name).await? else { return Ok(None) };
        let text = or_none(self.call(&found.handle, &READLINK3args { symlink: raw(&found.handle) }).await)?;
        Ok(text.map(|text| String::from_utf8_lossy(text.data.0.as_ref()).into_owned()))
    }

    /// Renames atomically. An empty directory at the new name is replaced, a directory with entries is not.
    pub(crate) async fn rename(&self, from: Place<'_>, to: Place<'_>) -> Result<(), ClientError> {
        let call = RENAME3args { from: at(from.0, from.1), to: at(to.0, to.1) };
        self.call(from.0, &call).await.map(drop)
    }

    /// One page of a directory, from the start or from a cursor.
    pub(crate) async fn list(&self, directory: &Handle, from: Option<Cursor>) -> Result<Page, ClientError> {
        let from = from.unwrap_or(Cursor { cookie: 0, verifier: [0; 8] });
        let (dir, cookie, cookieverf) = (raw(directory), from.cookie, cookieverf3(from.verifier));
        if !self.client.lists_names_only.load(Ordering::Relaxed) {
            let (dir, cookieverf) = (dir.clone(), cookieverf);
            let (dircount, maxcount) = (PAGE_BYTES, PAGE_BYTES);
            let call = READDIRPLUS3args { dir, cookie, cookieverf, dircount, maxcount };
            match self.call(directory, &call).await {
                Err(ClientError { fault: Fault::Unsupported, .. }) => {
                    self.client.lists_names_only.store(true, Ordering::Relaxed);
                }
                listed => return wire::page_with_attributes(listed?, from),
            }
        }
        let call = READDIR3args { dir, cookie, cookieverf, count: PAGE_BYTES };
        wire::page_of_names(self.call(directory, &call).await?, from)
    }

    /// Removes anything but a directory; tells whether it was there.
    pub(crate) async fn remove_file(&self, directory: &Handle, name: &Name) -> Result<bool, ClientError> {
        let removed = self.call(directory, &REMOVE3args { object: at(directory, name) }).await;
        Ok(or_none(removed)?.is_some())
    }

    /// Removes an empty directory; tells whether it was there.
    pub(crate) async fn remove_directory(
        &self,
        directory: &Handle,
        name: &Name,
    ) -> Result<bool, ClientError> {
        match or_none(self.call(directory, &RMDIR3args { object: at(directory, name) }).await) {
            // Some servers answer EEXIST for a directory with entries.
            Err(ClientError { call, fault: Fault::Exists }) => {
                Err(ClientError { call, fault: Fault::NotEmpty })
            }
            removed => Ok(removed?.is_some()),
        }
    }

    /// Total and free bytes of the file system.
    pub(crate) async fn room(&self, directory: &Handle) -> Result<(u64, u64), ClientError> {
        let room = self.call(directory, &FSSTAT3args { fsroot: raw(directory) }).await?;
        Ok((room.tbytes, room.abytes))
    }

    async fn call<P: Procedure>(&self, about: &Handle, call: &P) -> Result<P::Good, ClientError> {
        self.client.connections.call(about, call, self.deadline).await
    }

    /// Sets owner and mode of a new directory, unless the server told that they are right.
    async fn set_owner(
        &self,
        directory: &Handle,
        told: Option<Attributes>,
        owner: &Owner,
    ) -> Result<(), ClientError> {
        let told = match told {
            Some(attributes) => attributes,
            None => self.attributes(directory).await?,
        };
        if told.owner == *owner {
            return Ok(());
        }
        let call = SETATTR3args {
            object: raw(directory),
            new_attributes: owner_and_mode(owner),
            guard: Nfs3Option::None,
        };
        self.client.connections.call_as_root(&call, self.deadline).await?;
        if self.attributes(directory).await?.owner == *owner {
            return Ok(());
        }
        Err(ClientError { call: "set owner and mode", fault: Fault::AccessDenied })
    }

    async fn attributes(&self, handle: &Handle) -> Result<Attributes, ClientError> {
        let call = GETATTR3args { object: raw(handle) };
        Ok(attributes_of(&self.call(handle, &call).await?.obj_attributes))
    }
}
