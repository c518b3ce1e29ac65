//! What the tests share: names, and an engine that behaves as badly as a test likes.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "also the helpers of tests may stop a test")]

pub(crate) mod docker;

use dvs_docker_engine::Engine;
use dvs_domain::mount_point::MountPoint;
use dvs_domain::names::{StoreName, VolumeName};
use dvs_domain::user::User;
use dvs_domain::volume::VolumeId;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a test waits for what must happen.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) fn at(path: impl AsRef<Path>) -> MountPoint {
    MountPoint::new(path.as_ref().to_str().unwrap()).unwrap()
}

/// The volume `loop/a`.
pub(crate) fn volume_a() -> VolumeId {
    VolumeId { store: StoreName::new("loop").unwrap(), name: VolumeName::new("a").unwrap() }
}

pub(crate) fn running(name: &str) -> User {
    User::Container { name: name.to_owned(), running: true, process: None }
}

pub(crate) fn stopped(name: &str) -> User {
    User::Container { name: name.to_owned(), running: false, process: None }
}

/// A container of a list that has `source` bound as Docker binds it unless told otherwise.
pub(crate) fn bind(name: &str, state: &str, source: &str) -> Value {
    let mount = json!({"Type": "bind", "Source": source, "Destination": "/x", "Propagation": "rprivate"});
    container(name, state, &mount)
}

/// A container of a list.
pub(crate) fn container(name: &str, state: &str, mount: &Value) -> Value {
    json!({"Id": format!("id-{name}"), "Names": [format!("/{name}")], "State": state, "Mounts": [mount]})
}

pub(crate) fn folder() -> TempDir {
    tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap()
}

/// What the fake engine does with a request.
pub(crate) enum Reply {
    /// Answers with this body.
    Json(String),
    /// Answers with this body after this time.
    Late(Duration, String),
    /// Answers with this status and body.
    Status(u16, String),
    /// Announces more than this and hangs up.
    CutOff(String),
    /// Says this, and then one byte now and then, for ever.
    Trickle(String),
    /// Says this again and again, for ever.
    Endless(String),
    /// Says nothing until the other side has gone.
    Silence,
    /// Writes exactly this and hangs up.
    Raw(Vec<u8>),
}

/// An engine on a socket in a folder of its own.
pub(crate) struct FakeEngine {
    folder: Arc<TempDir>,
    socket: PathBuf,
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

type Answer = Box<dyn Fn(&str) -> Reply + Send + Sync>;

struct Shared {
    answer: Answer,
    asked: Mutex<Vec<String>>,
    open: AtomicUsize,
    ended: AtomicBool,
}

impl FakeEngine {
    /// An engine that does with each request, given as its path without the version, what `answer` says.
    pub(crate) fn that(answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::that_sees_versions(move |path| {
            let rest = path.strip_prefix("/v1.").and_then(|path| path.find('/').map(|at| &path[at..]));
            answer(rest.unwrap_or(path))
        })
    }

    /// The same, where the path has the version too.
    pub(crate) fn that_sees_versions(answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::listening_in(Arc::new(folder()), Box::new(answer))
    }

    fn listening_in(folder: Arc<TempDir>, answer: Answer) -> Self {
        let socket = folder.path().join("a sock ü");
        let listener = UnixListener::bind(&socket).unwrap();
        let shared = Arc::new(Shared {
            answer,
            asked: Mutex::default(),
            open: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        });
        let served = Arc::clone(&shared);
        let listening = Some(thread::spawn(move || listen(&listener, &served)));
        Self { folder, socket, shared, listening }
    }

    /// Another engine at the same path, with these containers. This one goes on serving who is connected to it.
    pub(crate) fn replaced_with(&mut self, containers: Value) -> Self {
        let elsewhere = self.socket.with_extension("replaced");
        std::fs::rename(&self.socket, &elsewhere).unwrap();
        self.socket = elsewhere;
        let answer = move |path: &str| match path {
            path if path.ends_with("/containers/json") => Reply::Json(containers.to_string()),
            path => sane(path),
        };
        Self::listening_in(Arc::clone(&self.folder), Box::new(answer))
    }

    /// A sane engine with these containers and volumes, none of which can be inspected.
    pub(crate) fn with(containers: Value, volumes: Value) -> Self {
        Self::that(move |path| match path {
            "/containers/json" => Reply::Json(containers.to_string()),
            "/volumes" => Reply::Json(json!({"Volumes": volumes, "Warnings": null}).to_string()),
            path => sane(path),
        })
    }

    pub(crate) fn engine(&self) -> Engine {
        Engine::new("docker", self.socket())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    /// What was asked, in order, each with its version.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Waits until nobody is connected any more.
    pub(crate) fn until_left_alone(&self) {
        let begun = Instant::now();
        while 0 < self.shared.open.load(Ordering::SeqCst) {
            assert!(begun.elapsed() < LONG, "a connection stays open");
            thread::yield_now();
        }
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the listener.
        let _ = UnixStream::connect(self.socket());
        if let Some(listening) = self.listening.take() {
            let _ = listening.join();
        }
    }
}

/// What an engine of Docker 20.10 says of itself, and that it knows nothing else.
pub(crate) fn sane(path: &str) -> Reply {
    match path {
        "/version" => {
            Reply::Json(r#"{"Version":"20.10.24","ApiVersion":"1.41","MinAPIVersion":"1.12"}"#.to_owned())
        }
        path => Reply::Status(404, format!(r#"{{"message":"page not found: {path}"}}"#)),
    }
}

fn listen(listener: &UnixListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.ended.load(Ordering::SeqCst) {
            return;
        }
        let (Ok(stream), shared) = (stream, Arc::clone(shared)) else { return };
        shared.open.fetch_add(1, Ordering::SeqCst);
        thread::spawn(move || {
            let _ = serve(&stream, &shared);
            drop(stream);
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

fn serve(mut stream: &UnixStream, shared: &Shared) -> std::io::Result<()> {
    while let Some(target) = request(&mut stream)? {
        shared.asked.lock().unwrap().push(target.clone());
        match (shared.answer)(target.split('?').next().unwrap_or_default()) {
            Reply::Json(body) => write(&mut stream, 200, body.len(), &body)?,
            Reply::Late(time, body) => {
                // Waits for nothing: this is how slow it is.
                thread::sleep(time);
                write(&mut stream, 200, body.len(), &body)?;
            }
            Reply::Status(status, body) => write(&mut stream, status, body.len(), &body)?,
            Reply::CutOff(body) => return write(&mut stream, 200, body.len() + 1000, &body),
            Reply::Trickle(body) => {
                write(&mut stream, 200, 1_000_000_000, &body)?;
                while !shared.ended.load(Ordering::SeqCst) {
                    // Waits for nothing: this is how slow it is.
                    thread::park_timeout(Duration::from_millis(10));
                    stream.write_all(b" ")?;
                }
            }
            Reply::Endless(body) => {
                write(&mut stream, 200, usize::MAX / 2, "")?;
                loop {
                    stream.write_all(body.as_bytes())?;
                }
            }
            Reply::Silence => {
                while stream.read(&mut [0; 1024])? > 0 {}
                return Ok(());
            }
            Reply::Raw(bytes) => return stream.write_all(&bytes),
        }
    }
    Ok(())
}

fn write(stream: &mut &UnixStream, status: u16, length: usize, body: &str) -> std::io::Result<()> {
    let head =
        format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

/// The target of the next request on `stream`, if there is one.
fn request(stream: &mut &UnixStream) -> std::io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    assert!(head.to_ascii_lowercase().contains("\r\nhost:"), "{head}");
    Ok(head.split(' ').nth(1).map(str::to_owned))
}
