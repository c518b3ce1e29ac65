//! A host that goes down and comes up, as far as a test can make one: by the units that are installed beside the
//! program.

use super::check;
use super::containers::engine;
use crate::world::{Step, World};
use anyhow::{Context, Result};
use cucumber::{given, then, when};
use dvs_trials::machine;
use dvs_trials::process::run;
use dvs_trials::wait::until;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../apps/dvs-agent/dist");
const ATTACH: &str = "dvs-attach.service";
const AGENT: &str = "dvs.service";
const DOCKER: &str = "docker.service";
/// What is said of Docker's unit here; the rest is Docker's own.
const DOCKER_DROP_IN: &str = "docker.service.d/dvs.conf";

const ATTACHED_WITHIN: Duration = Duration::from_secs(60);
const CONTAINER_WITHIN: Duration = Duration::from_secs(60);

#[given(expr = "container {string} notes each of its starts in {string}, and is always started again")]
async fn a_container_that_notes(world: &mut World, name: String, bound: String) -> Step {
    let bind = format!("{}:/data", world.at(&bound).display());
    let script = "echo started >> /data/starts && sleep 86400";
    engine(world)?.container(&["run", "-d", "--restart", "always"], &name, &["-v", &bind], script)?;
    Ok(has_noted(world, &bound, 1).await?)
}

#[given("the host goes down")]
async fn the_host_goes_down(world: &mut World) -> Step {
    world.docker.as_mut().context("there is no engine")?.stop().await?;
    world.stop_agent().await?;
    machine::release_below(&world.mounts)?;
    machine::release_below(&world.store_folder())?;
    let mounts = machine::mounts_below(&world.mounts, None)?;
    Ok(check(mounts.is_empty(), || format!("still mounted: {mounts:?}"))?)
}

#[when("the host comes up as the units say")]
async fn the_host_comes_up(world: &mut World) -> Step {
    Ok(come_up(world, &[DOCKER, ATTACH, AGENT]).await?)
}

#[when("the host comes up as the units say, but for Docker")]
async fn the_host_comes_up_without_docker(world: &mut World) -> Step {
    Ok(come_up(world, &[AGENT, ATTACH]).await?)
}

#[given("the only image is overwritten at its beginning")]
async fn the_image_is_overwritten(world: &mut World) -> Step {
    let image = world.only_image()?;
    let file = fs::File::options().write(true).open(&image);
    let file = file.with_context(|| format!("cannot open {}", image.display()))?;
    Ok(file.write_all_at(&[0; 1 << 20], 0).context("cannot write into the image")?)
}

#[then(expr = "container {string} has noted {int} starts")]
async fn it_has_noted(world: &mut World, name: String, starts: usize) -> Step {
    Ok(has_noted(world, &name, starts).await?)
}

#[then(expr = "a guard lies over {string}")]
async fn a_guard_lies_over(world: &mut World, name: String) -> Step {
    let mount = world.mount_at(&name)?.context("nothing is mounted there")?;
    let top = fs::metadata(world.at(&name)).context("cannot look at it")?;
    let closed = mount.options.iter().any(|option| option == "ro") && top.mode() & 0o7777 == 0;
    Ok(check(mount.file_system == "tmpfs" && closed, || format!("it is {mount:?}, mode {:o}", top.mode()))?)
}

#[then(expr = "container {string} fails again and again")]
async fn it_fails_again(world: &mut World, name: String) -> Step {
    let engine = engine(world)?;
    until("the container has failed twice", CONTAINER_WITHIN, || {
        let state = "{{.RestartCount}} {{.State.ExitCode}}";
        let state = engine.docker(["inspect", "--format", state, &name])?;
        let (restarts, code) = state.trim().split_once(' ').context("two numbers")?;
        Ok((restarts.parse::<u32>()? >= 2 && code != "0").then_some(()))
    })
    .await?;
    Ok(())
}

/// Looked at beside what is mounted there.
#[then(expr = "nothing was written below the mount point {string}")]
async fn nothing_was_written_below(world: &mut World, name: String) -> Step {
    let beside = world.folder.join("beside");
    fs::create_dir_all(&beside).context("cannot make a folder")?;
    mount_bind(&world.mounts, &beside).context("cannot look below what is mounted")?;
    let below = machine::paths_below(&beside.join(&name));
    unmount(&beside, UnmountFlags::empty()).context("cannot unmount what was looked at")?;
    let below = below?;
    Ok(check(below.is_empty(), || format!("there is {below:?}"))?)
}

/// Starts `units`, each once none is left that it comes after.
async fn come_up(world: &mut World, units: &[&str]) -> Result<()> {
    let mut left = units.to_vec();
    while !left.is_empty() {
        let mut next = None;
        for (index, unit) in left.iter().enumerate() {
            let after = words(if *unit == DOCKER { DOCKER_DROP_IN } else { unit }, "After")?;
            if next.is_none() && !after.iter().any(|other| left.contains(&other.as_str())) {
                next = Some(index);
            }
        }
        match left.remove(next.context("the units wait for each other")?) {
            DOCKER => world.docker.as_mut().context("there is no engine")?.run().await?,
            ATTACH => {
                let mut command = world.launch.command_with(&behind_program(ATTACH)?);
                let printed = run(&mut command, ATTACHED_WITHIN).await?;
                check(printed.code == Some(0), || {
                    format!("attaching ended with {:?}: {}", printed.code, printed.err)
                })?;
            }
            _ => {
                world.launch.broker_in_environment = true;
                let behind = behind_program(AGENT)?;
                check(behind.is_empty(), || {
                    format!("the agent is not started as usual, but with {behind:?}")
                })?;
                world.start_agent().await?;
            }
        }
    }
    Ok(())
}

/// What the unit gives its program.
fn behind_program(unit: &str) -> Result<Vec<String>> {
    Ok(words(unit, "ExecStart")?.into_iter().skip(1).collect())
}

/// What stands behind `key` in a unit.
fn words(unit: &str, key: &str) -> Result<Vec<String>> {
    let path = Path::new(UNITS).join(unit);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let values = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    Ok(values.flat_map(str::split_whitespace).map(str::to_owned).collect())
}

async fn has_noted(world: &World, bound: &str, starts: usize) -> Result<()> {
    let notes = world.at(bound).join("starts");
    let what = format!("the container has noted {starts} starts");
    until(&what, CONTAINER_WITHIN, || {
        let noted = fs::read_to_string(&notes).unwrap_or_default().lines().count();
        check(noted <= starts, || format!("it has noted {noted}"))?;
        Ok((noted == starts).then_some(()))
    })
    .await
}
