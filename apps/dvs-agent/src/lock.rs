//! One agent per state folder: a lock that the kernel gives back when the process ends, however it ends.

use crate::failpoint::between;
use dvs_domain::failure::{Failure, FailureCode};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

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
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut other = String::new();
                let _unreadable = file.read_to_string(&mut other);
                let detail = format!(
                    "process {} runs an agent with the state folder `{}`",
                    other.trim(),
                    state.display()
                );
                return Err(Failure::new(FailureCode::Busy, detail).with_hint(
                    "stop that agent first, or give this one a folder of its own with `--state DIR`",
                ));
            }
            Err(errno) => return Err(unusable(errno.into())),
        }
        between("agent.locked");
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(unusable)?;
        Ok(Self { _file: file })
    }
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
}
