//! Checks of commits: their order, and whether what they record is true.

use crate::promise::Promise;
use crate::scenario::is_shared;
use crate::world::disk::Image;
use crate::world::history::Expected;
use crate::world::kernel::Mount;
use crate::world::{LIMITS, World};
use dvs_domain::attachment::{Attachment, Holder};
use dvs_domain::failure::{FailureCode, FailureReport};
use dvs_domain::job::{Job, JobKey, JobKind, JobRequest};
use dvs_domain::ledger::{AnswerState, Change, Finished, JobRecord, Outcome, Phase};
use dvs_domain::volume::VolumeId;

impl World {
    /// Checks a change and makes it durable.
    pub(crate) fn commit(&mut self, change: Change) {
        match &change {
            Change::PutJob(record) => self.check_job(record),
            Change::DropJob(key) => {
                self.check_forgotten(key);
                self.history.received.remove(key);
                self.history.accepted.remove(key);
                self.history.ended.remove(key);
            }
            Change::PutRefusal(_, refusal) => {
                let shown = refusal.sender.clone().map(|sender| (sender, refusal.job.clone()));
                self.history.refused.extend(shown);
            }
            Change::DropRefusal(_) => {}
            Change::PutAttachment(there) => {
                self.log(format_args!("journal: {} is attached at {}", there.volume, there.mount_point));
            }
            Change::DropAttachment(there) => {
                self.log(format_args!("journal: nothing is attached at {there}"));
            }
        }
        self.disk.write(change);
    }

    /// Notes what an injected failure kept from being recorded: it may be refused without a record.
    pub(crate) fn excuse_unrecorded(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::PutJob(record) if record.phase == Phase::Accepted => {
                    let job = &record.job;
                    self.history.unrecorded.insert((job.sender.clone(), Some(job.id.clone())));
                }
                Change::PutRefusal(_, refusal) => {
                    let shown = refusal.sender.clone().map(|sender| (sender, refusal.job.clone()));
                    self.history.unrecorded.extend(shown);
                }
                _ => {}
            }
        }
    }

    fn check_job(&mut self, record: &JobRecord) {
        let key = record.key();
        let before = self.disk.jobs.get(&key).map(|before| before.phase.clone());
        match (before, &record.phase) {
            (None, Phase::Accepted) => {
                self.counts.accepted += 1;
                self.history.accepted.insert(key.clone(), self.stamp_now());
                self.log(format_args!("journal: {key} is accepted as number {}", record.number));
            }
            (None, Phase::Finished(_)) => {
                self.violate(Promise::RecordBeforeWork, format_args!("{key} ends and was never accepted"));
            }
            (Some(Phase::Accepted), Phase::Accepted) => {}
            (Some(Phase::Accepted), Phase::Finished(finished)) => self.check_end(record, finished),
            (Some(Phase::Finished(_)), Phase::Accepted) => {
                self.violate(
                    Promise::AnsweredOnceInOrder,
                    format_args!("{key} has ended, and is accepted again"),
                );
            }
            (Some(Phase::Finished(before)), Phase::Finished(after)) => {
                self.check_answer_state(&key, &before, after);
            }
        }
    }

    fn check_answer_state(&mut self, key: &JobKey, before: &Finished, after: &Finished) {
        if before.outcome != after.outcome {
            self.violate(Promise::AnsweredOnceInOrder, format_args!("{key} gets another outcome"));
        }
        if before.answers == AnswerState::Acknowledged && after.answers == AnswerState::FinalUnacknowledged {
            self.life.final_sent.remove(key); // A repeat: it is sent again.
            self.check_repeated(key, after);
        }
        let goes_back = after.answers == AnswerState::PendingUnacknowledged
            && before.answers != AnswerState::PendingUnacknowledged;
        if goes_back {
            self.violate(
                Promise::AnsweredOnceInOrder,
                format_args!("a restart would send PENDING of {key} again"),
            );
        }
    }

    /// A `DONE` that is sent again must still be true.
    fn check_repeated(&mut self, key: &JobKey, finished: &Finished) {
        let Some(id) = finished.volume.as_ref().filter(|_| finished.outcome == Outcome::Done) else { return };
        let later = self.history.expected.get(id).filter(|(order, _)| finished.order < *order);
        let wrong = match (key.kind, later) {
            (JobKind::Create, Some((_, Expected::Absent { .. }))) => "gone",
            (JobKind::Delete, Some((_, Expected::Present { .. }))) => "there again",
            _ => return,
        };
        self.violate(Promise::ARepeatIsTrue, format_args!("{key} is told DONE again, and {id} is {wrong}"));
    }

    fn check_forgotten(&mut self, key: &JobKey) {
        self.counts.forgotten += 1;
        let phase = self.disk.jobs.get(key).map(|record| &record.phase);
        let ended = |finished: &Finished| finished.answers == AnswerState::Acknowledged;
        if !matches!(phase, Some(Phase::Finished(finished)) if ended(finished)) {
            self.violate(Promise::AllAcknowledgedJobsAnswered, format_args!("{key} is forgotten unanswered"));
        }
        let ended = self.history.ended.get(key).filter(|ended| self.clock.is_measurable(**ended));
        let age = ended.map(|ended| self.now() - ended.true_time);
        if let Some(age) = age.filter(|age| *age < LIMITS.remembered_milliseconds) {
            self.violate(
                Promise::RememberedLongEnough,
                format_args!("{key} is forgotten {age} ms after its end"),
            );
        }
    }

    /// The end of a job must be true.
    fn check_end(&mut self, record: &JobRecord, finished: &Finished) {
        let key = record.key();
        self.history.ended.insert(key.clone(), self.stamp_now());
        match &finished.outcome {
            Outcome::Done => {
                self.counts.done += 1;
                self.log(format_args!("journal: {key} is done"));
                self.check_done_in_time(record, finished);
                self.check_order(record);
                self.check_done(record, finished);
            }
            Outcome::Failed(report) => {
                self.counts.failed += 1;
                self.history.failed.insert(key.clone());
                self.log(format_args!("journal: {key} has failed: {} {}", report.code, report.error));
                self.check_failed(record, report, finished);
            }
        }
        if finished.outcome == Outcome::Done {
            self.history.failed.remove(&key);
            self.history.done.insert(key);
        }
    }

    /// No earlier job of its lane has still to run.
    fn check_order(&mut self, record: &JobRecord) {
        let target = record.job.request.target();
        let overtaken = self.disk.jobs.values().find(|other| {
            let others = other.job.request.target();
            let same_place = match (target.mount_point(), others.mount_point()) {
                (Some(one), Some(other)) => one.overlaps(other),
                _ => false,
            };
            other.phase == Phase::Accepted
                && other.number < record.number
                && (same_place || (target.name() == others.name() && target.store == others.store))
        });
        if let Some(overtaken) = overtaken.map(JobRecord::key) {
            self.violate(
                Promise::InOrderPerLane,
                format_args!("{} is done before {overtaken}", record.key()),
            );
        }
    }

    fn check_done(&mut self, record: &JobRecord, finished: &Finished) {
        let job = &record.job;
        let is_last = self.is_last_of_its_lane(record, finished.volume.as_ref());
        match (&job.request, &finished.volume) {
            (JobRequest::Create(create), Some(id)) => {
                let at = create.target.mount_point().cloned();
                if is_last {
                    self.check_present(job, id);
                }
                self.expect(finished.order, id, Expected::Present { size: create.size, at });
            }
            (JobRequest::Delete(_), volume) => {
                if is_last {
                    self.check_gone(job, volume.as_ref());
                }
                // An earlier attempt may have decided it, so that this one found nothing.
                let decided = self.history.decided.get(&record.key()).cloned();
                for id in volume.iter().chain(&decided) {
                    self.expect(finished.order, id, Expected::Absent { told: true });
                }
            }
            (JobRequest::Create(_), None) => {
                self.violate(
                    Promise::DoneIsTrue,
                    format_args!("{} is done, and names no volume", record.key()),
                );
            }
        }
    }

    /// Whether no later job can have changed what this one was about.
    fn is_last_of_its_lane(&self, record: &JobRecord, id: Option<&VolumeId>) -> bool {
        let mount_point = record.job.request.target().mount_point();
        !self.disk.jobs.values().any(|other| {
            let place = other.job.request.target().mount_point();
            let same_place = mount_point.zip(place).is_some_and(|(one, other)| one.overlaps(other));
            let same_name = other.job.request.target().name() == record.job.request.target().name();
            record.number < other.number
                && (same_place || same_name || id.is_some_and(|id| self.is_about(other, id)))
        })
    }

    fn check_present(&mut self, job: &Job, id: &VolumeId) {
        let key = job.key();
        if self.disk.image(id).is_none() {
            return self.violate(Promise::DoneIsTrue, format_args!("{key} is done, and {id} is not there"));
        }
        let Some(there) = job.request.target().mount_point() else { return };
        if self.disk.attachments.get(there).is_none_or(|found| found.volume != *id) {
            self.violate(Promise::DoneIsTrue, format_args!("{key} is done, and not recorded as attached"));
        } else if !self.is_on_top(there, id) {
            self.violate(Promise::DoneIsTrue, format_args!("{key} is done, and {id} is not at {there}"));
        }
    }

    fn check_gone(&mut self, job: &Job, volume: Option<&VolumeId>) {
        let key = job.key();
        let mut left = Vec::new();
        if let Some(id) = volume {
            left.extend(self.disk.image(id).map(|_| format!("volume {id}")));
            let attached = self.disk.attachments.values().find(|there| there.volume == *id);
            left.extend(attached.map(|there| format!("an attachment at {}", there.mount_point)));
        }
        if let Some(there) = job.request.target().mount_point() {
            left.extend(self.disk.attachments.get(there).map(|_| format!("an attachment at {there}")));
            let ours = self.kernel.top(there).filter(|mount| *mount != Mount::Foreign);
            left.extend(ours.map(|mount| format!("{mount:?} at {there}")));
        }
        if !left.is_empty() {
            self.violate(
                Promise::GoneIsGone,
                format_args!("{key} is done, and there is {}", left.join(", ")),
            );
        }
    }

    fn check_failed(&mut self, record: &JobRecord, report: &FailureReport, finished: &Finished) {
        let key = record.key();
        if report.code == FailureCode::StoreUnavailable {
            self.check_unavailable(record);
        }
        match &record.job.request {
            // Checked once it is undone.
            JobRequest::Create(_) if finished.needs_undo => {}
            JobRequest::Create(_) => self.check_undone(&key),
            JobRequest::Delete(_) => self.check_not_deleted(&key, report, finished),
        }
    }

    /// A failed create leaves nothing behind, but on a shared store its volume, whole.
    pub(super) fn check_undone(&mut self, key: &JobKey) {
        // What a forgotten job of the same id has made is its own.
        let accepted = self.history.accepted.get(key).map_or(0, |accepted| accepted.true_time);
        let is_older =
            |image: &Image| self.history.formatted.get(&image.inode).is_some_and(|(_, at)| *at < accepted);
        let is_left = |id: &VolumeId, image: &Image| {
            image.volume.made_by.as_ref().is_some_and(|maker| maker.job == *key)
                && !is_shared(id)
                && !is_older(image)
        };
        let made = self.disk.images().find(|(id, image)| is_left(id, image));
        let holder = Holder::Job(key.clone());
        let is_held = |there: &&Attachment| {
            there.holders.contains(&holder) && !self.disk.image(&there.volume).is_some_and(is_older)
        };
        let held = self.disk.attachments.values().find(is_held);
        let left = match (made, held) {
            (Some((id, _)), _) => format!("volume {id}"),
            (None, Some(there)) => format!("the attachment at {}", there.mount_point),
            (None, None) => return,
        };
        self.violate(Promise::FailedChangesNothing, format_args!("{key} has failed, and left {left}"));
    }

    fn check_not_deleted(&mut self, key: &JobKey, report: &FailureReport, finished: &Finished) {
        let Some(id) = self.history.decided.get(key).cloned() else { return };
        let refused = matches!(
            report.code,
            FailureCode::InUse | FailureCode::Conflict | FailureCode::Damaged | FailureCode::Busy
        );
        if refused && !finished.changed && self.disk.image(&id).is_none() {
            self.violate(Promise::FailedChangesNothing, format_args!("{key} was refused, and {id} is gone"));
        }
        if self.disk.image(&id).is_none() {
            self.expect(finished.order, &id, Expected::Absent { told: false });
        }
    }

    /// A delete that was answered while it hung has removed the volume after all.
    pub(super) fn expect_gone(&mut self, key: &JobKey, id: &VolumeId) {
        let Some(Phase::Finished(finished)) = self.disk.jobs.get(key).map(|record| &record.phase) else {
            return;
        };
        let order = finished.order;
        self.expect(order, id, Expected::Absent { told: false });
    }

    /// Sets what must be true of a volume in the end. The job that ended last decides.
    fn expect(&mut self, order: u64, id: &VolumeId, mut expected: Expected) {
        let before = self.history.expected.get(id);
        if before.is_some_and(|(other, _)| order < *other) {
            return;
        }
        if let (Expected::Present { at: at @ None, .. }, Some((_, Expected::Present { at: there, .. }))) =
            (&mut expected, before)
        {
            at.clone_from(there);
        }
        self.history.expected.insert(id.clone(), (order, expected));
    }
}
