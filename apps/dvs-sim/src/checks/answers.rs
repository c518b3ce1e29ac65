//! Checks of answers: recorded first, in order, one final answer per job, on the topic of the contract.

use crate::promise::Promise;
use crate::world::World;
use crate::world::ids::{MessageNumber, SentAnswer};
use dvs_domain::job::{Answer, JobKey, JobKind, Status};
use dvs_domain::ledger::{AnswerState, Finished, JobRecord, Outcome, Phase};
use dvs_domain::ports::Arrival;
use dvs_job_json::decode_answer;

impl World {
    /// Identifies an answer that the agent hands to its client by what is on disk; `None` is a violation.
    pub(crate) fn check_answer(&mut self, answer: &Answer) -> Option<SentAnswer> {
        let sent = match &answer.status {
            Status::Pending => self.pending(answer),
            Status::Done => self.final_answer(answer),
            Status::Failed(_) => self.final_answer(answer).or_else(|| self.refusal(answer)),
        };
        if sent.is_none() {
            let known = self.records(answer).next().map(|record| record.key());
            match (known, &answer.status) {
                (Some(key), Status::Pending) => {
                    self.violate(
                        Promise::AnsweredOnceInOrder,
                        format_args!("PENDING of {key} after its end"),
                    );
                }
                (_, status) => self.violate(
                    Promise::NoAnswerBeforeRecord,
                    format_args!(
                        "nothing on disk allows {status:?} for {:?} of {}",
                        answer.job, answer.sender
                    ),
                ),
            }
        }
        match &sent {
            Some(SentAnswer::Pending(key)) => self.life.pending_sent.insert(key.clone()),
            Some(SentAnswer::Final(key, _)) => self.life.final_sent.insert(key.clone()),
            Some(SentAnswer::Refused(..)) | None => false,
        };
        sent
    }

    fn pending(&self, answer: &Answer) -> Option<SentAnswer> {
        let may_be_said = |record: &&JobRecord| match &record.phase {
            Phase::Accepted => true,
            Phase::Finished(finished) => finished.answers == AnswerState::PendingUnacknowledged,
        };
        let mut records: Vec<_> = self.records(answer).filter(may_be_said).collect();
        // Answers to a create and a delete with the same id look the same: they are sent in order.
        records.sort_by_key(|record| (self.life.pending_sent.contains(&record.key()), record.number));
        records.first().map(|record| SentAnswer::Pending(record.key()))
    }

    fn final_answer(&self, answer: &Answer) -> Option<SentAnswer> {
        let says = |finished: &Finished| match (&finished.outcome, &answer.status) {
            (Outcome::Done, Status::Done) => true,
            (Outcome::Failed(is), Status::Failed(said)) => is == said,
            _ => false,
        };
        let finished = self.records(answer).filter_map(|record| match &record.phase {
            Phase::Finished(finished)
                if finished.answers == AnswerState::FinalUnacknowledged && says(finished) =>
            {
                let key = record.key();
                Some((self.life.final_sent.contains(&key), finished.order, key))
            }
            _ => None,
        });
        finished.min().map(|(_, _, key)| SentAnswer::Final(key, answer.status.clone()))
    }

    fn refusal(&self, answer: &Answer) -> Option<SentAnswer> {
        let Status::Failed(report) = &answer.status else { return None };
        let shown = (answer.sender.clone(), answer.job.clone());
        let is_on_disk = self.disk.refusals.values().any(|refusal| {
            refusal.sender.as_ref() == Some(&answer.sender)
                && refusal.job == answer.job
                && refusal.report == *report
        });
        let allowed = is_on_disk || self.history.unrecorded.contains(&shown);
        allowed.then(|| SentAnswer::Refused(shown, report.clone()))
    }

    /// The jobs on disk that an answer may be about.
    fn records(&self, answer: &Answer) -> impl Iterator<Item = &JobRecord> {
        let of_kind = |kind| {
            let key = JobKey { sender: answer.sender.clone(), kind, id: answer.job.clone()? };
            self.disk.jobs.get(&key)
        };
        [JobKind::Create, JobKind::Delete].map(of_kind).into_iter().flatten()
    }

    pub(crate) fn check_received(&mut self, sent: &SentAnswer, topic: &str, payload: &[u8]) {
        self.check_wire(sent, topic, payload);
        let (key, status) = match sent {
            SentAnswer::Pending(key) => (key, None),
            SentAnswer::Final(key, status) => (key, Some(status)),
            SentAnswer::Refused(..) => return,
        };
        let has_twin = self.has_twin(key);
        let received = self.history.received.entry(key.clone()).or_default();
        if has_twin {
            received.pending = true; // Or the other's: when that is forgotten, this one is checked again.
            return;
        }
        let wrong = match status {
            None if received.last.is_some() => Some("PENDING after the final answer"),
            None => {
                received.pending = true;
                None
            }
            Some(_) if !received.pending => Some("a final answer before PENDING"),
            Some(status) if received.last.as_ref().is_some_and(|last| last != status) => {
                Some("two different final answers")
            }
            Some(status) => {
                received.last = Some(status.clone());
                None
            }
        };
        if let Some(wrong) = wrong {
            self.violate(Promise::AnsweredOnceInOrder, format_args!("the sender of {key} receives {wrong}"));
        }
    }

    /// Whether the sender has a job of the other kind with this id: their answers look the same.
    fn has_twin(&self, key: &JobKey) -> bool {
        let kind = match key.kind {
            JobKind::Create => JobKind::Delete,
            JobKind::Delete => JobKind::Create,
        };
        self.disk.jobs.contains_key(&JobKey { kind, ..key.clone() })
    }

    fn check_wire(&mut self, sent: &SentAnswer, topic: &str, payload: &[u8]) {
        let (sender, status) = match sent {
            SentAnswer::Pending(key) => (&key.sender, Status::Pending),
            SentAnswer::Final(key, status) => (&key.sender, status.clone()),
            SentAnswer::Refused((sender, _), report) => (sender, Status::Failed(report.clone())),
        };
        let place = match status {
            Status::Failed(_) => self.topics.failures(sender),
            Status::Pending | Status::Done => self.topics.answers(sender),
        };
        let received = decode_answer(payload).map(|received| received.status);
        if place != topic || received.as_ref() != Some(&status) {
            let text = String::from_utf8_lossy(payload).into_owned();
            self.violate(Promise::OnlyPendingAndDoneOnJobs, format_args!("{sent} went to {topic} as {text}"));
        }
    }

    /// The agent acknowledges a message: its job, or its refusal, is on disk.
    pub(crate) fn check_acknowledged(&mut self, message: MessageNumber) {
        self.senders.note_acknowledged(message);
        let (key, shown) = match self.senders.meaning(message) {
            Arrival::Job(job) => (Some(job.key()), Some((job.sender.clone(), Some(job.id.clone())))),
            Arrival::Refused(refusal) => {
                (None, refusal.sender.clone().map(|sender| (sender, refusal.job.clone())))
            }
        };
        let Some(shown) = shown else { return };
        let has_job = key.as_ref().is_some_and(|key| self.disk.jobs.contains_key(key));
        if !has_job && !self.history.refused.contains(&shown) && !self.senders.was_refused(&shown) {
            let what = key.map_or_else(|| "a refusal".to_owned(), |key| key.to_string());
            self.violate(
                Promise::AcknowledgedAfterRecord,
                format_args!("{what} is not on disk, and not told"),
            );
        }
    }
}
