//! A real Mosquitto as a child process on a free port of the loopback interface.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PROGRAM: &str = "/usr/sbin/mosquitto";

pub(crate) struct Mosquitto {
    folder: TempDir,
    port: u16,
    child: Child,
}

impl Mosquitto {
    /// A broker that keeps nothing on disk and lets everybody in. `None`, and said so, where there is none.
    pub(crate) fn start(test: &str) -> Option<Self> {
        Self::start_with(test, |_| "allow_anonymous true\n".to_owned())
    }

    /// A broker with more lines in its configuration, which may name files of the folder given.
    pub(crate) fn start_with(test: &str, lines: impl Fn(&Path) -> String) -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            eprintln!("NOT RUN: {test}: {PROGRAM} is missing; install mosquitto");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("dvs-test-mqtt-").tempdir().unwrap();
        let lines = lines(folder.path());
        // Somebody else may take the free port first: then another one is tried.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let config = format!(
                "listener {port} 127.0.0.1\nuser root\npersistence false\nmax_queued_messages 0\n\
                 log_dest file {}\nlog_type all\n{lines}",
                folder.path().join("log").display()
            );
            fs::write(folder.path().join("mosquitto.conf"), config).unwrap();
            let mut child = spawn(folder.path());
            if answers(port, &mut child) {
                return Some(Self { folder, port, child });
            }
        }
        panic!(
            "mosquitto does not start:\n{}",
            fs::read_to_string(folder.path().join("log")).unwrap_or_default()
        );
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends it without a chance to save or to say anything.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same port, knowing nothing of before.
    pub(crate) fn start_again(&mut self) {
        self.child = spawn(self.folder.path());
        assert!(answers(self.port, &mut self.child), "mosquitto does not start again: {}", self.log());
    }

    /// Stops it in its tracks: connections stay open, and nothing moves.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file for `password_file` with one user.
pub(crate) fn password_file(folder: &Path, user: &str, password: &str) -> PathBuf {
    let path = folder.join("passwords");
    let made =
        Command::new("mosquitto_passwd").arg("-b").arg("-c").arg(&path).args([user, password]).status();
    assert!(made.unwrap().success());
    path
}

fn spawn(folder: &Path) -> Child {
    Command::new(PROGRAM)
        .arg("-c")
        .arg(folder.join("mosquitto.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn answers(port: u16, child: &mut Child) -> bool {
    let limit = Instant::now() + Duration::from_secs(20);
    while Instant::now() < limit {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}
