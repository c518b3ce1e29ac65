//! The NFS calls that a store must make, one after the other on one connection, by the bare client library: what the
//! store is measured against.

use anyhow::{Context, Result, bail};
use nfs3_client::io::{AsyncRead, AsyncWrite};
use nfs3_client::nfs3_types::mount::dirpath;
use nfs3_client::nfs3_types::nfs3::{
    CREATE3args, LOOKUP3args, MKDIR3args, Nfs3Option, READDIRPLUS3args, REMOVE3args, RENAME3args, RMDIR3args,
    WRITE3args, cookieverf3, createhow3, diropargs3, filename3, nfs_fh3, sattr3, stable_how,
};
use nfs3_client::nfs3_types::rpc::{auth_unix, opaque_auth};
use nfs3_client::nfs3_types::xdr_codec::Opaque;
use nfs3_client::{MountClient, Nfs3Client};
use std::io;
use std::net::Ipv4Addr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// As large as a record with its two copies.
const RECORD_BYTES: usize = 4096 + 700;
const PAGE_BYTES: u32 = 64 * 1024;

/// A connection to an export on loopback, on which a store has made its folders.
pub struct Bare {
    client: Nfs3Client<Stream>,
    volumes: nfs_fh3,
    metadata: nfs_fh3,
}

struct Stream(TcpStream);

impl AsyncRead for Stream {
    async fn async_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => Ok(bytes),
        }
    }
}

impl AsyncWrite for Stream {
    async fn async_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).await
    }
}

async fn connect(port: u16) -> Result<Stream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.context("cannot connect")?;
    stream.set_nodelay(true)?;
    Ok(Stream(stream))
}

fn root() -> opaque_auth<'static> {
    opaque_auth::auth_unix(&auth_unix { machinename: Opaque::borrowed(b"bare"), ..auth_unix::default() })
}

fn at<'a>(folder: &nfs_fh3, name: &'a str) -> diropargs3<'a> {
    diropargs3 { dir: folder.clone(), name: filename3::from(name.as_bytes()) }
}

/// The result of a call that must succeed.
macro_rules! good {
    ($call:expr) => {
        match $call.await? {
            nfs3_client::nfs3_types::nfs3::Nfs3Result::Ok(good) => good,
            nfs3_client::nfs3_types::nfs3::Nfs3Result::Err((status, _)) => {
                bail!("a bare call fails: {status}")
            }
        }
    };
}

impl Bare {
    /// # Errors
    /// When the export cannot be reached.
    pub async fn reach(nfs_port: u16, mount_port: u16, path: &str) -> Result<Self> {
        let mut mount =
            MountClient::new_with_auth(connect(mount_port).await?, root(), opaque_auth::default());
        let mounted = mount.mnt(dirpath(Opaque::borrowed(path.as_bytes()))).await?;
        let top = nfs_fh3 { data: Opaque::owned(mounted.fhandle.0.to_vec()) };
        let mut client = Nfs3Client::new_with_auth(connect(nfs_port).await?, root(), opaque_auth::default());
        let volumes = good!(client.lookup(&LOOKUP3args { what: at(&top, "volumes") })).object;
        let metadata = good!(client.lookup(&LOOKUP3args { what: at(&top, "volumes_metadata") })).object;
        Ok(Self { client, volumes, metadata })
    }

    /// Makes what a volume consists of.
    ///
    /// # Errors
    /// When a call fails.
    pub async fn make(&mut self, name: &str) -> Result<()> {
        let staged = format!(".bare-{name}");
        let (volumes, metadata) = (self.volumes.clone(), self.metadata.clone());
        let folder = self.make_folder(&metadata, &staged).await?;
        self.make_folder(&volumes, &staged).await?;
        let how = createhow3::UNCHECKED(sattr3::default());
        let file = good!(self.client.create(&CREATE3args { where_: at(&folder, "record"), how })).obj;
        let Nfs3Option::Some(file) = file else { bail!("a file without a handle") };
        good!(self.client.write(&WRITE3args {
            file,
            offset: 0,
            count: u32::try_from(RECORD_BYTES)?,
            stable: stable_how::FILE_SYNC,
            data: Opaque::borrowed(&[b'x'; RECORD_BYTES]),
        }));
        for folder in [&metadata, &volumes] {
            good!(self.client.rename(&RENAME3args { from: at(folder, &staged), to: at(folder, name) }));
        }
        Ok(())
    }

    async fn make_folder(&mut self, parent: &nfs_fh3, name: &str) -> Result<nfs_fh3> {
        let attributes = sattr3 { mode: Nfs3Option::Some(0o755), ..sattr3::default() };
        match good!(self.client.mkdir(&MKDIR3args { where_: at(parent, name), attributes })).obj {
            Nfs3Option::Some(handle) => Ok(handle),
            Nfs3Option::None => bail!("a directory without a handle"),
        }
    }

    /// Removes the directory of a volume with the directories and files in it, two levels deep.
    ///
    /// # Errors
    /// When a call fails.
    pub async fn remove(&mut self, name: &str) -> Result<()> {
        let volumes = self.volumes.clone();
        let top = good!(self.client.lookup(&LOOKUP3args { what: at(&volumes, name) })).object;
        for (folder, handle) in self.entries(&top).await? {
            for (file, _) in self.entries(&handle).await? {
                good!(self.client.remove(&REMOVE3args { object: at(&handle, &file) }));
            }
            good!(self.client.rmdir(&RMDIR3args { object: at(&top, &folder) }));
        }
        good!(self.client.rmdir(&RMDIR3args { object: at(&volumes, name) }));
        Ok(())
    }

    /// Lists both folders, and gives the number of volumes.
    ///
    /// # Errors
    /// When a call fails.
    pub async fn list(&mut self) -> Result<usize> {
        let (volumes, metadata) = (self.volumes.clone(), self.metadata.clone());
        Ok((self.entries(&volumes).await?.len() + self.entries(&metadata).await?.len()) / 2)
    }

    async fn entries(&mut self, folder: &nfs_fh3) -> Result<Vec<(String, nfs_fh3)>> {
        let (mut entries, mut cookie, mut cookieverf) = (Vec::new(), 0, cookieverf3::default());
        loop {
            let (dir, dircount, maxcount) = (folder.clone(), PAGE_BYTES, PAGE_BYTES);
            let call = READDIRPLUS3args { dir, cookie, cookieverf, dircount, maxcount };
            let page = good!(self.client.readdirplus(&call));
            cookieverf = page.cookieverf;
            for entry in page.reply.entries.0 {
                cookie = entry.cookie;
                let name = String::from_utf8_lossy(&entry.name.0).into_owned();
                if let Nfs3Option::Some(handle) = entry.name_handle
                    && name != "."
                    && name != ".."
                {
                    entries.push((name, handle));
                }
            }
            if page.reply.eof {
                return Ok(entries);
            }
        }
    }
}
