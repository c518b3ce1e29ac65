//! What volumes are like, and whether they are there.

use super::{check, table_below};
use crate::fill::fill;
use crate::stage::Stage;
use crate::world::{Step, World};
use anyhow::{Context, Result};
use cucumber::{gherkin, given, then, when};
use dvs_trials::client::Retain;
use dvs_trials::machine::seen_by;
use rustix::mount::{MountFlags, mount_remount};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;

const MEBIBYTE: u64 = 1 << 20;

#[then(expr = "a volume of about {int} MiB is mounted at {string}")]
async fn a_volume_of_about(world: &mut World, size: u64, name: String) -> Step {
    world.volume_mount(&name)?;
    let room = rustix::fs::statvfs(world.seen_at(&name)).context("cannot ask for the room")?;
    let there = room.f_blocks * room.f_frsize;
    let asked = size * MEBIBYTE;
    // The rest is what the file system keeps its own books in.
    let good = there <= asked && asked * 96 / 100 <= there;
    Ok(check(good, || format!("it has {} MiB", there / MEBIBYTE))?)
}

#[then(expr = "what is mounted at {string} is {string}")]
async fn it_is_mounted_with(world: &mut World, name: String, options: String) -> Step {
    let mount = world.volume_mount(&name)?;
    let missing: Vec<_> =
        options.split(',').filter(|option| !mount.options.iter().any(|has| has == option)).collect();
    Ok(check(missing.is_empty(), || format!("not {missing:?} but {:?}", mount.options))?)
}

#[then(expr = "what is mounted at {string} is a file system {string}")]
async fn it_is_a_file_system(world: &mut World, name: String, file_system: String) -> Step {
    let mount = world.volume_mount(&name)?;
    Ok(check(mount.file_system == file_system, || format!("not {file_system} but {}", mount.file_system))?)
}

#[then(expr = "the volume at {string} is empty")]
async fn it_is_empty(world: &mut World, name: String) -> Step {
    let entries = fs::read_dir(world.seen_at(&name)).context("cannot list the volume")?;
    let entries: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    Ok(check(entries.is_empty(), || format!("there is {entries:?}"))?)
}

#[then(regex = r#"^the top of the volume at "(.*)" belongs to (\d+):(\d+) with mode ([0-7]+)$"#)]
async fn it_belongs_to(world: &mut World, name: String, uid: u32, gid: u32, mode: String) -> Step {
    let top = fs::metadata(world.seen_at(&name)).context("cannot look at the volume")?;
    let is = format!("{}:{} {:04o}", top.uid(), top.gid(), top.mode() & 0o7777);
    Ok(check(is == format!("{uid}:{gid} {mode}"), || format!("it belongs to {is}"))?)
}

#[then(expr = "a volume is attached at {string}")]
async fn it_is_attached(world: &mut World, name: String) -> Step {
    Ok(check(world.is_attached(&name)?, || format!("no volume can be seen at `{name}`"))?)
}

#[then(expr = "no volume is attached at {string}")]
#[then(expr = "no volume is mounted at {string}")]
async fn it_is_not_attached(world: &mut World, name: String) -> Step {
    Ok(check(!world.is_attached(&name)?, || format!("a volume can be seen at `{name}`"))?)
}

#[then(expr = "{int} volumes are attached")]
async fn so_many_are_attached(world: &mut World, count: usize) -> Step {
    let attached = world.count_attached()?;
    Ok(check(attached == count, || format!("{attached} can be seen"))?)
}

#[then(expr = "the volume at {string} is the same as before")]
async fn it_is_the_same(world: &mut World, name: String) -> Step {
    let path = world.at(&name);
    let before = world.seen.get(&path).cloned();
    let before = before.with_context(|| format!("no volume was seen at `{name}` before"))?;
    let now = world.identity_at(&path)?;
    Ok(check(now == before, || format!("{now:?} is not {before:?}"))?)
}

#[then("nothing is left")]
async fn nothing_is_left(world: &mut World) -> Step {
    Ok(world.check_nothing_left().await?)
}

#[then("no volume is left")]
async fn no_volume_is_left(world: &mut World) -> Step {
    Ok(world.check_no_volume_left().await?)
}

/// Whoever refuses everything, or has died, would pass every refusal: so a good job must still work.
#[then("the agent still serves, and nothing is left")]
async fn the_agent_still_serves(world: &mut World) -> Step {
    world.agent()?.check_running()?;
    world.check_nothing_left().await?;
    for (topic, size) in [("volumes/create", Some(16)), ("volumes/delete", None)] {
        let job = world.job("good", size);
        world.publish(topic, job.to_string().into_bytes(), Retain::No).await?;
        let sent = world.settle().await?;
        let answers = world.answers(&sent[0])?;
        let told: Vec<_> = answers.iter().map(ToString::to_string).collect();
        check(told.len() == 2 && told[1].contains("DONE"), || format!("a good job was answered {told:?}"))?;
        check(world.is_attached("good")? == size.is_some(), || format!("not true after {topic}"))?;
    }
    Ok(world.check_nothing_left().await?)
}

#[then("the volumes are:")]
async fn the_volumes_are(world: &mut World, step: &gherkin::Step) -> Step {
    let mut expected = Vec::new();
    for row in table_below(step)?.rows.iter().skip(1) {
        let [name, place] = row.as_slice() else { continue };
        let place = if place.is_empty() { String::new() } else { world.at(place).display().to_string() };
        expected.push((name.clone(), place));
    }
    let listed = world.listed().await?;
    check(listed == expected, || format!("the agent lists {listed:?}"))?;
    let attached = expected.iter().filter(|(_, place)| !place.is_empty()).count();
    Ok(check(world.count_attached()? == attached, || "not as many can be seen".to_owned())?)
}

#[then(expr = "the image takes less than {int} MiB")]
async fn the_image_takes_less(world: &mut World, size: u64) -> Step {
    let taken = taken_by_the_image(world)?;
    Ok(check(taken < size * MEBIBYTE, || format!("it takes {taken} bytes"))?)
}

#[then(expr = "the image takes at least {int} MiB")]
async fn the_image_takes_more(world: &mut World, size: u64) -> Step {
    let taken = taken_by_the_image(world)?;
    Ok(check(size * MEBIBYTE <= taken, || format!("it takes {taken} bytes"))?)
}

#[when(expr = "a program writes {int} MiB to {string}")]
async fn a_program_writes(world: &mut World, size: u64, name: String) -> Step {
    let path = world.seen_at(&name).join("written");
    let mut file = fs::File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    let block = vec![7; usize::try_from(MEBIBYTE).unwrap_or(1)];
    let outcome = (0..size).try_for_each(|_| file.write_all(&block)).and_then(|()| file.sync_all());
    let arrived = file.metadata().context("cannot look at what was written")?.len();
    world.written = Some((arrived, outcome));
    Ok(())
}

#[then("it is told that there is no space")]
async fn no_space(world: &mut World) -> Step {
    let (_, outcome) = world.written.as_ref().context("nothing was written")?;
    let full = outcome.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::StorageFull);
    Ok(check(full, || format!("it was told {outcome:?}"))?)
}

#[then(expr = "less than {int} MiB arrived at {string}")]
async fn less_arrived(world: &mut World, size: u64, name: String) -> Step {
    let (arrived, _) = world.written.as_ref().context("nothing was written")?;
    let there = fs::metadata(world.seen_at(&name).join("written")).context("the file is not there")?.len();
    Ok(check(there == *arrived && there < size * MEBIBYTE, || format!("{there} bytes arrived"))?)
}

#[then(expr = "a file can be written and read at {string}")]
async fn it_can_be_used(world: &mut World, name: String) -> Step {
    let path = world.seen_at(&name).join("used");
    fs::write(&path, "used").with_context(|| format!("cannot write {}", path.display()))?;
    let read = fs::read_to_string(&path).context("cannot read it back")?;
    fs::remove_file(&path).context("cannot remove it")?;
    Ok(check(read == "used", || format!("it reads {read:?}"))?)
}

/// A file system writes by itself now and then: not when it is read-only.
#[given(expr = "the volume at {string} is quiet")]
async fn it_is_quiet(world: &mut World, name: String) -> Step {
    let point = world.at(&name);
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    Ok(mount_remount(&point, flags, "").context("cannot make the volume read-only")?)
}

#[when("the image's bytes are noted")]
async fn the_bytes_are_noted(world: &mut World) -> Step {
    world.image_sum = Some(sum_of_the_image(world)?);
    Ok(())
}

#[then("the image's bytes are the same")]
async fn the_bytes_are_the_same(world: &mut World) -> Step {
    let now = sum_of_the_image(world)?;
    Ok(check(world.image_sum.as_ref() == Some(&now), || "the image has changed".to_owned())?)
}

#[then(expr = "{string} does not exist")]
async fn it_does_not_exist(world: &mut World, name: String) -> Step {
    let path = world.seen_at(&name);
    Ok(check(fs::symlink_metadata(&path).is_err(), || format!("{} is there", path.display()))?)
}

#[then(expr = "{string} does not exist on this machine")]
async fn it_does_not_exist_here(world: &mut World, path: String) -> Step {
    let path = seen_by(fill(world, &path).as_ref(), None);
    Ok(check(fs::symlink_metadata(&path).is_err(), || format!("{} is there", path.display()))?)
}

fn taken_by_the_image(world: &World) -> Result<u64> {
    const BYTES_PER_BLOCK: u64 = 512; // Of `st_blocks` (stat(2)).
    Ok(fs::metadata(world.only_image()?).context("cannot look at the image")?.blocks() * BYTES_PER_BLOCK)
}

fn sum_of_the_image(world: &World) -> Result<Vec<u8>> {
    debug_assert!(Stage::get().mounts_really, "only images have bytes to add up");
    let mut image = fs::File::open(world.only_image()?).context("cannot open the image")?;
    let mut sum = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match image.read(&mut block).context("cannot read the image")? {
            0 => return Ok(sum.finalize().to_vec()),
            read => sum.update(&block[..read]),
        }
    }
}
