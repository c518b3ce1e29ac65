//! One agent per state folder: a lock that the kernel gives back when the process ends, however it ends.

use dvs_core::failpoint::between;
use dvs_domain::failure::{Failure, FailureCode};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// For so long the lock of an agent that has ended is waited for: a program that it was about to start when it was killed
/// has it until it runs.
const INHERITED_SECONDS_MAX: u64 = 5;
/// How long one wait between tries is.
const TRY_AGAIN_AFTER_MILLISECONDS: u64 = 2;

/// Held for as long as the agent lives.
#[derive(Debug)]
pub struct InstanceLock {
    _file: File,
}

impl InstanceLock {
    /// Takes the lock of the folder `state`, and writes this process's id into it.
    ///
    /// # Errors
    /// `busy`, naming the process that has it; `store-unavailable` when the folder cannot be written to.
    pub fn take(state: &Path) -> Result<Self, Failure> {
        let path = state.join("lock");
        let unusable = |error: std::io::Error| {
            Failure::new(FailureCode::StoreUnavailable, format!("cannot use `{}`", path.display()))
                .caused_by(error)
                .with_hint("run as root, or name another folder with `--state DIR`")
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(unusable)?;
        let until = Instant::now() + Duration::from_secs(INHERITED_SECONDS_MAX);
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) => {}
                Err(errno) => return Err(unusable(errno.into())),
            }
            let mut other = String::new();
            let _unreadable = file.rewind().and_then(|()| file.read_to_string(&mut other));
            let other = other.trim();
            if is_running(other) || until <= Instant::now() {
                let detail =
                    format!("process {other} runs an agent with the state folder `{}`", state.display());
                return Err(Failure::new(FailureCode::Busy, detail).with_hint(
                    "stop that agent first, or give this one a folder of its own with `--state DIR`",
                ));
            }
            thread::sleep(Duration::from_millis(TRY_AGAIN_AFTER_MILLISECONDS));
        }
        between("agent.locked");
        let written = file.set_len(0).and_then(|()| file.rewind());
        written.and_then(|()| writeln!(file, "{}", std::process::id())).map_err(unusable)?;
        Ok(Self { _file: file })
    }
}

/// Whether the process with this id is there, and not only not yet waited for.
fn is_running(process: &str) -> bool {
    let Ok(process) = process.parse::<u32>() else { return false };
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The state follows the name in parentheses (proc(5)).
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !matches!(rest.trim_start().as_bytes().first(), Some(b'Z' | b'X')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_agent_is_told_who_the_first_is() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let first = InstanceLock::take(folder.path()).unwrap();
        let refused = InstanceLock::take(folder.path()).unwrap_err();
        assert_eq!(refused.code(), FailureCode::Busy);
        assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
        drop(first);
        assert!(InstanceLock::take(folder.path()).is_ok());
    }

    #[test]
    fn the_lock_that_a_killed_agent_has_left_with_its_child_is_waited_for() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let (left, path) = (InstanceLock::take(folder.path()).unwrap(), folder.path().join("lock"));
        // More than a process can have (PID_MAX_LIMIT, proc(5)).
        fs::write(&path, format!("{}\n", (1 << 22) + 1)).unwrap();
        let open = || {
            let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
            links.filter(|link| fs::read_link(link.path()).is_ok_and(|to| to == path)).count()
        };
        thread::scope(|scope| {
            let taken = scope.spawn(|| InstanceLock::take(folder.path()));
            while open() < 2 && !taken.is_finished() {
                thread::yield_now();
            }
            drop(left);
            assert!(taken.join().unwrap().is_ok());
        });
        assert_eq!(fs::read_to_string(&path).unwrap().trim(), std::process::id().to_string());
    }
}
