//! A server inside the test that says yes to everything, or misbehaves in one way.

use super::changes::{Change, changed};
use super::xdr::{optional_words, packed};
use nfs3_client::nfs3_types::mount::{fhandle3, mountres3, mountres3_ok};
use nfs3_client::nfs3_types::nfs3::{
    CREATE3resok, FSSTAT3resok, GETATTR3resok, LOOKUP3resok, MKDIR3resok, Nfs3Option, READ3resok,
    READDIR3resok, READDIRPLUS3resok, READLINK3resok, REMOVE3resok, RENAME3resok, RMDIR3resok, SETATTR3resok,
    SYMLINK3resok, WRITE3resok, cookieverf3, dirlist3, dirlistplus3, entry3, entryplus3, fattr3, filename3,
    ftype3, nfs_fh3, nfspath3, nfstime3, specdata3, stable_how, wcc_data, writeverf3,
};
use nfs3_client::nfs3_types::xdr_codec::{List, Opaque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

/// The procedures of NFSv3 that are misbehaved on, by their numbers.
pub(crate) const LOOKUP: u32 = 3;
pub(crate) const READ: u32 = 6;
pub(crate) const WRITE: u32 = 7;
pub(crate) const CREATE: u32 = 8;
pub(crate) const MKDIR: u32 = 9;
pub(crate) const RMDIR: u32 = 13;
pub(crate) const RENAME: u32 = 14;
pub(crate) const READDIRPLUS: u32 = 17;
/// Not one of NFS: the mount service's.
pub(crate) const MNT: u32 = 1001;

const LAST: u32 = 0x8000_0000;
/// Up to where a call says of which procedure it is.
const HEAD_BYTES: usize = 24;
/// How late is late: after every limit of the tests.
const LATE: Duration = Duration::from_secs(5);

/// What is done instead of answering as one should.
#[derive(Clone, Debug)]
pub(crate) enum Misbehaviour {
    /// The connection is closed as soon as it is there.
    CloseAtOnce,
    /// It is closed after this many bytes of the answer.
    CloseAfter(usize),
    /// Nothing comes.
    Silence,
    /// It comes after everybody has given up.
    Late,
    /// The call itself is read no further than its head, until it is behaved again.
    ReadsLater,
    /// It comes byte by byte.
    ByteByByte,
    /// It comes in fragments of this many bytes.
    Fragments(usize),
    /// So many empty fragments come first.
    EmptyFragments(usize),
    /// A length comes, and then so many bytes and no more.
    Announce(u32, usize),
    /// Fragment after fragment, never a last one.
    NeverLast,
    /// The answer comes twice.
    Twice,
    /// An answer to something else comes first.
    StrangerFirst,
    /// The words of the answer at these places are others.
    Words(&'static [(usize, u32)]),
    /// Of the answer only so many words come, as if that were all.
    OnlyWords(usize),
    /// So many more words come, as if they belonged to it.
    MoreWords(usize),
    /// This status, and what belongs to a failure of any procedure.
    Status(u32),
    /// This in place of what follows the status.
    Body(Vec<u8>),
    /// The answer with these changes, in fragments of so many bytes with those changes; then the connection is closed.
    Changed(Vec<Change>, usize, Vec<Change>),
}

/// The server.
pub(crate) struct HostileServer {
    pub(crate) address: SocketAddr,
    conduct: Arc<Conduct>,
}

#[derive(Default)]
struct Conduct {
    /// On which procedures it misbehaves, or on every one, and how.
    now: watch::Sender<Vec<(Option<u32>, Misbehaviour)>>,
    /// Whether a call that was read later had come whole.
    came_whole: watch::Sender<Option<bool>>,
    calls: AtomicU64,
}

impl HostileServer {
    pub(crate) async fn start() -> Self {
        Self::on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap())
    }

    /// One that has little room for what comes: most of a large call waits at its sender until it is read.
    pub(crate) fn start_narrow() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1).unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Self::on(socket.listen(64).unwrap())
    }

    fn on(listener: TcpListener) -> Self {
        let server = Self { address: listener.local_addr().unwrap(), conduct: Arc::default() };
        let conduct = Arc::clone(&server.conduct);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let conduct = Arc::clone(&conduct);
                tokio::spawn(async move {
                    let _closed = serve(stream, &conduct).await;
                });
            }
        });
        server
    }

    /// Misbehaves from now on, on answers of `procedure`, or of every one.
    pub(crate) fn misbehave(&self, procedure: Option<u32>, how: Misbehaviour) {
        self.conduct.now.send_replace(vec![(procedure, how)]);
    }

    /// Misbehaves on answers of `procedure` too.
    pub(crate) fn also_misbehave(&self, procedure: u32, how: Misbehaviour) {
        self.conduct.now.send_modify(|now| now.push((Some(procedure), how)));
    }

    pub(crate) fn calls(&self) -> u64 {
        self.conduct.calls.load(Ordering::Relaxed)
    }

    /// The URL of a store on it, with a limit of one second.
    pub(crate) fn url(&self) -> String {
        let port = self.address.port();
        format!("nfs://127.0.0.1:{port}/export?mountport={port}&timeout=1")
    }

    pub(crate) fn behave(&self) {
        self.conduct.now.send_replace(Vec::new());
    }

    /// Whether a call that was read later had come whole.
    pub(crate) async fn has_come_whole(&self) -> bool {
        self.conduct.came_whole.subscribe().wait_for(Option::is_some).await.unwrap().unwrap()
    }
}

async fn serve(mut stream: TcpStream, conduct: &Conduct) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    if matches!(conduct.now.borrow().as_slice(), [(_, Misbehaviour::CloseAtOnce)]) {
        return Ok(());
    }
    loop {
        let length = stream.read_u32().await? & !LAST;
        let mut call = vec![0; length as usize];
        let (head, rest) = call.split_at_mut(HEAD_BYTES);
        stream.read_exact(head).await?;
        conduct.calls.fetch_add(1, Ordering::Relaxed);
        let procedure = if number(head, 12) == 100_005 { MNT } else { number(head, 20) };
        let how = conduct.now.borrow().iter().find(|(of, _)| of.is_none_or(|of| of == procedure)).cloned();
        if matches!(how, Some((_, Misbehaviour::ReadsLater))) {
            conduct.now.subscribe().wait_for(Vec::is_empty).await.unwrap();
            conduct.came_whole.send_replace(Some(stream.read_exact(rest).await.is_ok()));
            return Ok(());
        }
        stream.read_exact(rest).await?;
        let answer = answer(number(&call, 0), procedure, &call, how.as_ref().map(|(_, how)| how));
        match how {
            Some((_, how)) => misbehave(&mut stream, &answer, &how).await?,
            None => stream.write_all(&framed(&answer)).await?,
        }
    }
}

/// The answer, as one should, but for what its words say.
fn answer(id: u32, procedure: u32, call: &[u8], how: Option<&Misbehaviour>) -> Vec<u8> {
    let mut answer: Vec<u8> = [id, 1, 0, 0, 0, 0].iter().flat_map(|word| word.to_be_bytes()).collect();
    match how {
        Some(Misbehaviour::Status(status)) => {
            answer.extend(status.to_be_bytes());
            answer.extend(vec![0; 4 * if procedure == MNT { 0 } else { optional_words(procedure) }]);
        }
        Some(Misbehaviour::Body(body)) => {
            answer.extend([0; 4]);
            answer.extend(body);
        }
        _ => answer.extend(good(procedure, call)),
    }
    if let Some(Misbehaviour::Words(words)) = how {
        for (at, word) in *words {
            if let Some(place) = answer.get_mut(at * 4..at * 4 + 4) {
                place.copy_from_slice(&word.to_be_bytes());
            }
        }
    }
    answer
}

async fn misbehave(stream: &mut TcpStream, answer: &[u8], how: &Misbehaviour) -> std::io::Result<()> {
    let whole = framed(answer);
    match how {
        Misbehaviour::CloseAtOnce => return Err(std::io::ErrorKind::Other.into()),
        Misbehaviour::CloseAfter(bytes) => {
            stream.write_all(&whole[..whole.len().min(*bytes)]).await?;
            return Err(std::io::ErrorKind::Other.into());
        }
        Misbehaviour::Silence | Misbehaviour::ReadsLater => {}
        Misbehaviour::Late => {
            tokio::time::sleep(LATE).await;
            stream.write_all(&whole).await?;
        }
        Misbehaviour::ByteByByte => {
            for byte in &whole {
                stream.write_all(&[*byte]).await?;
                tokio::task::yield_now().await;
            }
        }
        Misbehaviour::Fragments(bytes) => {
            let fragments = in_fragments(answer, *bytes);
            stream.write_all(&fragments).await?;
        }
        Misbehaviour::EmptyFragments(count) => {
            stream.write_all(&vec![0; count * 4]).await?;
            stream.write_all(&whole).await?;
        }
        Misbehaviour::Announce(length, bytes) => {
            stream.write_u32(*length).await?;
            stream.write_all(&vec![0; *bytes]).await?;
        }
        Misbehaviour::NeverLast => loop {
            stream.write_u32(1024).await?;
            stream.write_all(&[0; 1024]).await?;
        },
        Misbehaviour::Twice => stream.write_all(&[whole.clone(), whole].concat()).await?,
        Misbehaviour::StrangerFirst => {
            let mut stranger = answer.to_vec();
            stranger[0] ^= 0x55;
            stream.write_all(&[framed(&stranger), whole].concat()).await?;
        }
        Misbehaviour::OnlyWords(words) => {
            stream.write_all(&framed(&answer[..answer.len().min(words * 4)])).await?;
        }
        Misbehaviour::MoreWords(words) => {
            stream.write_all(&framed(&[answer, &vec![0; words * 4]].concat())).await?;
        }
        Misbehaviour::Changed(changes, fragment, outside) => {
            let answer = changes.iter().fold(answer.to_vec(), changed);
            let bytes = outside.iter().fold(in_fragments(&answer, *fragment), changed);
            stream.write_all(&bytes).await?;
            return Err(std::io::ErrorKind::Other.into());
        }
        Misbehaviour::Words(_) | Misbehaviour::Status(_) | Misbehaviour::Body(_) => {
            stream.write_all(&whole).await?;
        }
    }
    Ok(())
}

fn framed(answer: &[u8]) -> Vec<u8> {
    let length = u32::try_from(answer.len()).unwrap() | LAST;
    [&length.to_be_bytes(), answer].concat()
}

fn in_fragments(answer: &[u8], bytes: usize) -> Vec<u8> {
    let mut fragments = Vec::new();
    let count = answer.chunks(bytes).count();
    for (index, piece) in answer.chunks(bytes).enumerate() {
        let last = if index + 1 == count { LAST } else { 0 };
        fragments.extend((last | u32::try_from(piece.len()).unwrap()).to_be_bytes());
        fragments.extend(piece);
    }
    fragments
}

/// The status and what follows, where everything goes well.
pub(crate) fn good(procedure: u32, call: &[u8]) -> Vec<u8> {
    let mut answer = vec![0; 4];
    answer.extend(match procedure {
        MNT => {
            let mounted =
                mountres3_ok { fhandle: fhandle3(Opaque::borrowed(b"root")), auth_flavors: vec![1] };
            return packed(&mountres3::Ok(mounted));
        }
        1 => packed(&GETATTR3resok { obj_attributes: attributes() }),
        2 => packed(&SETATTR3resok { obj_wcc: wcc_data::default() }),
        LOOKUP => packed(&LOOKUP3resok {
            object: if after_handle(call).starts_with(b"volumes") { folder() } else { handle() },
            obj_attributes: Nfs3Option::Some(attributes()),
            dir_attributes: Nfs3Option::None,
        }),
        5 => packed(&READLINK3resok {
            symlink_attributes: Nfs3Option::None,
            data: nfspath3::from(super::node(1).id.as_str().as_bytes().to_vec()),
        }),
        READ => packed(&READ3resok {
            file_attributes: Nfs3Option::None,
            count: 2,
            eof: true,
            data: Opaque::borrowed(b"{}"),
        }),
        WRITE => packed(&WRITE3resok {
            file_wcc: wcc_data::default(),
            count: written(call),
            committed: stable_how::FILE_SYNC,
            verf: writeverf3::default(),
        }),
        CREATE => packed(&CREATE3resok {
            obj: Nfs3Option::Some(handle()),
            obj_attributes: Nfs3Option::None,
            dir_wcc: wcc_data::default(),
        }),
        MKDIR => packed(&MKDIR3resok {
            obj: Nfs3Option::Some(handle()),
            obj_attributes: Nfs3Option::Some(attributes()),
            dir_wcc: wcc_data::default(),
        }),
        10 => packed(&SYMLINK3resok {
            obj: Nfs3Option::None,
            obj_attributes: Nfs3Option::None,
            dir_wcc: wcc_data::default(),
        }),
        12 => packed(&REMOVE3resok { dir_wcc: wcc_data::default() }),
        13 => packed(&RMDIR3resok { dir_wcc: wcc_data::default() }),
        RENAME => packed(&RENAME3resok { fromdir_wcc: wcc_data::default(), todir_wcc: wcc_data::default() }),
        // Only the two folders of the store have something in them: what is removed elsewhere is gone.
        READDIRPLUS if dir(call) == b"folder" => listing(&[(b"v", 1)], true),
        READDIRPLUS => listing(&[], true),
        16 => {
            let entries = if dir(call) == b"folder" {
                vec![entry3 { fileid: 1, name: filename3::from(b"v".to_vec()), cookie: 1 }]
            } else {
                Vec::new()
            };
            packed(&READDIR3resok {
                dir_attributes: Nfs3Option::None,
                cookieverf: cookieverf3::default(),
                reply: dirlist3 { entries: List(entries), eof: true },
            })
        }
        18 => packed(&FSSTAT3resok {
            obj_attributes: Nfs3Option::None,
            tbytes: 2,
            fbytes: 1,
            abytes: 1,
            tfiles: 1,
            ffiles: 1,
            afiles: 1,
            invarsec: 0,
        }),
        other => unreachable!("procedure {other} is not asked"),
    });
    answer
}

/// A page of a listing: names and cookies, and whether it is the last.
pub(crate) fn listing(entries: &[(&[u8], u64)], is_last: bool) -> Vec<u8> {
    let entry = |(name, cookie): &(&[u8], u64)| entryplus3 {
        fileid: *cookie,
        name: filename3::from(name.to_vec()),
        cookie: *cookie,
        name_attributes: Nfs3Option::Some(attributes()),
        name_handle: Nfs3Option::Some(handle()),
    };
    packed(&READDIRPLUS3resok {
        dir_attributes: Nfs3Option::None,
        cookieverf: cookieverf3::default(),
        reply: dirlistplus3 { entries: List(entries.iter().map(entry).collect()), eof: is_last },
    })
}

pub(crate) fn handle() -> nfs_fh3 {
    nfs_fh3 { data: Opaque::owned(b"handle".to_vec()) }
}

fn folder() -> nfs_fh3 {
    nfs_fh3 { data: Opaque::owned(b"folder".to_vec()) }
}

/// How much a call writes: after the handle come a place and a count.
fn written(call: &[u8]) -> u32 {
    let (at, length) = first_argument(call);
    number(call, (at + length).next_multiple_of(4) + 8)
}

/// The handle that is the first argument of a call.
fn dir(call: &[u8]) -> &[u8] {
    let (at, length) = first_argument(call);
    &call[at..at + length]
}

/// The name that comes after the handle, and what follows.
fn after_handle(call: &[u8]) -> &[u8] {
    let (at, length) = first_argument(call);
    &call[(at + length).next_multiple_of(4) + 4..]
}

/// Where the first argument is, and how long: after the header with its two credentials.
fn first_argument(call: &[u8]) -> (usize, usize) {
    let skip = |at: usize| at + 4 + (number(call, at) as usize).next_multiple_of(4);
    let at = skip(skip(7 * 4) + 4);
    (at + 4, number(call, at) as usize)
}

fn number(call: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(call[at..at + 4].try_into().unwrap())
}

fn attributes() -> fattr3 {
    fattr3 {
        type_: ftype3::NF3DIR,
        mode: 0o755,
        nlink: 2,
        uid: 1000,
        gid: 1000,
        size: 4096,
        used: 4096,
        rdev: specdata3::default(),
        fsid: 1,
        fileid: 2,
        atime: nfstime3::default(),
        mtime: nfstime3::default(),
        ctime: nfstime3::default(),
    }
}
