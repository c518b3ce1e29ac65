//! Formatting: which program, with which arguments, for which file system. Run without a shell, and for a limited
//! time.

use crate::command::{Ended, Running};
use crate::lost_and_found;
use crate::program;
use crate::settings::Settings;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::volume::{FileSystem, Mode, Provision, Volume};
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

/// How long formatting may take. A job has its answer within 110 s (contract.md section 2).
const FORMAT_SECONDS_MAX: u64 = 80;

/// Asked for where the program knows it; its name in mke2fs(8).
const SEED: &str = "metadata_csum_seed";

/// What decides, beside the arguments, what the programs for ext write: mke2fs.conf(5).
const EXT_CONFIGURATION: &str = "/etc/mke2fs.conf";

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
                let mut features = "^resize_inode".to_owned();
                if self.file_system == FileSystem::Ext4 {
                    // Checksums that do not depend on the UUID, as upstream has them since 1.47: a copy of the file
                    // system gets its own UUID in the superblock alone.
                    features.push_str(&format!(",{SEED}"));
                    // What the kernel zeroes later, the loop driver punches out of the image.
                    let later = if self.provision == Provision::Thick { 0 } else { 1 };
                    extended.push_str(&format!(",lazy_itable_init={later},lazy_journal_init=1"));
                }
                if self.provision == Provision::Thick {
                    extended.push_str(",nodiscard");
                }
                // Reserving descriptors for a later growth would double the time and what a thin image takes;
                // the kernel grows ext4 without them too, by the feature `meta_bg`.
                words(&["-q", "-F", "-m", "0", "-O", &features, "-E", &extended])
            }
            FileSystem::Xfs => words(&["-q", "-f", "-K"]),
            FileSystem::Btrfs => words(&["-q", "-f", "-K"]),
        }
    }
}

/// A way to format. Images that were formatted by equal ones differ in nothing but their identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MkfsPlan {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    size_bytes: u64,
    is_ext: bool,
    is_thin: bool,
    /// Of the program and of its configuration: an installed update or an edit makes another plan.
    versions: [Option<FileVersion>; 2],
}

/// Device, inode, size, and time of the last change.
type FileVersion = (u64, u64, u64, i64, i64);

impl MkfsPlan {
    /// How an image gets what `format` asks for.
    pub(crate) fn of(format: &Format) -> Result<Self, Failure> {
        let name = program::formatter(format.file_system);
        let program = program::find(name, format.file_system).map_err(|failure| failure.at_step("format"))?;
        let is_ext = matches!(format.file_system, FileSystem::Ext2 | FileSystem::Ext3 | FileSystem::Ext4);
        Ok(Self {
            name,
            arguments: format.arguments(),
            size_bytes: format.size_bytes,
            is_ext,
            is_thin: format.provision == Provision::Thin,
            versions: [version(&program), version(Path::new(EXT_CONFIGURATION))],
            program,
        })
    }

    /// The same without the seed, which nothing but copies needs.
    fn without_seed(&self) -> Self {
        let mut plain = self.clone();
        for argument in &mut plain.arguments {
            *argument = argument.replace(&format!(",{SEED}"), "");
        }
        plain
    }

    /// Whether little is written into the image, and that by the programs for ext.
    pub(crate) fn is_thin_ext(&self) -> bool {
        self.is_ext && self.is_thin
    }
}

fn version(file: &Path) -> Option<FileVersion> {
    let found = fs::metadata(file).ok()?;
    Some((found.dev(), found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
}

/// A program that formats an image. Dropped before it has ended, it is killed.
pub(crate) struct Formatting<'a> {
    plan: &'a MkfsPlan,
    path: &'a Path,
    running: Running,
    until: Instant,
}

impl<'a> Formatting<'a> {
    /// Begins to format the image at `path`.
    pub(crate) fn start(plan: &'a MkfsPlan, path: &'a Path) -> Result<Self, Failure> {
        let mut arguments: Vec<OsString> = plan.arguments.iter().map(Into::into).collect();
        arguments.push(path.into());
        let limit = Duration::from_secs(FORMAT_SECONDS_MAX);
        let until = Instant::now() + limit;
        let running =
            Running::start(&plan.program, &arguments, limit).map_err(|error| cannot_run(plan.name, error))?;
        Ok(Self { plan, path, running, until })
    }

    /// Waits until the image is formatted, and empty for its user.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let Self { plan, path, running, until } = self;
        let name = &plan.name;
        match running.finish().map_err(|error| cannot_run(name, error))? {
            Ended { status: Some(status), .. } if status.success() && plan.is_ext => {
                lost_and_found::remove(path, until.saturating_duration_since(Instant::now()))
                    .map_err(|failure| failure.at_step("format"))
            }
            Ended { status: Some(status), .. } if status.success() => Ok(()),
            Ended { status: Some(status), output } => {
                let plain = plan.without_seed();
                if plain != *plan && output.contains(SEED) {
                    // It is older than 1.43, or configured to make no checksums, and has written nothing yet.
                    return Formatting::start(&plain, path)?.finish();
                }
                Err(failed(name, &status.to_string(), &output))
            }
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

fn failed(name: &str, status: &str, output: &str) -> Failure {
    // The C library's text for ENOSPC where no language is set.
    let full = output.contains("No space left on device");
    let code = if full { FailureCode::NoSpace } else { FailureCode::Internal };
    let detail = if output.is_empty() {
        format!("`{name}` ended with {status}")
    } else {
        format!("`{name}` ended with {status}: {output}")
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
            "-q -F -m 0 -O ^resize_inode,metadata_csum_seed \
             -E root_owner=7:8,lazy_itable_init=1,lazy_journal_init=1"
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
    fn a_program_that_does_not_know_the_seed_formats_without_it() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        // Given to the shell: a file that was just written may not be started while another test starts a program.
        let program = folder.path().join("mkfs.ext4");
        // The text of 1.42, and of 1.47 where the configuration makes no checksums.
        for text in [
            "Invalid filesystem option set: ^resize_inode,metadata_csum_seed",
            "The metadata_csum_seed feature requires the metadata_csum feature.",
            "Something else.",
        ] {
            let knows_no_seed = format!(
                "case \"$*\" in *metadata_csum_seed*) echo '{text}' >&2; exit 1;; esac\n\
                 for image; do :; done; echo formatted > \"$image\"\n"
            );
            fs::write(&program, knows_no_seed).unwrap();
            let image = folder.path().join("image");
            fs::write(&image, "").unwrap();
            let asked = format(FileSystem::Ext4, Provision::Thin);
            // What it writes is no ext.
            let mut plan =
                MkfsPlan { program: "/bin/sh".into(), is_ext: false, ..MkfsPlan::of(&asked).unwrap() };
            plan.arguments.insert(0, program.display().to_string());
            let formatted = Formatting::start(&plan, &image).unwrap().finish();
            assert_eq!(formatted.is_ok(), text.contains(SEED), "{text}");
            assert_eq!(fs::read_to_string(&image).unwrap().is_empty(), formatted.is_err(), "{text}");
        }
    }

    #[test]
    fn a_full_disk_is_told_as_such() {
        let full = failed("mkfs.ext4", "exit status: 1", "ext2fs_mkdir: No space left on device");
        assert_eq!(full.code(), FailureCode::NoSpace);
        assert_eq!(failed("mkfs.ext4", "exit status: 1", "").code(), FailureCode::Internal);
    }
}
