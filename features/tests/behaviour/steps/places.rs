//! What is at and around mount points before and after: directories, files, links, foreign mounts, programs.

use super::answers::names;
use super::check;
use crate::world::{Step, World};
use anyhow::{Context, Result};
use cucumber::{given, then, when};
use dvs_trials::machine;
use dvs_trials::process::{Process, text};
use dvs_trials::wait::until;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What is in files that must stay as they are.
const CONTENT: &str = "precious";
const STARTED_WITHIN: Duration = Duration::from_secs(20);

#[given(expr = "a directory {string}")]
async fn a_directory(world: &mut World, name: String) -> Step {
    Ok(make_directory(world, &world.at(&name))?)
}

#[given(expr = "a directory {string} with a file {string}")]
async fn a_directory_with_a_file(world: &mut World, name: String, file: String) -> Step {
    let directory = world.at(&name);
    make_directory(world, &directory)?;
    Ok(make_file(world, directory.join(file))?)
}

#[given(expr = "a file {string}")]
async fn a_file(world: &mut World, name: String) -> Step {
    Ok(make_file(world, world.at(&name))?)
}

/// In a volume, or in a directory that was made for one: it is not for the scenario to keep.
#[given(expr = "a file at {string}")]
#[when(expr = "somebody puts a file at {string}")]
async fn somebody_puts_a_file(world: &mut World, name: String) -> Step {
    let path = world.seen_at(&name);
    Ok(fs::write(&path, CONTENT).with_context(|| format!("cannot write {}", path.display()))?)
}

#[given(expr = "a link {string} to {string}")]
async fn a_link(world: &mut World, name: String, target: String) -> Step {
    let (link, target) = (world.at(&name), world.at(&target));
    symlink(target, &link).with_context(|| format!("cannot make {}", link.display()))?;
    world.own_paths.insert(link);
    Ok(())
}

#[given(expr = "a foreign mount at {string}")]
async fn a_foreign_mount(world: &mut World, name: String) -> Step {
    let point = world.at(&name);
    make_directory(world, &point)?;
    mount_tmpfs(&point, 1)?;
    world.own_mounts.push(point);
    Ok(())
}

#[then(expr = "the foreign mount at {string} is still there")]
async fn the_foreign_mount_is_there(world: &mut World, name: String) -> Step {
    let mount = world.mount_at(&name)?.context("nothing is mounted there")?;
    Ok(check(mount.file_system == "tmpfs", || format!("it is {mount:?}"))?)
}

#[then(expr = "the file {string} is as it was")]
async fn the_file_is_as_it_was(world: &mut World, name: String) -> Step {
    let path = world.seen_at(&name);
    let content = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(check(content == CONTENT, || format!("it reads {content:?}"))?)
}

#[when(expr = "a program works in {string}")]
async fn a_program_works_in(world: &mut World, name: String) -> Step {
    let mut command = Command::new("sleep");
    command.arg("infinity").current_dir(world.at(&name));
    Ok(start_program(world, &mut command)?)
}

#[when(expr = "a program has the file {string} open")]
async fn a_program_has_a_file_open(world: &mut World, name: String) -> Step {
    let mut command = Command::new("tail");
    command.args(["-f", "/dev/null"]).arg(world.at(&name));
    start_program(world, &mut command)?;
    let (id, file) = (world.programs.last().map_or(0, Process::id), world.at(&name));
    until("the program has opened the file", STARTED_WITHIN, || {
        let files = fs::read_dir(format!("/proc/{id}/fd")).context("the program has ended")?;
        let mut targets = files.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        Ok(targets.any(|target| target == file).then_some(()))
    })
    .await?;
    Ok(())
}

#[when(expr = "a program in a mount namespace of its own holds {string}")]
async fn a_program_holds(world: &mut World, name: String) -> Step {
    world.volume_mount(&name)?;
    Ok(in_new_namespace(world, "private").await?)
}

/// As in every service for which systemd makes a mount namespace.
#[when(expr = "a program in a mount namespace that follows this one lists {string}")]
async fn a_program_lists(world: &mut World, name: String) -> Step {
    world.volume_mount(&name)?;
    in_new_namespace(world, "slave").await?;
    Ok(check(lists(world, &name)?, || "it does not list the volume".to_owned())?)
}

#[then(expr = "the mount namespace that follows no longer lists {string}")]
async fn it_lists_no_longer(world: &mut World, name: String) -> Step {
    Ok(check(!lists(world, &name)?, || "it still lists the volume".to_owned())?)
}

/// As systemd makes them on every host that it starts; the run's own namespace passes nothing on.
#[given("mounts are passed on to the mount namespaces that follow")]
async fn mounts_are_passed_on(world: &mut World) -> Step {
    let folder = world.mounts.clone();
    mount_bind(&folder, &folder).context("cannot mount a folder on itself")?;
    world.own_mounts.push(folder.clone());
    Ok(mount_change(&folder, MountPropagationFlags::SHARED).context("cannot share it")?)
}

/// By an unmount, which is done when it returns: what becomes of a namespace whose last program has ended is
/// up to the kernel, later.
#[when(expr = "the other mount namespace lets {string} go")]
async fn the_namespace_lets_go(world: &mut World, name: String) -> Step {
    let program = world.programs.last().context("no program holds anything")?;
    let (id, point) = (program.id().to_string(), world.at(&name).display().to_string());
    text("nsenter", ["--mount", "--target", &id, "--", "umount", &point])?;
    Ok(())
}

#[when("the program has ended")]
#[when("the programs have ended")]
async fn the_programs_have_ended(world: &mut World) {
    world.programs.clear();
}

#[then("its reason names the program")]
async fn its_reason_names_the_program(world: &mut World) -> Step {
    let id = world.programs.last().context("no program runs")?.id();
    Ok(names(world, &format!("process {id} ("))?)
}

#[then("its reason names the program's mount namespace")]
async fn its_reason_names_the_namespace(world: &mut World) -> Step {
    let id = world.programs.last().context("no program runs")?.id();
    Ok(names(world, &format!("the mount namespace of process {id} ("))?)
}

#[when(expr = "something is mounted at {string}")]
async fn something_is_mounted(world: &mut World, name: String) -> Step {
    let point = world.at(&name);
    fs::create_dir_all(&point).with_context(|| format!("cannot make {}", point.display()))?;
    mount_tmpfs(&point, 1)?;
    world.own_mounts.push(point);
    Ok(())
}

#[when(expr = "what is mounted at {string} is unmounted")]
async fn it_is_unmounted(world: &mut World, name: String) -> Step {
    let point = world.at(&name);
    world.own_mounts.retain(|mount| *mount != point);
    Ok(unmount(&point, UnmountFlags::empty()).context("cannot unmount it")?)
}

#[then(expr = "its reason names the mount at {string}")]
async fn its_reason_names_the_mount(world: &mut World, name: String) -> Step {
    let what = format!("a mount at `{}`", world.at(&name).display());
    Ok(names(world, &what)?)
}

fn start_program(world: &mut World, command: &mut Command) -> Result<()> {
    world.programs.push(Process::start(command, &world.folder.join("program.log"))?);
    Ok(())
}

async fn in_new_namespace(world: &mut World, propagation: &str) -> Result<()> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", propagation, "--", "sleep", "infinity"]);
    start_program(world, &mut command)?;
    let id = world.programs.last().map_or(0, Process::id);
    // `unshare` has done its part when it has become the other program.
    until("the program has its namespace", STARTED_WITHIN, || {
        let name = fs::read_to_string(format!("/proc/{id}/comm")).context("the program has ended")?;
        Ok((name.trim() == "sleep").then_some(()))
    })
    .await
}

fn lists(world: &World, name: &str) -> Result<bool> {
    let (id, point) = (world.programs.last().context("no program runs")?.id(), world.at(name));
    Ok(machine::mounts_below(&point, Some(id))?.iter().any(|mount| mount.point == point))
}

/// Makes `path`, and remembers that it was the scenario which made it and what is missing above it.
pub(super) fn make_directory(world: &mut World, path: &Path) -> Result<()> {
    let above: Vec<PathBuf> =
        path.ancestors().take_while(|folder| *folder != world.mounts).map(Path::to_owned).collect();
    fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    world.own_paths.extend(above);
    Ok(())
}

/// Mounts a small file system of `mebibytes` in memory.
pub(super) fn mount_tmpfs(point: &Path, mebibytes: u64) -> Result<()> {
    let size = format!("size={mebibytes}m");
    let size = std::ffi::CString::new(size).context("a size has no NUL")?;
    mount("tmpfs", point, "tmpfs", MountFlags::empty(), Some(size.as_c_str()))
        .with_context(|| format!("cannot mount at {}", point.display()))
}

fn make_file(world: &mut World, path: PathBuf) -> Result<()> {
    fs::write(&path, CONTENT).with_context(|| format!("cannot write {}", path.display()))?;
    world.own_paths.insert(path);
    Ok(())
}
