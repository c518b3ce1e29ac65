//! What follows from ends: of work, of time, of an answer's way.

use super::lane::Lane;
use super::{AnswerId, AnswerState, Effect, Event, Finished, Known, Ledger, Outcome, Phase, Subject};
use crate::failure::{Failure, FailureCode};
use crate::job::{JobKey, JobKind};
use crate::ports::Change;
use crate::time::Timestamp;
use crate::volume::VolumeId;

/// How a job ends.
pub(super) struct End {
    pub(super) outcome: Outcome,
    pub(super) volume: Option<VolumeId>,
    pub(super) changed: bool,
    pub(super) owes_undo: bool,
}

impl Ledger {
    pub(super) fn ended(&mut self, key: &JobKey, mut end: End, now: Timestamp) -> Vec<Effect> {
        if self.running.remove(key).is_none() {
            return Vec::new(); // Answered when it was abandoned; `Released` ends its lane.
        }
        if self.is_finished(key) {
            return self.returned(key, !end.owes_undo, now);
        }
        self.note_attachment(key, &end.outcome, end.volume.as_ref());
        if key.kind == JobKind::Delete && (self.may_have_run(key) || end.owes_undo) {
            // The attempt that was cut off may have found what this one does not find any more, or will get through.
            end.volume = end.volume.or_else(|| self.named_volume(key));
            end.changed = true;
        }
        if end.owes_undo {
            self.undo_later(key, now);
        }
        let mut effects = self.finish(key, end, now);
        effects.extend(self.schedule(now));
        effects
    }

    pub(super) fn abandoned(&mut self, key: &JobKey, now: Timestamp) -> Vec<Effect> {
        let Some(lane) = self.running.remove(key) else { return Vec::new() };
        let seconds = self.limits.job_milliseconds / 1000;
        let late = Failure::new(
            FailureCode::Timeout,
            format!("not finished within {seconds} s; it is being undone"),
        );
        let mut effects = Vec::new();
        if !self.is_finished(key) {
            effects.extend(self.finish(key, self.end_of_hanging(key, &late), now));
        }
        let behind: Vec<JobKey> = self
            .waiting
            .iter()
            .filter(|waiting| self.jobs.get(waiting).is_some_and(|known| known.lane.overlaps(&lane)))
            .cloned()
            .collect();
        for waiting in behind {
            let busy =
                Failure::new(FailureCode::Busy, format!("an earlier operation on this volume hangs ({key})"));
            effects.extend(self.give_up(&waiting, &busy, now));
        }
        self.stuck.insert(key.clone(), lane);
        effects.extend(self.schedule(now));
        effects
    }

    pub(super) fn tick(&mut self, now: Timestamp) -> Vec<Effect> {
        let limit = self.limits.job_milliseconds;
        let restarted = self.started.after_milliseconds(self.limits.undo_milliseconds);
        let is_late = |known: &Known| {
            let due = known.record.received.after_milliseconds(limit);
            let undone_by = due.after_milliseconds(self.limits.undo_milliseconds).max(restarted);
            known.record.phase == Phase::Accepted && now >= if known.may_have_run { undone_by } else { due }
        };
        let mut effects = Vec::new();
        for key in self.running.keys() {
            let Some(known) = self.jobs.get_mut(key) else { continue };
            if known.abandon_at.is_some_and(|at| now >= at) {
                known.abandon_at = None;
                effects.push(Effect::Abandon(key.clone()));
            }
        }
        let late: Vec<JobKey> =
            self.waiting.iter().filter(|key| self.jobs.get(key).is_some_and(is_late)).cloned().collect();
        for key in late {
            let waited = if self.may_have_run(&key) {
                "its time ran out behind other jobs; it is being undone".to_owned()
            } else {
                format!("waited {} s behind other jobs, not started", limit / 1000)
            };
            let waited = Failure::new(FailureCode::Timeout, waited);
            effects.extend(self.give_up(&key, &waited, now));
        }
        for key in &self.waiting {
            if let Some(known) = self.jobs.get_mut(key) {
                known.undo_at = known.undo_at.filter(|at| now < *at);
            }
        }
        effects.extend(self.forget(now));
        effects.extend(self.schedule(now));
        effects
    }

    pub(super) fn acknowledged(&mut self, id: AnswerId) -> Vec<Effect> {
        match id {
            AnswerId::Unrecorded => Vec::new(),
            AnswerId::Refusal(number) => {
                self.refusals.remove(&number);
                vec![Effect::Note(vec![Change::DropRefusal(number)])]
            }
            AnswerId::Pending(key) => {
                let Some(known) = self.jobs.get_mut(&key) else { return Vec::new() };
                known.pending_acknowledged = true;
                let Phase::Finished(finished) = &mut known.record.phase else { return Vec::new() };
                if finished.answers != AnswerState::PendingUnacknowledged {
                    return Vec::new();
                }
                finished.answers = AnswerState::FinalUnacknowledged;
                let outcome = finished.outcome.clone();
                vec![
                    Effect::Record(vec![Change::PutJob(Box::new(known.record.clone()))]),
                    Effect::Answer(AnswerId::Final(key), known.record.final_answer(&outcome)),
                ]
            }
            AnswerId::Final(key) => {
                let Some(known) = self.jobs.get_mut(&key) else { return Vec::new() };
                let Phase::Finished(finished) = &mut known.record.phase else { return Vec::new() };
                if finished.answers != AnswerState::FinalUnacknowledged {
                    return Vec::new();
                }
                finished.answers = AnswerState::Acknowledged;
                if !finished.owes_undo {
                    known.lane = Lane::default(); // Never looked at again, and most of what a finished job takes.
                }
                vec![Effect::Note(vec![Change::PutJob(Box::new(known.record.clone()))])]
            }
        }
    }

    /// Whether a later job has changed what the finished job `key` was about.
    pub(super) fn is_superseded(&self, key: &JobKey) -> bool {
        let Some(Phase::Finished(finished)) = self.jobs.get(key).map(|known| &known.record.phase) else {
            return false;
        };
        let mut subjects = self.subjects(key, finished.volume.as_ref());
        subjects.extend(finished.volume.iter().map(|volume| Subject::Named(volume.name.clone())));
        subjects
            .iter()
            .any(|subject| self.last_change.get(subject).is_some_and(|order| *order > finished.order))
    }

    /// What the job `key` was about, which was `volume` where that is known.
    pub(super) fn subjects(&self, key: &JobKey, volume: Option<&VolumeId>) -> Vec<Subject> {
        let target = self.jobs.get(key).map(|known| known.record.job.request.target());
        let unknown = || target.filter(|_| key.kind == JobKind::Delete).map(|target| target.name());
        let volume = volume.cloned().map(Subject::Volume).or_else(|| unknown().map(Subject::Named));
        let mount_point = target.and_then(|target| target.mount_point());
        volume.into_iter().chain(mount_point.cloned().map(Subject::At)).collect()
    }

    /// Work of a job that was answered before has returned: what it had begun is undone, or is to be.
    pub(super) fn returned(&mut self, key: &JobKey, undone: bool, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        if !undone {
            self.undo_later(key, now);
        } else if let Some(known) = self.jobs.get_mut(key)
            && let Phase::Finished(finished) = &mut known.record.phase
            && finished.owes_undo
        {
            finished.owes_undo = false;
            effects.push(Effect::Record(vec![Change::PutJob(Box::new(known.record.clone()))]));
        }
        effects.extend(self.schedule(now));
        effects
    }

    /// What could not be undone keeps its lane, and is undone as after a restart.
    fn undo_later(&mut self, key: &JobKey, now: Timestamp) {
        let Some(known) = self.jobs.get_mut(key) else { return };
        known.may_have_run = true;
        known.undo_at = Some(now.after_milliseconds(self.limits.undo_milliseconds));
        self.waiting.push_front(key.clone());
    }

    fn finish(&mut self, key: &JobKey, end: End, now: Timestamp) -> Vec<Effect> {
        let End { outcome, volume, changed, owes_undo } = end;
        let order = self.next_order;
        self.next_order += 1;
        if changed {
            for subject in self.subjects(key, volume.as_ref()) {
                self.last_change.insert(subject, order);
            }
        }
        let Some(known) = self.jobs.get_mut(key) else { return Vec::new() };
        let answers = if known.pending_acknowledged {
            AnswerState::FinalUnacknowledged
        } else {
            AnswerState::PendingUnacknowledged
        };
        let answer = known.record.final_answer(&outcome);
        let finished = Finished { outcome, volume, changed, order, at: now, answers, owes_undo };
        known.record.phase = Phase::Finished(finished);
        let mut effects = vec![Effect::Record(vec![Change::PutJob(Box::new(known.record.clone()))])];
        if answers == AnswerState::FinalUnacknowledged {
            effects.push(Effect::Answer(AnswerId::Final(key.clone()), answer));
        }
        effects
    }

    /// Ends a job that waits. One that a restart may have cut off is answered, and keeps waiting to be undone.
    fn give_up(&mut self, key: &JobKey, failure: &Failure, now: Timestamp) -> Vec<Effect> {
        if self.is_finished(key) {
            return Vec::new();
        }
        if self.may_have_run(key) {
            return self.finish(key, self.end_of_hanging(key, failure), now);
        }
        self.waiting.retain(|waiting| waiting != key);
        let outcome = Outcome::Failed(failure.report());
        self.finish(key, End { outcome, volume: None, changed: false, owes_undo: false }, now)
    }

    /// The end of a job whose work is not undone yet. Whether a delete gets through after all nobody knows.
    fn end_of_hanging(&self, key: &JobKey, failure: &Failure) -> End {
        let is_delete = key.kind == JobKind::Delete;
        let volume = is_delete.then(|| self.named_volume(key)).flatten();
        End { outcome: Outcome::Failed(failure.report()), volume, changed: is_delete, owes_undo: true }
    }

    /// The volume that a delete means, as far as one can say without asking the stores: a bare name may mean any.
    fn named_volume(&self, key: &JobKey) -> Option<VolumeId> {
        let target = self.jobs.get(key)?.record.job.request.target();
        let attached = target.mount_point().and_then(|there| self.attached.get(there));
        let named = || Some(VolumeId { store: target.store.clone()?, name: target.name() });
        attached.cloned().or_else(named)
    }

    pub(super) fn is_finished(&self, key: &JobKey) -> bool {
        self.jobs.get(key).is_some_and(|known| known.record.phase != Phase::Accepted)
    }

    fn may_have_run(&self, key: &JobKey) -> bool {
        self.jobs.get(key).is_some_and(|known| known.may_have_run)
    }

    fn note_attachment(&mut self, key: &JobKey, outcome: &Outcome, volume: Option<&VolumeId>) {
        let (Outcome::Done, Some(known)) = (outcome, self.jobs.get(key)) else { return };
        let mount_point = known.record.job.request.target().mount_point();
        match (key.kind, mount_point, volume) {
            (JobKind::Create, Some(mount_point), Some(volume)) => {
                self.attached.insert(mount_point.clone(), volume.clone());
            }
            (JobKind::Create, _, _) => {}
            (JobKind::Delete, mount_point, volume) => {
                self.attached
                    .retain(|there, attached| mount_point != Some(there) && volume != Some(attached));
            }
        }
    }

    /// Forgets the oldest jobs: those that are answered, older than the time and beyond the number that the
    /// contract keeps. What is still to be undone, which may be for ever, is passed over.
    fn forget(&mut self, now: Timestamp) -> Vec<Effect> {
        let mut forgotten = Vec::new();
        let mut index = 0;
        while self.by_age.len() > self.limits.remembered_min {
            let Some(oldest) = self.by_age.get(index) else { break };
            match self.jobs.get(oldest).map(|known| &known.record.phase) {
                Some(Phase::Finished(finished)) if finished.owes_undo => {
                    index += 1;
                    continue;
                }
                Some(Phase::Finished(finished))
                    if finished.answers == AnswerState::Acknowledged
                        && now.milliseconds_since(finished.at) > self.limits.remembered_milliseconds => {}
                Some(_) => break,
                None => {}
            }
            self.jobs.remove(oldest);
            forgotten.extend(self.by_age.remove(index).map(Change::DropJob));
        }
        if forgotten.is_empty() {
            return Vec::new();
        }
        // Nobody changes what a job is about that is still to be undone: it keeps its lane.
        let oldest_order = self
            .jobs
            .values()
            .filter_map(|known| match &known.record.phase {
                Phase::Finished(finished) if !finished.owes_undo => Some(finished.order),
                Phase::Finished(_) | Phase::Accepted => None,
            })
            .min()
            .unwrap_or(self.next_order);
        self.last_change.retain(|_, order| *order >= oldest_order);
        vec![Effect::Record(forgotten)]
    }
}

impl Event {
    /// The end of work that a defect has stopped: how far it came nobody knows.
    #[must_use]
    pub fn broken(key: JobKey, failure: &Failure) -> Self {
        let outcome = Outcome::Failed(failure.report());
        Self::Ended { key, outcome, volume: None, changed: false, owes_undo: true }
    }
}
