//! Containers, and the engines that keep them.

use super::check;
use crate::world::{Step, World};
use anyhow::{Context, Result};
use cucumber::{given, then, when};
use dvs_features::docker::DockerEngine;
use std::fs;
use std::os::unix::net::UnixListener;

/// What a container does that is to run until it is removed.
const GOES_ON: &str = "sleep 86400";

#[given("a Docker engine of its own")]
async fn an_engine(world: &mut World) -> Step {
    start_engine(world).await?;
    ask(world, "--docker");
    Ok(())
}

#[given("an engine of its own that is asked as Podman")]
async fn an_engine_as_podman(world: &mut World) -> Step {
    start_engine(world).await?;
    world.launch.arguments.extend(["--docker".into(), "none".into()]);
    ask(world, "--podman");
    Ok(())
}

/// The kernel takes connections for it, and nobody ever reads what they bring.
#[given(expr = "a Docker engine that never answers, which is given {int} s")]
async fn a_silent_engine(world: &mut World, seconds: u64) -> Step {
    let folder = world.docker_folder();
    fs::create_dir_all(&folder).context("cannot make the engine's folder")?;
    let listener = UnixListener::bind(DockerEngine::socket_in(&folder)).context("cannot listen")?;
    world.silent_docker = Some(listener);
    world.launch.arguments.extend(["--engine-seconds".into(), seconds.to_string().into()]);
    ask(world, "--docker");
    Ok(())
}

#[when("the Docker engine answers")]
async fn the_engine_answers(world: &mut World) -> Step {
    world.silent_docker = None;
    fs::remove_file(DockerEngine::socket_in(&world.docker_folder())).context("cannot remove a socket")?;
    Ok(start_engine(world).await?)
}

#[when("the Docker engine stops")]
async fn the_engine_stops(world: &mut World) -> Step {
    Ok(world.docker.as_mut().context("there is no engine")?.stop().await?)
}

#[when("the Docker engine starts")]
async fn the_engine_starts(world: &mut World) -> Step {
    Ok(world.docker.as_mut().context("there is no engine")?.run().await?)
}

#[given(regex = r#"^container "(.*)" (runs|has run|was made|is paused|starts again and again) with "(.*)"$"#)]
#[when(regex = r#"^container "(.*)" (runs|has run|was made|is paused|starts again and again) with "(.*)"$"#)]
async fn a_container(world: &mut World, name: String, how: String, bound: String) -> Step {
    let bind = format!("{}:/data", world.at(&bound).display());
    let engine = engine(world)?;
    let (verb, script): (&[&str], _) = match how.as_str() {
        "has run" => (&["run"], "true"),
        "was made" => (&["create"], GOES_ON),
        "starts again and again" => (&["run", "-d", "--restart", "always"], "false"),
        _ => (&["run", "-d"], GOES_ON),
    };
    engine.container(verb, &name, &["-v", &bind], script)?;
    if how == "is paused" {
        engine.docker(["pause", &name])?;
    }
    Ok(())
}

#[when(expr = "container {string} is removed")]
async fn it_is_removed(world: &mut World, name: String) -> Step {
    Ok(engine(world)?.docker(["rm", "-f", "-v", &name]).map(drop)?)
}

#[when(expr = "container {string} is stopped")]
async fn it_is_stopped(world: &mut World, name: String) -> Step {
    Ok(engine(world)?.docker(["stop", &name]).map(drop)?)
}

#[then(expr = "container {string} reads {string} in {string}")]
async fn it_reads(world: &mut World, name: String, content: String, file: String) -> Step {
    let path = format!("/data/{file}");
    let read = engine(world)?.docker(["exec", &name, "/bin/busybox", "cat", &path])?;
    Ok(check(read == content, || format!("it reads {read:?}"))?)
}

/// Starts the engine that the scenario's steps are about.
async fn start_engine(world: &mut World) -> Result<()> {
    let engine = DockerEngine::start(&world.docker_folder()).await?;
    world.docker = Some(engine);
    Ok(())
}

/// Lets the agent ask the scenario's own engine, by `flag`.
fn ask(world: &mut World, flag: &str) {
    let socket = DockerEngine::socket_in(&world.docker_folder());
    world.launch.arguments.extend([flag.into(), socket.into()]);
}

/// The Docker engine of the scenario.
pub(super) fn engine(world: &World) -> Result<&DockerEngine> {
    world.docker.as_ref().context("there is no Docker engine of the scenario's own")
}
