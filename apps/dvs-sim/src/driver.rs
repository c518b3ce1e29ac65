//! Runs a scenario: process after process of the agent, each in its own runtime with virtual time, and the world's events
//! beside and between them. A crash drops the runtime with everything in it.

use crate::phases::Phases;
use crate::promise::Promise;
use crate::report::{Report, Violation};
use crate::scenario::Scenario;
use crate::wiring::Wiring;
use crate::world::{Sim, World};
use crate::{agent, defects};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinError;

/// Interval at which the limits are checked, in milliseconds.
const LOOK_MILLISECONDS: u64 = 250;
/// Restart delay of an agent that failed to start, in milliseconds.
const START_AGAIN_MILLISECONDS: u64 = 1_000;

/// Runs `scenario` to its end, or to the first broken promise.
pub(crate) fn run(scenario: &Scenario, logs: bool, wiring: Wiring) -> Report {
    let sim = Sim::new(scenario.clone(), logs, wiring);
    defects::watch();
    sim.with(|world| world.plan_scenario());
    let mut phases = Phases::new(scenario);
    while !phases.is_over() && !is_violated(&sim) {
        let down_milliseconds = live(&sim, &mut phases);
        stay_down(&sim, &mut phases, down_milliseconds);
    }
    defects::unwatch();
    sim.with(|world| Report {
        seed: scenario.seed,
        violation: world.violation.take(),
        counts: world.counts,
        log: world.log.take().unwrap_or_default(),
    })
}

/// Runs one process of the agent. Returns how long it is down afterwards, in milliseconds.
fn live(sim: &Sim, phases: &mut Phases) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without threads and devices can always be built");
    let ended = runtime.block_on(async {
        let ended = watch_over(sim, phases).await;
        sim.with(|world| {
            check_defects(world);
            world.freeze();
        });
        ended
    });
    drop(runtime);
    sim.with(|world| {
        let cut = world.life.cut.take();
        world.life.working_since = None;
        world.life.stop = None;
        world.forget_client();
        if cut.is_some_and(|cut| cut.power) {
            world.lose_kernel();
        }
        match (cut, ended) {
            (Some(cut), _) => cut.down_milliseconds,
            (None, Some(milliseconds)) => milliseconds,
            (None, None) => 0,
        }
    })
}

/// Processes the world's events while the agent runs. Returns the downtime if the agent ended by itself.
async fn watch_over(sim: &Sim, phases: &mut Phases) -> Option<u64> {
    let (stop, stopped) = watch::channel(false);
    sim.with(|world| world.begin_life(stop));
    let mut agent = tokio::spawn(agent::live(sim.clone(), stopped));
    loop {
        let pause = sim.with(|world| {
            check_defects(world);
            while !world.is_halted() && world.process_due() {}
            if !world.is_halted() {
                world.check_limits();
                phases.poll(world);
            }
            let next = world.event_queue.next_at().unwrap_or(u64::MAX);
            next.saturating_sub(world.now()).min(LOOK_MILLISECONDS)
        });
        if phases.is_over() || sim.with(|world| world.is_halted()) {
            return None;
        }
        if let Some(milliseconds) = sim.with(|world| world.take_pause()) {
            pause_agent(sim, phases, milliseconds).await;
            continue;
        }
        tokio::select! {
            biased;
            ended = &mut agent => return Some(after(sim, ended)),
            () = sim.woken() => {}
            () = tokio::time::sleep(Duration::from_millis(pause)) => {}
        }
    }
}

/// Processes the world's events while the agent is paused, and then advances the runtime's time at once.
async fn pause_agent(sim: &Sim, phases: &mut Phases, milliseconds: u64) {
    sim.with(|world| {
        let begun = world.now();
        let until = begun + milliseconds;
        while !world.is_halted()
            && let Some(at) = world.event_queue.next_at().filter(|at| *at <= until)
        {
            world.pass_in_pause(at.saturating_sub(begun));
            world.process_due();
            phases.poll(world);
        }
        if !world.is_halted() {
            world.pass_in_pause(milliseconds);
            world.end_pause();
        }
    });
    if !sim.with(|world| world.is_halted()) {
        tokio::time::advance(Duration::from_millis(milliseconds)).await;
    }
}

/// Downtime of an agent that ended by itself, in milliseconds.
fn after(sim: &Sim, ended: Result<Result<(), dvs_domain::failure::Failure>, JoinError>) -> u64 {
    sim.with(|world| match ended {
        Ok(Ok(())) => {
            world.log(format_args!("agent has stopped"));
            world.life.stays_down_milliseconds
        }
        Ok(Err(failure)) => {
            world.log(format_args!("agent could not start: {}", failure.chain()));
            START_AGAIN_MILLISECONDS
        }
        Err(defect) => {
            world.violate(Promise::NoDefect, format_args!("the agent panicked: {defect}"));
            0
        }
    })
}

/// Processes the world's events while the agent is down.
fn stay_down(sim: &Sim, phases: &mut Phases, milliseconds: u64) {
    sim.with(|world| {
        let until = world.now() + milliseconds;
        while let Some(at) = world.event_queue.next_at().filter(|at| *at <= until) {
            world.pass_until(at);
            world.process_due();
            phases.poll(world);
        }
        world.pass_until(until);
        phases.poll(world);
    });
}

fn check_defects(world: &mut World) {
    if let Some(panic) = defects::take() {
        world.violate(Promise::NoDefect, panic);
    }
}

fn is_violated(sim: &Sim) -> bool {
    sim.with(|world| world.violation.clone()).is_some_and(|_: Violation| true)
}
