//! A mount namespace of the run's own. Whoever starts a container, or a program with private mounts, copies every
//! mount that it can see, and holds each of them for a moment: volumes of a test could not be deleted meanwhile. And
//! what is mounted in a namespace of our own is nobody's any more when we are gone.

use anyhow::{Context, Result};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Tells the program that it has its namespace. Set to `host` by hand, it stays in the host's.
const VARIABLE: &str = "DVS_TEST_NAMESPACE";

/// Starts this program anew in a mount namespace of its own, unless it has one. To be called by root, before anything
/// else; an ordinary user mounts nothing.
///
/// # Errors
/// When the namespace cannot be had.
pub fn enter() -> Result<()> {
    if !rustix::process::geteuid().is_root() || std::env::var_os(VARIABLE).is_some() {
        return Ok(());
    }
    let program = std::env::current_exe().context("cannot tell which program this is")?;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "--"])
        .arg(program)
        .args(std::env::args_os().skip(1));
    let error = command.env(VARIABLE, "own").exec();
    Err(error).context("cannot start `unshare`; it is in Debian's package `util-linux`")
}
