//! What the server of the tests serves: the NFSv3 procedures over a folder of this host.

use super::script::Script;
use super::xdr::{opaque, packed};
use nfs3_client::nfs3_types::nfs3::{
    CREATE3args, CREATE3resok, FSSTAT3args, FSSTAT3resok, GETATTR3args, GETATTR3resok, LOOKUP3args,
    LOOKUP3resok, MKDIR3args, MKDIR3resok, Nfs3Option, READ3args, READ3resok, READDIRPLUS3args,
    READDIRPLUS3resok, READLINK3args, READLINK3resok, REMOVE3args, REMOVE3resok, RENAME3args, RENAME3resok,
    RMDIR3args, RMDIR3resok, SETATTR3args, SETATTR3resok, SYMLINK3args, SYMLINK3resok, WRITE3args,
    WRITE3resok, cookieverf3, dirlistplus3, diropargs3, entryplus3, fattr3, filename3, ftype3, nfs_fh3,
    nfspath3, nfsstat3, nfstime3, sattr3, specdata3, stable_how, wcc_data, writeverf3,
};
use nfs3_client::nfs3_types::xdr_codec::{List, Opaque, Unpack};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Few, so that tests see several pages.
const PAGE_ENTRIES: usize = 7;

pub(crate) struct Disk {
    pub(super) root: PathBuf,
    script: Arc<Script>,
    state: Mutex<State>,
    /// Held by the call that is executed: handles must not be resolved while another call renames.
    turn: Mutex<()>,
}

#[derive(Default)]
struct State {
    /// The path of each inode that was handed out: handles stay valid when it is renamed.
    paths: HashMap<u64, PathBuf>,
    /// Owners as set by clients: a test need not run as root.
    owners: HashMap<u64, (u32, u32)>,
    /// The cookie of a name is its index here.
    names: Vec<Vec<u8>>,
    /// Content that files had before writes that may be lost.
    unstable: Vec<(PathBuf, Vec<u8>)>,
}

type Done = Result<Vec<u8>, nfsstat3>;

fn arguments<T: Unpack>(input: &mut impl Read) -> Result<T, nfsstat3> {
    T::unpack(input).map(|(arguments, _)| arguments).map_err(|_| nfsstat3::NFS3ERR_INVAL)
}

impl Disk {
    pub(crate) fn new(root: &Path, script: Arc<Script>) -> Self {
        Self { root: root.to_owned(), script, state: Mutex::default(), turn: Mutex::default() }
    }

    pub(crate) fn root_handle(&self) -> nfs_fh3 {
        self.found(&self.root).unwrap().0
    }

    pub(crate) fn lose_unstable_writes(&self) {
        for (path, before) in std::mem::take(&mut self.state().unstable).into_iter().rev() {
            if path.exists() {
                fs::write(path, before).unwrap();
            }
        }
    }

    pub(crate) fn execute(&self, procedure: u32, input: &mut impl Read) -> Done {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        match procedure {
            1 => self.getattr(&arguments(input)?),
            2 => self.setattr(&arguments(input)?),
            3 => self.lookup(&arguments(input)?),
            5 => self.readlink(&arguments(input)?),
            6 => self.read(&arguments(input)?),
            7 => self.write(&arguments(input)?),
            8 => self.create(&arguments(input)?),
            9 => self.mkdir(&arguments(input)?),
            10 => self.symlink(&arguments(input)?),
            12 => self.remove(&arguments(input)?),
            13 => self.rmdir(&arguments(input)?),
            14 => self.rename(&arguments(input)?),
            17 => self.readdirplus(&arguments(input)?),
            18 => self.fsstat(&arguments(input)?),
            _ => Err(nfsstat3::NFS3ERR_NOTSUPP),
        }
    }

    fn getattr(&self, call: &GETATTR3args) -> Done {
        let (_, obj_attributes) = self.found(&self.path(&call.object)?)?;
        Ok(packed(&GETATTR3resok { obj_attributes }))
    }

    fn setattr(&self, call: &SETATTR3args) -> Done {
        self.set(&self.path(&call.object)?, &call.new_attributes)?;
        Ok(packed(&SETATTR3resok { obj_wcc: wcc_data::default() }))
    }

    fn lookup(&self, call: &LOOKUP3args<'_>) -> Done {
        let (object, attributes) = self.found(&self.at(&call.what)?)?;
        let dir_attributes = Nfs3Option::None;
        Ok(packed(&LOOKUP3resok { object, obj_attributes: Nfs3Option::Some(attributes), dir_attributes }))
    }

    fn readlink(&self, call: &READLINK3args) -> Done {
        let text = fs::read_link(self.path(&call.symlink)?).map_err(status)?;
        let data = nfspath3(Opaque::owned(text.into_os_string().into_vec()));
        Ok(packed(&READLINK3resok { symlink_attributes: Nfs3Option::None, data }))
    }

    fn read(&self, call: &READ3args) -> Done {
        let file = File::open(self.path(&call.file)?).map_err(status)?;
        let length = file.metadata().map_err(status)?.len();
        let mut content = vec![0; call.count as usize];
        let count = file.read_at(&mut content, call.offset).map_err(status)?;
        content.truncate(count);
        Ok(packed(&READ3resok {
            file_attributes: Nfs3Option::None,
            count: u32::try_from(count).unwrap(),
            eof: length <= call.offset + count as u64,
            data: Opaque::owned(content),
        }))
    }

    fn write(&self, call: &WRITE3args<'_>) -> Done {
        let path = self.path(&call.file)?;
        if call.stable == stable_how::UNSTABLE {
            let before = fs::read(&path).map_err(status)?;
            self.state().unstable.push((path.clone(), before));
        }
        let file = File::options().write(true).open(path).map_err(status)?;
        file.write_all_at(&call.data, call.offset).map_err(status)?;
        Ok(packed(&WRITE3resok {
            file_wcc: wcc_data::default(),
            count: call.count,
            committed: call.stable,
            verf: writeverf3::default(),
        }))
    }

    fn create(&self, call: &CREATE3args<'_>) -> Done {
        let path = self.at(&call.where_)?;
        File::create(&path).map_err(status)?;
        let (handle, attributes) = self.found(&path)?;
        Ok(packed(&CREATE3resok {
            obj: Nfs3Option::Some(handle),
            obj_attributes: Nfs3Option::Some(attributes),
            dir_wcc: wcc_data::default(),
        }))
    }

    fn mkdir(&self, call: &MKDIR3args<'_>) -> Done {
        let path = self.at(&call.where_)?;
        fs::create_dir(&path).map_err(status)?;
        self.set(&path, &call.attributes)?;
        let (handle, attributes) = self.found(&path)?;
        Ok(packed(&MKDIR3resok {
            obj: Nfs3Option::Some(handle),
            obj_attributes: Nfs3Option::Some(attributes),
            dir_wcc: wcc_data::default(),
        }))
    }

    fn symlink(&self, call: &SYMLINK3args<'_>) -> Done {
        symlink(OsStr::from_bytes(&call.symlink.symlink_data.0), self.at(&call.where_)?).map_err(status)?;
        Ok(packed(&SYMLINK3resok {
            obj: Nfs3Option::None,
            obj_attributes: Nfs3Option::None,
            dir_wcc: wcc_data::default(),
        }))
    }

    fn remove(&self, call: &REMOVE3args<'_>) -> Done {
        fs::remove_file(self.at(&call.object)?).map_err(status)?;
        Ok(packed(&REMOVE3resok { dir_wcc: wcc_data::default() }))
    }

    fn rmdir(&self, call: &RMDIR3args<'_>) -> Done {
        fs::remove_dir(self.at(&call.object)?).map_err(status)?;
        Ok(packed(&RMDIR3resok { dir_wcc: wcc_data::default() }))
    }

    fn rename(&self, call: &RENAME3args<'_, '_>) -> Done {
        self.script.admit_rename()?;
        let (from, to) = (self.at(&call.from)?, self.at(&call.to)?);
        fs::rename(&from, &to).map_err(status)?;
        for path in self.state().paths.values_mut() {
            if let Ok(below) = path.strip_prefix(&from) {
                *path = if below.as_os_str().is_empty() { to.clone() } else { to.join(below) };
            }
        }
        Ok(packed(&RENAME3resok { fromdir_wcc: wcc_data::default(), todir_wcc: wcc_data::default() }))
    }

    fn readdirplus(&self, call: &READDIRPLUS3args) -> Done {
        let folder = self.path(&call.dir)?;
        let listed = fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut names: Vec<Vec<u8>> =
            listed.map_err(status)?.into_iter().map(|entry| entry.file_name().into_vec()).collect();
        names.sort();
        if call.cookie != 0 {
            let after = self.state().names[usize::try_from(call.cookie).unwrap() - 1].clone();
            names.retain(|name| after < *name);
        }
        let eof = names.len() <= PAGE_ENTRIES;
        names.truncate(PAGE_ENTRIES);
        let entry = |name: Vec<u8>| {
            let found = self.found(&folder.join(OsStr::from_bytes(&name))).ok();
            let (handle, attributes) = match found {
                Some((handle, attributes)) => (Nfs3Option::Some(handle), Nfs3Option::Some(attributes)),
                None => (Nfs3Option::None, Nfs3Option::None),
            };
            let mut state = self.state();
            state.names.push(name.clone());
            entryplus3 {
                fileid: 1,
                cookie: state.names.len() as u64,
                name: filename3(Opaque::owned(name)),
                name_attributes: attributes,
                name_handle: handle,
            }
        };
        let entries = List(names.into_iter().map(entry).collect());
        Ok(packed(&READDIRPLUS3resok {
            dir_attributes: Nfs3Option::None,
            cookieverf: cookieverf3::default(),
            reply: dirlistplus3 { entries, eof },
        }))
    }

    fn fsstat(&self, call: &FSSTAT3args) -> Done {
        let room = rustix::fs::statvfs(self.path(&call.fsroot)?).map_err(|errno| status(errno.into()))?;
        Ok(packed(&FSSTAT3resok {
            obj_attributes: Nfs3Option::None,
            tbytes: room.f_blocks * room.f_frsize,
            fbytes: room.f_bfree * room.f_frsize,
            abytes: room.f_bavail * room.f_frsize,
            tfiles: 1,
            ffiles: 1,
            afiles: 1,
            invarsec: 0,
        }))
    }

    fn path(&self, handle: &nfs_fh3) -> Result<PathBuf, nfsstat3> {
        let number = handle.data.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        let number = number.ok_or(nfsstat3::NFS3ERR_BADHANDLE)?;
        let state = self.state();
        let path = state.paths.get(&number).cloned().ok_or(nfsstat3::NFS3ERR_STALE)?;
        match fs::symlink_metadata(&path) {
            Ok(found) if found.ino() == number => self.script.admit(path),
            _ => Err(nfsstat3::NFS3ERR_STALE),
        }
    }

    fn at(&self, place: &diropargs3<'_>) -> Result<PathBuf, nfsstat3> {
        let folder = self.path(&place.dir)?;
        if !fs::symlink_metadata(&folder).map_err(|_| nfsstat3::NFS3ERR_STALE)?.is_dir() {
            return Err(nfsstat3::NFS3ERR_NOTDIR);
        }
        self.script.admit(folder.join(OsStr::from_bytes(&place.name.0)))
    }

    fn found(&self, path: &Path) -> Result<(nfs_fh3, fattr3), nfsstat3> {
        let metadata = fs::symlink_metadata(path).map_err(status)?;
        let mut state = self.state();
        state.paths.insert(metadata.ino(), path.to_owned());
        let owner = state.owners.get(&metadata.ino()).copied();
        drop(state);
        let file_system = metadata.dev() + u64::from(self.script.is_mounted(path));
        let handle = nfs_fh3 { data: opaque(&metadata.ino().to_be_bytes()) };
        Ok((handle, attributes(&metadata, owner, file_system)))
    }

    fn set(&self, path: &Path, wanted: &sattr3) -> Result<(), nfsstat3> {
        if let Nfs3Option::Some(mode) = wanted.mode {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(status)?;
        }
        let number = fs::symlink_metadata(path).map_err(status)?.ino();
        if let (Nfs3Option::Some(uid), Nfs3Option::Some(gid)) = (wanted.uid, wanted.gid) {
            self.state().owners.insert(number, (uid, gid));
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn attributes(metadata: &Metadata, owner: Option<(u32, u32)>, file_system: u64) -> fattr3 {
    let kind = metadata.file_type();
    let (uid, gid) = owner.unwrap_or((metadata.uid(), metadata.gid()));
    let changed = nfstime3 { seconds: metadata.ctime() as u32, nseconds: metadata.ctime_nsec() as u32 };
    fattr3 {
        type_: match () {
            () if kind.is_dir() => ftype3::NF3DIR,
            () if kind.is_symlink() => ftype3::NF3LNK,
            () if kind.is_fifo() => ftype3::NF3FIFO,
            () => ftype3::NF3REG,
        },
        mode: metadata.mode() & 0o7777,
        nlink: 1,
        uid,
        gid,
        size: metadata.len(),
        used: metadata.blocks() * 512,
        rdev: specdata3::default(),
        fsid: file_system,
        fileid: metadata.ino(),
        atime: changed,
        mtime: changed,
        ctime: changed,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn status(error: io::Error) -> nfsstat3 {
    match error.kind() {
        io::ErrorKind::NotFound => nfsstat3::NFS3ERR_NOENT,
        io::ErrorKind::AlreadyExists => nfsstat3::NFS3ERR_EXIST,
        io::ErrorKind::DirectoryNotEmpty => nfsstat3::NFS3ERR_NOTEMPTY,
        io::ErrorKind::NotADirectory => nfsstat3::NFS3ERR_NOTDIR,
        io::ErrorKind::IsADirectory => nfsstat3::NFS3ERR_ISDIR,
        io::ErrorKind::PermissionDenied => nfsstat3::NFS3ERR_ACCES,
        io::ErrorKind::ReadOnlyFilesystem => nfsstat3::NFS3ERR_ROFS,
        io::ErrorKind::StorageFull => nfsstat3::NFS3ERR_NOSPC,
        _ => nfsstat3::NFS3ERR_IO,
    }
}
