//! A host that goes down and comes back, as far as a test can make one: everything is unmounted and detached by hand.

use super::places::mount_tmpfs;
use super::{check, table_below};
use crate::world::{Step, World};
use anyhow::{Context, Result};
use cucumber::{gherkin, given, then, when};
use dvs_trials::machine;
use dvs_trials::notify::NotifySocket;
use dvs_trials::process::text;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is in files that must stay as they are; see the steps about places.
const CONTENT: &str = "precious";
const RECORDS: [&str; 2] = ["record", "record.copy"];
const READY_LIMIT: Duration = Duration::from_secs(60);
/// The kind of file system that a guard is, and what it says it was made from.
const GUARD: (&str, &str) = ("tmpfs", "dvs-guard");

#[given(expr = "an agent whose mounting waits {int} milliseconds each time")]
async fn mounting_waits(world: &mut World, milliseconds: u32) {
    world.launch.environment.push(("FAILPOINTS".to_owned(), format!("mount.mount=sleep({milliseconds})")));
}

#[given("the agent starts under a service manager")]
#[when("the agent starts under a service manager")]
async fn it_starts_under_a_manager(world: &mut World) -> Step {
    let path = world.folder.join(format!("notify-{}", uuid::Uuid::new_v4().simple()));
    let manager = NotifySocket::bind(&path)?;
    let (variable, value) = manager.environment();
    world.launch.environment.retain(|(name, _)| *name != variable);
    world.launch.environment.push((variable, value));
    world
        .start_agent_and_then(async |world| {
            manager.ready(READY_LIMIT).await?;
            // At once: what is true a moment later is no matter.
            world.when_ready = machine::mounts_below(&world.mounts, None)?;
            Ok(())
        })
        .await?;
    Ok(())
}

#[when("the agent starts, and its mounting takes for ever")]
async fn it_starts_and_hangs(world: &mut World) -> Step {
    world.launch.environment = vec![("FAILPOINTS".to_owned(), "mount.mount=sleep(3600000)".to_owned())];
    world.agent = Some(world.launch.start()?);
    let image = world.folder.clone();
    let bound = || Ok((!machine::loops_below(&image)?.is_empty()).then_some(()));
    dvs_trials::wait::until("the agent attaches", READY_LIMIT, bound).await?;
    Ok(())
}

#[when("everything is unmounted and detached by hand")]
async fn all_is_detached(world: &mut World) -> Step {
    Ok(machine::release_below(&world.mounts)?)
}

/// The image is copied while it is mounted: that is what is on disk when the power goes.
#[when(
    expr = "everything is unmounted and detached by hand, but {string} loses power while {string} is mounted"
)]
async fn all_is_detached_but(world: &mut World, volume: String, place: String) -> Step {
    world.volume_mount(&place)?;
    let (image, copy) = (image_of(world, &volume), world.folder.join("on-disk"));
    fs::copy(&image, &copy).context("cannot copy the image")?;
    machine::release_below(&world.mounts)?;
    Ok(fs::rename(&copy, &image).context("cannot put the copy in its place")?)
}

#[given(expr = "a file at {string} that is on disk")]
async fn a_file_on_disk(world: &mut World, name: String) -> Step {
    let path = world.at(&name);
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(CONTENT.as_bytes())?;
        file.sync_all()?;
        File::open(path.parent().unwrap_or(&path))?.sync_all()
    });
    Ok(written.with_context(|| format!("cannot write {}", path.display()))?)
}

#[given(expr = "an image without a record in the folder {string}")]
async fn an_image_without_a_record(world: &mut World, name: String) -> Step {
    let folder = volume(world, &name);
    fs::create_dir(&folder).context("cannot make the folder")?;
    fs::write(folder.join("image"), CONTENT).context("cannot write an image")?;
    Ok(())
}

#[then(expr = "the image without a record in the folder {string} is untouched")]
async fn the_image_is_untouched(world: &mut World, name: String) -> Step {
    let content = fs::read_to_string(image_of(world, &name)).context("cannot read the image")?;
    let files = machine::paths_below(&volume(world, &name))?;
    Ok(check(content == CONTENT && files.len() == 1, || format!("there is {files:?} with {content:?}"))?)
}

#[when(expr = "one copy of the record of {string} is damaged")]
async fn one_copy_is_damaged(world: &mut World, name: String) -> Step {
    Ok(damage(&volume(world, &name).join(RECORDS[0]))?)
}

#[when(expr = "both copies of the record of {string} are damaged")]
async fn both_copies_are_damaged(world: &mut World, name: String) -> Step {
    let folder = volume(world, &name);
    world.saved = Some(fs::read(folder.join(RECORDS[0])).context("cannot read the record")?);
    RECORDS.iter().try_for_each(|copy| damage(&folder.join(copy)))?;
    Ok(())
}

#[when(expr = "the record of {string} is restored")]
async fn the_record_is_restored(world: &mut World, name: String) -> Step {
    let saved = world.saved.take().context("no record was damaged")?;
    Ok(fs::write(volume(world, &name).join(RECORDS[0]), saved).context("cannot write the record")?)
}

#[then(expr = "both copies of the record of {string} are whole")]
async fn both_copies_are_whole(world: &mut World, name: String) -> Step {
    let folder = volume(world, &name);
    let [first, second] = RECORDS.map(|copy| fs::read_to_string(folder.join(copy)).unwrap_or_default());
    Ok(check(first == second && first.contains("sha256"), || format!("they read {first:?} and {second:?}"))?)
}

/// Nothing that a check may mend without being told how: the top directory is no directory any more.
#[when(expr = "the file system in the image of {string} is damaged")]
async fn the_file_system_is_damaged(world: &mut World, name: String) -> Step {
    let image = image_of(world, &name).display().to_string();
    for request in ["clri <2>", "set_super_value state 0"] {
        text("debugfs", ["-w", "-R", request, &image])?;
    }
    Ok(())
}

#[when(expr = "the image of {string} is lost")]
async fn the_image_is_lost(world: &mut World, name: String) -> Step {
    Ok(fs::remove_file(image_of(world, &name)).context("cannot remove the image")?)
}

#[when(regex = "^the store's folder is away, and an (empty folder|old store) is in its place$")]
async fn the_store_is_away(world: &mut World, below: String) -> Step {
    let (there, away) = (world.store_folder(), world.folder.join("away"));
    let folders: &[&str] = if below == "old store" { &["volumes", "staging"] } else { &[] };
    Ok(fs::rename(&there, &away)
        .and_then(|()| fs::create_dir(&there))
        .and_then(|()| folders.iter().try_for_each(|folder| fs::create_dir(there.join(folder))))
        .with_context(|| format!("cannot put an {below} in the store's place"))?)
}

#[when("the store's folder is back")]
async fn the_store_is_back(world: &mut World) -> Step {
    let (there, away) = (world.store_folder(), world.folder.join("away"));
    Ok(fs::remove_dir_all(&there)
        .and_then(|()| fs::rename(&away, &there))
        .context("cannot put the store's folder back")?)
}

#[when(expr = "the image of {string} is bound to a loop device by hand")]
async fn the_image_is_bound(world: &mut World, name: String) -> Step {
    text("losetup", ["--find", &image_of(world, &name).display().to_string()])?;
    Ok(())
}

#[when(expr = "somebody mounts a foreign file system at {string}")]
async fn somebody_mounts(world: &mut World, name: String) -> Step {
    let point = world.at(&name);
    mount_tmpfs(&point, 1)?;
    world.own_mounts.push(point);
    Ok(())
}

#[then("when it said that it is ready, these were attached:")]
async fn these_were_attached(world: &mut World, step: &gherkin::Step) -> Step {
    Ok(were(world, step, |mount| mount.file_system == "ext4")?)
}

#[then("when it said that it is ready, these were guarded:")]
async fn these_were_guarded(world: &mut World, step: &gherkin::Step) -> Step {
    Ok(were(world, step, is_guard)?)
}

#[then(expr = "{string} is guarded")]
async fn it_is_guarded(world: &mut World, name: String) -> Step {
    let mount = world.mount_at(&name)?;
    Ok(check(mount.as_ref().is_some_and(is_guard), || format!("there is {mount:?}"))?)
}

#[then(expr = "nobody can write to {string}")]
async fn nobody_can_write(world: &mut World, name: String) -> Step {
    use std::os::unix::fs::PermissionsExt;
    let place = world.at(&name);
    let mode = fs::metadata(&place).context("cannot look at it")?.permissions().mode() & 0o7777;
    let written = fs::write(place.join("new"), "x").map_err(|error| error.kind());
    let refused = written == Err(std::io::ErrorKind::ReadOnlyFilesystem);
    Ok(check(mode == 0 && refused, || format!("its mode is {mode:o}, and writing came to {written:?}"))?)
}

#[then("the agent lists:")]
async fn it_lists(world: &mut World, step: &gherkin::Step) -> Step {
    let listed = world.listed_whole().await?;
    let rows = &table_below(step)?.rows[1..];
    check(listed.len() == rows.len(), || format!("it lists {listed:?}"))?;
    for row in rows {
        let [name, place, state, reason] = row.as_slice() else { return Err(bad_table().into()) };
        let place = if place.is_empty() { String::new() } else { world.at(place).display().to_string() };
        let found = listed.iter().find(|volume| volume["name"] == **name);
        let found = found.with_context(|| format!("`{name}` is not in {listed:?}"))?;
        let word = |key: &str| found[key].as_str().unwrap_or_default();
        let good = word("mount_point") == place && word("state") == state && word("reason").contains(reason);
        check(good, || format!("`{name}` is listed as {found}"))?;
    }
    Ok(())
}

#[then("no image has more than one loop device")]
async fn none_is_doubled(world: &mut World) -> Step {
    let mut devices: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for found in machine::loops_below(&world.folder)? {
        devices.entry(found.file).or_default().push(found.device);
    }
    check(!devices.is_empty(), || "no image is bound at all".to_owned())?;
    Ok(check(devices.values().all(|devices| devices.len() == 1), || format!("there are {devices:?}"))?)
}

fn were(world: &World, step: &gherkin::Step, good: fn(&machine::Mount) -> bool) -> Result<()> {
    for name in table_below(step)?.rows.iter().flatten() {
        let point = world.at(name);
        let mount = world.when_ready.iter().rfind(|mount| mount.point == point);
        check(mount.is_some_and(good), || format!("at `{name}` there was {mount:?}"))?;
    }
    Ok(())
}

fn is_guard(mount: &machine::Mount) -> bool {
    let is_read_only = mount.options.iter().any(|option| option == "ro");
    (mount.file_system.as_str(), mount.source.as_path()) == (GUARD.0, Path::new(GUARD.1)) && is_read_only
}

fn volume(world: &World, name: &str) -> PathBuf {
    world.store_folder().join("volumes").join(name)
}

fn image_of(world: &World, name: &str) -> PathBuf {
    volume(world, name).join("image")
}

fn damage(file: &Path) -> Result<()> {
    fs::write(file, "\0\0\0\0").with_context(|| format!("cannot write {}", file.display()))
}

fn bad_table() -> anyhow::Error {
    anyhow::anyhow!("a row is a name, a place, a state and a reason")
}
