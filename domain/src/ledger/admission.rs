//! What follows from an arrival: a job is accepted, answered as a repeat, or refused.

use super::lane::Lane;
use super::{AnswerId, AnswerState, Change, Context, Effect, JobRecord, Known, Ledger, Phase, RefusalNumber};
use crate::failure::{Failure, FailureCode, FailureReport};
use crate::job::{Answer, Job, JobKey, JobKind, Refusal, Status};
use crate::time::Moment;
use std::collections::BTreeSet;

impl Ledger {
    pub(super) fn requested(&mut self, job: Job, context: Context<'_>) -> Vec<Effect> {
        let key = job.key();
        if let Some(number) = self.number_of(&key) {
            return self.repeated(number, &job);
        }
        let mut lane = Lane::of(&job, &self.default_store, context.attached);
        if let Err(failure) = self.has_room_for(&lane) {
            return self.refuse(Refusal::of(&job, &failure));
        }
        self.lanes.absorb_into(&mut lane);
        let needs_store = key.kind == JobKind::Create && job.request.target().store.is_none();
        let record = JobRecord {
            job,
            number: self.next_number,
            received: context.now,
            default_store: needs_store.then(|| self.default_store.clone()),
            phase: Phase::Accepted,
        };
        let mut effects = vec![
            Effect::Record(vec![Change::PutJob(Box::new(record.clone()))]),
            Effect::Answer(AnswerId::Pending(key.clone()), record.pending_answer()),
        ];
        let number = self.remember(record, false, context.now);
        self.lanes.insert(number, lane);
        self.waiting.insert(number);
        self.queue(number);
        effects.extend(self.schedule(context.now));
        effects
    }

    /// Enters a job under its number.
    pub(super) fn remember(&mut self, record: JobRecord, may_have_run: bool, now: Moment) -> u64 {
        let number = record.number;
        self.next_number = self.next_number.max(number + 1);
        let left = self.limits.job_milliseconds.saturating_sub(now.milliseconds_since(record.received));
        self.numbers.insert(record.key(), number);
        let known = Known {
            record,
            due: now.uptime.after_milliseconds(left),
            pending_acknowledged: false,
            may_have_run,
            abandon_at: None,
            retry_at: None,
        };
        self.jobs.insert(number, Box::new(known));
        number
    }

    pub(super) fn refuse(&mut self, refusal: Refusal) -> Vec<Effect> {
        let Some(answer) = answer_to(&refusal) else { return Vec::new() };
        if self.refusals.len() >= self.limits.refusals {
            return Vec::new();
        }
        let number = self.next_refusal();
        self.refusals.insert(number);
        vec![
            Effect::Record(vec![Change::PutRefusal(number, refusal)]),
            Effect::Answer(AnswerId::Refusal(number), answer),
        ]
    }

    fn next_refusal(&mut self) -> RefusalNumber {
        let number = RefusalNumber(self.next_refusal);
        self.next_refusal += 1;
        number
    }

    /// A job that the journal could not record was never accepted: it is refused, and forgotten.
    pub(super) fn job_not_recorded(
        &mut self,
        key: &JobKey,
        report: FailureReport,
        context: Context<'_>,
    ) -> Vec<Effect> {
        let Some(number) = self.number_of(key) else { return Vec::new() };
        let Some(known) = self.forget_job(number) else { return Vec::new() };
        for set in [&mut self.waiting, &mut self.running, &mut self.ready] {
            set.remove(&number);
        }
        self.leave_lane(number);
        let job = known.record.job;
        let answer = Answer { sender: job.sender, job: Some(job.id), status: Status::Failed(report) };
        let mut effects = vec![Effect::Answer(AnswerId::Unrecorded(self.next_refusal()), answer)];
        effects.extend(self.schedule(context.now));
        effects
    }

    pub(super) fn forget_job(&mut self, number: u64) -> Option<Box<Known>> {
        let known = self.jobs.remove(&number)?;
        self.numbers.remove(&known.record.key());
        if let Phase::Finished(finished) = &known.record.phase {
            self.ended.remove(&finished.order);
        }
        Some(known)
    }

    fn has_room_for(&self, lane: &Lane) -> Result<(), Failure> {
        let busy = |detail: String| Err(Failure::new(FailureCode::Busy, detail));
        let overlapping = self.lanes.overlapping(lane);
        let first_of = |numbers: &BTreeSet<u64>, needs_retry: bool| {
            let mut jobs = overlapping.intersection(numbers).filter_map(|number| self.jobs.get(number));
            jobs.find(|known| known.retry_at.is_some() == needs_retry).map(|known| known.record.key())
        };
        if let Some(key) = first_of(&self.hanging, false) {
            return busy(format!("an earlier operation on this volume still hangs ({key})"));
        }
        if let Some(key) = first_of(&self.to_undo, true) {
            return busy(format!("an earlier operation on this volume could not be undone yet ({key})"));
        }
        let waiting = self.waiting.len();
        if waiting >= self.limits.queue {
            return busy(format!("{waiting} jobs are waiting, no more are accepted"));
        }
        let hanging = self.hanging.len();
        if hanging >= self.limits.stuck {
            return busy(format!("{hanging} operations hang, no more are started"));
        }
        Ok(())
    }

    /// A broker may deliver twice, and a sender may ask again. The second copy is not worked on.
    fn repeated(&mut self, number: u64, job: &Job) -> Vec<Effect> {
        let key = job.key();
        let superseded = self.is_superseded(number);
        let Some(known) = self.jobs.get_mut(&number) else { return Vec::new() };
        let reused = |detail: String| Refusal::of(job, &Failure::new(FailureCode::JobIdReused, detail));
        if known.record.job != *job {
            return self.refuse(reused(format!("{key} was sent before with other content")));
        }
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
            Effect::Answer(AnswerId::Final(key), known.record.final_answer(&outcome)),
        ]
    }
}

/// What the sender of a refused message is told; nothing when there is nobody to tell.
pub(super) fn answer_to(refusal: &Refusal) -> Option<Answer> {
    let sender = refusal.sender.clone()?;
    Some(Answer { sender, job: refusal.job.clone(), status: Status::Failed(refusal.report.clone()) })
}
