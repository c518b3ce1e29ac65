//! What follows from ends: of work, of time, of an answer's way.

use super::{
    AnswerId, AnswerState, Change, Context, Effect, Event, Finished, Known, Ledger, Limits, Outcome, Phase,
    Subject,
};
use crate::failure::{Failure, FailureCode};
use crate::job::{JobKey, JobKind};
use crate::time::{Moment, Uptime};
use crate::volume::VolumeId;

/// How a job ends.
pub(super) struct End {
    pub(super) outcome: Outcome,
    pub(super) volume: Option<VolumeId>,
    pub(super) changed: bool,
    pub(super) needs_undo: bool,
}

impl Ledger {
    pub(super) fn ended(&mut self, key: &JobKey, mut end: End, context: Context<'_>) -> Vec<Effect> {
        let Some(number) = self.number_of(key).filter(|number| self.running.remove(number)) else {
            return Vec::new(); // Answered when it was abandoned; `Released` ends its lane.
        };
        let Some(known) = self.jobs.get(&number) else { return Vec::new() };
        if known.is_finished() {
            return self.undone(number, !end.needs_undo, context);
        }
        // The process was stopped, or its host was suspended: otherwise the work would have been abandoned.
        let is_late =
            end.outcome == Outcome::Done && known.abandon_at.is_none_or(|at| at <= context.now.uptime);
        if is_late {
            let report = self.timeout().report();
            end = End { outcome: Outcome::Failed(report), changed: false, needs_undo: true, ..end };
        }
        if key.kind == JobKind::Delete && (known.may_have_run || end.needs_undo) {
            // The attempt that was cut off may have found what this one does not find any more, or will succeed.
            end.volume = end.volume.or_else(|| named_volume(known, context));
            end.changed = true;
        }
        match end.needs_undo {
            true if is_late => self.undo_from(number, None),
            true => self.undo_later(number, context.now),
            false => self.leave_lane(number),
        }
        let mut effects = self.finish(number, end, context.now);
        effects.extend(self.schedule(context.now));
        effects
    }

    pub(super) fn abandoned(&mut self, key: &JobKey, context: Context<'_>) -> Vec<Effect> {
        let Some(number) = self.number_of(key).filter(|number| self.running.remove(number)) else {
            return Vec::new();
        };
        self.hanging.insert(number);
        let mut effects = self.answer_hanging(number, &self.timeout(), context);
        for behind in self.lanes.meeting(number).intersection(&self.waiting.clone()) {
            let busy =
                Failure::new(FailureCode::Busy, format!("an earlier operation on this volume hangs ({key})"));
            effects.extend(self.give_up(*behind, &busy, context));
        }
        effects.extend(self.schedule(context.now));
        effects
    }

    /// Work of a job that was answered before has returned, and what it had begun is undone, or is to be.
    pub(super) fn released(&mut self, key: &JobKey, undone: bool, context: Context<'_>) -> Vec<Effect> {
        match self.number_of(key).filter(|number| self.hanging.remove(number)) {
            Some(number) => self.undone(number, undone, context),
            None => Vec::new(),
        }
    }

    pub(super) fn tick(&mut self, context: Context<'_>) -> Vec<Effect> {
        let now = context.now.uptime;
        let mut effects = Vec::new();
        for number in &self.running {
            let Some(known) = self.jobs.get_mut(number) else { continue };
            if known.abandon_at.is_some_and(|at| now >= at) {
                known.abandon_at = None;
                effects.push(Effect::Abandon(known.record.key()));
            }
        }
        for number in self.waiting.clone() {
            effects.extend(self.give_up_if_late(number, context));
        }
        for number in self.to_undo.clone() {
            if let Some(known) = self.jobs.get_mut(&number)
                && known.retry_at.is_some_and(|at| now >= at)
            {
                known.retry_at = None;
                self.queue(number);
            }
        }
        effects.extend(self.forget(context.now));
        effects.extend(self.schedule(context.now));
        effects
    }

    fn give_up_if_late(&mut self, number: u64, context: Context<'_>) -> Vec<Effect> {
        let now = context.now.uptime;
        let Some(known) = self.jobs.get(&number).filter(|known| now >= known.due) else { return Vec::new() };
        let undo_by = known.due.max(self.started).after_milliseconds(self.limits.undo_milliseconds);
        let waited = match known.may_have_run {
            true if now < undo_by => return Vec::new(),
            true => "its time ran out behind other jobs; it is being undone".to_owned(),
            false => {
                format!("waited {} s behind other jobs, not started", self.limits.job_milliseconds / 1000)
            }
        };
        self.give_up(number, &Failure::new(FailureCode::Timeout, waited), context)
    }

    pub(super) fn acknowledged(&mut self, id: AnswerId) -> Vec<Effect> {
        let (key, is_pending) = match id {
            AnswerId::Unrecorded(_) => return Vec::new(),
            AnswerId::Refusal(number) => {
                self.refusals.remove(&number);
                return vec![Effect::Note(vec![Change::DropRefusal(number)])];
            }
            AnswerId::Pending(key) => (key, true),
            AnswerId::Final(key) => (key, false),
        };
        let Some(known) = self.number_of(&key).and_then(|number| self.jobs.get_mut(&number)) else {
            return Vec::new();
        };
        known.pending_acknowledged = true;
        let Phase::Finished(finished) = &mut known.record.phase else { return Vec::new() };
        match (finished.answers, is_pending) {
            (AnswerState::PendingUnacknowledged, true) => {
                finished.answers = AnswerState::FinalUnacknowledged;
                let outcome = finished.outcome.clone();
                vec![
                    Effect::Record(vec![Change::PutJob(Box::new(known.record.clone()))]),
                    Effect::Answer(AnswerId::Final(key), known.record.final_answer(&outcome)),
                ]
            }
            (AnswerState::FinalUnacknowledged, false) => {
                finished.answers = AnswerState::Acknowledged;
                vec![Effect::Note(vec![Change::PutJob(Box::new(known.record.clone()))])]
            }
            _ => Vec::new(),
        }
    }

    /// Whether a later job has changed what the finished job was about.
    pub(super) fn is_superseded(&self, number: u64) -> bool {
        let Some(known) = self.jobs.get(&number) else { return false };
        let Phase::Finished(finished) = &known.record.phase else { return false };
        let target = known.record.job.request.target();
        let mut subjects = subjects(known, finished.volume.as_ref());
        subjects.push(match &finished.volume {
            Some(volume) => Subject::Named(volume.name.clone()),
            // It found nothing that it could have changed; now there may be something.
            None => match target.store.clone().or_else(|| known.record.default_store.clone()) {
                Some(store) => Subject::Volume(VolumeId { store, name: target.name() }),
                None => Subject::InAnyStore(target.name()),
            },
        });
        subjects
            .iter()
            .any(|subject| self.last_change.get(subject).is_some_and(|order| *order > finished.order))
    }

    /// Notes that the job which ended as the number `order` has changed `volume`.
    pub(super) fn note_change(&mut self, number: u64, volume: Option<&VolumeId>, order: u64) {
        let Some(known) = self.jobs.get(&number) else { return };
        for subject in changed_subjects(known, volume) {
            let last = self.last_change.entry(subject).or_insert(order);
            *last = order.max(*last);
        }
    }

    /// An attempt to undo what an answered job has begun has ended.
    fn undone(&mut self, number: u64, undone: bool, context: Context<'_>) -> Vec<Effect> {
        let mut effects = Vec::new();
        if !undone {
            self.undo_later(number, context.now);
        } else if let Some(known) = self.jobs.get_mut(&number)
            && let Phase::Finished(finished) = &mut known.record.phase
        {
            finished.needs_undo = false;
            effects.push(Effect::Record(vec![Change::PutJob(Box::new(known.record.clone()))]));
            self.leave_lane(number);
        }
        effects.extend(self.schedule(context.now));
        effects
    }

    /// What could not be undone keeps its lane, and is undone as after a restart.
    fn undo_later(&mut self, number: u64, now: Moment) {
        self.undo_from(number, Some(now.uptime.after_milliseconds(self.limits.undo_milliseconds)));
    }

    /// Has a job undone that does not run, from `retry_at` on or as soon as there is a worker.
    fn undo_from(&mut self, number: u64, retry_at: Option<Uptime>) {
        let Some(known) = self.jobs.get_mut(&number) else { return };
        known.may_have_run = true;
        known.retry_at = retry_at;
        self.to_undo.insert(number);
        self.queue(number);
    }

    fn timeout(&self) -> Failure {
        let seconds = self.limits.job_milliseconds / 1000;
        Failure::new(FailureCode::Timeout, format!("not finished within {seconds} s; it is being undone"))
    }

    fn finish(&mut self, number: u64, end: End, now: Moment) -> Vec<Effect> {
        let End { outcome, volume, changed, needs_undo } = end;
        let order = self.next_order;
        self.next_order += 1;
        if changed {
            self.note_change(number, volume.as_ref(), order);
        }
        let Some(known) = self.jobs.get_mut(&number) else { return Vec::new() };
        self.ended.insert(order, number);
        let answers = if known.pending_acknowledged {
            AnswerState::FinalUnacknowledged
        } else {
            AnswerState::PendingUnacknowledged
        };
        let answer = known.record.final_answer(&outcome);
        let finished = Finished { outcome, volume, changed, order, at: now, answers, needs_undo };
        known.record.phase = Phase::Finished(finished);
        let mut effects = vec![Effect::Record(vec![Change::PutJob(Box::new(known.record.clone()))])];
        if answers == AnswerState::FinalUnacknowledged {
            effects.push(Effect::Answer(AnswerId::Final(known.record.key()), answer));
        }
        effects
    }

    /// Answers a job that waits. One that a restart may have cut off is then still to be undone.
    fn give_up(&mut self, number: u64, failure: &Failure, context: Context<'_>) -> Vec<Effect> {
        self.waiting.remove(&number);
        if self.jobs.get(&number).is_some_and(|known| known.may_have_run) {
            self.to_undo.insert(number);
            return self.answer_hanging(number, failure, context);
        }
        self.ready.remove(&number);
        self.leave_lane(number);
        let outcome = Outcome::Failed(failure.report());
        let end = End { outcome, volume: None, changed: false, needs_undo: false };
        self.finish(number, end, context.now)
    }

    /// Answers a job whose work is not undone yet, unless it has an answer. Whether a delete succeeds after all is open.
    fn answer_hanging(&mut self, number: u64, failure: &Failure, context: Context<'_>) -> Vec<Effect> {
        let Some(known) = self.jobs.get(&number).filter(|known| !known.is_finished()) else {
            return Vec::new();
        };
        let is_delete = known.record.job.request.kind() == JobKind::Delete;
        let volume = is_delete.then(|| named_volume(known, context)).flatten();
        let outcome = Outcome::Failed(failure.report());
        self.finish(number, End { outcome, volume, changed: is_delete, needs_undo: true }, context.now)
    }

    /// Forgets the jobs that ended first: those that are answered, and either older than the time and beyond the number
    /// that the contract keeps at least, or beyond the number that it keeps at most. What is still to be undone, which may
    /// be for ever, is passed over.
    fn forget(&mut self, now: Moment) -> Vec<Effect> {
        let Limits { remembered_min, remembered_max, remembered_milliseconds, .. } = self.limits;
        let is_old = |finished: &Finished| now.milliseconds_since(finished.at) > remembered_milliseconds;
        let mut remembered = self.ended.len();
        let mut forgotten = Vec::new();
        for number in self.ended.values() {
            let Some(Phase::Finished(finished)) = self.jobs.get(number).map(|known| &known.record.phase)
            else {
                continue;
            };
            if !finished.needs_undo {
                let is_beyond =
                    remembered_max < remembered || (remembered_min < remembered && is_old(finished));
                if !is_beyond || finished.answers != AnswerState::Acknowledged {
                    break;
                }
                forgotten.push(*number);
            }
            remembered -= 1;
        }
        if forgotten.is_empty() {
            return Vec::new();
        }
        let dropped = forgotten.into_iter().filter_map(|number| self.forget_end(number)).collect();
        vec![Effect::Record(dropped)]
    }

    /// Forgets a job that has ended, and what it has changed: every job that is still known has ended later, or keeps the
    /// lane of what it is about until it is undone.
    fn forget_end(&mut self, number: u64) -> Option<Change> {
        let known = self.forget_job(number)?;
        if let Phase::Finished(finished) = &known.record.phase {
            for subject in changed_subjects(&known, finished.volume.as_ref()) {
                if self.last_change.get(&subject) == Some(&finished.order) {
                    self.last_change.remove(&subject);
                }
            }
        }
        Some(Change::DropJob(known.record.key()))
    }
}

/// What the job was about, which was `volume` where that is known.
fn subjects(known: &Known, volume: Option<&VolumeId>) -> Vec<Subject> {
    let request = &known.record.job.request;
    let target = request.target();
    let unknown = || (request.kind() == JobKind::Delete).then(|| Subject::Named(target.name()));
    let volume = volume.cloned().map(Subject::Volume).or_else(unknown);
    volume.into_iter().chain(target.mount_point().cloned().map(Subject::At)).collect()
}

/// What the job has changed, if it was about `volume` or an unknown one.
fn changed_subjects(known: &Known, volume: Option<&VolumeId>) -> Vec<Subject> {
    let mut subjects = subjects(known, volume);
    subjects.extend(volume.map(|volume| Subject::InAnyStore(volume.name.clone())));
    subjects
}

/// The volume that a delete means, as far as one can say without asking the stores: a bare name may mean any.
fn named_volume(known: &Known, context: Context<'_>) -> Option<VolumeId> {
    let target = known.record.job.request.target();
    let attached = target.mount_point().and_then(|there| context.attached.at(there));
    let named = || Some(VolumeId { store: target.store.clone()?, name: target.name() });
    attached.map(|attachment| attachment.volume.clone()).or_else(named)
}

impl Event {
    /// The end of work that a defect has stopped: how far it came is unknown.
    #[must_use]
    pub fn broken(key: JobKey, failure: &Failure) -> Self {
        let outcome = Outcome::Failed(failure.report());
        Self::Ended { key, outcome, volume: None, changed: false, released: None, needs_undo: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attachment::AttachmentTable;
    use crate::job::{CreateRequest, Job, JobRequest};
    use crate::ledger::Remembered;
    use crate::mount_point::MountPoint;
    use crate::names::{JobId, SenderId, StoreName};
    use crate::size::VolumeSize;
    use crate::time::{BootId, Timestamp};

    #[test]
    fn what_can_never_be_undone_keeps_no_changes_of_forgotten_jobs_in_memory() {
        let limits = Limits { remembered_min: 0, remembered_milliseconds: 10, ..Limits::default() };
        let (mut ledger, _) =
            Ledger::restore(limits, StoreName::new("loop").unwrap(), Remembered::default(), moment(0));
        let mut take = |id: &str, now: u64, needs_undo: bool| {
            let mount_point = MountPoint::new(format!("/mnt/{id}")).unwrap();
            let request = CreateRequest::at(mount_point, VolumeSize::from_mebibytes(8).unwrap());
            let sender = SenderId::new("s").unwrap();
            let job = Job { sender, id: JobId::new(id).unwrap(), request: JobRequest::Create(request) };
            let key = job.key();
            let outcome = Outcome::Done;
            let ended = Event::Ended {
                key: key.clone(),
                outcome,
                volume: None,
                changed: true,
                released: None,
                needs_undo,
            };
            for event in [
                Event::Requested(job),
                Event::Acknowledged(AnswerId::Pending(key.clone())),
                ended,
                Event::Acknowledged(AnswerId::Final(key)),
                Event::Tick,
            ] {
                ledger.on(event, moment(now), &AttachmentTable::default());
            }
            ledger.last_change.len()
        };
        assert_eq!(take("stuck", 1, true), 1);
        assert_eq!(take("a", 2, false), 2);
        assert_eq!(take("b", 100, false), 2, "that of `a` is not kept");
    }

    fn moment(milliseconds: u64) -> Moment {
        let uptime = Uptime(milliseconds);
        Moment { wall: Timestamp(milliseconds), boot: Some(BootId(1)), uptime }
    }
}
