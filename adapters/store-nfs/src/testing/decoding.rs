//! What becomes of bytes that come as an answer: put together, walked, decoded by the client library, and read, as
//! when a server had sent them; and of bytes that lie on the export as a list. For fuzzing.

use crate::connection::Framed;
use crate::list::sample;
use crate::target::{Bookmark, wire};
use nfs3_client::nfs3_types::mount::dirpath;
use nfs3_client::nfs3_types::nfs3::{
    CREATE3args, FSSTAT3args, GETATTR3args, LOOKUP3args, MKDIR3args, Nfs3Result, READ3args, READDIR3args,
    READDIRPLUS3args, READLINK3args, REMOVE3args, RENAME3args, RMDIR3args, SETATTR3args, SYMLINK3args,
    WRITE3args, cookieverf3, createhow3, diropargs3, filename3, nfs_fh3, nfspath3, sattr3, sattrguard3,
    stable_how, symlinkdata3,
};
use nfs3_client::nfs3_types::xdr_codec::Opaque;
use nfs3_client::{MountClient, Nfs3Client, PortmapperClient, RpcError};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The calls whose answers are decoded: each by its number of the protocol, the mount service's and the portmapper's
/// after them.
pub const CALLS: [u32; 17] = [1, 2, 3, 5, 6, 7, 8, 9, 10, 12, 13, 14, 16, 17, 18, MNT, GETPORT];
/// The mount service's call.
pub const MNT: u32 = 1001;
/// The portmapper's call.
pub const GETPORT: u32 = 1003;

/// A stream on which `bytes` come as the answer, with the id of the call in its place if `has_id`.
struct Memory {
    bytes: Vec<u8>,
    given: usize,
    has_id: bool,
}

impl AsyncRead for Memory {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = buffer.remaining().min(self.bytes.len() - self.given);
        buffer.put_slice(&self.bytes[self.given..self.given + count]);
        self.given += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Memory {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, call: &[u8]) -> Poll<io::Result<usize>> {
        if self.has_id
            && let (Some(id), Some(place)) = (call.get(4..8), self.bytes.get_mut(4..8))
        {
            place.copy_from_slice(id);
        }
        Poll::Ready(Ok(call.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Decodes `bytes` as the answer to `call`, one of [`CALLS`]; says whether that could be done.
pub async fn decode(call: u32, bytes: Vec<u8>, has_id: bool) -> bool {
    let stream = Framed::new(Memory { bytes, given: 0, has_id });
    match call {
        MNT => MountClient::new(stream).mnt(dirpath(Opaque::borrowed(b"/v"))).await.is_ok(),
        GETPORT => PortmapperClient::new(stream).getport(1, 1, 6).await.is_ok(),
        _ => decode_nfs(call, &mut Nfs3Client::new(stream)).await,
    }
}

/// A list as nodes share it, of so many volumes.
#[must_use]
pub fn list(volumes: u32) -> Vec<u8> {
    sample::list(volumes)
}

/// How many of so many volumes a node takes from `bytes`; `None` where it takes nothing from what is no list. A checksum
/// is put after them if `is_summed`.
#[must_use]
pub fn taken_from_list(bytes: Vec<u8>, volumes: u32, is_summed: bool) -> Option<usize> {
    sample::taken(bytes, volumes, is_summed)
}

/// Where a listing begins.
const START: Bookmark = Bookmark { cookie: 0, verifier: [0; 8] };

fn read<T, E>(answer: Result<Nfs3Result<T, E>, RpcError>, reads: impl FnOnce(T) -> bool) -> bool {
    match answer {
        Ok(Nfs3Result::Ok(good)) => reads(good),
        Ok(Nfs3Result::Err(_)) => true,
        Err(_) => false,
    }
}

async fn decode_nfs(call: u32, client: &mut Nfs3Client<Framed<Memory>>) -> bool {
    let file = || nfs_fh3 { data: Opaque::borrowed(b"handle") };
    let place = || diropargs3 { dir: file(), name: filename3::from(&b"n"[..]) };
    let (attributes, offset, count) = (sattr3::default(), 0, 1);
    match call {
        1 => client.getattr(&GETATTR3args { object: file() }).await.is_ok(),
        2 => {
            let guard = sattrguard3::None;
            client.setattr(&SETATTR3args { object: file(), new_attributes: attributes, guard }).await.is_ok()
        }
        3 => client.lookup(&LOOKUP3args { what: place() }).await.is_ok(),
        5 => client.readlink(&READLINK3args { symlink: file() }).await.is_ok(),
        6 => client.read(&READ3args { file: file(), offset, count }).await.is_ok(),
        7 => {
            let (stable, data) = (stable_how::FILE_SYNC, Opaque::borrowed(b"d"));
            client.write(&WRITE3args { file: file(), offset, count, stable, data }).await.is_ok()
        }
        8 => {
            let how = createhow3::UNCHECKED(attributes);
            client.create(&CREATE3args { where_: place(), how }).await.is_ok()
        }
        9 => client.mkdir(&MKDIR3args { where_: place(), attributes }).await.is_ok(),
        10 => {
            let symlink_data = nfspath3::from(&b"t"[..]);
            let symlink = symlinkdata3 { symlink_attributes: attributes, symlink_data };
            client.symlink(&SYMLINK3args { where_: place(), symlink }).await.is_ok()
        }
        12 => client.remove(&REMOVE3args { object: place() }).await.is_ok(),
        13 => client.rmdir(&RMDIR3args { object: place() }).await.is_ok(),
        14 => client.rename(&RENAME3args { from: place(), to: place() }).await.is_ok(),
        16 => {
            let call = READDIR3args { dir: file(), cookie: 0, cookieverf: cookieverf3::default(), count };
            read(client.readdir(&call).await, |listed| wire::page_of_names(listed, START).is_ok())
        }
        17 => {
            let cookieverf = cookieverf3::default();
            let call =
                READDIRPLUS3args { dir: file(), cookie: 0, cookieverf, dircount: count, maxcount: count };
            read(client.readdirplus(&call).await, |listed| wire::page_with_attributes(listed, START).is_ok())
        }
        _ => client.fsstat(&FSSTAT3args { fsroot: file() }).await.is_ok(),
    }
}
