//! Builds everything optimised and hands over to the programs that measure, `dvs-bench` and `dvs-bench-nfs` of the
//! features: to both, or with arguments to one of them.

use std::process::ExitCode;

use anyhow::{Result, anyhow};

use crate::image::{self, PROGRAM_VARIABLE};
use crate::machine;
use crate::run::{self, HINT};
use crate::sweep::Turn;
use crate::workspace::Workspace;

/// Asks for the part about the NFS store alone.
const NFS: &str = "--nfs";

/// Measures. Ends as the measuring program ends.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    if let Some(reason) = machine::no_loop_devices() {
        let hint = anyhow!("{HINT}type `cargo xtask bench` as root, on a machine with loop devices");
        return Err(hint.context(format!("cannot measure: {reason}")));
    }
    machine::require(&[machine::EXT, machine::FILE_SYSTEMS, machine::MOSQUITTO, machine::NFS_SERVER])?;
    let mosquitto = image::program()?;
    run::shown(&mut workspace.cargo(["build", "--release", "-p", "dvs", "-p", "dvs-trials", "--bins"]))?;
    let _turn = Turn::take()?;
    let nfs = |arguments: &[String]| {
        let mut command = run::program(workspace.program("release", "dvs-bench-nfs"));
        run::handed_over(command.current_dir(workspace.root()).args(arguments))
    };
    if let Some(at) = arguments.iter().position(|argument| argument == NFS) {
        return nfs(&[&arguments[..at], &arguments[at + 1..]].concat());
    }
    let mut command = run::program(workspace.program("release", "dvs-bench"));
    command
        .current_dir(workspace.root())
        .args(arguments)
        .env("DVS_BIN", workspace.program("release", "dvs"))
        .env(PROGRAM_VARIABLE, mosquitto);
    let jobs = run::handed_over(&mut command)?;
    if !arguments.is_empty() {
        return Ok(jobs);
    }
    let nfs = nfs(&[])?;
    Ok(if jobs == ExitCode::SUCCESS { nfs } else { jobs })
}
