//! The agent's core in this world: put together and started as `dvs-agent` does it, with fakes for adapters.

use crate::fakes::{FakeAnswers, FakeClock, FakeJournal, FakeMounts, FakeStore, FakeUsers};
use crate::scenario::STORES;
use crate::world::faults::Call;
use crate::world::{LIMITS, Sim};
use dvs_agent::core::{Engine, EngineLimits, EngineParts, Intake, Node, Stores, Worker, intake};
use dvs_domain::failure::Failure;
use dvs_domain::ledger::Ledger;
use dvs_domain::mount_point::AllowedRoots;
use dvs_domain::ports::{Clock, JobIntake, Journal, VolumeStore};
use dvs_domain::recovery::InDoubt;
use dvs_job_json::decode;
use std::sync::Arc;
use tokio::sync::watch;

/// How long a stopping agent waits for work that runs, in seconds.
const STOP_SECONDS: u64 = 5;

/// One life: the same steps in the same order as `compose::build` and `life::work` of the agent. Returns when the
/// agent was told to stop; when it is cut off, this is dropped.
///
/// # Errors
/// Why it could not start.
pub(crate) async fn live(sim: Sim, stop: watch::Receiver<bool>) -> Result<(), Failure> {
    let journal: Arc<dyn Journal> = Arc::new(FakeJournal(sim.clone()));
    sim.effect(|world| world.sweep_stores()).await;
    let stores = (0..STORES.len())
        .map(|index| Arc::new(FakeStore { sim: sim.clone(), index }) as Arc<dyn VolumeStore>)
        .collect();
    let stores = Arc::new(Stores::new(stores)?);
    let remembered = journal.load().await?;
    let node = Arc::new(Node::new(Arc::clone(&journal), remembered.attachments.clone()));
    let clock: Arc<dyn Clock> = Arc::new(FakeClock(sim.clone()));
    let in_doubt = InDoubt::of(&remembered.jobs);
    let default_store = stores.default_name().clone();
    let (ledger, first) = Ledger::restore(LIMITS, default_store, remembered, clock.now());
    let worker = Arc::new(Worker {
        stores,
        node: Arc::clone(&node),
        attachments: Arc::new(FakeMounts(sim.clone())),
        users: Arc::new(FakeUsers(sim.clone())),
        clock: Arc::clone(&clock),
    });
    sim.effect(|world| world.life.node = Some(node)).await;
    worker.start(&in_doubt).await;

    let (intake, arrivals) = intake();
    let doors = sim.effect(|world| {
        world.check_ready(&in_doubt);
        world.life.working_since = Some(world.now());
        world.connect();
        world.scenario.doors
    });
    for _ in 0..doors.await {
        tokio::spawn(door(sim.clone(), intake.clone()));
    }
    let parts = EngineParts {
        worker,
        journal,
        answers: Arc::new(FakeAnswers(sim.clone())),
        clock,
        roots: AllowedRoots::with([]),
        reserved: Vec::new(),
        limits: EngineLimits { stop_seconds: STOP_SECONDS },
    };
    Engine::new(parts, ledger, arrivals).run(first, stop).await;
    Ok(())
}

/// A door: hands in what arrives, one after the other, and acknowledges what is on disk.
async fn door(sim: Sim, intake: Intake) {
    loop {
        let Some(arrived) = sim.effect(|world| world.broker.next_arrival()).await else {
            sim.arrived().await;
            continue;
        };
        let arrival = sim
            .effect(|world| {
                let (topic, payload, retained) = world.senders.wire(arrived.message);
                decode(&world.topics, topic, payload, retained)
            })
            .await;
        if intake.take(arrival).await.is_err() {
            return; // The agent is stopping: the broker keeps the message.
        }
        sim.moment(Call::Acknowledge).await;
        sim.effect(|world| world.acknowledge(arrived)).await;
    }
}
