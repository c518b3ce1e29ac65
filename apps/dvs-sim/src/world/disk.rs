//! State that survives a reboot: the journal, the stores' folders, directories.

use super::World;
use crate::random::Random;
use crate::scenario::{STORES, path, store_name};
use dvs_domain::attachment::Attachment;
use dvs_domain::job::{JobKey, Refusal};
use dvs_domain::ledger::{Change, JobRecord, RefusalNumber, Remembered};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::names::VolumeName;
use dvs_domain::volume::{Volume, VolumeId};
use std::collections::{BTreeMap, BTreeSet};

/// Identity of an image or of a volume's directory. Never reused.
pub(crate) type Inode = u64;

#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) jobs: BTreeMap<JobKey, JobRecord>,
    pub(crate) refusals: BTreeMap<RefusalNumber, Refusal>,
    pub(crate) attachments: BTreeMap<MountPoint, Attachment>,
    pub(crate) stores: [StoreFolder; STORES.len()],
    pub(crate) directories: BTreeSet<MountPoint>,
    /// Directories that existed before the agent.
    pub(crate) foreign_directories: BTreeSet<MountPoint>,
    next_inode: Inode,
}

/// The folder of a store.
#[derive(Debug, Default)]
pub(crate) struct StoreFolder {
    pub(crate) volumes: BTreeMap<VolumeName, Image>,
    /// Images under staging names, being made or removed; removed when the store is opened.
    pub(crate) staging: BTreeMap<Inode, VolumeName>,
}

/// A whole volume.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) volume: Volume,
    pub(crate) inode: Inode,
    pub(crate) damaged: bool,
}

impl Disk {
    pub(super) fn new(random: &mut Random) -> Self {
        let mut directories: BTreeSet<MountPoint> = ["/mnt", "/srv", "/media"].map(path).into();
        for there in ["/mnt/a", "/mnt/d", "/srv/x"] {
            if random.chance(15) {
                directories.insert(path(there));
            }
        }
        Self {
            jobs: BTreeMap::new(),
            refusals: BTreeMap::new(),
            attachments: BTreeMap::new(),
            stores: Default::default(),
            foreign_directories: directories.clone(),
            directories,
            next_inode: 1,
        }
    }

    pub(crate) fn new_inode(&mut self) -> Inode {
        self.next_inode += 1;
        self.next_inode - 1
    }

    pub(crate) fn remembered(&self) -> Remembered {
        Remembered {
            jobs: self.jobs.values().cloned().collect(),
            refusals: self.refusals.iter().map(|(number, refusal)| (*number, refusal.clone())).collect(),
            attachments: self.attachments.values().cloned().collect(),
        }
    }

    pub(crate) fn write(&mut self, change: Change) {
        match change {
            Change::PutJob(record) => {
                self.jobs.insert(record.key(), *record);
            }
            Change::DropJob(key) => {
                self.jobs.remove(&key);
            }
            Change::PutRefusal(number, refusal) => {
                self.refusals.insert(number, refusal);
            }
            Change::DropRefusal(number) => {
                self.refusals.remove(&number);
            }
            Change::PutAttachment(attachment) => {
                self.attachments.insert(attachment.mount_point.clone(), attachment);
            }
            Change::DropAttachment(there) => {
                self.attachments.remove(&there);
            }
        }
    }

    pub(crate) fn image(&self, id: &VolumeId) -> Option<&Image> {
        let store = STORES.iter().position(|name| *name == id.store.as_str())?;
        self.stores[store].volumes.get(&id.name)
    }

    /// Every whole volume.
    pub(crate) fn images(&self) -> impl Iterator<Item = (VolumeId, &Image)> {
        self.stores.iter().zip(STORES).flat_map(|(folder, store)| {
            folder
                .volumes
                .iter()
                .map(move |(name, image)| (VolumeId { store: store_name(store), name: name.clone() }, image))
        })
    }

    /// The volume whose image this is.
    pub(crate) fn owner_of(&self, inode: Inode) -> Option<VolumeId> {
        self.images().find(|(_, image)| image.inode == inode).map(|(id, _)| id)
    }

    /// Whether nothing is in this directory.
    pub(crate) fn is_empty_directory(&self, there: &MountPoint) -> bool {
        !self.directories.iter().any(|other| other.is_below(there))
    }
}

impl World {
    /// Removes what unfinished work has left in the staging folders, as a store does when it is opened.
    pub(crate) fn sweep_stores(&mut self) {
        for (store, name) in STORES.iter().enumerate() {
            for (inode, volume) in std::mem::take(&mut self.disk.stores[store].staging) {
                self.log(format_args!("store {name} sweeps staging/{volume} (image {inode})"));
                self.kernel.unbind(inode);
            }
        }
    }
}
