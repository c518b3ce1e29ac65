//! A folder to work in, and one to mount in: both gone at the end, with all that is mounted or bound there.

use crate::machine;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// Where mount points are allowed without being configured.
const MOUNT_FOLDER: &str = "/mnt";

/// The folders of one run. Their names begin as `cargo xtask` knows them, which takes away what a run that was cut
/// off has left.
#[derive(Debug)]
pub struct Scratch {
    /// For state, images, logs.
    pub folder: PathBuf,
    /// For mount points.
    pub mounts: PathBuf,
}

impl Scratch {
    /// Makes the folders, named `prefix` and something random. Mount points are below `/mnt` for whoever may mount,
    /// else in the same folder as the rest.
    ///
    /// # Errors
    /// When a folder cannot be made.
    pub fn new(prefix: &str, may_mount: bool) -> Result<Self> {
        let folder = make_in(&temporary_folder(), prefix)?;
        let mounts =
            if may_mount { make_in(Path::new(MOUNT_FOLDER), prefix) } else { Ok(folder.join("mounts")) };
        // From here on dropping it removes what was made.
        let scratch = Self { mounts: mounts.unwrap_or_else(|_| folder.join("mounts")), folder };
        if !scratch.mounts.exists() {
            fs::create_dir(&scratch.mounts)
                .with_context(|| format!("cannot make {}", scratch.mounts.display()))?;
        }
        Ok(scratch)
    }

    /// Releases and removes everything.
    ///
    /// # Errors
    /// When something stays.
    pub fn clear(&self) -> Result<()> {
        machine::release_below(&self.mounts)?;
        machine::release_below(&self.folder)?;
        remove(&self.mounts)?;
        remove(&self.folder)
    }

    /// Makes sure that nothing is left of the run: neither mounts, nor loop devices, nor folders.
    ///
    /// # Errors
    /// Naming what is left.
    pub fn check_gone(&self) -> Result<()> {
        for folder in [&self.mounts, &self.folder] {
            let (mounts, loops) = (machine::mounts_below(folder, None)?, machine::loops_below(folder)?);
            if !mounts.is_empty() || !loops.is_empty() || folder.exists() {
                bail!("left in {}: {mounts:?} {loops:?}", folder.display());
            }
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Whoever wants to know has called `clear` before; this is for a run that broke.
        let _ = self.clear();
    }
}

/// Where folders for temporary files are made: on disk, as images may be large.
fn temporary_folder() -> PathBuf {
    std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

fn make_in(base: &Path, prefix: &str) -> Result<PathBuf> {
    let made = tempfile::Builder::new().prefix(&format!("{prefix}-")).tempdir_in(base);
    let made = made.with_context(|| format!("cannot make a folder in {}", base.display()))?.keep();
    made.canonicalize().with_context(|| format!("cannot resolve {}", made.display()))
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
