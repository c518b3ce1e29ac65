//! What the store needs of its host.

use crate::program;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::ports::Need;
use dvs_domain::volume::FileSystem;
use rustix::fs::{Access, access};

const LOOP_CONTROL: &str = "/dev/loop-control";

/// Rights, loop devices, and the programs that make, change and check file systems.
pub(crate) fn needs() -> Vec<Need> {
    let program = |what, file_system| Need {
        what,
        found: program::find(what, file_system).map(|path| path.display().to_string()),
        is_vital: false,
    };
    let formatting = FileSystem::ALL.map(|file_system| program(program::formatter(file_system), file_system));
    let vital = |what, found| Need { what, found, is_vital: true };
    [vital("mounting", rights()), vital("loop devices", loop_devices())]
        .into_iter()
        .chain(formatting)
        .chain([program::EDITOR, program::CHECKER].map(|name| program(name, FileSystem::Ext4)))
        .collect()
}

fn rights() -> Result<String, Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok("root may mount".to_owned());
    }
    Err(Failure::new(FailureCode::Unsupported, "no root: nothing can be mounted")
        .with_hint("run as root, or try it out with `--store try=fake:///tmp/dvs`"))
}

fn loop_devices() -> Result<String, Failure> {
    match access(LOOP_CONTROL, Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => Ok(format!("{LOOP_CONTROL} is there")),
        Err(errno) => {
            let hint = "load the module with `modprobe loop`, or give the container access to /dev";
            let failure = Failure::new(FailureCode::Unsupported, LOOP_CONTROL);
            Err(failure.caused_by(std::io::Error::from(errno)).with_hint(hint))
        }
    }
}
