//! One image has one loop device, whoever attaches it and whoever is killed meanwhile: eight agents, each with a state
//! folder and a mount point of its own, on one store whose folder each spells in its own way.

use super::report::Twins;
use crate::ground::{Ground, Stage};
use crate::machine;
use crate::random::Random;
use crate::sender::{End, Sender, Wish};
use crate::wait::{success, until};
use anyhow::{Context, Result, bail, ensure};
use dvs_store_loop::device::{self, BackingFile};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const AGENTS: usize = 8;
/// How long an agent lives at most until it is killed while it attaches; one that is ready before is asked to stop.
const LIFE_LIMIT: Duration = Duration::from_millis(150);
/// How often all start, and stop or are killed, in one round.
const STARTS_IN_A_ROUND: u32 = 3;
const RELEASED_WITHIN: Duration = Duration::from_secs(10);
const VOLUME: &str = "shared";
const SIZE: u64 = 16;

/// Looks again and again at how many loop devices an image has.
struct Watch {
    stop: Arc<AtomicBool>,
    looks: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<Result<()>>,
}

pub(super) async fn run(stage: &Stage, rounds: u32, seed: u64) -> Result<Twins> {
    let mut random = Random::new(seed);
    let mut grounds = Vec::new();
    for number in 0..AGENTS {
        grounds.push(Ground::lay(stage, &format!("twin-{number}")).await?);
    }
    let store = grounds[0].store.clone();
    fs::create_dir(&store).context("cannot make the store's folder")?;
    for (number, ground) in grounds.iter_mut().enumerate() {
        let spelt = spelling(number, &store, &ground.folder)?;
        ground.launch.stores = vec![format!("loop=loop://{}", spelt.display())];
    }
    let mut senders = Vec::new();
    for (number, ground) in grounds.iter_mut().enumerate() {
        ground.start_plainly().await?;
        let id = format!("twin-sender-{number}");
        let mut sender = Sender::connect(stage.broker, &ground.launch.node, &id).await?;
        let (at, name) = (Some(ground.at("volume")), Some(VOLUME.to_owned()));
        let job = sender.job(Wish::Create { at, name, size: SIZE, more: &[] });
        let end = sender.done(&job).await?;
        ensure!(end == End::Done, "{job} came to {end}");
        senders.push(sender);
    }
    let image = store.join("volumes").join(VOLUME).join("image");
    let watch = Watch::start(&image)?;
    let mut report = Twins { agents: AGENTS, ..Twins::default() };
    for round in 0..rounds {
        let played = one(&mut grounds, stage, &store, &image, &mut random, &mut report).await;
        played.with_context(|| format!("round {round} of seed {seed}"))?;
    }
    report.looks = watch.stop().await?;
    end(&mut grounds, &mut senders, &store).await?;
    Ok(report)
}

/// Nobody has the image; then all attach it at once, and are killed at random, and attach it in the end.
async fn one(
    grounds: &mut [Ground],
    stage: &Stage,
    store: &Path,
    image: &Path,
    random: &mut Random,
    report: &mut Twins,
) -> Result<()> {
    grounds.iter_mut().for_each(Ground::kill);
    release(stage, store).await?;
    // Somebody had bound the image under another name of it.
    let link = store.join("another-name");
    let foreign = if random.once_in(2) {
        fs::hard_link(image, &link).context("cannot link the image")?;
        let file = File::options().read(true).write(true).open(&link).context("cannot open the link")?;
        Some(device::attach(&file).map_err(|failure| anyhow::anyhow!(failure.chain()))?)
    } else {
        None
    };
    for _ in 0..STARTS_IN_A_ROUND {
        let lives = grounds.iter_mut().map(|ground| {
            let life = random.within(LIFE_LIMIT);
            async move {
                ground.start("")?;
                match tokio::time::timeout(life, ground.online()).await {
                    Ok(online) => {
                        online?;
                        ground.stop().await?;
                        Ok(0)
                    }
                    Err(_) => {
                        ground.kill();
                        anyhow::Ok(1)
                    }
                }
            }
        });
        report.kills += futures::future::try_join_all(lives).await?.iter().sum::<u64>();
        report.starts += AGENTS as u64;
    }
    futures::future::try_join_all(grounds.iter_mut().map(Ground::start_plainly)).await?;
    let numbers: Vec<u32> = devices_of(image)?;
    ensure!(numbers.len() == 1, "the image has the loop devices {numbers:?}");
    if let Some(foreign) = &foreign {
        ensure!(numbers == [foreign.number()], "it was bound to {}, and is to {numbers:?}", foreign.number());
        fs::remove_file(&link).context("cannot remove the link")?;
    }
    let device = PathBuf::from(format!("/dev/loop{}", numbers[0]));
    for ground in grounds.iter() {
        let mounts = machine::mounts_below(&ground.mounts, None)?;
        ensure!(
            mounts.len() == 1 && mounts[0].source == device && mounts[0].point == ground.at("volume"),
            "{} shows {mounts:?}, not {}",
            ground.launch.node,
            device.display()
        );
    }
    report.rounds += 1;
    Ok(())
}

/// Unmounts everything, and waits until the kernel has let the device go.
async fn release(stage: &Stage, store: &Path) -> Result<()> {
    machine::release_below(&stage.mounts)?;
    until("the device is free", RELEASED_WITHIN, || Ok(machine::loops_below(store)?.is_empty().then_some(())))
        .await
}

/// Only the last delete gets through: while others show the volume, it is in use.
async fn end(grounds: &mut [Ground], senders: &mut [Sender], store: &Path) -> Result<()> {
    let last = grounds.len() - 1;
    for (number, (ground, sender)) in grounds.iter_mut().zip(senders).enumerate() {
        let job = sender.job(Wish::Delete { at: Some(ground.at("volume")), name: None });
        let ended = sender.done(&job).await?;
        let expected = if number == last { End::Done } else { End::Failed("in-use".to_owned()) };
        ensure!(ended == expected, "{job} came to {ended}, not to {expected}");
        if number != last {
            ground.kill();
            machine::release_below(&ground.mounts)?;
        }
    }
    grounds.iter_mut().for_each(Ground::kill);
    success(RELEASED_WITHIN, async || {
        let (loops, paths) = (machine::loops_below(store)?, machine::paths_below(store)?);
        ensure!(loops.is_empty() && paths.len() == 3, "left: {loops:?} {paths:?}");
        Ok(())
    })
    .await
}

/// A way of agent `number` to the store's folder.
fn spelling(number: usize, store: &Path, folder: &Path) -> Result<PathBuf> {
    Ok(match number % 4 {
        1 => {
            let link = folder.join("link");
            symlink(store, &link).context("cannot make a link")?;
            link
        }
        2 => {
            let bound = folder.join("bound");
            fs::create_dir(&bound).context("cannot make a folder")?;
            rustix::mount::mount_bind(store, &bound).context("cannot bind the store's folder")?;
            bound
        }
        3 => store.join("..").join(store.file_name().unwrap_or_default()),
        _ => store.to_owned(),
    })
}

fn devices_of(image: &Path) -> Result<Vec<u32>> {
    let file = File::open(image).with_context(|| format!("cannot open {}", image.display()))?;
    let file = BackingFile::of(&file).context("cannot look at the image")?;
    Ok(device::find(file)
        .context("cannot look for loop devices")?
        .iter()
        .map(|found| found.number())
        .collect())
}

impl Watch {
    fn start(image: &Path) -> Result<Self> {
        let (stop, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (image, stopped, looked) = (image.to_owned(), Arc::clone(&stop), Arc::clone(&looks));
        let task = tokio::task::spawn_blocking(move || {
            while !stopped.load(Ordering::Relaxed) {
                // Each is held open until all are found, so that none can have been freed meanwhile.
                let numbers = devices_of(&image)?;
                if numbers.len() > 1 {
                    bail!("the image was bound to the loop devices {numbers:?} at once");
                }
                looked.fetch_add(1, Ordering::Relaxed);
                std::thread::yield_now();
            }
            Ok(())
        });
        Ok(Self { stop, looks, task })
    }

    async fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.context("the watch ended early")??;
        Ok(self.looks.load(Ordering::Relaxed))
    }
}
