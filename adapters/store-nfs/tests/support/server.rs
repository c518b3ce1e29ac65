//! An NFSv3 server in the test's process that exports a folder of this host, and fails as its script says.

use super::disk::Disk;
use super::script::{Lost, Script, Treatment};
use super::xdr::{packed, refusal};
use nfs3_client::nfs3_types::mount::{fhandle3, mountres3, mountres3_ok};
use nfs3_client::nfs3_types::nfs3::{nfs_fh3, nfsstat3};
use nfs3_client::nfs3_types::rpc::call_body;
use nfs3_client::nfs3_types::xdr_codec::Unpack;
use std::io::{Cursor, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const MOUNT: u32 = 100_005;
const LAST_FRAGMENT: u32 = 0x8000_0000;

pub(crate) struct FolderServer {
    address: SocketAddr,
    script: Arc<Script>,
    disk: Arc<Disk>,
    is_over: Arc<AtomicBool>,
}

impl FolderServer {
    pub(crate) fn start(folder: &Path) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::<Script>::default();
        let disk = Arc::new(Disk::new(folder, Arc::clone(&script)));
        let server = Self { address, script, disk, is_over: Arc::default() };
        let (script, disk) = (Arc::clone(&server.script), Arc::clone(&server.disk));
        let is_over = Arc::clone(&server.is_over);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if is_over.load(Ordering::Acquire) {
                    break;
                }
                let (script, disk) = (Arc::clone(&script), Arc::clone(&disk));
                std::thread::spawn(move || {
                    let _closed = serve(stream, &script, &disk);
                });
            }
        });
        server
    }

    pub(crate) fn script(&self) -> &Script {
        &self.script
    }

    /// The URL of a store on it.
    pub(crate) fn url(&self, options: &str) -> String {
        let port = self.address.port();
        format!("nfs://127.0.0.1:{port}{}?mountport={port}&{options}", self.disk.root.display())
    }

    /// Loses what was written to it and is not on its disk.
    pub(crate) fn lose_power(&self) {
        self.disk.lose_unstable_writes();
    }
}

impl Drop for FolderServer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        let _woken = TcpStream::connect(self.address);
    }
}

fn serve(mut stream: TcpStream, script: &Script, disk: &Disk) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut call = vec![0; (u32::from_be_bytes(length) & !LAST_FRAGMENT) as usize];
        stream.read_exact(&mut call)?;
        let id = &call[..4];
        // After the id and the direction.
        let mut rest = Cursor::new(&call[8..]);
        let (header, _) = call_body::unpack(&mut rest).unwrap();
        let mut reply = [id, &[0, 0, 0, 1], &[0; 16]].concat();
        if header.prog == MOUNT {
            if script.is_away() {
                return Ok(());
            }
            reply.extend(mounted(disk));
        } else {
            match script.next() {
                Treatment::Lose(Lost::Call) => return Ok(()),
                Treatment::Lose(Lost::Reply) => {
                    let _executed = disk.execute(header.proc, &mut rest);
                    return Ok(());
                }
                Treatment::Refuse => reply.extend(refusal(header.proc, nfsstat3::NFS3ERR_NOSPC)),
                Treatment::Execute => match disk.execute(header.proc, &mut rest) {
                    Ok(good) => {
                        reply.extend([0; 4]);
                        reply.extend(good);
                    }
                    Err(status) => reply.extend(refusal(header.proc, status)),
                },
            }
        }
        let length = u32::try_from(reply.len()).unwrap() | LAST_FRAGMENT;
        stream.write_all(&[&length.to_be_bytes()[..], &reply].concat())?;
    }
}

fn mounted(disk: &Disk) -> Vec<u8> {
    let nfs_fh3 { data } = disk.root_handle();
    packed(&mountres3::Ok(mountres3_ok { fhandle: fhandle3(data), auth_flavors: vec![1] }))
}
