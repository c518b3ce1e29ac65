//! Formatting: which program, with which arguments, for which file system. Run without a shell, and for a limited
//! time.

use crate::command::{Ended, Running};
use crate::program;
use crate::settings::Settings;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::volume::{FileSystem, Mode, Provision, Volume};
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::Duration;

/// How long formatting may take. A job has its answer within 110 s (contract.md section 2).
const FORMAT_SECONDS_MAX: u64 = 80;

/// What an image is to become.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    pub(crate) file_system: FileSystem,
    pub(crate) provision: Provision,
    pub(crate) size_bytes: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: Mode,
}

impl Format {
    pub(crate) fn of(volume: &Volume, settings: &Settings) -> Self {
        let spec = &volume.spec;
        Self {
            file_system: spec.file_system.unwrap_or(settings.file_system),
            provision: spec.provision.unwrap_or(settings.provision),
            size_bytes: spec.size.bytes(),
            uid: spec.uid,
            gid: spec.gid,
            mode: spec.mode,
        }
    }

    /// Whether formatting alone gives the top directory its owner and its mode.
    pub(crate) fn is_owned_by_formatting(&self) -> bool {
        let owner = match self.file_system {
            FileSystem::Ext2 | FileSystem::Ext3 | FileSystem::Ext4 => true,
            FileSystem::Xfs | FileSystem::Btrfs => (self.uid, self.gid) == (0, 0),
        };
        owner && self.mode == Mode::DEFAULT
    }

    fn arguments(&self) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        match self.file_system {
            FileSystem::Ext2 | FileSystem::Ext3 | FileSystem::Ext4 => {
                let mut extended = format!("root_owner={}:{}", self.uid, self.gid);
                if self.file_system == FileSystem::Ext4 {
                    // What the kernel zeroes later, the loop driver punches out of the image.
                    let later = if self.provision == Provision::Thick { 0 } else { 1 };
                    extended.push_str(&format!(",lazy_itable_init={later},lazy_journal_init=1"));
                }
                if self.provision == Provision::Thick {
                    extended.push_str(",nodiscard");
                }
                // Reserving descriptors for a later growth would double the time and what a thin image takes;
                // the kernel grows ext4 without them too, by the feature `meta_bg`.
                words(&["-q", "-F", "-m", "0", "-O", "^resize_inode", "-E", &extended])
            }
            FileSystem::Xfs => words(&["-q", "-f", "-K"]),
            FileSystem::Btrfs => words(&["-q", "-f", "-K"]),
        }
    }
}

/// A program that formats an image. Dropped before it has ended, it is killed.
pub(crate) struct Formatting {
    name: String,
    running: Running,
}

impl Formatting {
    /// Begins to format the image at `path`.
    pub(crate) fn start(format: &Format, path: &Path) -> Result<Self, Failure> {
        let name = format!("mkfs.{}", format.file_system);
        let program =
            program::find(&name, format.file_system).map_err(|failure| failure.at_step("format"))?;
        let mut arguments: Vec<OsString> = format.arguments().into_iter().map(Into::into).collect();
        arguments.push(path.into());
        let running = Running::start(&program, &arguments, Duration::from_secs(FORMAT_SECONDS_MAX))
            .map_err(|error| cannot_run(&name, error))?;
        Ok(Self { name, running })
    }

    /// Waits until the image is formatted.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let name = self.name;
        match self.running.finish().map_err(|error| cannot_run(&name, error))? {
            Ended { status: Some(status), .. } if status.success() => Ok(()),
            Ended { status: Some(status), said } => Err(failed(&name, &status.to_string(), &said)),
            Ended { status: None, .. } => Err(Failure::new(
                FailureCode::Timeout,
                format!("`{name}` did not end within {FORMAT_SECONDS_MAX} s and was killed"),
            )
            .at_step("format")),
        }
    }
}

fn cannot_run(name: &str, error: io::Error) -> Failure {
    Failure::internal(format!("cannot run `{name}`"), error).at_step("format")
}

fn failed(name: &str, status: &str, said: &str) -> Failure {
    // What the C library says for ENOSPC where no language is set.
    let full = said.contains("No space left on device");
    let code = if full { FailureCode::NoSpace } else { FailureCode::Internal };
    let detail = if said.is_empty() {
        format!("`{name}` ended with {status}")
    } else {
        format!("`{name}` ended with {status}: {said}")
    };
    Failure::new(code, detail).at_step("format")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(file_system: FileSystem, provision: Provision) -> Format {
        Format { file_system, provision, size_bytes: 1 << 30, uid: 7, gid: 8, mode: Mode::DEFAULT }
    }

    #[test]
    fn thick_images_are_never_discarded() {
        for file_system in FileSystem::ALL {
            let arguments = format(file_system, Provision::Thick).arguments().join(" ");
            assert!(arguments.contains("nodiscard") || arguments.contains("-K"), "{arguments}");
            assert!(!arguments.contains("lazy_itable_init=1"), "{arguments}");
        }
        let thin = format(FileSystem::Ext4, Provision::Thin).arguments().join(" ");
        assert_eq!(
            thin,
            "-q -F -m 0 -O ^resize_inode -E root_owner=7:8,lazy_itable_init=1,lazy_journal_init=1"
        );
    }

    #[test]
    fn only_what_formatting_cannot_do_needs_a_mount() {
        let ext = format(FileSystem::Ext4, Provision::Thin);
        assert!(ext.is_owned_by_formatting());
        assert!(!Format { mode: Mode::parse("0700").unwrap(), ..ext }.is_owned_by_formatting());
        let xfs = format(FileSystem::Xfs, Provision::Thin);
        assert!(!xfs.is_owned_by_formatting());
        assert!(Format { uid: 0, gid: 0, ..xfs }.is_owned_by_formatting());
    }

    #[test]
    fn a_full_disk_is_told_as_such() {
        let full = failed("mkfs.ext4", "exit status: 1", "ext2fs_mkdir: No space left on device");
        assert_eq!(full.code(), FailureCode::NoSpace);
        assert_eq!(failed("mkfs.ext4", "exit status: 1", "").code(), FailureCode::Internal);
    }
}
