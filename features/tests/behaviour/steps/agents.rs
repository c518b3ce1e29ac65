//! The agent's life, and its presence.

use super::{check, text_below};
use crate::fill::fill;
use crate::stage::Stage;
use crate::world::{Step, World};
use anyhow::{Context, Result};
use cucumber::{gherkin, given, then, when};
use dvs_trials::client::Client;
use dvs_trials::process::run;
use dvs_trials::wait::until;
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use std::time::{Duration, Instant};

const ENDED_WITHIN: Duration = Duration::from_secs(40);
const PRESENT_WITHIN: Duration = Duration::from_secs(20);

#[given("a running agent")]
#[given("the agent starts")]
#[when("the agent starts")]
async fn the_agent_starts(world: &mut World) -> Step {
    Ok(world.start_agent().await?)
}

#[given("a running agent in a mount namespace of its own")]
async fn a_running_agent_in_a_namespace(world: &mut World) -> Step {
    world.launch.namespace = true;
    Ok(world.start_agent().await?)
}

#[when("the agent starts without failing steps")]
async fn the_agent_starts_without_failing_steps(world: &mut World) -> Step {
    world.launch.environment.clear();
    Ok(world.start_agent().await?)
}

#[given("the agent is stopped")]
#[when("the agent is stopped")]
async fn the_agent_is_stopped(world: &mut World) -> Step {
    Ok(world.stop_agent().await?)
}

#[given("the agent is stopped and forgotten by the broker")]
async fn the_agent_is_forgotten(world: &mut World) -> Step {
    world.stop_agent().await?;
    // A client of the same name without a session to keep ends the session that the broker has kept.
    let name = format!("dvs-{}", world.launch.node);
    Client::connect(world.launch.broker, &name, &[]).await?;
    Ok(())
}

#[when("the agent is asked to stop")]
async fn the_agent_is_asked_to_stop(world: &mut World) -> Step {
    Ok(world.agent()?.ask_to_stop()?)
}

#[then("it ends well")]
async fn it_ends_well(world: &mut World) -> Step {
    let mut agent = world.agent.take().context("no agent runs")?;
    let status = agent.wait().await?;
    Ok(check(status.success(), || format!("it ended with {status}"))?)
}

#[when("the agent is killed")]
async fn the_agent_is_killed(world: &mut World) -> Step {
    world.agent.take().context("no agent runs")?.kill();
    Ok(())
}

#[then("the agent is dead")]
async fn the_agent_is_dead(world: &mut World) -> Step {
    let agent = world.agent()?;
    until("the agent is dead", ENDED_WITHIN, || agent.ended()).await?;
    world.agent = None;
    Ok(())
}

#[given(expr = "an agent whose failpoint {string} fails once with {string}")]
async fn a_step_fails_once(world: &mut World, failpoint: String, code: String) {
    fail(world, &format!("{failpoint}=1*return({code})"));
}

#[given(expr = "an agent whose failpoint {string} fails after {int} times with {string}")]
async fn a_step_fails_later(world: &mut World, failpoint: String, times: u32, code: String) {
    let before = if times == 0 { String::new() } else { format!("{times}*off->") };
    fail(world, &format!("{failpoint}={before}1*return({code})"));
}

#[given(expr = "an agent whose work waits {int} milliseconds once")]
async fn the_work_waits(world: &mut World, milliseconds: u32) {
    fail(world, &format!("{}=1*sleep({milliseconds})", step_in_the_middle()));
}

/// Creates and deletes: late enough that something is there, and before anything is finished.
#[given(expr = "an agent whose work waits {int} milliseconds each time")]
async fn all_work_waits(world: &mut World, milliseconds: u32) {
    let decide = if World::is_loop() { "loop.decide" } else { "fake.decide" };
    let steps = [step_in_the_middle(), decide].map(|step| format!("{step}=sleep({milliseconds})"));
    fail(world, &steps.join(";"));
}

#[given("an agent whose work kills it once")]
async fn the_work_kills(world: &mut World) {
    fail(world, &format!("{}=1*return(kill)", step_in_the_middle()));
}

#[given("the configuration:")]
async fn the_configuration(world: &mut World, step: &gherkin::Step) -> Step {
    let text = fill(world, text_below(step)?);
    let file = world.configuration_file();
    Ok(std::fs::write(file, text).context("cannot write the configuration")?)
}

#[when("the agent starts as a daemon")]
async fn the_agent_starts_as_a_daemon(world: &mut World) -> Step {
    world.launch.arguments.push("-d".into());
    let printed = run(&mut world.launch.command(), ENDED_WITHIN).await?;
    Ok(check(printed.code == Some(0), || format!("it ended with {:?}: {}", printed.code, printed.err))?)
}

#[when("the daemon is told to stop")]
async fn the_daemon_is_told_to_stop(world: &mut World) -> Step {
    let running = world.launch.running()?;
    check(running.len() == 1, || format!("there is not one daemon but {running:?}"))?;
    for process in running {
        kill_process(process, Signal::TERM).context("cannot tell the daemon to stop")?;
    }
    until("the daemon ends", ENDED_WITHIN, || Ok(world.launch.running()?.is_empty().then_some(()))).await?;
    Ok(())
}

#[given("an agent with that configuration, and its broker in the environment")]
async fn an_agent_with_a_configuration(world: &mut World) {
    world.launch.arguments = vec!["--config".into(), world.configuration_file().into()];
    world.launch.broker_in_environment = true;
}

#[then("the retained presence is online, with a version and the store of this run")]
async fn the_presence_is_online(world: &mut World) -> Step {
    let presence = presence(world, "online").await?;
    let has_version = presence["version"].as_str().is_some_and(|version| !version.is_empty());
    check(has_version, || format!("no version in {presence}"))?;
    let store = Stage::get().store.word();
    Ok(check(presence["stores"] == serde_json::json!([store]), || format!("not `{store}` in {presence}"))?)
}

#[then("the retained presence is offline")]
async fn the_presence_is_offline(world: &mut World) -> Step {
    let presence = presence(world, "offline").await?;
    Ok(check(presence == serde_json::json!({ "state": "offline" }), || {
        format!("more than that: {presence}")
    })?)
}

/// What the broker keeps of the agent, once that says `state`.
async fn presence(world: &World, state: &str) -> Result<Value> {
    let topic = format!("docker/{}/agent", world.launch.node);
    let end = Instant::now() + PRESENT_WITHIN;
    loop {
        let name = format!("presence-{}", uuid::Uuid::new_v4().simple());
        let client = Client::connect(world.launch.broker, &name, std::slice::from_ref(&topic)).await?;
        let first =
            client.until("what the broker keeps", PRESENT_WITHIN, |heard| heard.first().cloned()).await?;
        let presence: Value = serde_json::from_slice(&first.payload).context("the presence is no JSON")?;
        // What comes live is not kept, or not yet: whoever comes later is told.
        let kept = first.retained && presence["state"] == state;
        if kept || end <= Instant::now() {
            check(kept, || format!("what is kept does not say {state}: {first}"))?;
            return Ok(presence);
        }
    }
}

fn fail(world: &mut World, how: &str) {
    world.launch.environment = vec![("FAILPOINTS".to_owned(), how.to_owned())];
}

/// A step of create after which something is there, and before which nothing is finished.
fn step_in_the_middle() -> &'static str {
    if World::is_loop() { "loop.format" } else { "fake.record" }
}
