//! Lets time pass: lives of the agent one after the other, each in a runtime of its own with virtual time, and the
//! world's events between and beside them. A crash drops the runtime with everything in it.

use crate::plot::Plot;
use crate::promise::Promise;
use crate::report::{Report, Violation};
use crate::scenario::Scenario;
use crate::wiring::Wiring;
use crate::world::{Sim, World};
use crate::{agent, defects};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinError;

/// How often the driver looks at the clock and at the limits, in milliseconds.
const LOOK_MILLISECONDS: u64 = 250;
/// After how long an agent that could not start is started again, in milliseconds.
const START_AGAIN_MILLISECONDS: u64 = 1_000;

/// Runs `scenario` to its end, or to the first broken promise.
pub(crate) fn run(scenario: &Scenario, logs: bool, wiring: Wiring) -> Report {
    let sim = Sim::new(scenario.clone(), logs, wiring);
    defects::watch();
    sim.with(|world| world.plan_scenario());
    let mut plot = Plot::new(scenario);
    while !plot.is_over() && !is_violated(&sim) {
        let down_milliseconds = live(&sim, &mut plot);
        stay_down(&sim, &mut plot, down_milliseconds);
    }
    defects::unwatch();
    sim.with(|world| Report {
        seed: scenario.seed,
        violation: world.violation.take(),
        counts: world.counts,
        log: world.log.take().unwrap_or_default(),
    })
}

/// One life of the agent. Says how long it is down afterwards.
fn live(sim: &Sim, plot: &mut Plot) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without threads and devices can always be built");
    let ended = runtime.block_on(async {
        let ended = watch_over(sim, plot).await;
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

/// Lets things happen while the agent lives. Says how long an agent that ended by itself stays down.
async fn watch_over(sim: &Sim, plot: &mut Plot) -> Option<u64> {
    let (stop, stopped) = watch::channel(false);
    sim.with(|world| world.begin_life(stop));
    let mut agent = tokio::spawn(agent::live(sim.clone(), stopped));
    loop {
        let pause = sim.with(|world| {
            check_defects(world);
            while !world.is_halted() && world.happen() {}
            if !world.is_halted() {
                world.check_limits();
                plot.look(world);
            }
            let next = world.agenda.next_at().unwrap_or(u64::MAX);
            next.saturating_sub(world.now()).min(LOOK_MILLISECONDS)
        });
        if plot.is_over() || sim.with(|world| world.is_halted()) {
            return None;
        }
        tokio::select! {
            biased;
            ended = &mut agent => return Some(after(sim, ended)),
            () = sim.woken() => {}
            () = tokio::time::sleep(Duration::from_millis(pause)) => {}
        }
    }
}

/// How long the agent stays down that ended by itself.
fn after(sim: &Sim, ended: Result<Result<(), dvs_domain::failure::Failure>, JoinError>) -> u64 {
    sim.with(|world| match ended {
        Ok(Ok(())) => {
            world.say(format_args!("agent has stopped"));
            world.life.stays_down_milliseconds
        }
        Ok(Err(failure)) => {
            world.say(format_args!("agent could not start: {}", failure.chain()));
            START_AGAIN_MILLISECONDS
        }
        Err(defect) => {
            world.violate(Promise::NoDefect, format_args!("the agent panicked: {defect}"));
            0
        }
    })
}

/// Lets things happen while there is no agent.
fn stay_down(sim: &Sim, plot: &mut Plot, milliseconds: u64) {
    sim.with(|world| {
        let until = world.now() + milliseconds;
        while let Some(at) = world.agenda.next_at().filter(|at| *at <= until) {
            world.pass_until(at);
            world.happen();
            plot.look(world);
        }
        world.pass_until(until);
        plot.look(world);
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
