//! Containers, and the engines that keep them.

use super::check;
use crate::world::{Step, World};
use anyhow::{Context, Result};
use cucumber::{given, then, when};
use dvs_trials::client::Retain;
use dvs_trials::docker::DockerEngine;
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

#[given("an engine of its own, and volumes may be mounted where it keeps its own")]
async fn an_engine_with_places(world: &mut World) -> Step {
    an_engine(world).await?;
    let engine = engine(world)?;
    let places = engine.docker(["info", "--format", "{{.DockerRootDir}}/volumes"])?;
    world.launch.mount_roots.push(places.trim().into());
    Ok(())
}

#[when(expr = "container {string} was made with a volume that Docker keeps itself")]
async fn a_container_with_a_volume(world: &mut World, name: String) -> Step {
    let engine = engine(world)?;
    engine.container(&["create"], &name, &["-v", "/data"], GOES_ON)?;
    let place = engine.docker(["inspect", "--format", "{{(index .Mounts 0).Source}}", &name])?;
    world.docker_place = Some(place.trim().to_owned());
    Ok(())
}

#[when(expr = "a create job of {int} MiB for the place of that volume is sent")]
async fn a_create_job_for_it(world: &mut World, size: u64) -> Step {
    let job = world.job(&place(world)?, Some(size));
    Ok(world.publish("volumes/create", job.to_string().into_bytes(), Retain::No).await?)
}

#[when("a delete job for the place of that volume is sent")]
async fn a_delete_job_for_it(world: &mut World) -> Step {
    let job = world.job(&place(world)?, None);
    Ok(world.publish("volumes/delete", job.to_string().into_bytes(), Retain::No).await?)
}

#[when(expr = "container {string} is started")]
async fn it_is_started(world: &mut World, name: String) -> Step {
    Ok(engine(world)?.docker(["start", &name]).map(drop)?)
}

#[then(expr = "container {string} can write less than {int} MiB")]
async fn it_can_write_less(world: &mut World, name: String, mebibytes: u64) -> Step {
    let (engine, count) = (engine(world)?, format!("count={mebibytes}"));
    let write = ["exec", &name, "/bin/busybox", "dd", "if=/dev/zero", "of=/data/much", "bs=1M", &count];
    let written = engine.docker(write);
    let full = written.as_ref().is_err_and(|error| format!("{error:#}").contains("No space left on device"));
    Ok(check(full, || format!("it was told {written:?}"))?)
}

#[when(expr = "container {string} is removed, and its volumes stay")]
async fn it_is_removed_alone(world: &mut World, name: String) -> Step {
    Ok(engine(world)?.docker(["rm", "-f", &name]).map(drop)?)
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

fn place(world: &World) -> Result<String> {
    world.docker_place.clone().context("no container has a volume of Docker's own")
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
