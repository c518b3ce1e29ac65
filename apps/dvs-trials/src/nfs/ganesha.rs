//! A real NFSv3 server for tests: nfs-ganesha, with the portmapper that it needs, in network, mount and process
//! namespaces of its own, so that nothing of the machine is touched and nothing of it is left when the tests end. Two
//! ports on loopback lead to it, and can be cut.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The programs that must be there, each in Debian's package of its name, and `nfs-ganesha-vfs` besides.
const PROGRAMS: [&str; 2] = ["ganesha.nfsd", "rpcbind"];
/// Inside its namespace.
const NFS_PORT: u16 = 12049;
const MOUNT_PORT: u16 = 12050;
/// How long it may take to be up.
const UP_WITHIN: Duration = Duration::from_secs(20);
/// How often is looked whether it is.
const POLL: Duration = Duration::from_millis(10);

/// What the first process of the namespaces does: it lives as long as its input is open, and all others with it.
const INIT: &str = r#"
set -e
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir -p /run/ganesha /run/rpcbind /run/sendsigs.omit.d
mkdir -p /var/lib/nfs
mount -t tmpfs tmpfs /var/lib/nfs
mkdir -p /var/lib/nfs/ganesha
ip link set lo up
rpcbind
echo ready
while read -r word; do
    case $word in
        start)
            ganesha.nfsd -F -f "$1" -L "$2" -p /run/ganesha.pid </dev/null >/dev/null 2>&1 &
            server=$! ;;
        kill) kill -KILL "$server"; wait "$server" || : ;;
        freeze) kill -STOP "$server" ;;
        thaw) kill -CONT "$server" ;;
    esac
    echo done
done
"#;

/// Keeps a mount namespace as it was when this was called first.
static CLEAN_MOUNTS: OnceLock<Child> = OnceLock::new();

/// Lets servers start from the mounts that there are now. Whoever starts one later, from what there is then, holds
/// every volume that is mounted meanwhile, and nobody could delete it.
///
/// # Errors
/// When the namespace cannot be had.
pub fn keep_clean_mounts() -> io::Result<()> {
    if CLEAN_MOUNTS.get().is_none() {
        // It ends when its input does, with this process.
        let keeper = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        let _kept = CLEAN_MOUNTS.set(keeper);
    }
    Ok(())
}

/// How a folder is exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportOptions {
    /// Nothing may be changed.
    pub read_only: bool,
    /// Uid 0 of clients is nobody here.
    pub squashes_root: bool,
}

/// A running server.
pub struct Ganesha {
    init: Child,
    talk: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    log: PathBuf,
    nfs: Door,
    mount: Door,
}

/// A port on loopback that leads into the namespace.
struct Door {
    address: SocketAddr,
    is_shut: Arc<AtomicBool>,
    traffic: Arc<Traffic>,
    through: Arc<Mutex<Vec<TcpStream>>>,
}

#[derive(Default)]
struct Traffic {
    /// How long each reply is delayed.
    delay_microseconds: AtomicU64,
    /// How many calls were sent.
    calls: AtomicU64,
}

/// Why the server cannot run on this machine, if so.
#[must_use]
pub fn cannot_run() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("namespaces and an NFS server need root".to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).chain(["/usr/sbin".into()]).collect();
    let is_missing = |program: &&str| !folders.iter().any(|folder| folder.join(program).is_file());
    let missing: Vec<&str> = PROGRAMS.into_iter().filter(is_missing).collect();
    (!missing.is_empty()).then(|| format!("there is no program {}", missing.join(" and no ")))
}

impl Ganesha {
    /// Starts a server that exports `folder` under its own path, and works in `scratch`.
    ///
    /// # Errors
    /// When it is not up in time, with the end of its log.
    pub fn start(folder: &Path, scratch: &Path, options: ExportOptions) -> io::Result<Self> {
        let (config, log) = (scratch.join("ganesha.conf"), scratch.join("ganesha.log"));
        std::fs::write(&config, configuration(folder, options))?;
        let mut command = match CLEAN_MOUNTS.get() {
            Some(keeper) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--mount=/proc/{}/ns/mnt", keeper.id())).args(["--", "unshare"]);
                command
            }
            None => Command::new("unshare"),
        };
        let mut init = command
            .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--", "sh", "-c", INIT, "init"])
            .args([&config, &log])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(scratch.join("init.log"))?)
            .spawn()?;
        let (Some(input), Some(output)) = (init.stdin.take(), init.stdout.take()) else {
            return Err(io::Error::other("no pipes"));
        };
        let mut talk = (input, BufReader::new(output));
        let mut word = String::new();
        talk.1.read_line(&mut word)?;
        if word.trim() != "ready" {
            let log = std::fs::read_to_string(scratch.join("init.log")).unwrap_or_default();
            return Err(io::Error::other(format!("the server's namespaces are not ready: {log}")));
        }
        let namespace = Arc::new(namespace_of(&init)?);
        let (nfs, mount) = (Door::open(&namespace, NFS_PORT)?, Door::open(&namespace, MOUNT_PORT)?);
        let server = Self { init, talk: Mutex::new(talk), log, nfs, mount };
        server.run(&namespace)?;
        Ok(server)
    }

    /// What stands in a store's URL before the path, and what must stand among its options.
    #[must_use]
    pub fn address(&self) -> (String, String) {
        (format!("nfs://{}", self.nfs.address), format!("mountport={}", self.mount.address.port()))
    }

    /// Lets every answer be on its way for so long, as if the server were elsewhere.
    pub fn delay(&self, delay: Duration) {
        let microseconds = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.nfs.traffic.delay_microseconds.store(microseconds, Ordering::Relaxed);
    }

    /// How many NFS calls were sent to it.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.nfs.traffic.calls.load(Ordering::Relaxed)
    }

    /// The ports of its NFS and its mount service on loopback.
    #[must_use]
    pub fn ports(&self) -> (u16, u16) {
        (self.nfs.address.port(), self.mount.address.port())
    }

    /// Ends it at once, in the middle of whatever it does.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn kill(&self) -> io::Result<()> {
        self.tell("kill")
    }

    /// Starts it again after [`Ganesha::kill`].
    ///
    /// # Errors
    /// When it is not up in time.
    pub fn start_again(&self) -> io::Result<()> {
        self.run(&namespace_of(&self.init)?)
    }

    /// Lets it answer nothing, with everything kept.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn freeze(&self) -> io::Result<()> {
        self.tell("freeze")
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn thaw(&self) -> io::Result<()> {
        self.tell("thaw")
    }

    /// Cuts all connections, and refuses new ones.
    pub fn cut(&self) {
        self.nfs.shut();
        self.mount.shut();
    }

    /// Takes connections again.
    pub fn mend(&self) {
        self.nfs.is_shut.store(false, Ordering::Release);
        self.mount.is_shut.store(false, Ordering::Release);
    }

    fn run(&self, namespace: &File) -> io::Result<()> {
        self.tell("start")?;
        let until = Instant::now() + UP_WITHIN;
        while connect_in(namespace, NFS_PORT).and_then(|_| connect_in(namespace, MOUNT_PORT)).is_err() {
            if until < Instant::now() {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(15).collect();
                return Err(io::Error::other(format!("the server is not up: {}", last.join("\n"))));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn tell(&self, word: &str) -> io::Result<()> {
        let mut talk = self.talk.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(talk.0, "{word}")?;
        talk.0.flush()?;
        let mut answer = String::new();
        talk.1.read_line(&mut answer)?;
        if answer.trim() == "done" { Ok(()) } else { Err(io::Error::other("the server's namespace is gone")) }
    }
}

impl Drop for Ganesha {
    fn drop(&mut self) {
        self.cut();
        // The first process of the namespace takes all others with it.
        let _gone = self.init.kill();
        let _gone = self.init.wait();
    }
}

impl Door {
    fn open(namespace: &Arc<File>, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let door = Self {
            address: listener.local_addr()?,
            is_shut: Arc::default(),
            traffic: Arc::default(),
            through: Arc::default(),
        };
        let (namespace, is_shut, traffic) =
            (Arc::clone(namespace), Arc::clone(&door.is_shut), Arc::clone(&door.traffic));
        let through = Arc::downgrade(&door.through);
        std::thread::spawn(move || {
            for came in listener.incoming().flatten() {
                let Some(through) = through.upgrade() else { break };
                if is_shut.load(Ordering::Acquire) {
                    continue; // Closed at once.
                }
                let Ok(inside) = connect_in(&namespace, port) else { continue };
                let Ok(ends) = lead_through(&came, &inside, &traffic) else { continue };
                let mut through = through.lock().unwrap_or_else(PoisonError::into_inner);
                through.retain(|stream| stream.peer_addr().is_ok());
                through.extend(ends);
            }
        });
        Ok(door)
    }

    fn shut(&self) {
        self.is_shut.store(true, Ordering::Release);
        for stream in self.through.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _closed = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Carries everything from one stream to the other and back, until one closes.
fn lead_through(came: &TcpStream, inside: &TcpStream, traffic: &Arc<Traffic>) -> io::Result<[TcpStream; 2]> {
    came.set_nodelay(true)?;
    inside.set_nodelay(true)?;
    let ways =
        [(came.try_clone()?, inside.try_clone()?, true), (inside.try_clone()?, came.try_clone()?, false)];
    for (mut from, mut to, are_calls) in ways {
        let traffic = Arc::clone(traffic);
        std::thread::spawn(move || {
            let (mut buffer, mut calls) = (vec![0; 64 * 1024], Calls::default());
            while let Ok(bytes @ 1..) = from.read(&mut buffer) {
                if are_calls {
                    traffic.calls.fetch_add(calls.begun_in(&buffer[..bytes]), Ordering::Relaxed);
                } else {
                    match traffic.delay_microseconds.load(Ordering::Relaxed) {
                        0 => {}
                        delay => std::thread::sleep(Duration::from_micros(delay)),
                    }
                }
                if to.write_all(&buffer[..bytes]).is_err() {
                    break;
                }
            }
            let _closed = to.shutdown(Shutdown::Both);
            let _closed = from.shutdown(Shutdown::Both);
        });
    }
    Ok([came.try_clone()?, inside.try_clone()?])
}

/// Counts the calls in a stream: each has its length in its first four bytes.
#[derive(Default)]
struct Calls {
    length: Vec<u8>,
    left: usize,
}

impl Calls {
    fn begun_in(&mut self, mut bytes: &[u8]) -> u64 {
        let mut begun = 0;
        while !bytes.is_empty() {
            let rest = self.left.min(bytes.len());
            bytes = &bytes[rest..];
            self.left -= rest;
            while let Some((byte, rest)) = bytes.split_first().filter(|_| self.left == 0) {
                self.length.push(*byte);
                bytes = rest;
                if let Ok(length) = <[u8; 4]>::try_from(self.length.as_slice()) {
                    self.length.clear();
                    self.left = (u32::from_be_bytes(length) & 0x7fff_ffff) as usize;
                    begun += 1;
                }
            }
        }
        begun
    }
}

/// A connection from inside the namespace, made by a thread that goes there and never comes back.
fn connect_in(namespace: &File, port: u16) -> io::Result<TcpStream> {
    let namespace = namespace.try_clone()?;
    let there = std::thread::spawn(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        TcpStream::connect((Ipv4Addr::LOCALHOST, port))
    });
    there.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
}

/// The network namespace of the first process, which is the child of `unshare`.
fn namespace_of(unshare: &Child) -> io::Result<File> {
    let id = unshare.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
    let first = children.split_whitespace().next();
    let first = first.ok_or_else(|| io::Error::other("the namespace has no process"))?;
    File::open(format!("/proc/{first}/ns/net"))
}

fn configuration(folder: &Path, options: ExportOptions) -> String {
    let access = if options.read_only { "RO" } else { "RW" };
    let squash = if options.squashes_root { "Root_Squash" } else { "No_Root_Squash" };
    format!(
        "NFS_CORE_PARAM {{ NFS_Port = {NFS_PORT}; MNT_Port = {MOUNT_PORT}; Protocols = 3; Enable_NLM = false; \
         Enable_RQUOTA = false; Enable_UDP = false; mount_path_pseudo = false; \
         Plugins_Dir = \"/usr/lib/{}-linux-gnu/ganesha\"; }}\n\
         NFSv4 {{ Graceless = true; RecoveryBackend = fs; }}\n\
         EXPORT {{ Export_Id = 77; Path = \"{}\"; Pseudo = /exp; Access_Type = {access}; Squash = {squash}; \
         Protocols = 3; Transports = TCP; SecType = sys; FSAL {{ Name = VFS; }} }}\n",
        std::env::consts::ARCH,
        folder.display(),
    )
}
