//! A real NFS server, and what is on its export.

use super::check;
use crate::fill::fill;
use crate::sender::Word;
use crate::world::{Step, World};
use anyhow::{Context, Result};
use cucumber::{given, then, when};
use dvs_trials::nfs::DroppingPort;
use dvs_trials::nfs::ganesha::{ExportOptions, Ganesha};
use dvs_trials::wait::until;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const CREATE: &str = "volumes/create";
const DELETE: &str = "volumes/delete";
/// How long a store may take to clear away what is left, once it has contact again.
const TIDY_WITHIN: Duration = Duration::from_secs(20);
/// How long the server lives between two deaths.
const LIFE: Duration = Duration::from_millis(300);
const CONTENT: &str = "precious";

#[given(expr = "a store {string} on an NFS server")]
async fn a_store(world: &mut World, name: String) -> Step {
    Ok(serve(world, &name, ExportOptions::default())?)
}

#[given(expr = "a store {string} on an NFS server that exports read-only")]
async fn a_read_only_store(world: &mut World, name: String) -> Step {
    Ok(serve(world, &name, ExportOptions { read_only: true, ..ExportOptions::default() })?)
}

#[given(expr = "a store {string} at {string}")]
async fn a_store_at(world: &mut World, name: String, url: String) -> Step {
    let url = fill(world, &url);
    let url = if url.contains("{dropping port}") {
        let dropping = DroppingPort::open().context("cannot make a port that drops packets")?;
        let url = url.replace("{dropping port}", &dropping.port.to_string());
        world.dropping = Some(dropping);
        url
    } else {
        url
    };
    world.launch.stores.push(format!("{name}={url}"));
    Ok(())
}

#[given(expr = "the export has the volume {string} of the earlier implementation")]
async fn an_old_volume(world: &mut World, name: String) -> Step {
    let export = export(world);
    let metadata = export.join("volumes_metadata").join(&name);
    let make = || {
        fs::create_dir_all(export.join("volumes").join(&name))?;
        fs::create_dir_all(&metadata)?;
        let record = json!({ "Driver": "vsphere", "DriverOpts": { "Capacity": "2048" }, "Name": name });
        fs::write(metadata.join("DockerMetaData"), record.to_string())
    };
    Ok(make().context("cannot make a volume on the export")?)
}

#[when("the NFS server answers nothing any more")]
async fn the_server_freezes(world: &mut World) -> Step {
    Ok(server(world)?.freeze().context("cannot freeze the server")?)
}

#[when("the NFS server answers again")]
async fn the_server_thaws(world: &mut World) -> Step {
    Ok(server(world)?.thaw().context("cannot thaw the server")?)
}

#[given("the NFS server is dead")]
#[when("the NFS server dies")]
async fn the_server_dies(world: &mut World) -> Step {
    Ok(server(world)?.kill().context("cannot kill the server")?)
}

#[when("the NFS server lives again")]
async fn the_server_lives(world: &mut World) -> Step {
    Ok(server(world)?.start_again().context("cannot start the server")?)
}

#[when(expr = "a create job of {int} MiB named {string} on {string} is sent")]
async fn a_create_job_named(world: &mut World, size: u64, name: String, store: String) -> Step {
    let job = named_job(world, &name, &store, Some(size));
    world.sent_at = Some(Instant::now());
    Ok(world.publish_all(vec![(CREATE, job)]).await?)
}

#[when(expr = "a delete job named {string} on {string} is sent")]
async fn a_delete_job_named(world: &mut World, name: String, store: String) -> Step {
    let job = named_job(world, &name, &store, None);
    Ok(world.publish_all(vec![(DELETE, job)]).await?)
}

#[then(expr = "it fails within {int} s with {string}")]
async fn it_fails_within(world: &mut World, seconds: u64, code: String) -> Step {
    let last = world.jobs.len().saturating_sub(1);
    Ok(ends_within(world, last, seconds, &code).await?)
}

#[then(expr = "the one before fails within {int} s with {string}")]
async fn the_one_before_fails_within(world: &mut World, seconds: u64, code: String) -> Step {
    let before = world.jobs.len().saturating_sub(2);
    Ok(ends_within(world, before, seconds, &code).await?)
}

#[then(expr = "the last is DONE within {int} s")]
async fn the_last_is_done_within(world: &mut World, seconds: u64) -> Step {
    let last = world.jobs.len().saturating_sub(1);
    Ok(ends_within(world, last, seconds, "").await?)
}

#[then(regex = r#"^the export has a directory "(.*)" of (\d+):(\d+) with mode ([0-7]+)$"#)]
async fn the_export_has(world: &mut World, path: String, uid: u32, gid: u32, mode: String) -> Step {
    let found = fs::metadata(export(world).join(&path)).context("it is not on the export")?;
    let is = format!("{}:{} {:04o}", found.uid(), found.gid(), found.mode() & 0o7777);
    Ok(check(found.is_dir() && is == format!("{uid}:{gid} {mode}"), || format!("it is {is}"))?)
}

#[then(expr = "nothing of {string} is on the export")]
async fn nothing_is_on_the_export(world: &mut World, name: String) -> Step {
    let export = export(world);
    let mut left = Vec::new();
    // Clearing away goes on beside everything else.
    let gone = until("nothing is left", TIDY_WITHIN, || {
        left = all_names(&export)?.into_iter().filter(|path| path.contains(name.as_str())).collect();
        Ok(left.is_empty().then_some(()))
    });
    Ok(gone.await.with_context(|| format!("there is {left:?}"))?)
}

#[then("the export is untouched")]
async fn the_export_is_untouched(world: &mut World) -> Step {
    let names = all_names(&export(world))?;
    Ok(check(names.is_empty(), || format!("there is {names:?}"))?)
}

#[given(
    expr = "{int} files in {int} folders of {string}, half of them root's alone, with links that point outside"
)]
async fn a_tree(world: &mut World, files: usize, folders: usize, name: String) -> Step {
    let (outside, top) = (export(world).join("outside"), export(world).join("volumes").join(name));
    let make = || {
        fs::create_dir(&outside)?;
        fs::write(outside.join("precious"), CONTENT)?;
        for number in 0..folders {
            let folder = top.join(format!("folder-{number}"));
            fs::create_dir(&folder)?;
            for file in 0..files / folders {
                fs::write(folder.join(format!("file-{file}")), "")?;
            }
            symlink(&outside, folder.join("link"))?;
            symlink(outside.join("precious"), folder.join("link-to-a-file"))?;
            let owner = if number % 2 == 0 { 0 } else { 1000 };
            chown(&folder, Some(owner), Some(owner))?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        }
        symlink("../..", top.join("up"))
    };
    Ok(make().context("cannot make the tree")?)
}

#[then("what the links lead to is as it was")]
async fn what_links_lead_to(world: &mut World) -> Step {
    let content = fs::read_to_string(export(world).join("outside/precious")).context("it is gone")?;
    Ok(check(content == CONTENT, || format!("it reads {content:?}"))?)
}

#[given(expr = "the node {string} called {string} has {string} attached")]
async fn another_node_has(world: &mut World, id: String, called: String, name: String) -> Step {
    let claim = export(world).join("volumes_metadata").join(name).join(format!("attached.{id}"));
    Ok(fs::write(claim, called).context("cannot write the claim of a node")?)
}

#[given("an agent on another node")]
async fn another_agent(world: &mut World) -> Step {
    let mut launch = world.launch.clone();
    launch.node.push_str("-other");
    launch.state = world.folder.join("other-state");
    launch.log = world.folder.join("other-agent.log");
    // Its own stores of this host are its own.
    let own = |store: &String| store.starts_with("shared=");
    let mut stores = vec![format!("try=fake://{}", world.folder.join("other-store").display())];
    stores.extend(launch.stores.iter().filter(|store| own(store)).cloned());
    launch.stores = stores;
    let agent = launch.start()?;
    world.other = Some((launch, agent));
    Ok(world.other_is_online().await?)
}

#[when(
    expr = "{int} jobs that create and delete are sent to each of the two while the server dies again and again"
)]
async fn jobs_to_both(world: &mut World, count: usize) -> Step {
    let nodes =
        [world.launch.node.clone(), world.other.as_ref().context("there is one agent")?.0.node.clone()];
    let dying = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let killer = {
        let (server, dying) = (std::sync::Arc::clone(server(world)?), std::sync::Arc::clone(&dying));
        tokio::task::spawn_blocking(move || {
            let mut deaths = 0;
            while dying.load(std::sync::atomic::Ordering::Acquire) {
                std::thread::park_timeout(LIFE);
                server.kill()?;
                server.start_again()?;
                deaths += 1;
            }
            std::io::Result::Ok(deaths)
        })
    };
    /// So many are sent at once, so that they last for several lives of the server.
    const AT_ONCE: usize = 20;
    let first = world.jobs.len();
    for round in 0..count / AT_ONCE {
        for (index, node) in nodes.iter().enumerate() {
            let jobs = (0..AT_ONCE).map(|number| {
                let name = format!("n{index}-{}", number % 5);
                let creates = (number / 5 + round) % 2 == 0;
                let mut job = named_job(world, &name, "shared", creates.then_some(16));
                job["job"] = Value::from(format!("{index}-{round}-{number}"));
                (if creates { CREATE } else { DELETE }, job)
            });
            let jobs = jobs.collect();
            let own = std::mem::replace(&mut world.launch.node, node.clone());
            let sent = world.publish_all(jobs).await;
            world.launch.node = own;
            sent?;
        }
        for job in &world.jobs[first..] {
            world.ended(job).await?;
        }
    }
    dying.store(false, std::sync::atomic::Ordering::Release);
    let deaths = killer.await.context("the killer panicked")?.context("cannot kill the server")?;
    Ok(check(2 <= deaths, || format!("the server died {deaths} times"))?)
}

#[then("each of them is answered")]
async fn each_is_answered(world: &mut World) -> Step {
    let jobs = world.settle().await?;
    for job in &jobs {
        let words: Vec<_> = world.answers(job)?.iter().map(|answer| answer.word).collect();
        // What could not be undone yet keeps its volume: jobs about it are refused meanwhile.
        let good = matches!(words.as_slice(), [Word::Pending, Word::Done | Word::Failed] | [Word::Failed]);
        check(good, || format!("job {:?} is answered {words:?}", job.id))?;
    }
    Ok(())
}

#[when("both agents are started anew")]
async fn both_anew(world: &mut World) -> Step {
    world.stop_agent().await?;
    world.start_agent().await?;
    let (launch, agent) = world.other.take().context("there is one agent")?;
    agent.stop().await?;
    let agent = launch.start()?;
    world.other = Some((launch, agent));
    Ok(world.other_is_online().await?)
}

#[then("each name is whole on the export or not there, as was answered")]
async fn as_was_answered(world: &mut World) -> Step {
    let export = export(world);
    until("nothing half-made is left", TIDY_WITHIN, || {
        let names = all_names(&export)?;
        let half = names
            .iter()
            .any(|path| path.split('/').any(|name| name.starts_with(".new-") || name.starts_with(".gone-")));
        Ok((!half).then_some(()))
    })
    .await?;
    let mut must_be: BTreeMap<String, Option<bool>> = BTreeMap::new();
    for job in world.jobs.clone() {
        let payload: Value = serde_json::from_slice(&job.payload).context("the job is JSON")?;
        let name = payload["name"].as_str().unwrap_or_default().to_owned();
        let is_done = world.answers(&job)?.iter().any(|answer| answer.word == Word::Done);
        let is_there = must_be.get(&name).copied().unwrap_or(Some(false));
        let now = match (job.topic == CREATE, is_done) {
            (creates, true) => Some(creates),
            // A create that failed may have published its volume, and then it stays.
            (true, false) => is_there.filter(|is_there| *is_there),
            // A delete that failed may have been decided, unless there was nothing.
            (false, false) => is_there.filter(|is_there| !is_there),
        };
        must_be.insert(name, now);
    }
    for (name, must_be) in must_be {
        let record = export.join("volumes_metadata").join(&name).join("record").exists();
        let directory = export.join("volumes").join(&name).exists();
        check(record == directory, || format!("`{name}` is half there"))?;
        let good = must_be.is_none_or(|must_be| must_be == record);
        check(good, || format!("`{name}` must be there: {must_be:?}, and is: {record}"))?;
    }
    Ok(())
}

fn serve(world: &mut World, name: &str, options: ExportOptions) -> Result<()> {
    let (scratch, export) = (world.folder.join("nfs"), export(world));
    fs::create_dir_all(&export).and_then(|()| fs::create_dir(&scratch)).context("cannot make the export")?;
    let server = Ganesha::start(&export, &scratch, options).context("cannot start the NFS server")?;
    let (address, ports) = server.address();
    world.launch.stores.push(format!("{name}={address}{}?{ports}", export.display()));
    world.server = Some(std::sync::Arc::new(server));
    Ok(())
}

fn server(world: &World) -> Result<&std::sync::Arc<Ganesha>> {
    world.server.as_ref().context("there is no NFS server")
}

fn export(world: &World) -> PathBuf {
    world.folder.join("export")
}

/// A job for a volume without a mount point.
fn named_job(world: &World, name: &str, store: &str, size: Option<u64>) -> Value {
    let mut job = world.job("unused", size);
    job["store"] = Value::from(store);
    job["name"] = Value::from(name);
    if let Some(object) = job.as_object_mut() {
        object.remove("mountPount");
    }
    job
}

/// Waits for the end of a job: a failure with `code`, or DONE where that is empty.
async fn ends_within(world: &mut World, index: usize, seconds: u64, code: &str) -> Result<()> {
    let job = world.jobs.get(index).context("so many jobs were not sent")?.clone();
    world.ended(&job).await?;
    world.batch = world.jobs.len()..world.jobs.len();
    let took = world.sent_at.context("nobody looked at the clock")?.elapsed();
    let answers = world.answers(&job)?;
    let last = answers.last().context("there is no answer")?;
    let good = if code.is_empty() { last.word == Word::Done } else { last.text("code") == code };
    check(good, || format!("it ended with {last}"))?;
    check(took < Duration::from_secs(seconds), || format!("it took {took:?}"))
}

/// Every path below the two folders, as far as they are there.
fn all_names(export: &std::path::Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for folder in ["volumes", "volumes_metadata"] {
        let folder = export.join(folder);
        if folder.exists() {
            let paths = dvs_trials::machine::paths_below(&folder)?;
            names.extend(
                paths.iter().filter_map(|path| Some(path.strip_prefix(export).ok()?.display().to_string())),
            );
        }
    }
    Ok(names)
}
