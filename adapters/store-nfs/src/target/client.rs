//! The seam over NFSv3.

use super::wire::{self, at, attributes_of, handle_of, mode_only, raw, read_attributes, wanted};
use super::{
    Attributes, Bookmark, Export, Fault, Found, Handle, Name, Owner, Page, Place, Target, TargetError,
};
use crate::connection::{Connections, Procedure};
use crate::settings::Settings;
use async_trait::async_trait;
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

/// How much of a listing is asked for at once, in bytes. What comes is decoded whole.
const PAGE_BYTES: u32 = 64 * 1024;
/// For whoever reads records: the store's user, and nobody else needs to.
const FILE_MODE: u32 = 0o644;
/// Of the folders that the store makes for itself.
const FOLDER_MODE: u32 = 0o755;

/// An export of a server.
pub(crate) struct NfsExport {
    shared: Arc<Shared>,
}

struct Shared {
    connections: Connections,
    /// Who owns what the store makes for itself.
    own: Owner,
    /// The server cannot list with attributes.
    lists_names_only: AtomicBool,
}

/// Calls to it that must have ended at the same moment.
struct NfsVisit {
    shared: Arc<Shared>,
    until: Instant,
}

impl NfsExport {
    pub(crate) fn new(settings: Settings) -> Self {
        let own = Owner { uid: settings.uid, gid: settings.gid, mode: FOLDER_MODE };
        let connections = Connections::new(settings);
        Self { shared: Arc::new(Shared { connections, own, lists_names_only: AtomicBool::new(false) }) }
    }
}

impl Export for NfsExport {
    #[cfg(feature = "testing")]
    fn calls(&self) -> u64 {
        self.shared.connections.calls()
    }

    fn visit(&self, within: Duration) -> Arc<dyn Target> {
        Arc::new(NfsVisit { shared: Arc::clone(&self.shared), until: Instant::now() + within })
    }

    fn forget(&self) {
        self.shared.connections.forget();
    }
}

#[async_trait]
impl Target for NfsVisit {
    async fn root(&self) -> Result<Handle, TargetError> {
        Ok(self.shared.connections.contact(self.until).await?.root.clone())
    }

    async fn look_up(&self, folder: &Handle, name: &Name) -> Result<Option<Found>, TargetError> {
        let found = self.call(folder, &LOOKUP3args { what: at(folder, name) }).await;
        let Some(found) = or_none(found)? else { return Ok(None) };
        let handle = handle_of(&found.object)?;
        let attributes = match read_attributes(&found.obj_attributes) {
            Some(attributes) => attributes,
            None => self.attributes(&handle).await?,
        };
        Ok(Some(Found { handle, attributes }))
    }

    async fn make_folder(
        &self,
        folder: &Handle,
        name: &Name,
        owner: Option<&Owner>,
    ) -> Result<Handle, TargetError> {
        let exactly = owner;
        let owner = owner.unwrap_or(&self.shared.own);
        let call = MKDIR3args { where_: at(folder, name), attributes: wanted(owner) };
        let made = match self.call(folder, &call).await {
            // A server may refuse to give a folder away at once.
            Err(TargetError { fault: Fault::Refused | Fault::Other(_), .. }) => {
                let plain = MKDIR3args { where_: at(folder, name), attributes: mode_only(owner) };
                self.call(folder, &plain).await?
            }
            made => made?,
        };
        let (handle, attributes) = match made.obj {
            Nfs3Option::Some(handle) => (handle_of(&handle)?, read_attributes(&made.obj_attributes)),
            Nfs3Option::None => match self.look_up(folder, name).await? {
                Some(found) => (found.handle, Some(found.attributes)),
                None => return Err(TargetError { call: "make a folder", fault: Fault::NotThere }),
            },
        };
        if let Some(owner) = exactly {
            self.own(&handle, attributes, owner).await?;
        }
        Ok(handle)
    }

    async fn write_file(&self, folder: &Handle, name: &Name, content: &[u8]) -> Result<(), TargetError> {
        let file = self.make_file(folder, name).await?;
        let mut written = 0;
        while let Some(rest) = content.get(written..).filter(|rest| !rest.is_empty()) {
            written += self.write(&file, written as u64, rest, stable_how::FILE_SYNC).await?;
        }
        Ok(())
    }

    async fn read_file(
        &self,
        folder: &Handle,
        name: &Name,
        bytes_max: u32,
    ) -> Result<Option<Vec<u8>>, TargetError> {
        let found = self.call(folder, &LOOKUP3args { what: at(folder, name) }).await;
        let Some(found) = or_none(found)? else { return Ok(None) };
        let mut content = Vec::new();
        while content.len() < bytes_max as usize {
            let call = READ3args {
                file: found.object.clone(),
                offset: content.len() as u64,
                count: bytes_max - u32::try_from(content.len()).unwrap_or(bytes_max),
            };
            let read = self.call(folder, &call).await?;
            content.extend_from_slice(&read.data);
            if read.eof || read.data.is_empty() {
                break;
            }
        }
        content.truncate(bytes_max as usize);
        Ok(Some(content))
    }

    async fn make_file(&self, folder: &Handle, name: &Name) -> Result<Handle, TargetError> {
        let attributes =
            sattr3 { mode: Nfs3Option::Some(FILE_MODE), size: Nfs3Option::Some(0), ..sattr3::default() };
        let call = CREATE3args { where_: at(folder, name), how: createhow3::UNCHECKED(attributes) };
        let made = self.call(folder, &call).await?;
        match made.obj {
            Nfs3Option::Some(handle) => handle_of(&handle),
            Nfs3Option::None => match self.look_up(folder, name).await? {
                Some(found) => Ok(found.handle),
                None => Err(TargetError { call: "make a file", fault: Fault::NotThere }),
            },
        }
    }

    async fn write_part(&self, file: &Handle, offset: u64, content: &[u8]) -> Result<usize, TargetError> {
        self.write(file, offset, content, stable_how::UNSTABLE).await
    }

    async fn read_part(
        &self,
        file: &Handle,
        offset: u64,
        bytes_max: u32,
    ) -> Result<(Vec<u8>, bool), TargetError> {
        let read = self.call(file, &READ3args { file: raw(file), offset, count: bytes_max }).await?;
        let mut content = read.data.into_owned();
        content.truncate(bytes_max as usize);
        Ok((content, read.eof))
    }

    /// A link is made whole or not at all, in one call, and never replaces anything.
    async fn mark(&self, folder: &Handle, name: &Name, text: &str) -> Result<(), TargetError> {
        let call = SYMLINK3args {
            where_: at(folder, name),
            symlink: symlinkdata3 {
                symlink_attributes: sattr3::default(),
                symlink_data: nfspath3::from(text.as_bytes()),
            },
        };
        self.call(folder, &call).await.map(drop)
    }

    async fn read_mark(&self, folder: &Handle, name: &Name) -> Result<Option<String>, TargetError> {
        let Some(found) = self.look_up(folder, name).await? else { return Ok(None) };
        let text = or_none(self.call(&found.handle, &READLINK3args { symlink: raw(&found.handle) }).await)?;
        Ok(text.map(|text| String::from_utf8_lossy(text.data.0.as_ref()).into_owned()))
    }

    async fn rename(&self, from: Place<'_>, to: Place<'_>) -> Result<(), TargetError> {
        let call = RENAME3args { from: at(from.0, from.1), to: at(to.0, to.1) };
        self.call(from.0, &call).await.map(drop)
    }

    async fn list(&self, folder: &Handle, from: Option<Bookmark>) -> Result<Page, TargetError> {
        let mark = from.unwrap_or(Bookmark { cookie: 0, verifier: [0; 8] });
        if !self.shared.lists_names_only.load(Ordering::Relaxed) {
            match self.list_plus(folder, mark).await {
                Err(TargetError { fault: Fault::Unsupported, .. }) => {
                    self.shared.lists_names_only.store(true, Ordering::Relaxed);
                }
                listed => return listed,
            }
        }
        self.list_names(folder, mark).await
    }

    async fn remove_file(&self, folder: &Handle, name: &Name) -> Result<bool, TargetError> {
        Ok(or_none(self.call(folder, &REMOVE3args { object: at(folder, name) }).await)?.is_some())
    }

    async fn remove_folder(&self, folder: &Handle, name: &Name) -> Result<bool, TargetError> {
        match or_none(self.call(folder, &RMDIR3args { object: at(folder, name) }).await) {
            // Some servers say that for a folder that is not empty.
            Err(TargetError { call, fault: Fault::Exists }) => {
                Err(TargetError { call, fault: Fault::NotEmpty })
            }
            removed => Ok(removed?.is_some()),
        }
    }

    async fn room(&self, folder: &Handle) -> Result<(u64, u64), TargetError> {
        let room = self.call(folder, &FSSTAT3args { fsroot: raw(folder) }).await?;
        Ok((room.tbytes, room.abytes))
    }
}

impl NfsVisit {
    /// Makes a call that is about `folder`, or about a file by its own handle.
    async fn call<P: Procedure>(&self, folder: &Handle, call: &P) -> Result<P::Good, TargetError> {
        self.shared.connections.call(folder, call, self.until).await
    }

    /// Makes sure that a new folder is `owner`'s, if what the server told of it says otherwise, or nothing.
    async fn own(&self, folder: &Handle, told: Option<Attributes>, owner: &Owner) -> Result<(), TargetError> {
        let told = match told {
            Some(attributes) => attributes,
            None => self.attributes(folder).await?,
        };
        if told.owner == *owner {
            return Ok(());
        }
        let call =
            SETATTR3args { object: raw(folder), new_attributes: wanted(owner), guard: Nfs3Option::None };
        self.shared.connections.call_as_root(&call, self.until).await?;
        if self.attributes(folder).await?.owner == *owner {
            return Ok(());
        }
        Err(TargetError { call: "set owner and mode", fault: Fault::Refused })
    }

    /// Writes some of `content`, as durably as `stable` says, and says how many bytes.
    async fn write(
        &self,
        file: &Handle,
        offset: u64,
        content: &[u8],
        stable: stable_how,
    ) -> Result<usize, TargetError> {
        let call = WRITE3args {
            file: raw(file),
            offset,
            count: u32::try_from(content.len()).unwrap_or(u32::MAX),
            stable,
            data: Opaque::borrowed(content),
        };
        let written = self.call(file, &call).await?;
        let fault =
            |what: &str| TargetError { call: "write a file", fault: Fault::Nonsense(what.to_owned()) };
        if stable == stable_how::FILE_SYNC && written.committed != stable_how::FILE_SYNC {
            return Err(fault("it does not make durable what it must"));
        }
        match usize::try_from(written.count) {
            Ok(count) if (1..=content.len()).contains(&count) => Ok(count),
            _ => Err(fault("it has written more or less than it could")),
        }
    }

    async fn attributes(&self, handle: &Handle) -> Result<Attributes, TargetError> {
        let call = GETATTR3args { object: raw(handle) };
        Ok(attributes_of(&self.call(handle, &call).await?.obj_attributes))
    }

    async fn list_plus(&self, folder: &Handle, from: Bookmark) -> Result<Page, TargetError> {
        let call = READDIRPLUS3args {
            dir: raw(folder),
            cookie: from.cookie,
            cookieverf: cookieverf3(from.verifier),
            dircount: PAGE_BYTES,
            maxcount: PAGE_BYTES,
        };
        let listed = self.call(folder, &call).await?;
        wire::page_with_attributes(listed, from)
    }

    async fn list_names(&self, folder: &Handle, from: Bookmark) -> Result<Page, TargetError> {
        let call = READDIR3args {
            dir: raw(folder),
            cookie: from.cookie,
            cookieverf: cookieverf3(from.verifier),
            count: PAGE_BYTES,
        };
        let listed = self.call(folder, &call).await?;
        wire::page_of_names(listed, from)
    }
}

fn or_none<T>(answer: Result<T, TargetError>) -> Result<Option<T>, TargetError> {
    match answer {
        Err(TargetError { fault: Fault::NotThere, .. }) => Ok(None),
        answer => answer.map(Some),
    }
}
