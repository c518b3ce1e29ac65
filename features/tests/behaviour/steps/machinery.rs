//! What breaks below the agent: file systems that are full, programs that are missing or fail.

use super::places::mount_tmpfs;
use crate::world::{Step, World};
use anyhow::{Context, Result};
use cucumber::{given, when};
use dvs_trials::process::text;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

#[given(expr = "a running agent with its store on a file system of {int} MiB")]
async fn store_on_small(world: &mut World, size: u64) -> Step {
    let folder = world.store_folder();
    mount_small(&folder, size)?;
    Ok(world.start_agent().await?)
}

#[given(expr = "a running agent with its state on a file system of {int} MiB")]
async fn state_on_small(world: &mut World, size: u64) -> Step {
    let folder = world.launch.state.clone();
    mount_small(&folder, size)?;
    Ok(world.start_agent().await?)
}

#[when("that file system is filled")]
async fn it_is_filled(world: &mut World) -> Step {
    let filler = world.filler()?;
    let mut file = File::create(&filler).with_context(|| format!("cannot make {}", filler.display()))?;
    world.own_paths.insert(filler);
    let mut block = vec![7; 1 << 20];
    // Ever smaller blocks, to its last byte.
    while !block.is_empty() {
        while file.write_all(&block).is_ok() {}
        block.truncate(block.len() / 2);
    }
    Ok(())
}

#[when("that file system has room again")]
async fn it_has_room(world: &mut World) -> Step {
    let filler = world.filler()?;
    fs::remove_file(&filler).with_context(|| format!("cannot remove {}", filler.display()))?;
    world.own_paths.remove(&filler);
    Ok(())
}

#[when(expr = "the program {string} cannot be run there")]
async fn it_cannot_be_run(world: &mut World, program: String) -> Step {
    let nothing = world.folder.join("no-program");
    fs::write(&nothing, "").context("cannot make an empty file")?;
    Ok(put_over(world, &program, &nothing)?)
}

#[when(expr = "the program {string} fails there, saying {string}")]
async fn it_fails(world: &mut World, program: String, words: String) -> Step {
    let script = world.folder.join("failing-program");
    fs::write(&script, format!("#!/bin/sh\necho '{words}' >&2\nexit 3\n"))
        .context("cannot write a script")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).context("cannot make it a program")?;
    Ok(put_over(world, &program, &script)?)
}

#[when(expr = "the program {string} can be run again")]
async fn it_can_be_run(world: &mut World, program: String) -> Step {
    let program = path_of(&program)?;
    Ok(in_namespace(world, &["umount", &program])?)
}

fn mount_small(folder: &PathBuf, size: u64) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    mount_tmpfs(folder, size)
}

/// Shows `other` in the place of `program`, to the agent alone.
fn put_over(world: &mut World, program: &str, other: &std::path::Path) -> Result<()> {
    let program = path_of(program)?;
    in_namespace(world, &["mount", "--bind", &other.display().to_string(), &program])
}

fn in_namespace(world: &mut World, words: &[&str]) -> Result<()> {
    let agent = world.namespace().context("the agent has no mount namespace of its own")?.to_string();
    let arguments = ["--mount", "--target", &agent, "--"].into_iter().chain(words.iter().copied());
    text("nsenter", arguments).map(drop)
}

fn path_of(program: &str) -> Result<String> {
    let found = ["/usr/sbin", "/sbin"].into_iter().map(|folder| format!("{folder}/{program}"));
    let found = found.filter_map(|path| fs::canonicalize(path).ok()).next();
    Ok(found.with_context(|| format!("there is no program {program}"))?.display().to_string())
}
