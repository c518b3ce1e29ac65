//! `lost+found` of ext file systems. A volume is empty for its user: the directory is removed from an image that is no volume
//! yet, and checks are told not to make it again. Either, done to a volume while the power fails, could leave a state that no
//! check repairs without asking.

use crate::command::{Ended, Running};
use crate::program::{self, EDITOR};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::volume::FileSystem;
use rustix::fd::OwnedFd;
use rustix::fs::{MemfdFlags, SeekFrom, memfd_create, seek};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// The variable with the path of e2fsck's configuration, and that of the one that the host may have: e2fsck.conf(5).
pub(crate) const CONFIGURATION_VARIABLE: &str = "E2FSCK_CONFIG";
const CONFIGURATION: &str = "/etc/e2fsck.conf";

/// 0x030004 is `PR_3_NO_LF_DIR` of e2fsck: there is no `lost+found`. That is no inconsistency, and not told as one.
const KEEP_ABSENT: &str = "[problems]
	0x030004 = {
		force_no = true
		no_ok = true
		preen_nomessage = true
		no_nomsg = true
	}
";

/// Removes the directory, which is empty, from the ext file system in `image`: one that nothing uses. It is durable
/// afterwards.
pub(crate) fn remove(image: &Path, limit: Duration) -> Result<(), Failure> {
    let program = program::find(EDITOR, FileSystem::Ext4)?;
    let arguments: [OsString; 4] = ["-w".into(), "-R".into(), "rmdir lost+found".into(), image.into()];
    let ended = Running::start(&program, &arguments, limit)
        .and_then(Running::finish)
        .map_err(|error| Failure::internal(format!("cannot run `{EDITOR}`"), error))?;
    judge(&ended, limit)
}

/// The program ends with 0 also when it has failed. It tells its version, and then what went wrong.
fn judge(ended: &Ended, limit: Duration) -> Result<(), Failure> {
    let output = &ended.output;
    // The C library's text for ENOSPC where no language is set.
    let full = output.contains("No space left on device");
    let code = if full { FailureCode::NoSpace } else { FailureCode::Internal };
    let failed = |code, what: &str| {
        Err(Failure::new(code, format!("cannot remove `lost+found`: `{EDITOR}` {what}: {output}")))
    };
    let is_version_only = output.starts_with(EDITOR) && !output.contains("; ");
    match ended.status {
        None => {
            failed(FailureCode::Timeout, &format!("did not end within {} s and was killed", limit.as_secs()))
        }
        Some(status) if !status.success() => failed(code, &format!("ended with {status}")),
        Some(_) if !is_version_only => failed(code, "reports"),
        Some(_) => Ok(()),
    }
}

/// What a check is to be configured by: the host's configuration, and that a missing `lost+found` is not made.
pub(crate) fn configuration() -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("e2fsck.conf", MemfdFlags::CLOEXEC)?);
    // The first of two settings counts. What cannot be read configures no check.
    file.write_all(KEEP_ABSENT.as_bytes())?;
    file.write_all(&fs::read(CONFIGURATION).unwrap_or_default())?;
    seek(&file, SeekFrom::Start(0))?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    const LIMIT: Duration = Duration::from_secs(7);

    fn ended(status: Option<i32>, output: &str) -> Result<(), Failure> {
        let status = status.map(ExitStatus::from_raw);
        judge(&Ended { status, output: output.to_owned() }, LIMIT)
    }

    #[test]
    fn only_a_program_that_reports_nothing_has_removed_it() {
        assert!(ended(Some(0), "debugfs 1.47.0 (5-Feb-2023)").is_ok());
        for (status, output) in [
            (Some(0), "debugfs 1.47.0 (5-Feb-2023); rmdir: File not found by ext2_lookup while trying"),
            (Some(0), "e; rmdir: directory not empty"),
            (Some(0), ""),
            (Some(0x100), "debugfs 1.47.0 (5-Feb-2023)"),
            (Some(9), "debugfs 1.47.0 (5-Feb-2023)"),
        ] {
            let failure = ended(status, output).unwrap_err();
            assert_eq!(failure.code(), FailureCode::Internal, "{status:?} {output}");
            assert!(failure.chain().contains(output), "{}", failure.chain());
        }
        let full = "debugfs 1.47.0 (5-Feb-2023); ext2fs_close: No space left on device";
        assert_eq!(ended(Some(0), full).unwrap_err().code(), FailureCode::NoSpace);
        let late = ended(None, "").unwrap_err();
        assert_eq!(late.code(), FailureCode::Timeout);
        assert!(late.chain().contains("within 7 s"), "{}", late.chain());
    }

    #[test]
    fn what_is_not_there_is_not_told_as_removed() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let image = folder.path().join("image");
        File::create(&image).and_then(|image| image.set_len(1 << 20)).unwrap();
        let failure = remove(&image, LIMIT).unwrap_err();
        assert!(failure.chain().contains("magic number"), "no file system: {}", failure.chain());
    }
}
