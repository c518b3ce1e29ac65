//! Running a program without a shell, for a limited time, keeping the end of its output.
//!
//! `unsafe` for one thing only: a program that works on a volume must not outlive this process, and a new process
//! can only ask for that itself, before it becomes the program.
#![allow(unsafe_code, reason = "std offers no other way into the new process, see SAFETY")]

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, set_parent_process_death_signal,
};
use std::ffi::OsString;
use std::io::{self, PipeReader, Read, pipe};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Upper bound of the kept end of a program's output.
const OUTPUT_BYTES_MAX: usize = 1024;

/// By which path a program finds its own input.
const INPUT_PATH: &str = "/proc/self/fd/0";

/// How a program ended.
pub(crate) struct Ended {
    /// `None` when it took too long and was killed.
    pub(crate) status: Option<ExitStatus>,
    /// The end of its output, on one line.
    pub(crate) output: String,
}

/// A program that runs. Dropped before it has ended, it is killed.
pub(crate) struct Running {
    child: Child,
    reader: PipeReader,
    until: Instant,
    waited_for: bool,
}

impl Running {
    /// Starts `program` with `arguments`, an empty environment but `LC_ALL=C`, and no input. Its output on standard
    /// error is kept.
    pub(crate) fn start(program: &Path, arguments: &[OsString], limit: Duration) -> io::Result<Self> {
        let (reader, writer) = pipe()?;
        let child = prepare(program, arguments).stdout(Stdio::null()).stderr(writer).spawn()?;
        Ok(Self { child, reader, until: Instant::now() + limit, waited_for: false })
    }

    /// Likewise, and the kernel kills the program when the thread that calls this ends, and so with this process,
    /// however that ends. Its output on standard output is kept as well, and its input is the file `configuration`, whose
    /// path it finds in the variable `variable`.
    pub(crate) fn start_bound_to_this_thread(
        program: &Path,
        arguments: &[OsString],
        (variable, configuration): (&str, OwnedFd),
        limit: Duration,
    ) -> io::Result<Self> {
        let (reader, writer) = pipe()?;
        let mut command = prepare(program, arguments);
        command.stdin(configuration).env(variable, INPUT_PATH);
        command.stdout(writer.try_clone()?).stderr(writer);
        // SAFETY: between `fork` and `exec` only this one system call is made, which allocates nothing and takes no
        // lock.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        Ok(Self { child: command.spawn()?, reader, until: Instant::now() + limit, waited_for: false })
    }

    /// Waits until it ends, or has run for too long: then it is killed.
    pub(crate) fn finish(mut self) -> io::Result<Ended> {
        let (ended, output) = watch(&self.child, &mut self.reader, self.until)?;
        if !ended {
            self.kill();
        }
        self.waited_for = true;
        let status = self.child.wait()?;
        Ok(Ended { status: ended.then_some(status), output })
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

fn prepare(program: &Path, arguments: &[OsString]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("LC_ALL", "C").stdin(Stdio::null());
    // An interrupt typed at the agent's terminal ends the agent in order, not the programs that it runs.
    command.process_group(0);
    command
}

/// Waits until the program ends, or until `until`: then false. Gives its output.
fn watch(child: &Child, reader: &mut PipeReader, until: Instant) -> io::Result<(bool, String)> {
    let ended = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let mut output = Tail::default();
    fcntl_setfl(&*reader, OFlags::NONBLOCK)?;
    let mut reader = Some(reader);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let mut watched = vec![PollFd::new(&ended, PollFlags::IN)];
        watched.extend(reader.as_ref().map(|reader| PollFd::from_borrowed_fd(reader.as_fd(), PollFlags::IN)));
        match poll(&mut watched, Some(&Timespec::try_from(left).map_err(io::Error::other)?)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let has_ended = !watched[0].revents().is_empty();
        // A program that it started may hold the pipe open beyond its end, and is not waited for.
        if reader.as_mut().is_some_and(|reader| output.is_at_end_of(reader)) {
            reader = None;
        }
        if has_ended || left.is_zero() {
            return Ok((has_ended, output.text()));
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
    fn is_at_end_of(&mut self, stream: &mut PipeReader) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(read) => {
                    self.bytes.extend_from_slice(&buffer[..read]);
                    let too_many = self.bytes.len().saturating_sub(OUTPUT_BYTES_MAX);
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
    use std::io::{Seek, Write};

    fn shell(script: &str, limit: Duration) -> Ended {
        start(script, limit).finish().unwrap()
    }

    fn start(script: &str, limit: Duration) -> Running {
        Running::start(Path::new("/bin/sh"), &["-c".into(), script.into()], limit).unwrap()
    }

    fn bound(script: &str) -> Running {
        let mut configuration = tempfile::tempfile().unwrap();
        configuration.write_all(b"configured").unwrap();
        configuration.rewind().unwrap();
        let arguments = ["-c".into(), script.into()];
        let configuration = ("CONFIGURATION", configuration.into());
        Running::start_bound_to_this_thread(Path::new("/bin/sh"), &arguments, configuration, LONG).unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_end_of_a_programs_output_is_kept() {
        let ended = shell("echo one >&2; echo; printf ' two\\n\\033[1m\\n' >&2; exit 3", LONG);
        assert_eq!(ended.status.unwrap().code(), Some(3));
        assert_eq!(ended.output, "one; two; [1m");
    }

    #[test]
    fn a_program_that_writes_much_is_neither_stopped_nor_kept_whole() {
        let ended = shell("i=0; while [ $i -lt 20000 ]; do echo line $i >&2; i=$((i+1)); done", LONG);
        assert!(ended.status.unwrap().success());
        assert!(ended.output.ends_with("line 19999") && ended.output.len() < 2 * OUTPUT_BYTES_MAX);
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
    fn a_program_bound_to_its_thread_ends_with_it() {
        let running = std::thread::spawn(|| bound("echo begun; sleep 60; exit 0"));
        let ended = running.join().unwrap().finish().unwrap();
        assert!(!ended.status.unwrap().success(), "it was killed, and not by its limit");
    }

    #[test]
    fn a_program_bound_to_its_thread_finds_its_configuration() {
        let ended = bound("exec cat \"$CONFIGURATION\"").finish().unwrap();
        assert!(ended.status.unwrap().success());
        assert_eq!(ended.output, "configured");
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
        assert!(ended.output.contains("LC_ALL=C") && !ended.output.contains("CARGO"), "{}", ended.output);
    }
}
