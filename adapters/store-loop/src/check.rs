//! Checking an ext file system before it is mounted, by `e2fsck -p`: when it was not unmounted in order, or the
//! kernel has found errors in it. xfs and btrfs mend themselves when they are mounted. Nothing is repaired by force.

use crate::command::{Ended, Running};
use crate::device::{ExclusiveError, LoopDevice};
use crate::folders;
use crate::lost_and_found::{self, CONFIGURATION_VARIABLE};
use crate::program::{self, CHECKER};
use crate::step;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::volume::{FileSystem, VolumeId};
use rustix::fd::AsFd;
use rustix::fs::{fstat, fstatvfs};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

/// How long a check may take. One of a large volume takes long, and must not be killed for that: this is only so
/// that nothing hangs for ever.
const CHECK_SECONDS_MAX: u64 = 6 * 60 * 60;

/// A file system with less free is full: it keeps some room for itself.
const FULL_BYTES: u64 = 1 << 20;

const STEP: &str = "check";

/// Exit codes of e2fsck(8), which are added up: nothing was wrong, or it is mended; and what else there is.
const MENDED: i32 = 1 | 2;
const NOT_MENDED: i32 = 4;
const CANNOT_GO_ON: i32 = 8;

/// Checks the file system of `id`, unless it was unmounted in order, or is mounted now. `image` is what `device` is
/// bound to, and called `path`.
pub(crate) fn check(
    id: &VolumeId,
    device: &LoopDevice,
    image: impl AsFd,
    path: &Path,
    file_system: FileSystem,
) -> Result<(), Failure> {
    if !matches!(file_system, FileSystem::Ext2 | FileSystem::Ext3 | FileSystem::Ext4) || is_clean(&image)? {
        return Ok(());
    }
    match device.open_exclusively() {
        // The program opens it in the same way, which this would prevent.
        Ok(exclusive) => drop(exclusive),
        // What is mounted never looks clean, and is left alone.
        Err(ExclusiveError::Busy) => return Ok(()),
        Err(ExclusiveError::Failed(errno)) => {
            return Err(step::failed(STEP, "cannot see whether the volume is mounted", errno));
        }
    }
    step::failpoint("loop.check")?;
    tracing::info!(volume = %id, "not unmounted in order: its file system is checked");
    let ended = run(device).map_err(|failure| failure.at_step(STEP))?;
    judge(id, path, &ended, || is_out_of_room(&image)).map_err(|failure| failure.at_step(STEP))
}

/// Whether the file system below has no room for what is written into the holes of `image`.
fn is_out_of_room(image: impl AsFd) -> bool {
    let has_holes = fstat(&image).is_ok_and(|stat| {
        u64::try_from(stat.st_size).is_ok_and(|size_bytes| folders::allocated_bytes(&stat) < size_bytes)
    });
    has_holes
        && fstatvfs(&image).is_ok_and(|below| below.f_bavail.saturating_mul(below.f_frsize) < FULL_BYTES)
}

/// Whether the superblock text that the file system was unmounted in order and has no known errors (the kernel's
/// ext4 documentation).
fn is_clean(image: impl AsFd) -> Result<bool, Failure> {
    const SUPERBLOCK_AT: u64 = 1024;
    const MAGIC: (usize, u16) = (0x38, 0xef53);
    const STATE_AT: usize = 0x3a;
    const CLEANLY_UNMOUNTED: u16 = 1;
    const FEATURE_INCOMPAT_AT: usize = 0x60;
    const NEEDS_RECOVERY: u16 = 4;
    let mut superblock = [0; 0x64];
    let image = image.as_fd().try_clone_to_owned().map(File::from);
    image
        .and_then(|image| image.read_exact_at(&mut superblock, SUPERBLOCK_AT))
        .map_err(|error| cannot(error, "read the image"))?;
    let number = |at: usize| u16::from_le_bytes([superblock[at], superblock[at + 1]]);
    Ok(number(MAGIC.0) == MAGIC.1
        && number(STATE_AT) == CLEANLY_UNMOUNTED // And no other bit: errors, or files that were deleted and not freed.
        && number(FEATURE_INCOMPAT_AT) & NEEDS_RECOVERY == 0)
}

fn run(device: &LoopDevice) -> Result<Ended, Failure> {
    let program = program::find(CHECKER, FileSystem::Ext4)?;
    let arguments: [OsString; 2] = ["-p".into(), device.path().into()];
    let limit = Duration::from_secs(CHECK_SECONDS_MAX);
    lost_and_found::configuration()
        .and_then(|configuration| {
            let configuration = (CONFIGURATION_VARIABLE, configuration);
            Running::start_bound_to_this_thread(&program, &arguments, configuration, limit)
        })
        .and_then(Running::finish)
        .map_err(|error| cannot(error, "run `e2fsck`"))
}

fn judge(
    id: &VolumeId,
    path: &Path,
    ended: &Ended,
    is_out_of_room: impl FnOnce() -> bool,
) -> Result<(), Failure> {
    let Some(status) = ended.status else {
        let detail = format!("`{CHECKER}` did not end within {CHECK_SECONDS_MAX} s and was killed");
        return Err(Failure::new(FailureCode::Timeout, detail));
    };
    let output = if ended.output.is_empty() { String::new() } else { format!(": {}", ended.output) };
    match verdict(status) {
        Verdict::Good => {
            tracing::info!(volume = %id, "checked{output}");
            Ok(())
        }
        // What the volume is like shows only where its check can write.
        Verdict::Damaged if is_out_of_room() => Err(Failure::new(
            FailureCode::NoSpace,
            format!("volume `{id}` cannot be checked, as its store is full: `{CHECKER} -p` ended with {status}{output}"),
        )
        .with_hint("delete what is not needed, then restart the agent")),
        Verdict::Damaged => Err(Failure::new(
            FailureCode::Damaged,
            format!("volume `{id}` is damaged: `{CHECKER} -p` ended with {status}{output}"),
        )
        .with_hint(format!(
            "nothing is repaired by force: look at it with `{CHECKER} -fn {}`, mend or restore it, then restart the agent",
            path.display()
        ))),
        Verdict::NotChecked => {
            Err(Failure::new(FailureCode::Internal, format!("`{CHECKER} -p` ended with {status}{output}")))
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    Damaged,
    NotChecked,
}

fn verdict(status: ExitStatus) -> Verdict {
    match status.code() {
        Some(code) if code & !MENDED == 0 => Verdict::Good,
        Some(code) if code & !(MENDED | NOT_MENDED | CANNOT_GO_ON) == 0 => Verdict::Damaged,
        // Cancelled, called wrongly, a library is missing, or killed: it text nothing of the volume.
        _ => Verdict::NotChecked,
    }
}

fn cannot(error: io::Error, what: &str) -> Failure {
    Failure::internal(format!("cannot {what}"), error).at_step(STEP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn exit_codes_are_judged_as_their_manual_says() {
        const CODE: i32 = 0x100; // Of wait(2).
        const KILLED: i32 = 9;
        for (raw, expected) in [
            (0, Verdict::Good),
            (CODE, Verdict::Good),
            (2 * CODE, Verdict::Good),
            (3 * CODE, Verdict::Good),
            (4 * CODE, Verdict::Damaged),
            (5 * CODE, Verdict::Damaged),
            (8 * CODE, Verdict::Damaged),
            (12 * CODE, Verdict::Damaged),
            (16 * CODE, Verdict::NotChecked),
            (32 * CODE, Verdict::NotChecked),
            (36 * CODE, Verdict::NotChecked),
            (128 * CODE, Verdict::NotChecked),
            (KILLED, Verdict::NotChecked),
        ] {
            assert_eq!(verdict(ExitStatus::from_raw(raw)), expected, "{raw:#x}");
        }
    }
}
