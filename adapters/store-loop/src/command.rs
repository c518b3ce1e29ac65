//! Running a program without a shell, for a limited time, keeping the end of what it says.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How much of the end of what a program says on standard error is kept.
const ERROR_BYTES_MAX: usize = 1024;

/// How a program ended.
pub(crate) struct Ended {
    /// `None` when it took too long and was killed.
    pub(crate) status: Option<ExitStatus>,
    /// The end of what it said on standard error, on one line.
    pub(crate) errors: String,
}

/// A program that runs. Dropped before it has ended, it is killed.
pub(crate) struct Running {
    child: Child,
    until: Instant,
    waited_for: bool,
}

impl Running {
    /// Starts `program` with `arguments`, an empty environment but `LC_ALL=C`, and no input.
    pub(crate) fn start(program: &Path, arguments: &[OsString], limit: Duration) -> io::Result<Self> {
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // An interrupt typed at the agent's terminal ends the agent in order, not the programs that it runs.
            .process_group(0)
            .spawn()?;
        Ok(Self { child, until: Instant::now() + limit, waited_for: false })
    }

    /// Waits until it ends, or has run for too long: then it is killed.
    pub(crate) fn finish(mut self) -> io::Result<Ended> {
        let (ended, errors) = watch(&mut self.child, self.until)?;
        if !ended {
            self.kill();
        }
        self.waited_for = true;
        let status = self.child.wait()?;
        Ok(Ended { status: ended.then_some(status), errors })
    }

    /// Neither it nor what it started may go on writing.
    fn kill(&self) {
        // It has not been waited for, so its id is still its own; it may have ended, and then nothing is to do.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.waited_for {
            self.kill();
            // Nobody asks how it ended any more.
            let _ = self.child.wait();
        }
    }
}

/// Waits until the program ends, or until `until`: then false. Gives what it said.
fn watch(child: &mut Child, until: Instant) -> io::Result<(bool, String)> {
    let ended = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let mut said = Tail::default();
    let mut errors = child.stderr.take();
    if let Some(errors) = &errors {
        fcntl_setfl(errors, OFlags::NONBLOCK)?;
    }
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let mut watched = vec![PollFd::new(&ended, PollFlags::IN)];
        watched.extend(errors.as_ref().map(|errors| PollFd::from_borrowed_fd(errors.as_fd(), PollFlags::IN)));
        match poll(&mut watched, Some(&Timespec::try_from(left).map_err(io::Error::other)?)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let has_ended = !watched[0].revents().is_empty();
        // A program that it started may hold the pipe open beyond its end, and is not waited for.
        if errors.as_mut().is_some_and(|errors| said.is_at_end_of(errors)) {
            errors = None;
        }
        if has_ended || left.is_zero() {
            return Ok((has_ended, said.text()));
        }
    }
}

/// The last bytes of a stream.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
}

impl Tail {
    /// Takes what there is to read without waiting; true when there will be no more.
    fn is_at_end_of(&mut self, stream: &mut ChildStderr) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(read) => {
                    self.bytes.extend_from_slice(&buffer[..read]);
                    let too_many = self.bytes.len().saturating_sub(ERROR_BYTES_MAX);
                    self.bytes.drain(..too_many);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines.join("; ").chars().filter(|c| !c.is_control()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Ended {
        start(script, limit).finish().unwrap()
    }

    fn start(script: &str, limit: Duration) -> Running {
        Running::start(Path::new("/bin/sh"), &["-c".into(), script.into()], limit).unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_end_of_what_a_program_says_is_kept() {
        let ended = shell("echo one >&2; echo; printf ' two\\n\\033[1m\\n' >&2; exit 3", LONG);
        assert_eq!(ended.status.unwrap().code(), Some(3));
        assert_eq!(ended.errors, "one; two; [1m");
    }

    #[test]
    fn a_program_that_says_much_is_neither_stopped_nor_kept_whole() {
        let ended = shell("i=0; while [ $i -lt 20000 ]; do echo line $i >&2; i=$((i+1)); done", LONG);
        assert!(ended.status.unwrap().success());
        assert!(ended.errors.ends_with("line 19999") && ended.errors.len() < 2 * ERROR_BYTES_MAX);
    }

    #[test]
    fn a_program_that_takes_too_long_is_killed() {
        let begun = Instant::now();
        let ended = shell("echo begun >&2; exec sleep 60", Duration::from_millis(100));
        assert!(ended.status.is_none());
        assert!(begun.elapsed() < LONG / 2);
    }

    #[test]
    fn a_program_that_nobody_waits_for_is_killed() {
        let begun = Instant::now();
        let running = start("sleep 60; exit 0", LONG);
        let process = format!("/proc/{}", running.child.id());
        assert!(std::fs::exists(&process).unwrap());
        drop(running);
        assert!(!std::fs::exists(&process).unwrap());
        assert!(begun.elapsed() < LONG / 2);
    }

    #[test]
    fn what_a_program_leaves_running_is_not_waited_for() {
        let begun = Instant::now();
        let ended = shell("sleep 20 & exit 0", LONG);
        assert!(ended.status.unwrap().success());
        assert!(begun.elapsed() < LONG / 6);
    }

    #[test]
    fn nothing_of_the_agents_environment_is_passed_on() {
        let ended = shell("env | sort >&2; cat >&2", LONG);
        assert!(ended.errors.contains("LC_ALL=C") && !ended.errors.contains("CARGO"), "{}", ended.errors);
    }
}
