//! The output of the program may go to one that does not read to its end, such as `head`.

use std::process::{Command, Stdio};

#[test]
fn a_closed_pipe_is_no_failure() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dvs-sim"));
    command.args(["--seed", "1"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut program = command.spawn().unwrap();
    drop(program.stdout.take());
    let ended = program.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && complaints.is_empty(), "{}: {complaints}", ended.status);
}
