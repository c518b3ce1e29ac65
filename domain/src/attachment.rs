//! Attachments: volumes that are visible at a mount point of this node. The node's journal is the truth.

use crate::failure::{Failure, FailureCode};
use crate::job::JobKey;
use crate::mount_point::MountPoint;
use crate::names::VolumeName;
use crate::volume::VolumeId;
use std::collections::BTreeMap;
use std::fmt;

/// Why a volume is attached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// A job asked for it: attached again after a reboot.
    Job(JobKey),
    /// Docker gave this id: void after a reboot.
    Docker(String),
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(key) => write!(formatter, "{key}"),
            Self::Docker(id) => write!(formatter, "docker `{id}`"),
        }
    }
}

/// A volume that is, or is to be, visible at a mount point: written before anything is made for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Which volume.
    pub volume: VolumeId,
    /// Where.
    pub mount_point: MountPoint,
    /// The directories that DVS makes for it, outermost first. Removed with it, if empty.
    pub made_directories: Vec<MountPoint>,
    /// Why: each holder once. Detached after the last one.
    pub holders: Vec<Holder>,
}

impl Attachment {
    /// Whether ids of Docker are all that holds it.
    #[must_use]
    pub fn is_held_by_docker_only(&self) -> bool {
        !self.holders.is_empty() && self.holders.iter().all(|holder| matches!(holder, Holder::Docker(_)))
    }
}

/// What becomes of the directories of an attachment that goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Release {
    /// To be removed if empty, outermost first.
    pub remove: Vec<MountPoint>,
    /// Attachments that take over the others, as they are to be remembered.
    pub heirs: Vec<Attachment>,
}

/// All attachments of this node, and the rules between them. Nothing here looks at all of them, but for
/// [`AttachmentTable::iter`].
#[derive(Clone, Debug, Default)]
pub struct AttachmentTable {
    /// Boxed: the nodes of a tree have room for more than they hold.
    by_mount_point: BTreeMap<MountPoint, Box<Attachment>>,
    /// Where volumes of each name are attached.
    by_name: BTreeMap<VolumeName, Vec<MountPoint>>,
    /// How many attachments have made each directory.
    made_directories: BTreeMap<MountPoint, usize>,
}

impl AttachmentTable {
    /// The attachment at `mount_point`.
    #[must_use]
    pub fn at(&self, mount_point: &MountPoint) -> Option<&Attachment> {
        self.by_mount_point.get(mount_point).map(Box::as_ref)
    }

    /// The attachment of `volume`.
    #[must_use]
    pub fn of(&self, volume: &VolumeId) -> Option<&Attachment> {
        self.named(&volume.name).find(|attachment| attachment.volume.store == volume.store)
    }

    /// The attachments of volumes called `name`, of whichever store.
    pub fn named(&self, name: &VolumeName) -> impl Iterator<Item = &Attachment> {
        self.by_name.get(name).into_iter().flatten().filter_map(|mount_point| self.at(mount_point))
    }

    /// All of them, in order of their mount points.
    pub fn iter(&self) -> impl Iterator<Item = &Attachment> {
        self.by_mount_point.values().map(Box::as_ref)
    }

    /// Enters `attachment`, replacing the one at the same mount point.
    pub fn put(&mut self, attachment: Attachment) {
        self.remove(&attachment.mount_point);
        let named = self.by_name.entry(attachment.volume.name.clone()).or_default();
        named.push(attachment.mount_point.clone());
        for directory in &attachment.made_directories {
            *self.made_directories.entry(directory.clone()).or_default() += 1;
        }
        self.by_mount_point.insert(attachment.mount_point.clone(), Box::new(attachment));
    }

    /// Removes the attachment at `mount_point`.
    pub fn remove(&mut self, mount_point: &MountPoint) {
        let Some(attachment) = self.by_mount_point.remove(mount_point) else { return };
        let name = &attachment.volume.name;
        if let Some(named) = self.by_name.get_mut(name) {
            named.retain(|there| there != mount_point);
            if named.is_empty() {
                self.by_name.remove(name);
            }
        }
        for directory in &attachment.made_directories {
            if let Some(count) = self.made_directories.get_mut(directory) {
                *count -= 1;
                if *count == 0 {
                    self.made_directories.remove(directory);
                }
            }
        }
    }

    /// The directories that attaching at `mount_point` may have to make, outermost first: its own, and those on
    /// the way that another attachment has made and may remove while this one is being mounted.
    #[must_use]
    pub fn directories_for(&self, mount_point: &MountPoint) -> Vec<MountPoint> {
        let own = self.made_directories.get_key_value(mount_point).into_iter();
        let mut directories: Vec<MountPoint> = own
            .chain(mount_point.above_in(&self.made_directories))
            .map(|(directory, _)| directory.clone())
            .collect();
        directories.reverse();
        directories
    }

    /// What becomes of the directories of the attachment at `mount_point` when it goes: a directory above
    /// another attachment stays, and is that one's to remove from then on.
    #[must_use]
    pub fn release(&self, mount_point: &MountPoint) -> Release {
        let mut release = Release::default();
        let Some(going) = self.at(mount_point) else { return release };
        let mut heirs: BTreeMap<&MountPoint, Box<Attachment>> = BTreeMap::new();
        for directory in &going.made_directories {
            let heir = directory.below_in(&self.by_mount_point).find(|(other, _)| *other != mount_point);
            let Some((there, heir)) = heir else {
                release.remove.push(directory.clone());
                continue;
            };
            let heir = heirs.entry(there).or_insert_with(|| heir.clone());
            if !heir.made_directories.contains(directory) {
                heir.made_directories.push(directory.clone());
                heir.made_directories.sort();
            }
        }
        release.heirs = heirs.into_values().map(|heir| *heir).collect();
        release
    }

    /// Whether `volume` may be attached at `mount_point`.
    ///
    /// # Errors
    /// [`FailureCode::Conflict`] when another volume is there, when the path lies inside or above the mount
    /// point of another, or when the volume is attached elsewhere.
    pub fn admit(&self, volume: &VolumeId, mount_point: &MountPoint) -> Result<(), Failure> {
        let conflict = |detail| Err(Failure::new(FailureCode::Conflict, detail));
        if let Some(other) = self.at(mount_point).filter(|other| other.volume != *volume) {
            return conflict(format!("volume `{}` is attached at `{mount_point}`", other.volume));
        }
        if let Some(other) = self.of(volume).filter(|other| other.mount_point != *mount_point) {
            return conflict(format!("volume `{volume}` is attached at `{}`", other.mount_point));
        }
        if let Some((there, other)) = mount_point.above_in(&self.by_mount_point).next() {
            return conflict(format!("`{mount_point}` is inside volume `{}` at `{there}`", other.volume));
        }
        if let Some((there, other)) = mount_point.below_in(&self.by_mount_point).next() {
            return conflict(format!("`{mount_point}` is above volume `{}` at `{there}`", other.volume));
        }
        Ok(())
    }
}

impl FromIterator<Attachment> for AttachmentTable {
    fn from_iter<I: IntoIterator<Item = Attachment>>(attachments: I) -> Self {
        let mut table = Self::default();
        attachments.into_iter().for_each(|attachment| table.put(attachment));
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::StoreName;

    fn id(name: &str) -> VolumeId {
        VolumeId { store: StoreName::new("loop").unwrap(), name: VolumeName::new(name).unwrap() }
    }

    fn at(path: &str) -> MountPoint {
        MountPoint::new(path).unwrap()
    }

    #[test]
    fn a_volume_has_one_mount_point_and_a_mount_point_one_volume() {
        let mut book = AttachmentTable::default();
        book.put(Attachment {
            volume: id("a"),
            mount_point: at("/mnt/a"),
            made_directories: vec![],
            holders: vec![],
        });
        assert!(book.admit(&id("a"), &at("/mnt/a")).is_ok(), "again is no conflict");
        assert!(book.admit(&id("b"), &at("/mnt/b")).is_ok());
        for (volume, path) in [("b", "/mnt/a"), ("a", "/mnt/b"), ("b", "/mnt/a/x"), ("b", "/mnt")] {
            let refused = book.admit(&id(volume), &at(path)).unwrap_err();
            assert_eq!(refused.code(), FailureCode::Conflict, "{volume} at {path}");
        }
        book.remove(&at("/mnt/a"));
        assert!(book.admit(&id("b"), &at("/mnt/a")).is_ok());
    }

    fn attached(name: &str, path: &str, made: &[&str]) -> Attachment {
        let made_directories = made.iter().map(|path| at(path)).collect();
        Attachment { volume: id(name), mount_point: at(path), made_directories, holders: vec![] }
    }

    #[test]
    fn a_shared_directory_goes_with_the_last_attachment_below_it() {
        let mut book = AttachmentTable::default();
        book.put(attached("a", "/mnt/many/a", &["/mnt/many", "/mnt/many/a"]));
        book.put(attached("b", "/mnt/many/b", &["/mnt/many/b"]));
        let release = book.release(&at("/mnt/many/a"));
        assert_eq!(release.remove, [at("/mnt/many/a")]);
        assert_eq!(release.heirs, [attached("b", "/mnt/many/b", &["/mnt/many", "/mnt/many/b"])]);
        book.remove(&at("/mnt/many/a"));
        release.heirs.into_iter().for_each(|heir| book.put(heir));
        let release = book.release(&at("/mnt/many/b"));
        assert_eq!(release, Release { remove: vec![at("/mnt/many"), at("/mnt/many/b")], heirs: vec![] });
    }

    #[test]
    fn a_volume_is_found_by_name_until_it_is_removed() {
        let mut table = AttachmentTable::default();
        let of = |store: &str| VolumeId { store: StoreName::new(store).unwrap(), ..id("v") };
        let there =
            |volume: VolumeId, path: &str| Attachment { volume, ..attached("v", path, &["/mnt/many"]) };
        let named = |table: &AttachmentTable| -> Vec<MountPoint> {
            table.named(&id("v").name).map(|found| found.mount_point.clone()).collect()
        };
        table.put(there(of("a"), "/mnt/many/a"));
        table.put(there(of("b"), "/mnt/many/b"));
        table.put(attached("w", "/mnt/w", &[]));
        assert_eq!(named(&table), [at("/mnt/many/a"), at("/mnt/many/b")]);
        assert_eq!(table.of(&of("b")).map(|found| &found.mount_point), Some(&at("/mnt/many/b")));
        assert_eq!(table.of(&of("c")), None);
        table.put(there(of("c"), "/mnt/many/a"));
        assert_eq!(table.of(&of("a")), None, "another volume is there now");
        assert_eq!(table.directories_for(&at("/mnt/many/x")), [at("/mnt/many")]);
        table.remove(&at("/mnt/many/b"));
        assert_eq!(table.directories_for(&at("/mnt/many/x")), [at("/mnt/many")], "one that made it is left");
        table.remove(&at("/mnt/many/a"));
        assert_eq!(named(&table), []);
        assert_eq!(table.directories_for(&at("/mnt/many/x")), []);
        assert_eq!(table.iter().count(), 1);
    }

    #[test]
    fn attaching_may_make_again_what_another_attachment_made_on_the_way() {
        let mut book = AttachmentTable::default();
        book.put(attached("a", "/mnt/many/a", &["/mnt/many", "/mnt/many/a"]));
        book.put(attached("b", "/mnt/many/b", &["/mnt/many/b"]));
        assert_eq!(book.directories_for(&at("/mnt/many/b")), [at("/mnt/many"), at("/mnt/many/b")]);
    }
}
