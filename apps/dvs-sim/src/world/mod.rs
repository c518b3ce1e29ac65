//! The environment of the agent: disk, kernel, broker, senders, containers, clocks, faults. One value behind one lock: the
//! fakes change it, the driver advances its time, and the checks inspect it.

pub(crate) mod broker;
pub(crate) mod clock;
pub(crate) mod disk;
pub(crate) mod docker;
pub(crate) mod event_queue;
mod events;
pub(crate) mod faults;
pub(crate) mod history;
pub(crate) mod ids;
pub(crate) mod kernel;
pub(crate) mod life;
pub(crate) mod senders;

use crate::promise::Promise;
use crate::random::Random;
use crate::report::{Counts, Violation};
use crate::scenario::Scenario;
use crate::wiring::Wiring;
use broker::Broker;
use clock::HostClock;
use disk::Disk;
use docker::Docker;
use dvs_domain::failure::Failure;
use dvs_domain::ledger::Limits;
use dvs_domain::names::NodeName;
use dvs_job_json::{TopicWords, Topics};
use event_queue::EventQueue;
use faults::{Call, Faults};
use history::History;
use kernel::Kernel;
use life::{Cut, Life};
use senders::Senders;
use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Limits so small that a minute of virtual time reaches all of them.
pub(crate) const LIMITS: Limits = Limits {
    workers: 3,
    queue: 12,
    job_milliseconds: 20_000,
    undo_milliseconds: 3_000,
    remembered_min: 5,
    remembered_max: 10_000,
    remembered_milliseconds: 3_600_000,
    refusals: 100,
    stuck: 4,
};

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) scenario: Scenario,
    pub(crate) wiring: Wiring,
    pub(crate) topics: Topics,
    pub(crate) log: Option<Vec<String>>,
    pub(crate) event_queue: EventQueue,
    pub(crate) clock: HostClock,
    pub(crate) life: Life,
    pub(crate) disk: Disk,
    pub(crate) kernel: Kernel,
    pub(crate) broker: Broker,
    pub(crate) docker: Docker,
    pub(crate) faults: Faults,
    pub(crate) senders: Senders,
    pub(crate) history: History,
    pub(crate) counts: Counts,
    pub(crate) violation: Option<Violation>,
    /// Whether all faults have ended and every call is short.
    pub(crate) healed: bool,
    sequence: u64,
}

impl World {
    fn new(scenario: Scenario, logs: bool, wiring: Wiring) -> Self {
        let mut random = Random::new(scenario.seed ^ 0x5EED_0FDE_1A75);
        let node = NodeName::new("node").expect("a plain name");
        Self {
            disk: Disk::new(&mut random),
            random,
            topics: Topics::new(TopicWords::default(), node).expect("the usual words"),
            log: logs.then(Vec::new),
            event_queue: EventQueue::default(),
            clock: HostClock::new(),
            life: Life::default(),
            kernel: Kernel::default(),
            broker: Broker::default(),
            docker: Docker::default(),
            faults: Faults::default(),
            senders: Senders::default(),
            history: History::default(),
            counts: Counts::default(),
            violation: None,
            healed: false,
            sequence: 0,
            scenario,
            wiring,
        }
    }

    /// Appends a line to the log, if one is kept.
    pub(crate) fn log(&mut self, text: fmt::Arguments<'_>) {
        let now = self.now();
        if let Some(log) = &mut self.log {
            log.push(format!("{:>4}.{:03} {text}", now / 1000, now % 1000));
        }
    }

    /// The next number of a sequence that orders events of the same time.
    pub(crate) fn next_in_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Reports a broken promise. The first one ends the run.
    pub(crate) fn violate(&mut self, promise: Promise, what: impl fmt::Display) {
        if self.violation.is_none() {
            self.log(format_args!("VIOLATED {promise}: {what}"));
            self.violation = Some(Violation { promise, what: what.to_string() });
        }
    }

    /// Whether the agent was killed or the run has failed: no call has an effect any more.
    pub(crate) fn is_halted(&self) -> bool {
        self.violation.is_some() || self.life.cut.is_some()
    }

    /// A point without delay at which the agent may be killed.
    pub(crate) fn instant(&mut self, call: Call) {
        if let Some((power, down_milliseconds)) = self.crash_is_due(call) {
            self.cut(Cut { power, down_milliseconds }, call.as_str());
        }
    }

    /// The delay of a call at this point, in milliseconds; `None` when the agent is killed here.
    fn moment(&mut self, call: Call) -> Option<u64> {
        if let Some((power, down_milliseconds)) = self.crash_is_due(call) {
            self.cut(Cut { power, down_milliseconds }, call.as_str());
            return None;
        }
        let hang = self.hang_is_due(call);
        if let Some(milliseconds) = hang {
            self.log(format_args!("{} hangs for {milliseconds} ms", call.as_str()));
        }
        let usual = if self.healed { 3 } else { self.scenario.delay_milliseconds };
        Some(
            match self.random.between(0, 2) {
                0 => 0,
                1 => self.random.between(0, usual.min(3)),
                _ => self.random.between(0, usual),
            } + hang.unwrap_or(0)
                + if call == Call::Commit { self.scenario.commit_milliseconds } else { 0 },
        )
    }
}

/// Shared handle to the world.
#[derive(Clone)]
pub(crate) struct Sim(Arc<Shared>);

struct Shared {
    world: Mutex<World>,
    /// Signals that the next event has changed.
    woken: Notify,
    /// Signals that a message was delivered.
    arrived: Notify,
}

impl Sim {
    pub(crate) fn new(scenario: Scenario, logs: bool, wiring: Wiring) -> Self {
        let world = Mutex::new(World::new(scenario, logs, wiring));
        Self(Arc::new(Shared { world, woken: Notify::new(), arrived: Notify::new() }))
    }

    /// Accesses the world, whether or not the agent was killed.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.world();
        let result = change(&mut world);
        if world.event_queue.take_changed() || world.is_halted() {
            self.0.woken.notify_one();
        }
        if world.broker.has_arrivals() {
            self.0.arrived.notify_waiters();
        }
        result
    }

    /// Performs an effect of the agent. Never returns once the agent was killed.
    pub(crate) async fn effect<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        if self.with(|world| world.is_halted()) {
            return pending().await;
        }
        let result = self.with(change);
        if self.with(|world| world.is_halted()) {
            return pending().await;
        }
        result
    }

    /// A point in a call at which time passes and the agent may be killed.
    pub(crate) async fn moment(&self, call: Call) {
        match self.effect(|world| world.moment(call)).await {
            None | Some(0) => {}
            Some(milliseconds) => tokio::time::sleep(Duration::from_millis(milliseconds)).await,
        }
        self.effect(|_| ()).await;
    }

    /// A point at which the call may fail.
    ///
    /// # Errors
    /// The injected failure.
    pub(crate) async fn step(&self, call: Call) -> Result<(), Failure> {
        self.moment(call).await;
        let failure = self.effect(|world| world.failure_is_due(call)).await;
        failure.map_or(Ok(()), Err)
    }

    /// A point at which the call may panic. Unwinds without the panic hook, which finds panics of the agent.
    pub(crate) async fn panic_if_due(&self, call: Call) {
        let is_due = self.effect(|world| {
            let is_due = world.panic_is_due(call);
            if is_due {
                world.log(format_args!("a defect in `{}`", call.as_str()));
            }
            is_due
        });
        if is_due.await {
            std::panic::resume_unwind(Box::new("a defect, made by the simulation"));
        }
    }

    /// Waits until the next event may have changed.
    pub(crate) async fn woken(&self) {
        self.0.woken.notified().await;
    }

    /// Waits until a message may have been delivered.
    pub(crate) async fn arrived(&self) {
        self.0.arrived.notified().await;
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
