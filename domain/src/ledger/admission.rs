//! What follows from an arrival: a job is taken, answered as a repeat, or refused.

use super::lane::Lane;
use super::{AnswerId, AnswerState, Effect, Known, Ledger, Phase, RefusalNumber};
use crate::failure::{Failure, FailureCode, FailureReport};
use crate::job::{Answer, Job, JobKey, JobKind, Refusal, Status};
use crate::ledger::JobRecord;
use crate::ports::Change;
use crate::time::Timestamp;

impl Ledger {
    pub(super) fn requested(&mut self, job: Job, now: Timestamp) -> Vec<Effect> {
        let key = job.key();
        if let Some(known) = self.jobs.get(&key) {
            return self.repeated(&key, &job, known.record.job == job);
        }
        let mut lane = Lane::of(&job, &self.default_store, &self.attached);
        if let Err(failure) = self.has_room_for(&lane) {
            return self.refuse(Refusal::of(&job, &failure));
        }
        for live in self.waiting.iter().filter_map(|key| self.jobs.get(key)).map(|known| &known.lane) {
            if live.names_same(&lane) {
                lane.absorb(live);
            }
        }
        for live in self.running.values() {
            if live.names_same(&lane) {
                lane.absorb(live);
            }
        }
        let needs_store = key.kind == JobKind::Create && job.request.target().store.is_none();
        let record = JobRecord {
            job,
            number: self.next_number,
            received: now,
            default_store: needs_store.then(|| self.default_store.clone()),
            phase: Phase::Accepted,
        };
        self.next_number += 1;
        let mut effects = vec![
            Effect::Record(vec![Change::PutJob(Box::new(record.clone()))]),
            Effect::Answer(AnswerId::Pending(key.clone()), record.pending_answer()),
        ];
        let known = Known {
            record,
            lane,
            pending_acknowledged: false,
            may_have_run: false,
            abandon_at: None,
            undo_at: None,
        };
        self.jobs.insert(key.clone(), known);
        self.by_age.push_back(key.clone());
        self.waiting.push_back(key);
        effects.extend(self.schedule(now));
        effects
    }

    pub(super) fn refuse(&mut self, refusal: Refusal) -> Vec<Effect> {
        let Some(answer) = answer_to(&refusal) else { return Vec::new() };
        if self.refusals.len() >= self.limits.refusals {
            return Vec::new();
        }
        let number = RefusalNumber(self.next_refusal);
        self.next_refusal += 1;
        self.refusals.insert(number);
        vec![
            Effect::Record(vec![Change::PutRefusal(number, refusal)]),
            Effect::Answer(AnswerId::Refusal(number), answer),
        ]
    }

    /// A job that the journal could not take was never accepted: its sender is told, and it is forgotten.
    pub(super) fn job_not_recorded(
        &mut self,
        key: &JobKey,
        report: FailureReport,
        now: Timestamp,
    ) -> Vec<Effect> {
        let Some(known) = self.jobs.remove(key) else { return Vec::new() };
        self.by_age.retain(|other| other != key);
        self.waiting.retain(|other| other != key);
        self.running.remove(key);
        let job = known.record.job;
        let answer = Answer { sender: job.sender, job: Some(job.id), status: Status::Failed(report) };
        let mut effects = vec![Effect::Answer(AnswerId::Unrecorded, answer)];
        effects.extend(self.schedule(now));
        effects
    }

    fn has_room_for(&self, lane: &Lane) -> Result<(), Failure> {
        let busy = |detail: String| Err(Failure::new(FailureCode::Busy, detail));
        if let Some((key, _)) = self.stuck.iter().find(|(_, stuck)| stuck.overlaps(lane)) {
            return busy(format!("an earlier operation on this volume still hangs ({key})"));
        }
        let not_undone = |key: &&JobKey| {
            self.jobs.get(key).is_some_and(|known| known.undo_at.is_some() && known.lane.overlaps(lane))
        };
        if let Some(key) = self.waiting.iter().find(not_undone) {
            return busy(format!("an earlier operation on this volume could not be undone yet ({key})"));
        }
        // What is answered and still to be undone takes nobody's place.
        let waiting = self.waiting.iter().filter(|key| !self.is_finished(key)).count();
        if waiting >= self.limits.queue {
            return busy(format!("{waiting} jobs are waiting, no more are taken"));
        }
        if self.stuck.len() >= self.limits.stuck {
            return busy(format!("{} operations hang, no more are started", self.stuck.len()));
        }
        Ok(())
    }

    /// A broker may deliver twice, and a sender may ask again. The second copy is not worked on.
    fn repeated(&mut self, key: &JobKey, job: &Job, same_content: bool) -> Vec<Effect> {
        let reused = |detail: String| Refusal::of(job, &Failure::new(FailureCode::JobIdReused, detail));
        if !same_content {
            return self.refuse(reused(format!("{key} was sent before with other content")));
        }
        let superseded = self.is_superseded(key);
        let Some(known) = self.jobs.get_mut(key) else { return Vec::new() };
        let Phase::Finished(finished) = &mut known.record.phase else { return Vec::new() };
        if superseded {
            return self
                .refuse(reused(format!("{key} has ended, and a later job has changed its volume since")));
        }
        if finished.answers != AnswerState::Acknowledged {
            return Vec::new(); // Its answer is on the way.
        }
        finished.answers = AnswerState::FinalUnacknowledged;
        let outcome = finished.outcome.clone();
        vec![
            Effect::Record(vec![Change::PutJob(Box::new(known.record.clone()))]),
            Effect::Answer(AnswerId::Final(key.clone()), known.record.final_answer(&outcome)),
        ]
    }
}

/// What the sender of a refused message is told; nothing when there is nobody to tell.
pub(super) fn answer_to(refusal: &Refusal) -> Option<Answer> {
    let sender = refusal.sender.clone()?;
    Some(Answer { sender, job: refusal.job.clone(), status: Status::Failed(refusal.report.clone()) })
}
