//! Checks of operations on volumes and mount points, before they take effect.

use crate::promise::Promise;
use crate::world::disk::Inode;
use crate::world::faults::Call;
use crate::world::kernel::Mount;
use crate::world::life::ActiveCall;
use crate::world::{LIMITS, World};
use dvs_domain::job::{JobKey, JobKind};
use dvs_domain::ledger::{JobRecord, Phase};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::volume::{Volume, VolumeId};

impl World {
    /// Operations on one volume or path run one at a time, and no more at once than there are workers.
    pub(crate) fn check_alone(&mut self, begun: &ActiveCall) {
        if !changes_something(begun.call) {
            return;
        }
        let meets = |other: &&ActiveCall| {
            let same_volume = begun.volume.is_some() && begun.volume == other.volume;
            let same_place = match (&begun.mount_point, &other.mount_point) {
                (Some(one), Some(other)) => one.overlaps(other),
                _ => false,
            };
            changes_something(other.call) && (same_volume || same_place)
        };
        if let Some(other) = self.life.calls.iter().find(meets) {
            let what = format!("`{}` begins beside {other:?}", begun.call.as_str());
            self.violate(Promise::InOrderPerLane, what);
        }
        let active = self.life.calls.iter().filter(|call| changes_something(call.call)).count();
        if self.life.working_since.is_some() && LIMITS.workers + LIMITS.stuck < active {
            self.violate(Promise::BoundedWorkers, format_args!("{active} operations are under way"));
        }
    }

    /// A volume is about to be made for a job.
    pub(crate) fn check_create(&mut self, volume: &Volume) {
        let Some(key) = volume.made_by.as_ref().map(|maker| &maker.job) else { return };
        match self.disk.jobs.get(key).map(|record| &record.phase) {
            Some(Phase::Accepted) if self.life.pending_sent.contains(key) => {}
            Some(Phase::Accepted) => {
                self.violate(Promise::PendingBeforeWork, format_args!("{key} is worked on before PENDING"));
            }
            Some(Phase::Finished(_)) if self.hangs(key) => {}
            Some(Phase::Finished(_)) => {
                self.violate(Promise::NoWorkForARepeat, format_args!("{key} has ended, and is worked on"));
            }
            None => self.violate(Promise::RecordBeforeWork, format_args!("{key} is not on disk")),
        }
    }

    pub(crate) fn note_formatted(&mut self, inode: Inode, volume: &Volume) {
        let Some(key) = volume.made_by.as_ref().map(|maker| &maker.job) else { return };
        self.counts.formatted += 1;
        self.history.made.insert(volume.spec.id.clone());
        if self.history.formatted.insert(inode, (key.clone(), self.now())).is_some() {
            self.violate(Promise::NoWorkForARepeat, format_args!("{} is formatted twice", volume.spec.id));
        }
    }

    /// A volume is about to be destroyed: a delete, or the undo of a create, has to be running.
    pub(crate) fn check_destroy(&mut self, id: &VolumeId) {
        match self.destroyer(id) {
            Destroyer::Undo => {}
            Destroyer::Delete(key) if self.hangs(&key) => {
                self.violate(
                    Promise::FailedChangesNothing,
                    format_args!("{key} has failed, and only now begins to destroy {id}"),
                );
            }
            Destroyer::Delete(key) if self.life.pending_sent.contains(&key) => {}
            Destroyer::Delete(key) => {
                self.violate(Promise::PendingBeforeWork, format_args!("{key} is worked on before PENDING"));
            }
            Destroyer::Nobody => {
                self.violate(Promise::FailedChangesNothing, format_args!("no job destroys {id}"));
            }
        }
    }

    /// A destroy is decided: nothing uses the volume, and the engine was asked.
    pub(crate) fn check_decided(&mut self, id: &VolumeId, inode: Inode) {
        let Destroyer::Delete(key) = self.destroyer(id) else { return };
        self.history.decided.insert(key.clone(), id.clone());
        self.expect_gone(&key, id);
        let held = self.kernel.is_mounted(inode) || 0 < self.kernel.namespaces_with(inode);
        let asked = self.history.asked.get(id).filter(|(_, life)| *life == self.life.number);
        let mount_point =
            self.disk.attachments.values().find(|there| there.volume == *id).map(|there| &there.mount_point);
        let wrong = match asked {
            _ if held => Some("somebody holds it".to_owned()),
            None => Some("the engine was not asked".to_owned()),
            Some((moment, _)) => {
                let user = self.docker.user_since_before(id, mount_point, *moment);
                user.map(|name| format!("container c{name} refers to it"))
            }
        };
        if let Some(wrong) = wrong {
            self.violate(Promise::NeverDestroyedWhileUsed, format_args!("{key} destroys {id}: {wrong}"));
        }
    }

    /// The engine has reported no user of a volume.
    pub(crate) fn note_unused(&mut self, id: &VolumeId) {
        let moment = self.next_in_sequence();
        self.history.asked.insert(id.clone(), (moment, self.life.number));
    }

    /// A directory is about to be made.
    pub(crate) fn check_directory(&mut self, directory: &MountPoint, mount_point: &MountPoint) {
        let mut attachments = self.disk.attachments.values();
        if !attachments.any(|found| found.made_directories.contains(directory)) {
            self.violate(
                Promise::RememberedBeforeMade,
                format_args!("directory {directory} for {mount_point}"),
            );
        }
    }

    /// A directory was removed.
    pub(crate) fn check_removed(&mut self, directory: &MountPoint) {
        if self.disk.foreign_directories.contains(directory) {
            self.violate(
                Promise::OnlyItsOwnIsRemoved,
                format_args!("directory {directory} was there before"),
            );
        }
    }

    /// An image is about to be mounted.
    pub(crate) fn check_mount(&mut self, inode: Inode, mount_point: &MountPoint) {
        let owner = self.disk.owner_of(inode);
        let meant = self.disk.attachments.get(mount_point).map(|there| there.volume.clone());
        match (owner, meant) {
            (Some(owner), Some(meant)) if owner == meant => {}
            (owner, None) => {
                self.violate(Promise::RememberedBeforeMade, format_args!("{owner:?} at {mount_point}"));
            }
            (owner, Some(meant)) => {
                let owner = owner.map_or_else(|| "what is no volume".to_owned(), |owner| owner.to_string());
                self.violate(
                    Promise::OwnVolumeOnly,
                    format_args!("{owner} at {mount_point}, meant is {meant}"),
                );
            }
        }
    }

    pub(crate) fn check_devices(&mut self) {
        let devices: Vec<_> = self.kernel.devices().collect();
        let twice = devices
            .iter()
            .find(|(number, inode)| devices.iter().any(|other| other.1 == *inode && other.0 != *number));
        if let Some((_, inode)) = twice {
            self.violate(
                Promise::OneDevicePerImage,
                format_args!("image {inode} has two devices: {devices:?}"),
            );
        }
    }

    /// Whether the job was answered before its work was undone.
    fn hangs(&self, key: &JobKey) -> bool {
        let phase = self.disk.jobs.get(key).map(|record| &record.phase);
        matches!(phase, Some(Phase::Finished(finished)) if finished.needs_undo)
    }

    /// The job on whose behalf a volume is destroyed now: the first of its lane in the order of arrival.
    fn destroyer(&self, id: &VolumeId) -> Destroyer {
        let maker = self.disk.image(id).and_then(|image| image.volume.made_by.clone());
        let made_by = maker.as_ref().and_then(|maker| self.disk.jobs.get(&maker.job));
        let deletes = self.disk.jobs.values().filter(|record| {
            (record.phase == Phase::Accepted || self.hangs(&record.key()))
                && record.job.request.kind() == JobKind::Delete
                && self.is_about(record, id)
        });
        let delete = deletes.min_by_key(|record| record.number);
        match (made_by, delete) {
            (Some(made_by), _) if self.hangs(&made_by.key()) => Destroyer::Undo,
            (Some(made_by), delete)
                if made_by.phase == Phase::Accepted
                    && delete.is_none_or(|delete| made_by.number < delete.number) =>
            {
                Destroyer::Undo
            }
            (_, Some(delete)) => Destroyer::Delete(delete.key()),
            (_, None) => Destroyer::Nobody,
        }
    }

    /// Whether a job is about a volume: by its name, or by what is attached at its mount point.
    pub(super) fn is_about(&self, record: &JobRecord, id: &VolumeId) -> bool {
        let target = record.job.request.target();
        let by_name =
            target.name() == id.name && target.store.as_ref().is_none_or(|store| *store == id.store);
        let attached = target.mount_point().and_then(|there| self.disk.attachments.get(there));
        by_name || attached.is_some_and(|there| there.volume == *id)
    }

    /// Whether a volume is the topmost mount at a mount point.
    pub(super) fn is_on_top(&self, mount_point: &MountPoint, id: &VolumeId) -> bool {
        let image = self.disk.image(id);
        image.is_some_and(|image| self.kernel.top(mount_point) == Some(Mount::Volume(image.inode)))
    }
}

enum Destroyer {
    Delete(JobKey),
    /// A create that is undone.
    Undo,
    Nobody,
}

fn changes_something(call: Call) -> bool {
    matches!(
        call,
        Call::Create
            | Call::Destroy
            | Call::Source
            | Call::Attach
            | Call::Detach
            | Call::Guard
            | Call::Unguard
    )
}
