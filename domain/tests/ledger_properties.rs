//! Any order of arrivals, repeats, ends, acknowledgements, failing records, time and restarts keeps the
//! invariants that the ledger's documentation lists. A model of the agent performs the effects and checks
//! each one at the moment it is asked for.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "a test may fail loudly"
)]

use dvs_domain::attachment::AttachmentTable;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::{CreateRequest, DeleteRequest, Job, JobKey, JobRequest, Refusal, Status, Target};
use dvs_domain::ledger::{
    AnswerId, AnswerState, Attempt, Change, Effect, Event, JobRecord, Ledger, Limits, Outcome, Phase,
    RefusalNumber, Remembered,
};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::names::{JobId, SenderId, StoreName, VolumeName};
use dvs_domain::size::VolumeSize;
use dvs_domain::time::{BootId, Moment, Timestamp, Uptime};
use dvs_domain::volume::VolumeId;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const LIMITS: Limits = Limits {
    workers: 3,
    queue: 6,
    job_milliseconds: 1000,
    undo_milliseconds: 300,
    remembered_min: 5,
    remembered_max: 12,
    remembered_milliseconds: 5000,
    refusals: 20,
    stuck: 2,
};

#[derive(Clone, Debug)]
enum Step {
    Arrive { job: usize, size: u64, journal_fails: bool },
    Refuse,
    End { which: usize, done: bool, changed: bool, needs_undo: bool },
    Acknowledge { which: usize },
    Pass { milliseconds: u64 },
    Return { which: usize, undone: bool },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..24usize, 1..3u64, prop::bool::weighted(0.1))
            .prop_map(|(job, size, journal_fails)| Step::Arrive { job, size, journal_fails }),
        1 => Just(Step::Refuse),
        6 => (0..8usize, any::<bool>(), any::<bool>())
            .prop_map(|(which, done, changed)| Step::End { which, done, changed, needs_undo: !done && changed }),
        8 => (0..16usize).prop_map(|which| Step::Acknowledge { which }),
        2 => (1..700u64).prop_map(|milliseconds| Step::Pass { milliseconds }),
        1 => (3000..9000u64).prop_map(|milliseconds| Step::Pass { milliseconds }),
        2 => (0..4usize, any::<bool>()).prop_map(|(which, undone)| Step::Return { which, undone }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..120)
}

fn store() -> StoreName {
    StoreName::new("loop").unwrap()
}

fn moment(milliseconds: u64) -> Moment {
    Moment { wall: Timestamp(milliseconds), boot: Some(BootId(1)), uptime: Uptime(milliseconds) }
}

/// A small world of jobs whose lanes meet in all ways: equal paths, nested paths, names.
fn job(number: usize, size: u64) -> Job {
    let paths = ["/mnt/a", "/mnt/a/b", "/mnt/c", "/mnt"];
    let mount_point = Some(MountPoint::new(paths[number % 4]).unwrap());
    let target = match number % 3 {
        0 => Target::new(None, Some(VolumeName::new("v").unwrap()), mount_point),
        1 => Target::new(None, None, mount_point),
        _ => Target::new(Some(store()), Some(VolumeName::new("v").unwrap()), None),
    }
    .unwrap();
    let mebibytes = VolumeSize::from_mebibytes(size).unwrap();
    let request = if number.is_multiple_of(2) {
        let any_path = MountPoint::new("/mnt/x").unwrap();
        JobRequest::Create(CreateRequest { target, ..CreateRequest::at(any_path, mebibytes) })
    } else {
        JobRequest::Delete(DeleteRequest { target })
    };
    let sender = SenderId::new(if number < 12 { "one" } else { "two" }).unwrap();
    Job { sender, id: JobId::new((number % 6).to_string()).unwrap(), request }
}

fn must_not_run_together(one: &Job, other: &Job) -> bool {
    let (one, other) = (one.request.target(), other.request.target());
    let paths_meet = match (one.mount_point(), other.mount_point()) {
        (Some(one), Some(other)) => one.overlaps(other),
        _ => false,
    };
    paths_meet || one.name() == other.name()
}

/// The agent as a model: a disk, a broker, workers.
struct Model {
    ledger: Ledger,
    now: u64,
    jobs_on_disk: BTreeMap<JobKey, JobRecord>,
    refusals_on_disk: BTreeMap<RefusalNumber, Refusal>,
    /// What goes to disk with the next record or after a while; a restart loses it.
    noted: Vec<Change>,
    running: BTreeMap<JobKey, Job>,
    hanging: BTreeMap<JobKey, Job>,
    in_flight: Vec<AnswerId>,
    /// Since the job was accepted: what was sent and acknowledged, over all restarts.
    pending_acknowledged: BTreeSet<JobKey>,
    final_sent: BTreeSet<JobKey>,
    /// In this life of the agent.
    pending_sent: BTreeSet<JobKey>,
    started: BTreeSet<JobKey>,
    restarted: u64,
    journal_fails: bool,
}

impl Model {
    fn new() -> Self {
        let (ledger, effects) = Ledger::restore(LIMITS, store(), Remembered::default(), moment(1));
        assert!(effects.is_empty());
        Self {
            ledger,
            now: 1,
            jobs_on_disk: BTreeMap::new(),
            refusals_on_disk: BTreeMap::new(),
            noted: Vec::new(),
            running: BTreeMap::new(),
            hanging: BTreeMap::new(),
            in_flight: Vec::new(),
            pending_acknowledged: BTreeSet::new(),
            final_sent: BTreeSet::new(),
            pending_sent: BTreeSet::new(),
            started: BTreeSet::new(),
            restarted: 1,
            journal_fails: false,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Arrive { job: number, size, journal_fails } => {
                self.journal_fails = journal_fails;
                self.tell(Event::Requested(job(number, size)));
                self.journal_fails = false;
            }
            Step::Refuse => {
                let report = Failure::new(FailureCode::BadRequest, "no job").report();
                let sender = Some(SenderId::new("one").unwrap());
                self.tell(Event::Refused(Refusal { sender, job: None, report }));
            }
            Step::End { which, done, changed, needs_undo } => {
                let Some(key) = self.running.keys().nth(which).cloned() else { return };
                let job = self.running.remove(&key).unwrap();
                let outcome = if done {
                    Outcome::Done
                } else {
                    Outcome::Failed(Failure::new(FailureCode::NoSpace, "full").report())
                };
                let volume = Some(VolumeId { store: store(), name: job.request.target().name() });
                self.tell(Event::Ended {
                    key,
                    outcome,
                    volume,
                    changed: changed && done,
                    released: None,
                    needs_undo,
                });
            }
            Step::Acknowledge { which } => {
                if which < self.in_flight.len() {
                    let id = self.in_flight.remove(which);
                    if let AnswerId::Pending(key) = &id {
                        self.pending_acknowledged.insert(key.clone());
                    }
                    self.tell(Event::Acknowledged(id));
                }
            }
            Step::Pass { milliseconds } => {
                self.now += milliseconds;
                self.write_noted();
                self.tell(Event::Tick);
                let overdue = |record: &JobRecord| {
                    record.phase == Phase::Accepted
                        && moment(self.now).milliseconds_since(record.received) >= LIMITS.job_milliseconds
                };
                for record in self.jobs_on_disk.values().filter(|record| overdue(record)) {
                    let undoing = self.running.contains_key(&record.key());
                    let since = (record.received.uptime.0 + LIMITS.job_milliseconds).max(self.restarted);
                    let may_wait_for_undo = self.now.saturating_sub(since) < LIMITS.undo_milliseconds;
                    assert!(undoing || may_wait_for_undo, "{} is overdue and has no answer", record.key());
                }
            }
            Step::Return { which, undone } => {
                let Some(key) = self.hanging.keys().nth(which).cloned() else { return };
                self.hanging.remove(&key);
                self.tell(Event::Released { key, released: None, undone });
            }
            Step::Restart => {
                self.running.clear();
                self.hanging.clear();
                self.noted.clear();
                self.in_flight.clear();
                self.pending_sent.clear();
                self.started.clear();
                // No job that arrived before it has the time of one that arrives after it.
                self.now += 1;
                self.restarted = self.now;
                let remembered = Remembered {
                    jobs: self.jobs_on_disk.values().cloned().collect(),
                    refusals: self.refusals_on_disk.clone().into_iter().collect(),
                    attachments: Vec::new(),
                };
                let (ledger, effects) = Ledger::restore(LIMITS, store(), remembered, moment(self.now));
                self.ledger = ledger;
                self.perform(effects);
            }
        }
    }

    fn tell(&mut self, event: Event) {
        let effects = self.ledger.on(event, moment(self.now), &AttachmentTable::default());
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Record(changes) => {
                    if self.journal_fails && changes.iter().any(is_acceptance) {
                        self.journal_fails = false;
                        self.not_recorded(&changes);
                        return;
                    }
                    self.write_noted();
                    changes.into_iter().for_each(|change| self.write(change));
                }
                Effect::Note(changes) => self.noted.extend(changes),
                Effect::Answer(id, answer) => {
                    self.check_answer(&id, &answer.status);
                    self.in_flight.push(id);
                }
                Effect::Work(job, attempt, _) => self.start(job, attempt),
                Effect::Abandon(key) => {
                    let job = self.running.remove(&key).expect("only running work is abandoned");
                    self.hanging.insert(key.clone(), job);
                    effects.extend(self.ledger.on(
                        Event::Abandoned(key),
                        moment(self.now),
                        &AttachmentTable::default(),
                    ));
                }
            }
        }
    }

    fn not_recorded(&mut self, changes: &[Change]) {
        for change in changes {
            let report = Failure::new(FailureCode::NoSpace, "journal full").report();
            match change {
                Change::PutJob(record) => self.tell(Event::JobNotRecorded(record.key(), report)),
                Change::PutRefusal(number, _) => self.tell(Event::RefusalNotRecorded(*number)),
                _ => {}
            }
        }
    }

    fn write_noted(&mut self) {
        std::mem::take(&mut self.noted).into_iter().for_each(|change| self.write(change));
    }

    fn write(&mut self, change: Change) {
        match change {
            Change::PutJob(record) => {
                if let Some(Phase::Finished(before)) =
                    self.jobs_on_disk.get(&record.key()).map(|before| &before.phase)
                {
                    let Phase::Finished(after) = &record.phase else {
                        panic!("a finished job became unfinished")
                    };
                    assert_eq!(before.outcome, after.outcome, "an outcome never changes");
                }
                if let Phase::Finished(end) = &record.phase
                    && end.outcome == Outcome::Done
                    && self.restarted <= record.received.uptime.0
                {
                    let took = end.at.milliseconds_since(record.received);
                    assert!(took < LIMITS.job_milliseconds, "done after {took} ms");
                }
                self.jobs_on_disk.insert(record.key(), *record);
            }
            Change::DropJob(key) => {
                let record = self.jobs_on_disk.remove(&key).expect("only what is on disk is forgotten");
                let Phase::Finished(finished) = record.phase else {
                    panic!("an unfinished job was forgotten")
                };
                assert_eq!(
                    finished.answers,
                    AnswerState::Acknowledged,
                    "forgotten before its answer was there"
                );
                assert!(!finished.needs_undo, "forgotten before it was undone");
                let is_old =
                    moment(self.now).milliseconds_since(finished.at) > LIMITS.remembered_milliseconds;
                let ended_later = |record: &&JobRecord| matches!(&record.phase, Phase::Finished(end) if finished.order < end.order);
                let later = self.jobs_on_disk.values().filter(ended_later).count();
                assert!(LIMITS.remembered_max <= later || (is_old && LIMITS.remembered_min <= later));
                self.pending_acknowledged.remove(&key);
                self.final_sent.remove(&key);
                self.pending_sent.remove(&key);
                self.started.remove(&key);
            }
            Change::PutRefusal(number, refusal) => {
                self.refusals_on_disk.insert(number, refusal);
            }
            Change::DropRefusal(number) => {
                self.refusals_on_disk.remove(&number);
            }
            Change::PutAttachment(_) | Change::DropAttachment(_) => {
                panic!("attachments are not the ledger's")
            }
        }
    }

    fn check_answer(&mut self, id: &AnswerId, status: &Status) {
        match id {
            AnswerId::Pending(key) => {
                assert_eq!(*status, Status::Pending);
                assert!(self.jobs_on_disk.contains_key(key), "PENDING before the job was on disk");
                assert!(!self.final_sent.contains(key), "PENDING after the final answer");
                self.pending_sent.insert(key.clone());
            }
            AnswerId::Final(key) => {
                let Some(Phase::Finished(finished)) = self.jobs_on_disk.get(key).map(|record| &record.phase)
                else {
                    panic!("a final answer before the outcome was on disk")
                };
                assert_eq!(
                    finished.answers,
                    AnswerState::FinalUnacknowledged,
                    "not on disk that it may be sent"
                );
                assert_eq!(*status == Status::Done, finished.outcome == Outcome::Done);
                assert!(
                    self.pending_acknowledged.contains(key),
                    "final answer before PENDING was acknowledged"
                );
                self.final_sent.insert(key.clone());
            }
            AnswerId::Refusal(number) => {
                assert!(matches!(status, Status::Failed(_)));
                assert!(
                    self.refusals_on_disk.contains_key(number),
                    "a refusal was sent before it was on disk"
                );
            }
            AnswerId::Unrecorded(_) => assert!(matches!(status, Status::Failed(_))),
        }
    }

    fn start(&mut self, job: Job, attempt: Attempt) {
        let key = job.key();
        let record = self.jobs_on_disk.get(&key).expect("work before the job was on disk");
        if matches!(attempt, Attempt::Undo) {
            let overdue = moment(self.now).milliseconds_since(record.received) >= LIMITS.job_milliseconds;
            assert!(overdue || needs_undo(record), "{key} is undone before its time is over");
        } else {
            assert_eq!(record.phase, Phase::Accepted, "work for a finished job");
        }
        assert!(needs_undo(record) || self.pending_sent.contains(&key), "work before PENDING was sent");
        let is_first = self.started.insert(key.clone());
        assert!(is_first || matches!(attempt, Attempt::Undo), "work twice for {key}");
        for other in self.running.values().chain(self.hanging.values()) {
            assert!(!must_not_run_together(&job, other), "{key} runs beside {}", other.key());
        }
        for (other_key, other) in &self.jobs_on_disk {
            let is_live = other.phase == Phase::Accepted || needs_undo(other);
            let waits = is_live && !self.started.contains(other_key);
            let overtaken = waits && other.number < record.number && must_not_run_together(&job, &other.job);
            assert!(!overtaken, "{key} overtakes {other_key}");
        }
        self.running.insert(key, job);
        assert!(self.running.len() <= LIMITS.workers, "more work than workers");
        assert!(
            self.ledger.waiting() <= LIMITS.queue + LIMITS.workers,
            "more jobs wait than the queue holds"
        );
    }

    /// Everything that was promised comes true when nothing more goes wrong.
    fn settle(&mut self) {
        for _ in 0..2000 {
            if let Some(key) = self.hanging.keys().next().cloned() {
                self.hanging.remove(&key);
                self.tell(Event::Released { key, released: None, undone: true });
            } else if !self.running.is_empty() {
                self.take(Step::End { which: 0, done: true, changed: false, needs_undo: false });
            } else if !self.in_flight.is_empty() {
                self.take(Step::Acknowledge { which: 0 });
            } else if self.jobs_on_disk.values().any(needs_undo) {
                self.take(Step::Pass { milliseconds: LIMITS.undo_milliseconds });
            } else {
                break;
            }
        }
        self.write_noted();
        for record in self.jobs_on_disk.values() {
            let Phase::Finished(finished) = &record.phase else {
                panic!("{} was never worked on", record.key())
            };
            assert_eq!(finished.answers, AnswerState::Acknowledged, "{} has no answer", record.key());
            assert!(!finished.needs_undo, "{} was never undone", record.key());
        }
        assert!(self.refusals_on_disk.is_empty(), "a refusal stays on disk for ever");
    }
}

fn needs_undo(record: &JobRecord) -> bool {
    matches!(&record.phase, Phase::Finished(finished) if finished.needs_undo)
}

fn is_acceptance(change: &Change) -> bool {
    match change {
        Change::PutJob(record) => record.phase == Phase::Accepted,
        Change::PutRefusal(..) => true,
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_events_keeps_the_promises(steps in steps()) {
        let mut model = Model::new();
        for step in steps {
            model.take(step);
        }
        model.settle();
    }
}
