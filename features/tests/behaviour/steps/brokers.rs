//! A broker that goes away and comes back, and who else comes to it.

use super::check;
use crate::world::{Step, World};
use anyhow::{Context, Result};
use cucumber::{given, then, when};
use dvs_trials::broker::Mosquitto;
use dvs_trials::client::Client;
use dvs_trials::machine;
use dvs_trials::notify::NotifySocket;
use dvs_trials::process::run;
use dvs_trials::wait::{success, until};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the volumes are that are made while others are deleted.
pub(super) const OTHERS: &str = "others";

const ANSWERED_WITHIN: Duration = Duration::from_secs(100);
/// How long senders wait before they repeat a job.
const REPEATED_AFTER: Duration = Duration::from_secs(1);
const WORKED_WITHIN: Duration = Duration::from_secs(60);
const READY_WITHIN: Duration = Duration::from_secs(60);
const TOLD_WITHIN: Duration = Duration::from_secs(20);
/// The least that an agent waits before its first return: half of what it begins with. It doubles from loss to loss.
const SHORTEST_ABSENCE: Duration = Duration::from_millis(100);

#[given("a broker of its own")]
async fn a_broker_of_its_own(world: &mut World) -> Step {
    let broker = Mosquitto::start(&world.folder.join("broker")).await?;
    world.use_broker(broker);
    Ok(())
}

/// The agent stands still meanwhile, so that its senders listen again before it can tell them anything.
#[when("the broker goes away and comes back")]
async fn the_broker_goes_away(world: &mut World) -> Step {
    world.agent()?.signal(Signal::STOP)?;
    broker(world)?.end();
    broker(world)?.run().await?;
    world.reconnect().await?;
    world.agent()?.signal(Signal::CONT)?;
    Ok(())
}

#[when("the agent is online again")]
async fn the_agent_is_online_again(world: &mut World) -> Step {
    Ok(world.online_after(0).await?)
}

#[when("the broker is stopped")]
async fn the_broker_is_stopped(world: &mut World) -> Step {
    Ok(broker(world)?.stop().await?)
}

#[when("the broker is killed")]
async fn the_broker_is_killed(world: &mut World) -> Step {
    broker(world)?.end();
    Ok(())
}

#[when("the broker comes back")]
async fn the_broker_comes_back(world: &mut World) -> Step {
    broker(world)?.run().await?;
    Ok(world.reconnect().await?)
}

#[when("the agent works on meanwhile")]
async fn the_agent_works_on(world: &mut World) -> Step {
    let before = world.listed_as_attached().await?;
    success(WORKED_WITHIN, async || {
        let now = world.listed_as_attached().await?;
        check(now != before, || format!("all is as it was: {} volumes", now.len()))
    })
    .await?;
    Ok(note(world).await?)
}

#[when(expr = "the volume at {string} is attached in the end")]
async fn it_is_attached_in_the_end(world: &mut World, name: String) -> Step {
    until("it is attached", WORKED_WITHIN, || Ok(world.is_attached(&name)?.then_some(()))).await?;
    Ok(())
}

#[when(expr = "{int} of them are DONE")]
async fn so_many_are_done(world: &mut World, count: usize) -> Step {
    Ok(world.done_within(count, ANSWERED_WITHIN).await?)
}

#[when(expr = "what was not answered is sent again until {int} of them are DONE")]
async fn it_is_sent_again(world: &mut World, count: usize) -> Step {
    success(ANSWERED_WITHIN, async || {
        world.send_unanswered().await?;
        world.done_within(count, REPEATED_AFTER).await
    })
    .await?;
    Ok(note(world).await?)
}

#[when("each of them is sent once more")]
async fn each_is_sent_once_more(world: &mut World) -> Step {
    Ok(world.send_again(world.jobs[world.batch.clone()].iter()).await?)
}

#[then(expr = "exactly the {int} others are there in the end, although nothing was sent again")]
async fn they_are_there_in_the_end(world: &mut World, count: usize) -> Step {
    Ok(success(WORKED_WITHIN, async || are_there(world, count).await).await?)
}

#[then(expr = "exactly the {int} others are there, each as it was when it was first seen")]
async fn they_are_there(world: &mut World, count: usize) -> Step {
    are_there(world, count).await?;
    let first = std::mem::take(&mut world.noted);
    note(world).await?;
    let seen_again: Vec<_> = first.iter().filter(|(place, _)| world.noted.contains_key(*place)).collect();
    check(!seen_again.is_empty(), || "none was seen before".to_owned())?;
    for (place, first) in seen_again {
        let now = &world.noted[place];
        check(now == first, || format!("`{}` is {now:?}, and was {first:?}", place.display()))?;
    }
    Ok(())
}

#[when("the agent starts without its broker, and says that it is ready")]
async fn it_starts_without_its_broker(world: &mut World) -> Step {
    let manager = NotifySocket::bind(&world.folder.join("notify"))?;
    world.launch.environment.push(manager.environment());
    world.agent = Some(world.launch.start()?);
    Ok(manager.ready(READY_WITHIN).await?)
}

/// Until it does: the agent notices a moment later than whoever has caused it.
#[then(expr = "`dvs check` says of the agent {string} and {string}")]
async fn check_says(world: &mut World, verdict: String, words: String) -> Step {
    success(TOLD_WITHIN, async || {
        let printed = run(&mut world.launch.command_with(&["check".to_owned()]), TOLD_WITHIN).await?;
        let line = printed.out.lines().find(|line| line.contains("  agent: "));
        let line = line.with_context(|| format!("nothing of the agent in {:?}", printed.out))?;
        check(line.starts_with(&verdict) && line.contains(&words), || format!("it says `{line}`"))
    })
    .await?;
    Ok(())
}

#[then(expr = "its log says once {string}")]
async fn its_log_says_once(world: &mut World, words: String) -> Step {
    let log = log(world)?;
    let times = log.lines().filter(|line| line.contains(&words)).count();
    Ok(check(times == 1, || format!("it says so {times} times"))?)
}

#[when("the agent is held")]
async fn the_agent_is_held(world: &mut World) -> Step {
    Ok(world.agent()?.signal(Signal::STOP)?)
}

/// What came in before the broker went is still read.
#[when(expr = "the agent goes on, and answers {int} jobs with nobody there to tell")]
async fn the_agent_goes_on(world: &mut World, count: usize) -> Step {
    world.agent()?.signal(Signal::CONT)?;
    let jobs = world.jobs[world.jobs.len() - count..].to_vec();
    until("they are answered", ANSWERED_WITHIN, || {
        let log = log(world)?;
        let is_answered = |id: &Option<String>| {
            let field = format!("job=\"{}\"", id.as_deref().unwrap_or_default());
            log.lines().any(|line| line.contains(&field))
        };
        Ok(jobs.iter().all(|job| is_answered(&job.id)).then_some(()))
    })
    .await?;
    Ok(())
}

/// When this step ends, the agent is gone for the last time.
#[when(expr = "another client takes the agent's id {int} times, each time that the agent is back")]
async fn another_client(world: &mut World, times: usize) -> Step {
    let name = format!("dvs-{}", world.launch.node);
    for _ in 0..times {
        if world.thrown_out.is_some() {
            await_return(world).await?;
        }
        let mark = world.watch.as_ref().map_or(0, Client::count);
        Client::connect(world.launch.broker, &name, &[]).await?;
        world.thrown_out = Some((mark, Instant::now()));
    }
    Ok(())
}

#[then("the agent returns, and each time it took longer")]
async fn it_took_longer(world: &mut World) -> Step {
    await_return(world).await?;
    for (time, absence) in world.absences.iter().enumerate() {
        let least = SHORTEST_ABSENCE * (1 << time);
        check(least <= *absence, || format!("absence {time} was {absence:?}, less than {least:?}"))?;
    }
    Ok(())
}

async fn await_return(world: &mut World) -> Result<()> {
    let (mark, since) = world.thrown_out.take().context("the agent was not thrown out")?;
    world.online_after(mark).await?;
    world.absences.push(since.elapsed());
    Ok(())
}

/// Makes sure that `count` volumes of the second kind are there, and nothing of any other.
async fn are_there(world: &World, count: usize) -> Result<()> {
    let listed = world.listed_whole().await?;
    let others = world.at(OTHERS);
    let is_one = |volume: &&Value| {
        let place = volume["mount_point"].as_str().unwrap_or_default();
        volume["state"] == "attached" && Path::new(place).starts_with(&others)
    };
    let good = listed.iter().filter(is_one).count();
    check((good, listed.len()) == (count, count), || format!("{good} are, among {listed:?}"))?;
    let attached = world.count_attached()?;
    check(attached == count, || format!("{attached} can be seen"))?;
    if World::is_loop() {
        let devices = machine::loops_below(&world.folder)?.len();
        let paths = machine::paths_below(&world.store_folder())?;
        let images = paths.iter().filter(|path| path.ends_with("image")).count();
        check((devices, images) == (count, count), || format!("{devices} devices, {images} images"))?;
    }
    Ok(())
}

/// Notes by what each volume of the second kind is known again, when it is seen for the first time. One that is being
/// made is listed a moment before it can be seen.
async fn note(world: &mut World) -> Result<()> {
    let others = world.at(OTHERS);
    for volume in world.listed_whole().await? {
        let place = PathBuf::from(volume["mount_point"].as_str().unwrap_or_default());
        let is_other = volume["state"] == "attached" && place.starts_with(&others);
        if is_other && !world.noted.contains_key(&place) && world.is_attached(&place.display().to_string())? {
            let made = format!("{} at {}", volume["made_by"], volume["made_at_milliseconds"]);
            let identity = world.identity_at(&place)?;
            world.noted.insert(place, (made, identity));
        }
    }
    Ok(())
}

fn broker(world: &mut World) -> Result<&mut Mosquitto> {
    world.own_broker.as_mut().context("the broker is not the scenario's own")
}

fn log(world: &World) -> Result<String> {
    fs::read_to_string(&world.launch.log).context("cannot read the agent's log")
}
