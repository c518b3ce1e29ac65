//! Checks once no work is left: all that was promised is true, and nothing else is there.

use crate::promise::Promise;
use crate::scenario::is_shared;
use crate::world::history::Expected;
use crate::world::kernel::Mount;
use crate::world::{LIMITS, World};
use dvs_domain::job::JobKey;
use dvs_domain::ledger::{AnswerState, JobRecord, Phase};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::recovery::UnresolvedJobs;
use dvs_domain::volume::VolumeId;

/// Which state is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// After the faults have ended: what could not be attached at the start is guarded.
    Healed,
    /// After a restart without faults: everything is attached.
    Restarted,
    /// After everything was deleted.
    Empty,
}

impl World {
    /// What the agent, the broker or a sender still has to do.
    pub(crate) fn pending_work(&self) -> Option<String> {
        let owed = |record: &&JobRecord| match &record.phase {
            Phase::Accepted => true,
            Phase::Finished(finished) => finished.answers != AnswerState::Acknowledged || finished.needs_undo,
        };
        if self.life.working_since.is_none() {
            return Some("the agent is not up".to_owned());
        }
        if let Some(call) = self.life.calls.first() {
            return Some(format!("a call is under way: {call:?}"));
        }
        if let Some(record) = self.disk.jobs.values().find(owed) {
            return Some(format!("{} is not settled", record.key()));
        }
        if !self.disk.refusals.is_empty() || !self.broker.is_quiet() || self.event_queue.has_publishing() {
            return Some("messages are on their way".to_owned());
        }
        self.senders.unanswered().into_iter().next().map(|message| format!("no answer to {message}"))
    }

    /// When the agent is ready, every volume is attached, or guarded and reported, unless an unresolved job is about it.
    pub(crate) fn check_ready(&mut self, unresolved: &UnresolvedJobs) {
        let wrong = self.disk.attachments.values().find(|attachment| {
            let there = &attachment.mount_point;
            let guarded = self.kernel.top(there) == Some(Mount::Guard) || self.life.unguarded.contains(there);
            let reported = self.life.reports_trouble(there) && guarded;
            let unresolved = unresolved.is_being_made(attachment) || unresolved.is_being_deleted(attachment);
            !unresolved && !self.is_on_top(there, &attachment.volume) && !reported
        });
        if let Some((id, there)) = wrong.map(|found| (found.volume.clone(), found.mount_point.clone())) {
            self.violate(
                Promise::AttachedOrGuarded,
                format_args!("{id} is not at {there} when the agent is ready"),
            );
        }
    }

    pub(crate) fn check_quiesced(&mut self, stage: Stage) {
        self.log(format_args!("no work is left ({stage:?})"));
        self.check_expected();
        self.check_volumes();
        self.check_attachments(stage);
        self.check_kernel(stage);
        self.check_directories();
        let staging = self.disk.stores.iter().map(|store| store.staging.len()).sum::<usize>();
        if stage != Stage::Healed && 0 < staging {
            self.violate(Promise::NothingHalfMade, format_args!("{staging} staging names are left"));
        }
    }

    /// Nothing is left after everything was deleted.
    pub(crate) fn check_empty(&mut self) {
        self.check_quiesced(Stage::Empty);
        let left = self.disk.images().next().map(|(id, _)| id);
        if let Some(id) = left {
            self.violate(Promise::GoneIsGone, format_args!("{id} is left after everything was deleted"));
        }
        if let Some(there) = self.disk.attachments.keys().next().cloned() {
            self.violate(Promise::GoneIsGone, format_args!("an attachment at {there} is left"));
        }
    }

    /// Each of these jobs was done: there were no faults any more.
    pub(crate) fn check_all_done(&mut self, keys: &[JobKey]) {
        let failed = keys.iter().find(|key| !self.history.done.contains(key));
        if let Some(key) = failed {
            self.violate(Promise::WorksAfterwards, format_args!("{key} is not done, and nothing is wrong"));
        }
    }

    pub(crate) fn check_forgetting(&mut self) {
        let known = self.disk.jobs.len();
        if LIMITS.remembered_min < known {
            self.violate(Promise::BoundedMemory, format_args!("{known} jobs are remembered"));
        }
    }

    /// The last `DONE` about each volume is still true.
    fn check_expected(&mut self) {
        let mut wrong = None;
        for (id, (_, expected)) in &self.history.expected {
            let image = self.disk.image(id);
            wrong = match (expected, image) {
                (Expected::Present { .. }, None) => Some((Promise::DoneIsTrue, format!("{id} is not there"))),
                (Expected::Present { size, .. }, Some(image)) if image.volume.spec.size != *size => {
                    Some((Promise::DoneIsTrue, format!("{id} has another size")))
                }
                (Expected::Present { at: Some(there), .. }, Some(_))
                    if self.disk.attachments.get(there).is_none_or(|found| found.volume != *id) =>
                {
                    Some((Promise::DoneIsTrue, format!("{id} is not attached at {there}")))
                }
                _ => None,
            };
            if wrong.is_some() {
                break;
            }
        }
        if let Some((name, what)) = wrong {
            self.violate(name, what);
        }
    }

    /// No volume is left that no job was promised.
    fn check_volumes(&mut self) {
        let unexpected = self.disk.images().find(|(id, image)| {
            let expected = self.history.expected.get(id).map(|(_, expected)| expected);
            let may_stay = is_shared(id)
                && image
                    .volume
                    .made_by
                    .as_ref()
                    .is_some_and(|maker| self.history.failed.contains(&maker.job));
            !may_stay && !matches!(expected, Some(Expected::Present { .. }))
        });
        let Some((id, made_by)) = unexpected.map(|(id, image)| (id, image.volume.made_by.clone())) else {
            return;
        };
        match self.history.expected.get(&id) {
            Some((_, Expected::Absent { told: true })) => {
                self.violate(Promise::GoneIsGone, format_args!("{id} is there again, made by {made_by:?}"));
            }
            _ => {
                self.violate(
                    Promise::FailedChangesNothing,
                    format_args!("{id} is left, made by {made_by:?}"),
                );
            }
        }
    }

    /// Each attachment in the journal is mounted, or guarded and reported.
    fn check_attachments(&mut self, stage: Stage) {
        let mut wrong = None;
        for attachment in self.disk.attachments.values() {
            let (id, there) = (&attachment.volume, &attachment.mount_point);
            if self.disk.image(id).is_none() {
                let told = match self.history.expected.get(id) {
                    Some((_, Expected::Absent { told })) => *told,
                    _ => true,
                };
                if told {
                    wrong =
                        Some((Promise::NothingHalfMade, format!("{id} is gone, and attached at {there}")));
                }
            } else if !self.is_on_top(there, id) {
                let reported = self.life.reports_trouble(there) && stage == Stage::Healed;
                let guarded =
                    self.kernel.top(there) == Some(Mount::Guard) || self.life.unguarded.contains(there);
                if !(reported && guarded) {
                    wrong = Some((
                        Promise::AttachedOrGuarded,
                        format!("{id} is not at {there}, and not reported"),
                    ));
                }
            }
        }
        if let Some((name, what)) = wrong {
            self.violate(name, what);
        }
    }

    /// Every mount and every device belongs to an attached volume.
    fn check_kernel(&mut self, stage: Stage) {
        let mut wrong = None;
        for (there, stack) in self.kernel.mounts() {
            let attached = self.disk.attachments.get(there);
            for mount in stack {
                wrong = wrong.or(match mount {
                    Mount::Volume(inode) => {
                        self.stray_mount(*inode, there, attached.map(|found| &found.volume))
                    }
                    Mount::Guard if attached.is_none() => Some(format!("a guard at {there}")),
                    Mount::Guard | Mount::Foreign => None,
                });
            }
        }
        for (number, inode) in self.kernel.devices() {
            if !self.kernel.is_mounted(inode) {
                wrong = wrong.or(Some(format!("device {number} of image {inode}, mounted nowhere")));
            }
        }
        if let Some(what) = wrong {
            let name = if stage == Stage::Empty { Promise::GoneIsGone } else { Promise::NothingHalfMade };
            self.violate(name, what);
        }
        self.check_devices();
    }

    fn stray_mount(&self, inode: u64, there: &MountPoint, attached: Option<&VolumeId>) -> Option<String> {
        let Some(owner) = self.disk.owner_of(inode) else {
            return Some(format!("image {inode} at {there}, which is no volume"));
        };
        (attached != Some(&owner)).then(|| format!("{owner} at {there}, not recorded"))
    }

    /// Every directory that the agent made is recorded in an attachment.
    fn check_directories(&mut self) {
        let is_known = |there: &MountPoint| {
            self.history.kept_directories.contains(there)
                || self.disk.attachments.values().any(|found| found.made_directories.contains(there))
        };
        let made = self.disk.directories.difference(&self.disk.foreign_directories);
        let lost = made.into_iter().find(|there| !is_known(there)).cloned();
        if let Some(lost) = lost {
            self.violate(Promise::NothingHalfMade, format_args!("directory {lost} belongs to no attachment"));
        }
    }

    /// Attached mount points, or the volumes if none is attached.
    pub(crate) fn remaining(&self) -> (Vec<MountPoint>, Vec<VolumeId>) {
        let attached: Vec<MountPoint> = self.disk.attachments.keys().cloned().collect();
        let volumes =
            if attached.is_empty() { self.disk.images().map(|(id, _)| id).collect() } else { Vec::new() };
        (attached, volumes)
    }
}
