//! Measures the NFS store on a real server against the same calls, one after the other on one connection. Ends with 1
//! when a figure is not what it has to be, and with 2 when it could not measure.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]

use anyhow::{Context, Result};
use clap::Parser;
use dvs_domain::failure::Failure;
use dvs_domain::job::CreateRequest;
use dvs_domain::mount_point::MountPoint;
use dvs_domain::names::{NodeId, StoreName, VolumeName};
use dvs_domain::ports::{DestroyError, VolumeStore};
use dvs_domain::size::VolumeSize;
use dvs_domain::time::Timestamp;
use dvs_domain::volume::Volume;
use dvs_store_nfs::{NfsStore, ThisNode};
use dvs_trials::nfs::bare::Bare;
use dvs_trials::nfs::ganesha::{self, ExportOptions, Ganesha};
use dvs_trials::scratch::Scratch;
use dvs_trials::wait::until;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use url::Url;

const MISSED: u8 = 1;
const NOT_MEASURED: u8 = 2;

/// How long an answer is on its way. On loopback client and server would share the processors, and nothing would be
/// measured but those.
const DELAY: Duration = Duration::from_micros(500);
/// How long clearing away may take that a store begins with.
const TIDY_WITHIN: Duration = Duration::from_secs(60);
/// Calls of a create after the first contact, at most.
const CREATE_CALLS_MAX: f64 = 6.0;
/// How much longer removing many files takes by one call after the other, at least.
const REMOVAL_MIN: f64 = 3.0;
/// Calls of a list for each volume, at most: the first list of a process.
const FIRST_LIST_CALLS_MAX: f64 = 2.1;
/// Later lists.
const LIST_CALLS_MAX: f64 = 0.1;

/// Measures volumes on nfs-ganesha. Needs root.
#[derive(Parser)]
#[command(name = "dvs-bench-nfs")]
struct Line {
    /// How many volumes are made and listed
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    volumes: u32,
    /// How many files are in a tree, in 200 folders
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(200..))]
    files: u32,
}

fn main() -> ExitCode {
    match measure(&Line::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(MISSED),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(NOT_MEASURED)
        }
    }
}

fn measure(line: &Line) -> Result<bool> {
    if let Some(reason) = ganesha::cannot_run() {
        anyhow::bail!("cannot measure: {reason}");
    }
    let scratch = Scratch::new("dvs-bench", false)?;
    let export = scratch.folder.join("export");
    fs::create_dir(&export).context("cannot make the export")?;
    let server = Ganesha::start(&export, &scratch.folder, ExportOptions::default())?;
    server.delay(DELAY);
    let (address, ports) = server.address();
    let url = Url::parse(&format!("{address}{}?{ports}&uid=0&timeout=60", export.display()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let good = runtime.context("cannot start the runtime")?.block_on(run(line, &server, &url, &export));
    drop(server);
    scratch.clear().context("cannot tidy up after the run")?;
    good
}

async fn run(line: &Line, server: &Ganesha, url: &Url, export: &Path) -> Result<bool> {
    let store = opened(url, 1)?;
    store.list().await.map_err(broken)?;
    until("the store is tidy", TIDY_WITHIN, || Ok((!store.has_leftovers()).then_some(()))).await?;
    let (nfs_port, mount_port) = server.ports();
    let mut bare = Bare::reach(nfs_port, mount_port, url.path()).await?;
    let mut good = true;
    let mut tell = |what: &str, figure: f64, most: Option<f64>, least: Option<f64>| {
        let is_good = most.is_none_or(|most| figure <= most) && least.is_none_or(|least| least <= figure);
        good &= is_good;
        println!("{what:58} {figure:9.2}  {}", if is_good { "" } else { "MISSED" });
    };

    let (volumes, late) = (line.volumes, DELAY.as_secs_f64() * 1000.0);
    println!("{volumes} volumes on nfs-ganesha; each answer is {late} ms on its way, as from another host");
    let (calls, begun) = (server.calls(), Instant::now());
    for number in 0..line.volumes {
        store.create(&volume(&store, &format!("v{number:05}"))?).await.map_err(broken)?;
    }
    let (calls, made) = (server.calls() - calls, begun.elapsed());
    tell("calls of a create", per(calls, volumes), Some(CREATE_CALLS_MAX), None);
    let begun = Instant::now();
    let bare_rounds = line.volumes.min(1000);
    for number in 0..bare_rounds {
        bare.make(&format!("b{number:05}")).await?;
    }
    let bare_made = begun.elapsed();
    tell("create to its bare calls", ratio(made / line.volumes, bare_made / bare_rounds), None, None);
    for number in 0..bare_rounds {
        for folder in ["volumes", "volumes_metadata"] {
            fs::remove_dir_all(export.join(folder).join(format!("b{number:05}")))
                .context("cannot tidy up")?;
        }
    }

    let (first, took_first) = list(server, &store, line.volumes).await?;
    let new = opened(url, 2)?;
    // What it does at its first contact is no part of a list.
    new.look_up(&named("none")?).await.map_err(broken)?;
    until("the new node is tidy", TIDY_WITHIN, || Ok((!new.has_leftovers()).then_some(()))).await?;
    let (of_new, took_new) = list(server, &new, line.volumes).await?;
    let (again, took_again) = list(server, &store, line.volumes).await?;
    let begun = Instant::now();
    bare.list().await?;
    let bare_listed = begun.elapsed();
    let to_bare = |took| ratio(took, bare_listed);
    tell("calls of a first list, per volume", per(first, volumes), Some(FIRST_LIST_CALLS_MAX), None);
    tell("such a list to bare listing", to_bare(took_first), None, None);
    tell("calls of a list after a start, per volume", per(of_new, volumes), Some(FIRST_LIST_CALLS_MAX), None);
    tell("such a list to bare listing", to_bare(took_new), None, None);
    tell("calls of a list again, per volume", per(again, volumes), Some(LIST_CALLS_MAX), None);
    tell("such a list to bare listing", to_bare(took_again), None, None);
    println!("listed {took_first:?}, after a start {took_new:?}, again {took_again:?}, bare {bare_listed:?}");

    let (calls, begun) = (server.calls(), Instant::now());
    for number in 0..line.volumes.min(1000) {
        store.destroy(&named(&format!("v{number:05}"))?, None).await.map_err(not_destroyed)?;
    }
    let (calls, took) = (server.calls() - calls, begun.elapsed());
    tell("calls of a destroy of an empty volume", per(calls, line.volumes.min(1000)), None, None);
    tell("destroy to create", ratio(took / line.volumes.min(1000), made / line.volumes), None, None);

    let (mut bare_removed, mut removed, mut calls) = (Duration::MAX, Duration::MAX, 0);
    for round in 0..3 {
        let name = format!("tree{round}");
        for _ in 0..2 {
            store.create(&volume(&store, &name)?).await.map_err(broken)?;
            fill(&export.join("volumes").join(&name), line.files)?;
            let begun = Instant::now();
            if round % 2 == 0 && removed == Duration::MAX || bare_removed != Duration::MAX {
                let before = server.calls();
                store.destroy(&named(&name)?, None).await.map_err(not_destroyed)?;
                removed = removed.min(begun.elapsed());
                calls = server.calls() - before;
            } else {
                bare.remove(&name).await?;
                bare_removed = bare_removed.min(begun.elapsed());
                fs::remove_dir_all(export.join("volumes_metadata").join(&name)).context("cannot tidy up")?;
            }
        }
    }
    tell("calls of a destroy, per file", per(calls, line.files), None, None);
    tell(
        "one call after the other to a destroy of many files",
        ratio(bare_removed, removed),
        None,
        Some(REMOVAL_MIN),
    );
    println!("{} files: {removed:?}, one after the other {bare_removed:?}", line.files);
    Ok(good)
}

/// The store as node `number` has it.
fn opened(url: &Url, number: u8) -> Result<NfsStore> {
    let id = NodeId::new(format!("{number:032x}")).map_err(broken)?;
    let node = ThisNode { id, name: format!("node{number}") };
    NfsStore::open(StoreName::new("bench").map_err(broken)?, url, node).map_err(broken)
}

/// By how many calls a store lists so many volumes, and how long that takes.
async fn list(server: &Ganesha, store: &NfsStore, volumes: u32) -> Result<(u64, Duration)> {
    let (calls, begun) = (server.calls(), Instant::now());
    let listed = store.list().await.map_err(broken)?;
    let figures = (server.calls() - calls, begun.elapsed());
    anyhow::ensure!(listed.len() == volumes as usize, "{} volumes are listed", listed.len());
    Ok(figures)
}

fn fill(top: &Path, files: u32) -> Result<()> {
    for folder in 0..200 {
        let folder = top.join(format!("folder{folder}"));
        fs::create_dir(&folder).context("cannot make a tree")?;
        for file in 0..files / 200 {
            fs::write(folder.join(format!("file{file}")), "").context("cannot make a tree")?;
        }
    }
    Ok(())
}

fn volume(store: &NfsStore, name: &str) -> Result<Volume> {
    let mount_point = MountPoint::new("/mnt/x").map_err(broken)?;
    let request = CreateRequest::at(mount_point, VolumeSize::from_mebibytes(16).map_err(broken)?);
    let spec = request.complete(&store.describe(), named(name)?).map_err(broken)?;
    Ok(Volume { spec, made_by: None, made_at: Timestamp(0) })
}

fn named(name: &str) -> Result<VolumeName> {
    VolumeName::new(name).map_err(broken)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn broken(failure: Failure) -> anyhow::Error {
    anyhow::anyhow!(failure.chain())
}

fn not_destroyed(error: DestroyError) -> anyhow::Error {
    broken(error.into_failure())
}

fn per(count: u64, of: u32) -> f64 {
    count as f64 / f64::from(of)
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64().max(f64::EPSILON)
}
