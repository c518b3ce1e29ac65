//! Answers: none before its record, in order, one final word per job, and only the words of the contract.

use super::Word;
use crate::promise::Promise;
use crate::world::World;
use crate::world::senders::MessageNumber;
use dvs_domain::job::{Answer, JobKey, JobKind, Status};
use dvs_domain::ledger::{AnswerState, Finished, JobRecord, Outcome, Phase};
use dvs_domain::ports::Arrival;
use dvs_job_json::decode_answer;

impl World {
    /// Says what an answer is that the agent gives to its client, from what is on disk.
    pub(crate) fn check_answer(&mut self, answer: &Answer) -> Option<Word> {
        let word = match &answer.status {
            Status::Pending => self.pending(answer),
            Status::Done => self.final_word(answer),
            Status::Failed(_) => self.final_word(answer).or_else(|| self.refusal(answer)),
        };
        if word.is_none() {
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
        match &word {
            Some(Word::Pending(key)) => self.life.pending_sent.insert(key.clone()),
            Some(Word::Final(key, _)) => self.life.final_sent.insert(key.clone()),
            Some(Word::Refused(..)) | None => false,
        };
        word
    }

    fn pending(&self, answer: &Answer) -> Option<Word> {
        let may_be_said = |record: &&JobRecord| match &record.phase {
            Phase::Accepted => true,
            Phase::Finished(finished) => finished.answers == AnswerState::PendingUnacknowledged,
        };
        let mut records: Vec<_> = self.records(answer).filter(may_be_said).collect();
        // A create and a delete of one id cannot be told apart by the answer: they are sent in order.
        records.sort_by_key(|record| (self.life.pending_sent.contains(&record.key()), record.number));
        records.first().map(|record| Word::Pending(record.key()))
    }

    fn final_word(&self, answer: &Answer) -> Option<Word> {
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
        finished.min().map(|(_, _, key)| Word::Final(key, answer.status.clone()))
    }

    fn refusal(&self, answer: &Answer) -> Option<Word> {
        let Status::Failed(report) = &answer.status else { return None };
        let shown = (answer.sender.clone(), answer.job.clone());
        let is_on_disk = self.disk.refusals.values().any(|refusal| {
            refusal.sender.as_ref() == Some(&answer.sender)
                && refusal.job == answer.job
                && refusal.report == *report
        });
        let allowed = is_on_disk || self.ghost.unrecorded.contains(&shown);
        allowed.then(|| Word::Refused(shown, report.clone()))
    }

    /// The jobs on disk that an answer may be about.
    fn records(&self, answer: &Answer) -> impl Iterator<Item = &JobRecord> {
        let of_kind = |kind| {
            let key = JobKey { sender: answer.sender.clone(), kind, id: answer.job.clone()? };
            self.disk.jobs.get(&key)
        };
        [JobKind::Create, JobKind::Delete].map(of_kind).into_iter().flatten()
    }

    /// A sender hears a word.
    pub(crate) fn check_heard(&mut self, word: &Word, topic: &str, payload: &[u8]) {
        self.check_wire(word, topic, payload);
        let (key, status) = match word {
            Word::Pending(key) => (key, None),
            Word::Final(key, status) => (key, Some(status)),
            Word::Refused(..) => return,
        };
        if self.has_twin(key) {
            return;
        }
        let heard = self.ghost.heard.entry(key.clone()).or_default();
        let wrong = match status {
            None if heard.last.is_some() => Some("PENDING after the final word"),
            None => {
                heard.pending = true;
                None
            }
            Some(_) if !heard.pending => Some("a final word before PENDING"),
            Some(status) if heard.last.as_ref().is_some_and(|last| last != status) => {
                Some("two different final words")
            }
            Some(status) => {
                heard.last = Some(status.clone());
                None
            }
        };
        if let Some(wrong) = wrong {
            self.violate(Promise::AnsweredOnceInOrder, format_args!("{key} hears {wrong}"));
        }
    }

    /// Whether the sender has a job of the other kind under this id: their answers look the same.
    fn has_twin(&self, key: &JobKey) -> bool {
        let kind = match key.kind {
            JobKind::Create => JobKind::Delete,
            JobKind::Delete => JobKind::Create,
        };
        self.disk.jobs.contains_key(&JobKey { kind, ..key.clone() })
    }

    fn check_wire(&mut self, word: &Word, topic: &str, payload: &[u8]) {
        let (sender, status) = match word {
            Word::Pending(key) => (&key.sender, Status::Pending),
            Word::Final(key, status) => (&key.sender, status.clone()),
            Word::Refused((sender, _), report) => (sender, Status::Failed(report.clone())),
        };
        let place = match status {
            Status::Failed(_) => self.topics.failures(sender),
            Status::Pending | Status::Done => self.topics.answers(sender),
        };
        let heard = decode_answer(payload).map(|heard| heard.status);
        if place != topic || heard.as_ref() != Some(&status) {
            let text = String::from_utf8_lossy(payload).into_owned();
            self.violate(Promise::OnlyPendingAndDoneOnJobs, format_args!("{word} went to {topic} as {text}"));
        }
    }

    /// The agent says that it has a message: its job, or its refusal, is on disk.
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
        if !has_job && !self.ghost.refused.contains(&shown) && !self.senders.was_refused(&shown) {
            let what = key.map_or_else(|| "a refusal".to_owned(), |key| key.to_string());
            self.violate(
                Promise::AcknowledgedAfterRecord,
                format_args!("{what} is not on disk, and not told"),
            );
        }
    }
}
