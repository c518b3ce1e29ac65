//! What formatting wrote, kept: the next volume that is to be formatted in the same way gets a copy of it with an
//! identity of its own. That takes a fraction of the time that the program takes, and leaves the same bytes.
//!
//! Only thin ext images: what is written into them is small, and nothing but their superblocks text which of them
//! it is ([`Superblock::parse`]). Every other one is formatted by its program each time.

use crate::format::MkfsPlan;
use crate::step;
use crate::superblock::{Identity, SUPERBLOCK_BYTES, Superblock};
use dvs_domain::failure::Failure;
use rustix::fd::OwnedFd;
use rustix::fs::{SeekFrom, fdatasync, seek};
use rustix::io::{Errno, pread, pwrite};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// How many templates are kept; those that were used last.
const TEMPLATES_MAX: usize = 8;

/// How much of an image that was formatted is looked at: beyond that it is no template. An ext4 of 5 GiB has 0.2
/// MiB, one of 1 TiB 12 MiB.
const TEMPLATE_BYTES_MAX: u64 = 1 << 20;

/// The unit in which zeroes are left out: the holes of a new image read as such.
const PAGE_BYTES: usize = 4096;

/// The templates of a store.
#[derive(Default)]
pub(crate) struct Templates {
    /// The last one used comes first.
    kept: Mutex<VecDeque<(MkfsPlan, Arc<Template>)>>,
}

/// What makes an empty image a formatted one.
pub(crate) struct Template {
    /// Runs of pages that are not zero, and where they lie.
    runs: Vec<(u64, Vec<u8>)>,
    /// The superblocks among them, and where they lie.
    superblocks: Vec<(u64, Superblock)>,
}

impl Templates {
    /// What the formatting of `plan` wrote the last time, where that is known.
    pub(crate) fn find(&self, plan: &MkfsPlan) -> Option<Arc<Template>> {
        let mut kept = self.kept();
        let at = kept.iter().position(|(known, _)| known == plan)?;
        let found = kept.remove(at)?;
        let template = Arc::clone(&found.1);
        kept.push_front(found);
        Some(template)
    }

    /// Keeps what `plan` has just written into `image`, if it can be a template.
    pub(crate) fn keep(&self, plan: &MkfsPlan, image: &OwnedFd) {
        if !plan.is_thin_ext() {
            return;
        }
        // Not every file system tells before that where the data is.
        match fdatasync(image).and_then(|()| Template::read(image)) {
            Ok(Some(template)) => {
                let mut kept = self.kept();
                kept.retain(|(known, _)| known != plan);
                kept.truncate(TEMPLATES_MAX - 1);
                kept.push_front((plan.clone(), Arc::new(template)));
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a formatted image cannot be read for the next one"),
        }
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<(MkfsPlan, Arc<Template>)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Template {
    /// Reads it from an image that was formatted and never mounted.
    fn read(image: &OwnedFd) -> rustix::io::Result<Option<Self>> {
        let mut runs = Vec::new();
        let (mut at, mut looked_at) = (0, 0);
        while let Some((from, to)) = next_data(image, at)? {
            looked_at += to - from;
            if looked_at > TEMPLATE_BYTES_MAX {
                return Ok(None);
            }
            read_runs(image, from, to, &mut runs)?;
            at = to;
        }
        Ok(Self::new(runs))
    }

    fn new(runs: Vec<(u64, Vec<u8>)>) -> Option<Self> {
        let bytes_at = |place: u64| {
            let run = runs.partition_point(|(from, _)| *from <= place).checked_sub(1)?;
            let (from, bytes) = &runs[run];
            let start = usize::try_from(place - from).ok()?;
            bytes.get(start..start.checked_add(SUPERBLOCK_BYTES)?)
        };
        let first = Superblock::parse(bytes_at(1024)?)?;
        let mut superblocks = Vec::new();
        for place in first.places() {
            // Few groups have a copy.
            let superblock = bytes_at(place).and_then(Superblock::parse);
            superblocks.extend(superblock.filter(|copy| copy.is_copy_of(&first)).map(|copy| (place, copy)));
        }
        Some(Self { runs, superblocks })
    }

    /// Makes `image`, which is empty, a file system like the one that this is from, but with a UUID, a hash seed
    /// and a time of its own. It is durable when the image is.
    pub(crate) fn write(&self, image: &OwnedFd) -> Result<(), Failure> {
        let identity = Identity {
            uuid: Uuid::new_v4().into_bytes(),
            hash_seed: Uuid::new_v4().into_bytes(),
            made_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        };
        let mut written = Ok(());
        for (place, bytes) in &self.runs {
            written = written.and_then(|()| write_all(image, bytes, *place));
        }
        for (place, superblock) in &self.superblocks {
            written = written.and_then(|()| write_all(image, &superblock.of(&identity), *place));
        }
        written.map_err(|errno| step::failed("format", "cannot write a file system into the image", errno))
    }
}

/// The next run of data at or after `at`, by where it begins and ends.
fn next_data(image: &OwnedFd, at: u64) -> rustix::io::Result<Option<(u64, u64)>> {
    match seek(image, SeekFrom::Data(at)) {
        Ok(from) => Ok(Some((from, seek(image, SeekFrom::Hole(from))?))),
        // Nothing but a hole up to the end.
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Adds what is not zero from `from` up to `to`.
fn read_runs(image: &OwnedFd, from: u64, to: u64, runs: &mut Vec<(u64, Vec<u8>)>) -> rustix::io::Result<()> {
    let mut page = [0; PAGE_BYTES];
    let mut at = from;
    while at < to {
        let wanted = (to - at).min(PAGE_BYTES as u64) as usize;
        let read = pread(image, &mut page[..wanted], at)?;
        if read == 0 {
            break;
        }
        let bytes = &page[..read];
        if bytes.iter().any(|byte| *byte != 0) {
            match runs.last_mut() {
                Some((start, run)) if *start + run.len() as u64 == at => run.extend_from_slice(bytes),
                _ => runs.push((at, bytes.to_vec())),
            }
        }
        at += read as u64;
    }
    Ok(())
}

fn write_all(image: &OwnedFd, mut bytes: &[u8], mut at: u64) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match pwrite(image, bytes, at) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => {
                bytes = &bytes[written..];
                at += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Format, Formatting};
    use dvs_domain::volume::{FileSystem, Mode, Provision};
    use std::collections::BTreeSet;
    use std::fs::File;
    use std::path::Path;
    use std::process::Command;

    fn format(file_system: FileSystem, mebibytes: u64) -> Format {
        let provision = Provision::Thin;
        let size_bytes = mebibytes << 20;
        Format { file_system, provision, size_bytes, uid: 0, gid: 0, mode: Mode::DEFAULT }
    }

    fn empty_image(path: &Path, size_bytes: u64) -> OwnedFd {
        let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        file.set_len(size_bytes).unwrap();
        file.into()
    }

    /// What the program text is wrong with the file system, and its status.
    fn complaints(path: &Path, options: &[&str]) -> (bool, String) {
        let mut command = Command::new("e2fsck");
        let output = command.args(["-f", "-n"]).args(options).arg(path).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn bytes_at(image: &OwnedFd, at: u64) -> [u8; 16] {
        let mut bytes = [0; 16];
        pread(image, &mut bytes, at).unwrap();
        bytes
    }

    #[test]
    fn a_copy_is_sound_in_each_of_its_superblocks_and_has_its_own_identity() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        // The least; blocks of 1 KiB in one and in many groups; blocks of 4 KiB likewise; 64 bit counts' size.
        for (file_system, mebibytes, copy) in [
            (FileSystem::Ext4, 1, None),
            (FileSystem::Ext4, 7, None),
            (FileSystem::Ext4, 100, Some(["-b", "8193", "-B", "1024"])),
            (FileSystem::Ext4, 5000, Some(["-b", "98304", "-B", "4096"])),
            (FileSystem::Ext4, 50_000, Some(["-b", "32768", "-B", "4096"])),
            (FileSystem::Ext2, 5000, Some(["-b", "98304", "-B", "4096"])),
            (FileSystem::Ext3, 3, None),
        ] {
            let what = format!("{file_system} of {mebibytes} MiB");
            let (format, templates) = (format(file_system, mebibytes), Templates::default());
            let plan = MkfsPlan::of(&format).unwrap();
            let path = folder.path().join("formatted");
            let image = empty_image(&path, format.size_bytes);
            Formatting::start(&plan, &path).unwrap().finish().unwrap();
            templates.keep(&plan, &image);
            let template = templates.find(&plan).unwrap_or_else(|| panic!("{what} is no template"));

            let mut identities =
                BTreeSet::from([(bytes_at(&image, 1024 + 0x68), bytes_at(&image, 1024 + 0xEC))]);
            for name in ["copy", "second copy"] {
                let path = folder.path().join(name);
                let image = empty_image(&path, format.size_bytes);
                template.write(&image).unwrap();
                let (sound, output) = complaints(&path, &[]);
                assert!(sound, "{what}: {output}");
                if let Some(options) = &copy {
                    // Only what this superblock text of itself: it is a copy, and so older than the first.
                    let (_, output) = complaints(&path, options);
                    assert!(output.contains("Pass 5") && !output.contains("invalid"), "{what}: {output}");
                }
                identities.insert((bytes_at(&image, 1024 + 0x68), bytes_at(&image, 1024 + 0xEC)));
                std::fs::remove_file(path).unwrap();
            }
            assert_eq!(identities.len(), 3, "{what}: {identities:?}");
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn what_is_formatted_otherwise_is_no_template_for_it() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let templates = Templates::default();
        let asked = format(FileSystem::Ext4, 16);
        let path = folder.path().join("image");
        let image = empty_image(&path, asked.size_bytes);
        let plan = MkfsPlan::of(&asked).unwrap();
        Formatting::start(&plan, &path).unwrap().finish().unwrap();
        templates.keep(&plan, &image);
        for other in [
            Format { size_bytes: 17 << 20, ..asked },
            Format { uid: 1, ..asked },
            Format { gid: 1, ..asked },
            Format { provision: Provision::Thick, ..asked },
            Format { file_system: FileSystem::Ext3, ..asked },
        ] {
            assert!(templates.find(&MkfsPlan::of(&other).unwrap()).is_none(), "{other:?}");
        }
        assert!(templates.find(&plan).is_some());
        let thick = MkfsPlan::of(&Format { provision: Provision::Thick, ..asked }).unwrap();
        templates.keep(&thick, &image);
        assert!(templates.find(&thick).is_none(), "a thick image is a template");
    }

    #[test]
    fn few_templates_are_kept_and_none_that_is_large() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let templates = Templates::default();
        let plans: Vec<MkfsPlan> =
            (1..12).map(|mebibytes| MkfsPlan::of(&format(FileSystem::Ext4, mebibytes)).unwrap()).collect();
        let path = folder.path().join("image");
        let image = empty_image(&path, 1 << 20);
        Formatting::start(&plans[0], &path).unwrap().finish().unwrap();
        for plan in &plans {
            templates.keep(plan, &image);
            assert!(templates.find(&plans[0]).is_some(), "what is in use went");
        }
        let kept = plans.iter().filter(|plan| templates.find(plan).is_some()).count();
        assert_eq!(kept, TEMPLATES_MAX);

        let full = vec![1; usize::try_from(TEMPLATE_BYTES_MAX).unwrap()];
        image_with(&image, &full);
        assert!(Template::read(&image).unwrap().is_some());
        image_with(&image, &[&full[..], &[1]].concat());
        assert!(Template::read(&image).unwrap().is_none(), "a large image is a template");
    }

    fn image_with(image: &OwnedFd, bytes: &[u8]) {
        write_all(image, &bytes[4096..], 4096).unwrap();
    }
}
