//! The agent: its core, started as `dvs-agent` does it, on the fakes.

use crate::fakes::{FakeAnswers, FakeClock, FakeJournal, FakeMounts, FakeStore, FakeUsers};
use crate::scenario::STORES;
use crate::world::faults::Call;
use crate::world::{LIMITS, Sim};
use dvs_core::{Core, CoreParts, EngineLimits};
use dvs_domain::failure::Failure;
use dvs_domain::mount_point::AllowedRoots;
use dvs_domain::ports::{JobIntake, Journal, VolumeStore};
use dvs_job_json::decode;
use std::sync::Arc;
use tokio::sync::{oneshot, watch};

/// How long a stopping agent waits for work that runs, in seconds.
const STOP_SECONDS: u64 = 5;

/// Runs one process of the agent until it is told to stop. When it is killed, this is dropped.
///
/// # Errors
/// Why it could not start.
pub(crate) async fn live(sim: Sim, stop: watch::Receiver<bool>) -> Result<(), Failure> {
    let journal: Arc<dyn Journal> = Arc::new(FakeJournal(sim.clone()));
    sim.effect(|world| world.sweep_stores()).await;
    let stores = (0..STORES.len())
        .map(|index| Arc::new(FakeStore { sim: sim.clone(), index }) as Arc<dyn VolumeStore>)
        .collect();
    let remembered = journal.load().await?;
    let wiring = sim.with(|world| world.wiring);
    let core = Core::open((wiring.parts)(CoreParts {
        stores,
        journal,
        remembered,
        mounter: Arc::new(FakeMounts(sim.clone())),
        references: Arc::new(FakeUsers(sim.clone())),
        clock: Arc::new(FakeClock(sim.clone())),
        roots: AllowedRoots::with([]),
        reserved: Vec::new(),
        limits: LIMITS,
        engine_limits: EngineLimits { stop_seconds: STOP_SECONDS },
    }))?;
    let attachments = Arc::clone(core.attachments());
    sim.effect(|world| world.life.node = Some(attachments)).await;
    core.reattach().await;

    let unresolved = core.unresolved().clone();
    let doors = sim.effect(|world| {
        world.check_ready(&unresolved);
        world.life.working_since = Some(world.now());
        world.connect();
        world.scenario.doors
    });
    for _ in 0..doors.await {
        tokio::spawn(door(sim.clone(), (wiring.intake)(Arc::new(core.intake()))));
    }
    let intake: Arc<dyn JobIntake> = Arc::new(core.intake());
    let answers = Arc::new(FakeAnswers { sim, intake: Arc::clone(&intake) });
    core.run((wiring.answers)(answers, intake), stop).await;
    Ok(())
}

/// A door: hands in messages one after the other, and acknowledges each once it is on disk.
async fn door(sim: Sim, intake: Arc<dyn JobIntake>) {
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
        let (recorded, is_recorded) = oneshot::channel();
        let offered = intake.offer(
            arrival,
            Box::new(move || {
                let _gone = recorded.send(());
            }),
        );
        if offered.is_err() || is_recorded.await.is_err() {
            return; // The agent is stopping: the broker keeps the message.
        }
        sim.moment(Call::Acknowledge).await;
        sim.effect(|world| world.acknowledge(arrived)).await;
    }
}
