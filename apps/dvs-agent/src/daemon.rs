//! `-d`: the process starts the daemon as a child, waits until it is ready, and exits. So the caller learns of a failure
//! to start, and no process forks after it has threads.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// The daemon writes this to its standard output when it is ready.
const READY: &str = "ready";

/// Starts the daemon with this process's own arguments, and waits until it is ready or has failed.
///
/// # Errors
/// When no process can be started.
pub(crate) fn start() -> io::Result<ExitCode> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .arg("--daemon-child")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut word = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut word)?;
    }
    if word.trim_end() == READY {
        return Ok(ExitCode::SUCCESS);
    }
    let code = child.wait()?.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(70);
    Ok(ExitCode::from(code))
}

/// Leaves the terminal's session, so that its end does not end the daemon.
///
/// # Errors
/// When the system refuses.
pub(crate) fn detach() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

/// Tells the waiting parent that the agent is ready, and redirects later output to `dvs.log` in `state`.
///
/// # Errors
/// When the log cannot be opened.
pub(crate) fn ready(state: &Path) -> io::Result<()> {
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(state.join("dvs.log"))?;
    let nothing = File::options().write(true).open("/dev/null")?;
    let mut output = io::stdout();
    writeln!(output, "{READY}")?;
    output.flush()?;
    rustix::stdio::dup2_stderr(&log)?;
    rustix::stdio::dup2_stdout(&nothing)?;
    Ok(())
}
