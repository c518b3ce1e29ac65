//! How much room a folder's file system has.

use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::ports::Space;
use rustix::fs::{Access, access, statvfs};
use std::path::Path;

/// The space at `folder`, or, where it is still to be made, at the folder that it will be made in. Changes nothing.
///
/// # Errors
/// `store-unavailable` where nothing can be written there.
pub fn space_at(folder: &Path) -> Result<Space, Failure> {
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let failed = |what: &str, error: rustix::io::Errno| {
        Failure::new(FailureCode::StoreUnavailable, format!("`{}` {what}", there.display()))
            .caused_by(std::io::Error::from(error))
            .with_hint("run as a user that may write there, or choose another folder")
    };
    let rights = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    access(there, rights).map_err(|error| failed("cannot be written to", error))?;
    let stat = statvfs(there).map_err(|error| failed("does not tell its free space", error))?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Space { free_bytes: bytes(stat.f_bavail), total_bytes: bytes(stat.f_blocks) })
}
