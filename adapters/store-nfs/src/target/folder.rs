//! The seam over a folder of this host, so that the store is tested without a server. A script makes calls fail at a
//! moment of choice, with the call or only its answer lost, as when a server or the agent dies there.

use super::script::{Lost, Script, Way};
use super::{
    Attributes, Bookmark, Export, Fault, Found, Handle, Listed, Name, Owner, Page, Place, Target, TargetError,
};
use async_trait::async_trait;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// So many entries are listed at once: few, so that tests see several pages.
const PAGE_ENTRIES: usize = 7;

/// A folder that stands for an export.
pub(crate) struct FolderExport {
    folder: Arc<Folder>,
}

struct Folder {
    root: PathBuf,
    /// Handles stay what they are when what they lead to gets another name.
    paths: Mutex<HashMap<u64, PathBuf>>,
    script: Arc<Script>,
}

impl FolderExport {
    pub(crate) fn new(root: PathBuf, script: Arc<Script>) -> Self {
        Self { folder: Arc::new(Folder { root, paths: Mutex::default(), script }) }
    }
}

impl Export for FolderExport {
    fn calls(&self) -> u64 {
        self.folder.script.calls()
    }

    fn visit(&self, _: Duration) -> Arc<dyn Target> {
        Arc::clone(&self.folder) as Arc<dyn Target>
    }

    fn forget(&self) {}
}

impl Folder {
    /// Does `work`, if the script lets it.
    async fn call<T>(
        &self,
        call: &'static str,
        work: impl FnOnce() -> Result<T, Fault> + Send,
    ) -> Result<T, TargetError> {
        // Where a real call would wait, others get their turn.
        tokio::task::yield_now().await;
        match self.script.next() {
            Way::Done => work().map_err(|fault| TargetError { call, fault }),
            Way::Refused => Err(TargetError { call, fault: Fault::NoSpace }),
            Way::Lost(Lost::Call) => lost(call),
            Way::Lost(Lost::Answer) => {
                let _done = work();
                lost(call)
            }
        }
    }

    fn path(&self, handle: &Handle) -> Result<PathBuf, Fault> {
        let number = handle.0.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)).ok_or(Fault::Stale)?;
        let path = self.paths().get(&number).cloned().ok_or(Fault::Stale)?;
        // The number may be another file's by now.
        match fs::symlink_metadata(&path) {
            Ok(found) if found.ino() == number => self.script.admit(path),
            _ => Err(Fault::Stale),
        }
    }

    fn at(&self, folder: &Handle, name: &Name) -> Result<PathBuf, Fault> {
        let folder = self.path(folder)?;
        // It may be called otherwise since its number was compared.
        if !fs::symlink_metadata(&folder).map_err(|_| Fault::Stale)?.is_dir() {
            return Err(Fault::NotAFolder);
        }
        self.script.admit(folder.join(OsStr::from_bytes(name.as_bytes())))
    }

    fn found(&self, path: PathBuf) -> Result<Found, Fault> {
        let metadata = fs::symlink_metadata(&path).map_err(|error| fault(&error))?;
        self.paths().insert(metadata.ino(), path);
        let handle = Handle(metadata.ino().to_be_bytes().to_vec().into());
        Ok(Found { handle, attributes: attributes(&metadata) })
    }

    fn moved(&self, from: &Path, to: &Path) {
        for path in self.paths().values_mut() {
            if let Ok(below) = path.strip_prefix(from) {
                *path = if below.as_os_str().is_empty() { to.to_owned() } else { to.join(below) };
            }
        }
    }

    fn paths(&self) -> MutexGuard<'_, HashMap<u64, PathBuf>> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Target for Folder {
    async fn root(&self) -> Result<Handle, TargetError> {
        self.call("ask for the export", || Ok(self.found(self.root.clone())?.handle)).await
    }

    async fn look_up(&self, folder: &Handle, name: &Name) -> Result<Option<Found>, TargetError> {
        self.call("look up", || or_none(self.at(folder, name).and_then(|path| self.found(path)))).await
    }

    async fn make_folder(
        &self,
        folder: &Handle,
        name: &Name,
        owner: Option<&Owner>,
    ) -> Result<Handle, TargetError> {
        self.call("make a folder", || {
            let path = self.at(folder, name)?;
            fs::create_dir(&path).map_err(|error| fault(&error))?;
            if let Some(owner) = owner {
                // An ordinary user's tests make no difference of owners.
                if rustix::process::geteuid().is_root() {
                    std::os::unix::fs::lchown(&path, Some(owner.uid), Some(owner.gid))
                        .map_err(|error| fault(&error))?;
                }
                let mode = fs::Permissions::from_mode(owner.mode);
                fs::set_permissions(&path, mode).map_err(|error| fault(&error))?;
            }
            Ok(self.found(path)?.handle)
        })
        .await
    }

    async fn write_file(&self, folder: &Handle, name: &Name, content: &[u8]) -> Result<(), TargetError> {
        // Two calls on a server, so two moments to die at.
        self.call("make a file", || {
            let path = self.at(folder, name)?;
            File::create(path).map(drop).map_err(|error| fault(&error))
        })
        .await?;
        self.call("write a file", || {
            let mut file = File::create(self.at(folder, name)?).map_err(|error| fault(&error))?;
            file.write_all(content).map_err(|error| fault(&error))
        })
        .await
    }

    async fn read_file(
        &self,
        folder: &Handle,
        name: &Name,
        bytes_max: u32,
    ) -> Result<Option<Vec<u8>>, TargetError> {
        self.call("read a file", || {
            let mut content = Vec::new();
            or_none(self.at(folder, name).and_then(|path| {
                let file = File::open(path).map_err(|error| fault(&error))?;
                file.take(u64::from(bytes_max)).read_to_end(&mut content).map_err(|error| fault(&error))
            }))
            .map(|read| read.map(|_| content))
        })
        .await
    }

    async fn make_file(&self, folder: &Handle, name: &Name) -> Result<Handle, TargetError> {
        self.call("make a file", || {
            let path = self.at(folder, name)?;
            File::create(&path).map_err(|error| fault(&error))?;
            Ok(self.found(path)?.handle)
        })
        .await
    }

    async fn write_part(&self, file: &Handle, offset: u64, content: &[u8]) -> Result<usize, TargetError> {
        self.call("write a file", || {
            let file = File::options().write(true).open(self.path(file)?).map_err(|error| fault(&error))?;
            file.write_at(content, offset).map_err(|error| fault(&error))
        })
        .await
    }

    async fn read_part(
        &self,
        file: &Handle,
        offset: u64,
        bytes_max: u32,
    ) -> Result<(Vec<u8>, bool), TargetError> {
        self.call("read a file", || {
            let file = File::open(self.path(file)?).map_err(|error| fault(&error))?;
            let length = file.metadata().map_err(|error| fault(&error))?.len();
            let mut content = vec![0; bytes_max as usize];
            let read = file.read_at(&mut content, offset).map_err(|error| fault(&error))?;
            content.truncate(read);
            Ok((content, length <= offset + read as u64))
        })
        .await
    }

    async fn mark(&self, folder: &Handle, name: &Name, text: &str) -> Result<(), TargetError> {
        self.call("make a mark", || symlink(text, self.at(folder, name)?).map_err(|error| fault(&error)))
            .await
    }

    async fn read_mark(&self, folder: &Handle, name: &Name) -> Result<Option<String>, TargetError> {
        self.call("read a mark", || {
            or_none(self.at(folder, name).and_then(|path| {
                let text = fs::read_link(path).map_err(|error| fault(&error))?;
                Ok(text.to_string_lossy().into_owned())
            }))
        })
        .await
    }

    async fn rename(&self, from: Place<'_>, to: Place<'_>) -> Result<(), TargetError> {
        self.call("rename", || {
            self.script.admit_rename()?;
            let (from, to) = (self.at(from.0, from.1)?, self.at(to.0, to.1)?);
            fs::rename(&from, &to).map_err(|error| fault(&error))?;
            self.moved(&from, &to);
            Ok(())
        })
        .await
    }

    async fn list(&self, folder: &Handle, from: Option<Bookmark>) -> Result<Page, TargetError> {
        if self.script.wait_if_held().await {
            return lost("list a folder");
        }
        self.call("list a folder", || {
            let folder = self.path(folder)?;
            let listed = fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
            let mut names: Vec<_> =
                listed.map_err(|error| fault(&error))?.iter().map(fs::DirEntry::file_name).collect();
            names.sort();
            let start = usize::try_from(from.map_or(0, |from| from.cookie)).unwrap_or(usize::MAX);
            let is_end = names.len() <= start.saturating_add(PAGE_ENTRIES);
            let next =
                (!is_end).then(|| Bookmark { cookie: (start + PAGE_ENTRIES) as u64, verifier: [0; 8] });
            let entry = |name: &std::ffi::OsString| {
                let found = self.found(folder.join(name)).ok();
                let name = name.as_bytes().to_vec();
                let handle = found.as_ref().map(|found| found.handle.clone());
                Listed { name, handle, attributes: found.map(|found| found.attributes) }
            };
            let entries = names.iter().skip(start).take(PAGE_ENTRIES).map(entry).collect();
            Ok(Page { entries, next })
        })
        .await
    }

    async fn remove_file(&self, folder: &Handle, name: &Name) -> Result<bool, TargetError> {
        self.call("remove a file", || {
            let path = self.at(folder, name)?;
            if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
                return Err(Fault::IsFolder);
            }
            or_none(fs::remove_file(path).map_err(|error| fault(&error))).map(|removed| removed.is_some())
        })
        .await
    }

    async fn remove_folder(&self, folder: &Handle, name: &Name) -> Result<bool, TargetError> {
        self.call("remove a folder", || {
            let removed = fs::remove_dir(self.at(folder, name)?).map_err(|error| fault(&error));
            or_none(removed).map(|removed| removed.is_some())
        })
        .await
    }

    async fn room(&self, folder: &Handle) -> Result<(u64, u64), TargetError> {
        self.call("ask for room", || {
            let room = rustix::fs::statvfs(self.path(folder)?).map_err(|errno| fault(&errno.into()))?;
            Ok((room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize))
        })
        .await
    }
}

fn lost<T>(call: &'static str) -> Result<T, TargetError> {
    Err(TargetError { call, fault: Fault::Unreachable("connection refused".to_owned()) })
}

fn or_none<T>(result: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match result {
        Err(Fault::NotThere) => Ok(None),
        result => result.map(Some),
    }
}

fn attributes(metadata: &Metadata) -> Attributes {
    let owner = Owner { uid: metadata.uid(), gid: metadata.gid(), mode: metadata.mode() & 0o7777 };
    Attributes {
        is_folder: metadata.is_dir(),
        owner,
        length_bytes: metadata.len(),
        used_bytes: metadata.blocks() * 512,
        file_system: metadata.dev(),
        file: metadata.ino(),
        changed: (metadata.ctime() as u32, metadata.ctime_nsec() as u32),
    }
}

fn fault(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::NotFound => Fault::NotThere,
        io::ErrorKind::AlreadyExists => Fault::Exists,
        io::ErrorKind::DirectoryNotEmpty => Fault::NotEmpty,
        io::ErrorKind::NotADirectory => Fault::NotAFolder,
        io::ErrorKind::IsADirectory => Fault::IsFolder,
        io::ErrorKind::PermissionDenied => Fault::Refused,
        io::ErrorKind::ReadOnlyFilesystem => Fault::ReadOnly,
        io::ErrorKind::StorageFull => Fault::NoSpace,
        _ => Fault::Other(error.to_string()),
    }
}
