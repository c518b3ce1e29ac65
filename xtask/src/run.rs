//! Runs programs: shows what they print as it comes, keeps what is to be counted, ends what takes too long.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How a context line begins that tells what can be done. The program prints such lines after the causes.
pub(crate) const HINT: &str = "hint: ";

/// Enough for a program that only asks or changes one small thing.
pub(crate) const SHORT: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(10);

/// What a program printed and how it ended.
pub(crate) struct Captured {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// How a program ended whose output was shown, and its lines of both streams.
pub(crate) struct Streamed {
    pub(crate) status: ExitStatus,
    pub(crate) lines: Vec<String>,
}

/// A program that also finds what lies in the system folders, which an ordinary user's `PATH` may lack.
pub(crate) fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", search_path());
    command
}

/// `PATH` with the system folders behind it.
pub(crate) fn search_path() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for folder in ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    std::env::join_paths(folders).unwrap_or(path)
}

/// Runs `command` with its output shown as it is. Not ending well is an error.
pub(crate) fn shown(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", told(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", told(command));
    }
    Ok(())
}

/// Runs `command`, shows each line as it comes, and keeps them.
pub(crate) fn streamed(command: &mut Command) -> Result<Streamed> {
    if std::io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = start(command)?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let lines = thread::scope(|scope| {
        let out = scope.spawn(|| lines_of(out, |line| println!("{line}")));
        let err = scope.spawn(|| lines_of(err, |line| eprintln!("{line}")));
        let mut lines = out.join().unwrap_or_default();
        lines.extend(err.join().unwrap_or_default());
        lines
    });
    let status = child.wait().with_context(|| format!("cannot wait for {}", told(command)))?;
    Ok(Streamed { status, lines })
}

/// Runs `command`, shows nothing, and ends it when it takes longer than `limit`, which is an error.
pub(crate) fn captured(command: &mut Command, limit: Duration) -> Result<Captured> {
    let mut child = start(command)?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let out = thread::spawn(|| text_of(out));
    let err = thread::spawn(|| text_of(err));
    let Some(status) =
        wait(&mut child, limit).with_context(|| format!("cannot wait for {}", told(command)))?
    else {
        bail!("{} did not end within {} s", told(command), limit.as_secs());
    };
    Ok(Captured { status, out: out.join().unwrap_or_default(), err: err.join().unwrap_or_default() })
}

/// What `command` prints. Not ending well, or not within [`SHORT`], is an error with what it complained of.
pub(crate) fn text(command: &mut Command) -> Result<String> {
    let captured = captured(command, SHORT)?;
    if !captured.status.success() {
        bail!("{} ended with {}: {}", told(command), captured.status, captured.err.trim());
    }
    Ok(captured.out)
}

/// Waits for `child`. `None`: it took longer than `limit` and was killed.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if limit <= start.elapsed() {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

/// Asks again and again until `condition` holds. `false`: it did not within `limit`.
pub(crate) fn until(limit: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<bool> {
    let start = Instant::now();
    while !condition()? {
        if limit <= start.elapsed() {
            return Ok(false);
        }
        thread::sleep(POLL);
    }
    Ok(true)
}

/// The command as one would type it.
pub(crate) fn told(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    format!("`{}`", words.join(" "))
}

fn start(command: &mut Command) -> Result<Child> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", told(command)))
}

fn lines_of(stream: Option<impl Read>, show: impl Fn(&str)) -> Vec<String> {
    let mut lines = Vec::new();
    let mut reader = stream.map(BufReader::new);
    let mut bytes = Vec::new();
    while let Some(reader) = &mut reader
        && reader.read_until(b'\n', &mut bytes).is_ok_and(|count| 0 < count)
    {
        let line = String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned();
        show(&line);
        lines.push(line);
        bytes.clear();
    }
    lines
}

fn text_of(stream: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        // What was read before an error is still worth showing.
        let _ = stream.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
/// Runs a program in place of this one, as far as one can see: same output, same exit code.
pub(crate) fn handed_over(command: &mut Command) -> Result<ExitCode> {
    let status = command.status().with_context(|| format!("cannot start {}", told(command)))?;
    match status.code() {
        Some(code) => Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)),
        None => bail!("{} ended with {status}", told(command)),
    }
}
