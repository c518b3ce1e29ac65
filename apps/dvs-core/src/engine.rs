//! The engine: one task that takes events in order, asks the ledger, and performs its effects. What is
//! recorded is on disk before anything that follows from it is done; what arrives together is recorded
//! together.

use super::Worker;
use super::admission::admit;
use super::intake::{Arrivals, Delivery, ShownId};
use super::job_control::JobControl;
use crate::failpoint::between;
use dvs_domain::failure::{Failure, FailureCode, FailureReport};
use dvs_domain::job::{Answer, Job, JobKey, Refusal, Status};
use dvs_domain::ledger::{AnswerId, Attempt, Change, Effect, Event, Ledger, Phase, RefusalNumber};
use dvs_domain::mount_point::{AllowedRoots, MountPoint};
use dvs_domain::names::AttemptId;
use dvs_domain::ports::{Answers, Arrival, Clock, Journal, Recorded};
use futures::FutureExt;
use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// The engine's own limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineLimits {
    /// How long a stopping agent waits for work that runs, in seconds.
    pub stop_seconds: u64,
}

impl EngineLimits {
    /// Events that are recorded together.
    pub const BATCH: usize = 64;
    /// How often time limits are looked at, in milliseconds.
    pub const TICK_MILLISECONDS: u64 = 500;
    /// How long a stopping agent waits for the broker to acknowledge its last answers, in milliseconds.
    pub const FLUSH_MILLISECONDS: u64 = 2000;
}

/// What the engine stands on.
pub(crate) struct EngineParts {
    /// Makes jobs true.
    pub(crate) worker: Arc<Worker>,
    /// Remembers.
    pub(crate) journal: Arc<dyn Journal>,
    /// Tells senders.
    pub(crate) answers: Arc<dyn Answers>,
    /// Tells the time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Where jobs may mount.
    pub(crate) roots: AllowedRoots,
    /// Where they must not, although it is below a root, and what is there.
    pub(crate) reserved: Vec<(MountPoint, String)>,
    /// Limits.
    pub(crate) limits: EngineLimits,
}

/// See the module.
pub(crate) struct Engine {
    parts: EngineParts,
    ledger: Ledger,
    arrivals: mpsc::Receiver<Delivery>,
    events: mpsc::UnboundedReceiver<Event>,
    events_in: mpsc::UnboundedSender<Event>,
    running: BTreeMap<JobKey, Arc<JobControl>>,
    answers_in_flight: usize,
    /// Arrivals that are being recorded, by what an answer would show of them.
    recording: Vec<(Option<ShownId>, Recorded)>,
    /// Arrivals that could not be recorded, by the answer that says so: their messages are acknowledged after it.
    unrecorded: BTreeMap<RefusalNumber, Vec<Recorded>>,
    /// What could not be recorded and must be, with what follows from it: tried again at every tick, and before
    /// anything else is recorded or worked on.
    deferred: VecDeque<Vec<Effect>>,
    /// What is recorded with whatever is recorded next, or at the next tick.
    noted: Vec<Change>,
    stopping: bool,
}

impl Engine {
    /// An engine that has still to be run.
    #[must_use]
    pub(crate) fn new(parts: EngineParts, ledger: Ledger, arrivals: Arrivals) -> Self {
        Self {
            parts,
            ledger,
            arrivals: arrivals.deliveries,
            events: arrivals.events,
            events_in: arrivals.events_in,
            running: BTreeMap::new(),
            answers_in_flight: 0,
            recording: Vec::new(),
            unrecorded: BTreeMap::new(),
            deferred: VecDeque::new(),
            noted: Vec::new(),
            stopping: false,
        }
    }

    /// Performs `first`, what the ledger said at its restart, then works until `stop` says so: then takes
    /// nothing more, finishes what runs within its limit, and leaves the rest for the next start.
    pub(crate) async fn run(mut self, first: Vec<Effect>, mut stop: watch::Receiver<bool>) {
        self.perform_all(vec![first]).await;
        let mut tick = tokio::time::interval(Duration::from_millis(EngineLimits::TICK_MILLISECONDS));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut deliveries = Vec::new();
        let mut events = Vec::new();
        while !self.stopping {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => self.stopping = true,
                _ = tick.tick() => events.push(Event::Tick), // Before the others: they may be ready for ever.
                _ = self.events.recv_many(&mut events, EngineLimits::BATCH) => {}
                _ = self.arrivals.recv_many(&mut deliveries, EngineLimits::BATCH) => {}
            }
            // What came while the last was recorded is recorded together, whichever of the two it is. A tick stands
            // alone: what it abandons makes room for other jobs at once, and these must be on disk by then.
            if !self.stopping && !events.contains(&Event::Tick) {
                self.take_what_waits(&mut events, &mut deliveries);
            }
            self.handle(events.drain(..), deliveries.drain(..)).await;
        }
        self.wind_down().await;
    }

    fn take_what_waits(&mut self, events: &mut Vec<Event>, deliveries: &mut Vec<Delivery>) {
        while events.len() < EngineLimits::BATCH
            && let Ok(event) = self.events.try_recv()
        {
            events.push(event);
        }
        while deliveries.len() < EngineLimits::BATCH
            && let Ok(delivery) = self.arrivals.try_recv()
        {
            deliveries.push(delivery);
        }
    }

    async fn wind_down(&mut self) {
        self.arrivals.close();
        let end = tokio::time::Instant::now() + Duration::from_secs(self.parts.limits.stop_seconds);
        while !self.running.is_empty() {
            match tokio::time::timeout_at(end, self.events.recv()).await {
                Ok(Some(event)) => self.handle([event], []).await,
                Ok(None) | Err(_) => break,
            }
        }
        for key in self.running.keys() {
            tracing::warn!(job = %key, "still running at the end of the time to stop: left for the next start");
        }
        let flush = tokio::time::Instant::now() + Duration::from_millis(EngineLimits::FLUSH_MILLISECONDS);
        while self.answers_in_flight > 0 {
            match tokio::time::timeout_at(flush, self.events.recv()).await {
                Ok(Some(event)) => self.handle([event], []).await,
                Ok(None) | Err(_) => break,
            }
        }
        self.record_noted().await;
    }

    /// What follows from the ends of work comes before what arrives.
    async fn handle(
        &mut self,
        events: impl IntoIterator<Item = Event>,
        deliveries: impl IntoIterator<Item = Delivery>,
    ) {
        let mut decided = Vec::new();
        let mut ticked = false;
        for event in events {
            ticked |= event == Event::Tick;
            match &event {
                Event::Ended { key, .. } | Event::Released { key, .. } => {
                    self.running.remove(key);
                }
                Event::Acknowledged(id) => {
                    between("agent.acknowledged");
                    self.answers_in_flight = self.answers_in_flight.saturating_sub(1);
                    if let AnswerId::Unrecorded(number) = id {
                        self.unrecorded.remove(number).into_iter().flatten().for_each(|recorded| recorded());
                    }
                }
                _ => {}
            }
            decided.push(self.decide(event));
        }
        for delivery in deliveries {
            self.recording.push((delivery.shown_id(), delivery.recorded));
            let event = self.event_of(delivery.arrival);
            decided.push(self.decide(event));
        }
        self.perform_all(decided).await;
        if !self.recording.is_empty() {
            between("agent.taken");
        }
        for (_, recorded) in self.recording.drain(..) {
            recorded();
        }
        if ticked || self.noted.len() >= EngineLimits::BATCH {
            self.record_noted().await;
        }
    }

    fn decide(&mut self, event: Event) -> Vec<Effect> {
        let now = self.parts.clock.now();
        self.parts.worker.attachments.book(|attached| self.ledger.on(event, now, attached))
    }

    fn event_of(&self, arrival: Arrival) -> Event {
        match arrival {
            Arrival::Job(job) => {
                let EngineParts { roots, reserved, worker, .. } = &self.parts;
                match admit(&job, roots, reserved, &worker.stores, &worker.attachments) {
                    Ok(()) => Event::Requested(job),
                    Err(failure) => refused(Refusal::of(&job, &failure)),
                }
            }
            Arrival::Refused(refusal) => refused(refusal),
        }
    }

    /// Performs what follows from several events: one commit for all of them, then everything else in order.
    /// When that commit fails, each is performed by itself, so that one does not fail the others. What could not
    /// be recorded before goes first: an older state of a job must never follow a newer one.
    async fn perform_all(&mut self, decided: Vec<Vec<Effect>>) {
        let decided: Vec<Vec<Effect>> = self.deferred.drain(..).chain(decided).collect();
        if decided.iter().filter(|effects| records(effects)).count() > 1
            && self.commit(&changes_of(decided.iter().flatten())).await.is_ok()
        {
            between("agent.recorded");
            for effect in decided.into_iter().flatten() {
                self.act(effect).await;
            }
            return;
        }
        let mut refused = BTreeMap::new();
        for effects in decided {
            self.perform(effects, &mut refused).await;
        }
        self.refuse(refused).await;
    }

    async fn perform(&mut self, effects: Vec<Effect>, refused: &mut BTreeMap<JobKey, FailureReport>) {
        if !self.deferred.is_empty() && !records(&effects) && effects.iter().any(is_work) {
            return self.deferred.push_back(effects); // It may build on what could not be recorded.
        }
        let changes = changes_of(&effects);
        if !records(&effects) {
            self.noted.extend(changes);
        } else if let Err(failure) = self.record(&changes).await {
            return self.not_recorded(&changes, effects, &failure, refused).await;
        }
        between("agent.recorded");
        for effect in effects {
            self.act(effect).await;
        }
    }

    async fn record(&mut self, changes: &[Change]) -> Result<(), Failure> {
        if self.deferred.is_empty() {
            return self.commit(changes).await.map_err(|failure| failure.at_step("record"));
        }
        Err(Failure::new(FailureCode::Busy, "the journal could not be written before").at_step("record"))
    }

    /// Makes `changes` durable, and before them what was noted.
    async fn commit(&mut self, changes: &[Change]) -> Result<(), Failure> {
        if self.noted.is_empty() {
            return self.parts.journal.commit(changes).await;
        }
        let all = [self.noted.as_slice(), changes].concat();
        self.parts.journal.commit(&all).await?;
        self.noted.clear();
        Ok(())
    }

    /// What cannot be recorded now stays noted.
    async fn record_noted(&mut self) {
        if !self.noted.is_empty()
            && let Err(failure) = self.commit(&[]).await
        {
            tracing::warn!(code = %failure.code(), "acknowledgements are not recorded yet: {}", failure.chain());
        }
    }

    async fn not_recorded(
        &mut self,
        changes: &[Change],
        effects: Vec<Effect>,
        failure: &Failure,
        refused: &mut BTreeMap<JobKey, FailureReport>,
    ) {
        tracing::error!(code = %failure.code(), "{}", failure.chain());
        match changes {
            [Change::PutJob(record)] if record.phase == Phase::Accepted => {
                refused.insert(record.key(), failure.report());
            }
            [Change::PutRefusal(number, _)] => {
                self.decide(Event::RefusalNotRecorded(*number));
                for effect in effects {
                    if let Effect::Answer(_, answer) = effect {
                        self.act(Effect::Answer(AnswerId::Unrecorded(*number), answer)).await;
                    }
                }
            }
            _ => self.deferred.push_back(effects),
        }
    }

    /// Jobs that could not be recorded were never accepted. One makes room for another only if that one was.
    async fn refuse(&mut self, refused: BTreeMap<JobKey, FailureReport>) {
        let mut decided = Vec::new();
        for (key, report) in &refused {
            decided.extend(self.decide(Event::JobNotRecorded(key.clone(), report.clone())));
        }
        for effect in decided {
            match &effect {
                Effect::Work(job, ..) if refused.contains_key(&job.key()) => {}
                Effect::Work(..) if !self.deferred.is_empty() => self.deferred.push_back(vec![effect]),
                _ => self.act(effect).await,
            }
        }
    }

    async fn act(&mut self, effect: Effect) {
        match effect {
            Effect::Record(_) | Effect::Note(_) => {} // Done before, all at once.
            Effect::Answer(id, answer) => self.answer(id, answer).await,
            Effect::Work(job, attempt, id) => self.work(job, attempt, id),
            Effect::Abandon(key) => {
                if self.running.get(&key).is_some_and(|control| control.try_abandon()) {
                    let decided = self.decide(Event::Abandoned(key));
                    Box::pin(self.perform_all(vec![decided])).await;
                }
            }
        }
    }

    /// Hands the answer over before anything that follows is done. That the broker has it is an event.
    async fn answer(&mut self, id: AnswerId, answer: Answer) {
        between("agent.answer");
        log_answer(&answer);
        self.answers_in_flight += 1;
        if let AnswerId::Unrecorded(number) = id {
            let about = Some((answer.sender.clone(), answer.job.clone()));
            let unrecorded = self.recording.extract_if(.., |(shown, _)| *shown == about);
            let unrecorded = unrecorded.map(|(_, recorded)| recorded).collect();
            self.unrecorded.insert(number, unrecorded);
        }
        self.parts.answers.send(id, &answer).await;
    }

    fn work(&mut self, job: Job, attempt: Attempt, id: Option<AttemptId>) {
        if self.stopping {
            return; // It is on disk: the next start works on it.
        }
        between("agent.work");
        let control = Arc::new(JobControl::default());
        self.running.insert(job.key(), Arc::clone(&control));
        let worker = Arc::clone(&self.parts.worker);
        let events = self.events_in.clone();
        tokio::spawn(async move {
            let event = match AssertUnwindSafe(worker.run(&job, attempt, id, &control)).catch_unwind().await {
                Ok(event) => event,
                Err(_) if control.try_end() => {
                    let defect =
                        Failure::new(FailureCode::Internal, "a defect stopped the work; the log has it");
                    Event::broken(job.key(), &defect)
                }
                Err(_) => Event::Released { key: job.key(), released: None, undone: false },
            };
            between("agent.ended");
            let _stopped = events.send(event);
        });
    }
}

/// Whether something waits for what is to be recorded.
fn records(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Record(_)))
}

fn is_work(effect: &Effect) -> bool {
    matches!(effect, Effect::Work(..))
}

fn changes_of<'a>(effects: impl IntoIterator<Item = &'a Effect>) -> Vec<Change> {
    let changes = effects.into_iter().filter_map(|effect| match effect {
        Effect::Record(changes) | Effect::Note(changes) => Some(changes),
        Effect::Answer(..) | Effect::Work(..) | Effect::Abandon(_) => None,
    });
    changes.flatten().cloned().collect()
}

fn refused(refusal: Refusal) -> Event {
    let sender = refusal.sender.as_ref().map_or("no reply address", |sender| sender.as_str());
    let job = refusal.job.as_ref().map_or("-", |job| job.as_str());
    tracing::warn!(sender, job, code = %refusal.report.code, "refused: {}", refusal.report.error);
    Event::Refused(refusal)
}

fn log_answer(answer: &Answer) {
    let job = answer.job.as_ref().map_or("-", |job| job.as_str());
    let word = match &answer.status {
        Status::Pending => "PENDING",
        Status::Done => "DONE",
        Status::Failed(_) => "FAILED",
    };
    tracing::info!(sender = %answer.sender, job, "{word}");
}
