//! One of many who send side by side, always the next job when the last one is answered: a volume is created and deleted
//! again, with repeats and messages that must be refused in between. Knows which answer each of them must have.

use crate::random::Random;
use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::Path;

/// How many answered jobs are known whose words may come once more: MQTT may deliver twice.
const ANSWERED_MAX: usize = 16;
/// Once in how many cycles there is a repeat or a refusal of each kind.
const EXTRA_ONCE_IN: u64 = 4;
/// Once in how many cycles there is a payload that is larger than any that is read.
const LARGE_ONCE_IN: u64 = 400;
/// More than the contract allows a payload.
const LARGE_BYTES: usize = 100 * 1024;
const SIZE: u64 = 4;

/// Where the volumes of a slot live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An image on a loop device, mounted.
    Loop,
    /// A directory, mounted.
    Directory,
    /// A directory that is not mounted.
    Unattached,
    /// Nowhere: only deleted.
    Absent,
}

/// A message to the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Behind `docker/<node>/volumes/`.
    pub(super) leaf: &'static str,
    pub(super) payload: String,
}

/// A word of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Pending,
    Done,
    /// With this code.
    Failed(String),
}

/// What an answer is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// `PENDING`, then `DONE`.
    Work,
    /// `DONE`, without work.
    DoneAgain,
    /// A failure with this code, and no `PENDING`.
    Refused(&'static str),
}

/// Messages that are sent at once, and the answer of the job that they are about.
#[derive(Clone, Debug)]
struct Step {
    id: String,
    messages: Vec<Message>,
    expected: Expected,
}

/// What follows from a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// An accepted job has ended.
    JobEnded,
    /// What was sent again has its answer again.
    Repeated,
    /// A message was refused, as it must be.
    Refused,
    /// The last step is not answered yet.
    Waiting,
    /// A word that was said before.
    Again,
}

/// See the module.
pub(super) struct Slot {
    kind: Kind,
    name: String,
    sender: String,
    mounts: String,
    random: Random,
    cycles: u64,
    steps: VecDeque<Step>,
    current: Option<Step>,
    was_pending: bool,
    /// The jobs that were answered last, with their final words.
    answered: VecDeque<(String, Vec<Word>)>,
}

impl Slot {
    pub(super) fn new(kind: Kind, name: String, sender: &str, mounts: &Path, random: Random) -> Self {
        Self {
            kind,
            name,
            sender: sender.to_owned(),
            mounts: mounts.display().to_string(),
            random,
            cycles: 0,
            steps: VecDeque::new(),
            current: None,
            was_pending: false,
            answered: VecDeque::new(),
        }
    }

    /// What to send next; nothing when its volume is deleted and it `stops`.
    pub(super) fn next(&mut self, stops: bool) -> Vec<Message> {
        if self.steps.is_empty() && !stops {
            self.plan_cycle();
        }
        self.current = self.steps.pop_front();
        self.was_pending = false;
        self.current.as_ref().map_or_else(Vec::new, |step| step.messages.clone())
    }

    pub(super) fn is_idle(&self) -> bool {
        self.current.is_none()
    }

    /// Takes a word about the job `id`, which must be one that is promised.
    pub(super) fn on_word(&mut self, id: &str, word: &Word) -> Result<Progress> {
        match &self.current {
            Some(step) if step.id == id => {}
            _ => return self.on_word_again(id, word),
        }
        let Some(step) = self.current.take() else { return Ok(Progress::Again) };
        let progress = match (step.expected, word) {
            (Expected::Work, Word::Pending) => {
                self.was_pending = true;
                self.current = Some(step);
                return Ok(Progress::Waiting);
            }
            (Expected::Work, Word::Done) => {
                ensure!(self.was_pending, "{step:?} was answered DONE before PENDING");
                Progress::JobEnded
            }
            (Expected::DoneAgain, Word::Done) => Progress::Repeated,
            (Expected::Refused(code), Word::Failed(found)) if code == found => Progress::Refused,
            (_, word) if self.has_said(id, word) => {
                self.current = Some(step);
                return Ok(Progress::Again);
            }
            (expected, word) => bail!("{step:?} was answered {word:?}, not {expected:?}"),
        };
        self.note_answer(id, word);
        Ok(progress)
    }

    /// What it waits for.
    pub(super) fn waits_for(&self) -> String {
        format!("{:?}", self.current)
    }

    /// A word about a job that was answered before: it must have been said before.
    fn on_word_again(&self, id: &str, word: &Word) -> Result<Progress> {
        ensure!(
            self.has_said(id, word),
            "`{id}` was answered {word:?} too; it waits for {}",
            self.waits_for()
        );
        Ok(Progress::Again)
    }

    fn has_said(&self, id: &str, word: &Word) -> bool {
        self.answered.iter().any(|(answered, words)| answered == id && words.contains(word))
    }

    fn note_answer(&mut self, id: &str, word: &Word) {
        match self.answered.iter_mut().find(|(answered, _)| answered == id) {
            Some((_, words)) => words.push(word.clone()),
            None => {
                self.answered.push_back((id.to_owned(), vec![word.clone()]));
                if ANSWERED_MAX < self.answered.len() {
                    self.answered.pop_front();
                }
            }
        }
    }

    /// A volume is created and deleted, and asked for in all ways in between.
    fn plan_cycle(&mut self) {
        self.cycles += 1;
        let name = format!("{}-{}", self.name, self.cycles);
        let id = |what: &str| format!("{name}-{what}");
        let create = self.create(&id("create"), &name, SIZE);
        let delete = self.delete(&id("delete"), &name);
        if self.kind == Kind::Absent {
            return self.steps.push_back(Step {
                id: id("delete"),
                messages: vec![delete],
                expected: Expected::Work,
            });
        }
        let mut first = vec![create.clone()];
        if self.random.once_in(EXTRA_ONCE_IN) {
            first.push(create.clone()); // As a broker may deliver it.
        }
        let mut steps = vec![(id("create"), first, Expected::Work)];
        if self.random.once_in(EXTRA_ONCE_IN) {
            steps.push((id("create"), vec![create.clone()], Expected::DoneAgain));
        }
        if self.random.once_in(EXTRA_ONCE_IN) {
            let other = self.create(&id("create"), &name, SIZE + 1);
            steps.push((id("create"), vec![other], Expected::Refused("job-id-reused")));
        }
        if self.random.once_in(EXTRA_ONCE_IN) {
            let (leaf, payload, code) = self.refused(&id("refused"), &name);
            steps.push((id("refused"), vec![Message { leaf, payload }], Expected::Refused(code)));
        }
        let mut last = self.unanswerable();
        last.push(delete.clone());
        steps.push((id("delete"), last, Expected::Work));
        if self.random.once_in(EXTRA_ONCE_IN) {
            steps.push((id("create"), vec![create], Expected::Refused("job-id-reused")));
        }
        if self.random.once_in(EXTRA_ONCE_IN) {
            steps.push((id("delete"), vec![delete], Expected::DoneAgain));
        }
        self.steps =
            steps.into_iter().map(|(id, messages, expected)| Step { id, messages, expected }).collect();
    }

    fn create(&self, id: &str, name: &str, size: u64) -> Message {
        let mut payload = self.payload(id, name);
        payload["volumeSize"] = Value::from(size);
        Message { leaf: "create", payload: payload.to_string() }
    }

    fn delete(&self, id: &str, name: &str) -> Message {
        Message { leaf: "delete", payload: self.payload(id, name).to_string() }
    }

    fn payload(&self, id: &str, name: &str) -> Value {
        let store = if self.kind == Kind::Loop { "loop" } else { "fake" };
        let mut payload = json!({ "job": id, "sipId": self.sender, "store": store });
        if matches!(self.kind, Kind::Unattached | Kind::Absent) {
            payload["name"] = Value::from(name);
        } else {
            payload["mountPount"] = Value::from(format!("{}/{name}", self.mounts));
        }
        payload
    }

    /// A message that is no job, or none that can be taken: its leaf, its payload and the code of its refusal.
    fn refused(&mut self, id: &str, name: &str) -> (&'static str, String, &'static str) {
        let mut payload = self.payload(id, name);
        match self.random.below(4) {
            0 => ("resize", payload.to_string(), "unknown-topic"),
            1 => ("create", payload.to_string(), "bad-request"), // Without a size.
            2 => {
                payload["mountPount"] = Value::from("/etc/flood");
                ("delete", payload.to_string(), "forbidden-path")
            }
            _ => {
                payload["store"] = Value::from("elsewhere");
                ("delete", payload.to_string(), "no-such-store")
            }
        }
    }

    /// Messages that name no sender, so that nobody can be answered.
    fn unanswerable(&mut self) -> Vec<Message> {
        if self.random.once_in(LARGE_ONCE_IN) {
            return vec![Message { leaf: "create", payload: "x".repeat(LARGE_BYTES) }];
        }
        if !self.random.once_in(EXTRA_ONCE_IN) {
            return Vec::new();
        }
        let payload = ["", "{", "[1, 2]", "{job: 1, sipId: s}", r#"{"job":"1"}"#];
        let chosen = payload[usize::try_from(self.random.below(payload.len() as u64)).unwrap_or(0)];
        vec![Message { leaf: "create", payload: chosen.to_owned() }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> Slot {
        let mut slot = Slot::new(Kind::Unattached, "0".to_owned(), "s", Path::new("/mnt"), Random::new(1));
        slot.steps =
            [("1", Expected::Work), ("1", Expected::DoneAgain), ("1", Expected::Refused("job-id-reused"))]
                .map(|(id, expected)| Step { id: id.to_owned(), messages: Vec::new(), expected })
                .into();
        slot.next(false);
        slot
    }

    fn reused() -> Word {
        Word::Failed("job-id-reused".to_owned())
    }

    #[test]
    fn promised_words_are_taken_also_twice() {
        let mut slot = slot();
        assert_eq!(slot.on_word("1", &Word::Pending).unwrap(), Progress::Waiting);
        assert_eq!(slot.on_word("1", &Word::Pending).unwrap(), Progress::Waiting);
        assert_eq!(slot.on_word("1", &Word::Done).unwrap(), Progress::JobEnded);
        assert_eq!(slot.on_word("1", &Word::Done).unwrap(), Progress::Again);
        slot.next(false);
        assert_eq!(slot.on_word("1", &Word::Done).unwrap(), Progress::Repeated);
        slot.next(false);
        assert_eq!(slot.on_word("1", &Word::Done).unwrap(), Progress::Again);
        assert_eq!(slot.on_word("1", &reused()).unwrap(), Progress::Refused);
        assert!(slot.is_idle());
    }

    #[test]
    fn every_other_word_is_a_broken_promise() {
        assert!(slot().on_word("1", &Word::Done).is_err(), "before PENDING");
        assert!(slot().on_word("1", &Word::Failed("timeout".to_owned())).is_err(), "another end");
        assert!(slot().on_word("2", &Word::Done).is_err(), "a job that was not sent");
        let mut slot = slot();
        slot.on_word("1", &Word::Pending).unwrap();
        slot.on_word("1", &Word::Done).unwrap();
        assert!(slot.on_word("1", &reused()).is_err(), "a second, different end");
        assert!(slot.on_word("1", &Word::Pending).is_err(), "PENDING after the end");
        slot.next(false);
        assert!(slot.on_word("1", &Word::Pending).is_err(), "work for a repeat");
    }
}
