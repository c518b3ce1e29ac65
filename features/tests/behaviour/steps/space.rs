//! Stores on small file systems that are real ones, and what becomes of volumes when these are full.

use super::check;
use crate::world::{Step, World};
use anyhow::{Context, Result};
use cucumber::{given, then, when};
use dvs_trials::machine;
use dvs_trials::process::text;
use dvs_trials::wait::until;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const MEBIBYTE: usize = 1 << 20;
const TOLD_WITHIN: Duration = Duration::from_secs(30);
/// More than any volume of these features has.
const FILES_MAX: u8 = 200;

#[given(regex = r"^a running agent with its store on an (ext4|xfs) of (\d+) MiB$")]
async fn store_on(world: &mut World, file_system: String, size: u64) -> Step {
    let folder = world.store_folder();
    mount_below(world, &folder, &file_system, size)?;
    Ok(world.start_agent().await?)
}

#[given(regex = r"^a running agent with its store and its state on an (ext4|xfs) of (\d+) MiB$")]
async fn store_and_state_on(world: &mut World, file_system: String, size: u64) -> Step {
    let store = world.store_folder();
    let folder = store.parent().context("the store is in a folder of its own")?;
    mount_below(world, folder, &file_system, size)?;
    world.launch.state = folder.join("state");
    Ok(world.start_agent().await?)
}

#[given(expr = "that file system has only {int} MiB left")]
async fn it_has_only(world: &mut World, left: u64) -> Step {
    let filler = world.filler()?;
    let folder = filler.parent().context("the filler is in a folder")?;
    let room = rustix::fs::statvfs(folder).context("cannot ask for the room")?;
    let free = room.f_bavail * room.f_frsize / MEBIBYTE as u64;
    let take = free.checked_sub(left).with_context(|| format!("only {free} MiB are free"))?;
    let mut file = File::create(&filler).context("cannot make the filler")?;
    world.own_paths.insert(filler);
    for _ in 0..take {
        file.write_all(&vec![7; MEBIBYTE]).context("cannot write the filler")?;
    }
    Ok(file.sync_all().context("cannot sync the filler")?)
}

#[when(expr = "a program writes to {string}, with fsync after each MiB, until that fails")]
async fn it_writes_until(world: &mut World, name: String) -> Step {
    let folder = world.at(&name);
    let confirmed = tokio::task::spawn_blocking(move || write_until(&folder)).await;
    world.confirmed = confirmed.context("the writer ended early")??;
    Ok(())
}

#[then(expr = "everything that fsync confirmed is at {string}")]
async fn it_is_there(world: &mut World, name: String) -> Step {
    check(0 < world.confirmed, || "nothing was confirmed".to_owned())?;
    for number in 0..world.confirmed {
        let path = file_in(&world.at(&name), number);
        let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        check(content == content_of(number), || format!("{} has other bytes", path.display()))?;
    }
    Ok(())
}

#[then("the agent's log says that the store is short of space")]
async fn the_log_says(world: &mut World) -> Step {
    let log = world.launch.log.clone();
    let told = || {
        let log = fs::read_to_string(&log).context("cannot read the agent's log")?;
        let is_told = |line: &str| line.contains("short of space") && line.contains("store=");
        Ok(log.lines().any(is_told).then_some(()))
    };
    Ok(until("the log says that the store is short of space", TOLD_WITHIN, told).await?)
}

#[then("the agent still runs")]
async fn it_still_runs(world: &mut World) -> Step {
    Ok(world.agent()?.check_running()?)
}

/// In whole MiB, rounded down: in a few KiB more the file system below keeps where the image's parts are.
#[then(expr = "`du` shows {int} MiB for the image")]
async fn du_shows(world: &mut World, size: u64) -> Step {
    let image = world.only_image()?;
    let shown = text("du", ["--block-size=1K", &image.display().to_string()])?;
    let kibibytes: u64 = shown.split_whitespace().next().unwrap_or_default().parse().context("no figure")?;
    Ok(check(kibibytes / 1024 == size, || format!("it shows {kibibytes} KiB"))?)
}

#[then(expr = "`e2fsck -fn` finds nothing wrong in the image of {string}")]
async fn e2fsck_finds_nothing(world: &mut World, name: String) -> Step {
    let image = world.store_folder().join("volumes").join(name).join("image");
    let output = Command::new("/usr/sbin/e2fsck").arg("-fn").arg(&image).output();
    let output = output.context("cannot start e2fsck")?;
    Ok(check(output.status.success(), || {
        format!("it ended with {}: {}", output.status, String::from_utf8_lossy(&output.stdout))
    })?)
}

/// Writes files of 1 MiB until one cannot be written, and gives how many are on disk for certain.
fn write_until(folder: &Path) -> Result<u8> {
    for number in 0..FILES_MAX {
        let written = || -> io::Result<()> {
            let mut file = File::create(file_in(folder, number))?;
            file.write_all(&content_of(number))?;
            file.sync_all()?;
            File::open(folder)?.sync_all()
        };
        if written().is_err() {
            return Ok(number);
        }
    }
    anyhow::bail!("{FILES_MAX} MiB were written")
}

fn file_in(folder: &Path, number: u8) -> PathBuf {
    folder.join(format!("file-{number}"))
}

fn content_of(number: u8) -> Vec<u8> {
    vec![number; MEBIBYTE]
}

/// Makes a file system of that kind, and mounts it at `folder`. Its image lies beside the scenario's folder, where no
/// loop device is taken for one of the agent's.
fn mount_below(world: &World, folder: &Path, file_system: &str, size: u64) -> Result<()> {
    let image = world.folder.with_extension("below");
    let file = File::create(&image).context("cannot make an image")?;
    file.set_len(size * MEBIBYTE as u64).context("cannot make an image large")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    text(&format!("mkfs.{file_system}"), [Path::new("-q"), &image])?;
    text("mount", [Path::new("-o"), Path::new("loop"), &image, folder])?;
    let mounted = machine::mounts_below(folder, None)?.len();
    check(mounted == 1, || format!("there are {mounted} mounts at {}", folder.display()))
}
