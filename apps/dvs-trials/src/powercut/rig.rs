//! What a cut needs: the disks, a broker, an agent, and senders.

use super::Setting;
use super::disk::{Cut, Unflushed};
use super::draw;
use super::history::{Event, Knowledge};
use super::mounted::{Below, Mounted};
use super::player::Player;
use super::recorder::{DiskId, LogEntry, Recorder};
use crate::broker::Mosquitto;
use crate::clock;
use crate::ground::{Ground, Stage};
use crate::machine;
use crate::process::text;
use crate::random::Random;
use crate::scratch::Scratch;
use crate::truth::{self, Known, Truth};
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// How many send at once.
const SENDERS: usize = 3;
/// How many jobs each of them has done in a run.
const JOBS: usize = 16;

/// One time in so many the power fails again while the agent starts.
const CUT_AGAIN_ONCE_IN: u64 = 3;

/// See the module.
pub(super) struct Rig {
    recorder: Recorder,
    broker: Mosquitto,
    stage: Stage,
    below: Below,
    /// Where the disk is mounted, each time: the journal knows mount points by their paths.
    point: PathBuf,
    log: PathBuf,
    /// Each agent is another node to the broker, which knows nothing of cuts.
    nodes: u64,
}

/// What was recorded.
pub(super) struct Run {
    disk: DiskId,
    pub(super) log: Vec<LogEntry>,
    players: Vec<Player>,
    /// The moments at which a sender was told something.
    pub(super) told: Vec<u64>,
}

/// What was seen after a cut.
pub(super) struct Seen {
    pub(super) volumes: usize,
    /// Of these, the ones that their own user has left damaged.
    pub(super) damaged: usize,
    pub(super) open: usize,
    pub(super) repeats: usize,
    /// Whether the power failed again while the agent started.
    pub(super) cut_again: bool,
}

impl Run {
    pub(super) fn jobs(&self) -> usize {
        let events = self.players.iter().flat_map(|player| &player.history.events);
        events.filter(|event| matches!(event, Event::Asked { .. })).count()
    }
}

impl Rig {
    pub(super) async fn new(program: PathBuf, below: Below, scratch: &Scratch) -> Result<Self> {
        let recorder = Recorder::start(&scratch.folder.join("disks"))?;
        let broker = Mosquitto::start(&scratch.folder.join("broker")).await?;
        let stage = Stage::new(program, broker.address(), scratch);
        let (point, log) = (scratch.mounts.join("disk"), scratch.folder.join("agent.log"));
        fs::create_dir(&point).with_context(|| format!("cannot make {}", point.display()))?;
        Ok(Self { recorder, broker, stage, below, point, log, nodes: 0 })
    }

    /// Records what the disk is told while jobs are done on it.
    pub(super) async fn record(&mut self, mut random: Random, setting: Setting) -> Result<Run> {
        let disk = self.recorder.add(self.below.disk_bytes())?;
        let mounted = Mounted::format(&self.recorder.path(disk), &self.point, self.below, setting.barriers)?;
        let recorded = self.play(disk, &mut random, setting).await;
        mounted.take_down().await?;
        let (log, mut players) = recorded?;
        players.iter_mut().for_each(Player::note_answers);
        let told = players.iter().flat_map(|player| player.history.told()).collect();
        Ok(Run { disk, log, players, told })
    }

    async fn play(
        &mut self,
        disk: DiskId,
        random: &mut Random,
        setting: Setting,
    ) -> Result<(Vec<LogEntry>, Vec<Player>)> {
        fs::create_dir(self.point.join("mounts")).context("cannot make a folder on the disk")?;
        File::open(&self.point).and_then(|folder| folder.sync_all()).context("cannot sync the disk")?;
        self.recorder.seal(disk)?;
        let mut ground = self.ground().await?;
        ground.start(setting.failpoints)?;
        ground.online().await?;
        let mut players = Vec::new();
        for number in 0..SENDERS {
            let fork = random.fork();
            players.push(Player::new(self.broker.address(), &ground, self.nodes, number, fork).await?);
        }
        let played = futures::future::try_join_all(players.iter_mut().map(|player| player.play(JOBS))).await;
        played.with_context(|| format!("the agent's log ends with:\n{}", ground.last_words()))?;
        let log = self.recorder.log(disk)?;
        ground.kill_heard().await?;
        Ok((log, players))
    }

    /// Lets the disk of `run` go.
    pub(super) fn forget(&mut self, run: &Run) -> Result<()> {
        self.recorder.drop(run.disk)
    }

    /// Lets the power fail, and starts an agent on what is left. Gives what was seen, or what was not true.
    pub(super) async fn cut(
        &mut self,
        run: &mut Run,
        cut: Cut,
        random: &mut Random,
    ) -> Result<(Unflushed, Result<Seen>)> {
        let time = run.log.get(cut.position).map_or(u64::MAX, |next| next.at);
        let (disk, unflushed) = self.recorder.cut(run.disk, cut)?;
        let known: Vec<_> = run.players.iter().map(|player| player.history.known_before(time)).collect();
        let (told, mut outcome) = self.recover(disk, run, &known, random).await?;
        if let Ok(seen) = &mut outcome
            && random.once_in(CUT_AGAIN_ONCE_IN)
        {
            let log = self.recorder.log(disk)?;
            let log = &log[..log.partition_point(|entry| entry.at < told)];
            let position = draw::position(random, log, &[]);
            let again = Cut { position, seed: random.next(), ..cut };
            let (disk, unflushed) = self.recorder.cut(disk, again)?;
            let (_, recovered) = self.recover(disk, run, &known, random).await?;
            self.recorder.drop(disk)?;
            seen.cut_again = true;
            if let Err(fault) = recovered {
                outcome = Err(fault.context(format!(
                    "and failed again while the agent started, at entry {position} of {}, where {unflushed:?}",
                    log.len()
                )));
            }
        }
        self.recorder.drop(disk)?;
        Ok((unflushed, outcome))
    }

    /// Starts an agent on `disk`, as the power failure has left it. Gives the moment at which senders were told more than
    /// was `known`, and what was seen, or what was not true.
    async fn recover(
        &mut self,
        disk: DiskId,
        run: &mut Run,
        known: &[Knowledge],
        random: &mut Random,
    ) -> Result<(u64, Result<Seen>)> {
        let mut ground = self.ground().await?;
        for player in &mut run.players {
            player.sender.turn_to(&ground.launch.node).await?;
        }
        let mounted = match Mounted::recover(&self.recorder.path(disk), &self.point, self.below) {
            Ok(mounted) => mounted,
            Err(error) => return Ok((0, Err(error))),
        };
        // What the file system below has mended itself is not cut again: an xfs whose recovery is torn is lost.
        self.recorder.seal(disk)?;
        let recovered = restart(&mut ground, &run.players, known, random).await;
        let recovered =
            recovered.with_context(|| format!("the agent's log ends with:\n{}", ground.last_words()));
        match &recovered {
            Ok(_) => ground.kill_heard().await?,
            Err(_) => ground.kill(),
        }
        mounted.take_down().await?;
        Ok(match recovered {
            Ok((told, seen)) => (told, Ok(seen)),
            Err(fault) => (0, Err(fault)),
        })
    }

    /// A node on the disk that is, or is about to be, mounted.
    async fn ground(&mut self) -> Result<Ground> {
        self.nodes += 1;
        // The log of the agent before this one tells nothing of this one.
        File::create(&self.log).context("cannot empty the agent's log")?;
        let name = format!("power-{}", self.nodes);
        Ground::in_folders(
            &self.stage,
            &name,
            self.point.clone(),
            self.point.join("mounts"),
            self.log.clone(),
        )
        .await
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // A run that was broken off has left a disk mounted. Nothing of it may outlive the process that keeps the disks.
        let _ = machine::release_below(&self.point);
        for found in machine::loops_below(self.recorder.folder()).unwrap_or_default() {
            let _ = text("losetup", [Path::new("-d"), &found.device]);
        }
    }
}

/// Starts the agent on what the cut has left, and makes sure that all is as it must be by what was `known`. Gives the
/// moment at which senders were told more, and what was seen.
async fn restart(
    ground: &mut Ground,
    players: &[Player],
    known: &[Knowledge],
    random: &mut Random,
) -> Result<(u64, Seen)> {
    ground.start_plainly().await?;
    let started = clock::now();
    let open = known.iter().filter(|known| known.open.is_some()).count();
    let (mut told, mut known_now) = (started, known.to_vec());
    for (player, known) in players.iter().zip(&mut known_now) {
        told = told.min(player.have_ended(known).await?);
    }
    let truth = together(players, &known_now, ground)?;
    let seen = truth.check(ground).await?;
    for ((player, before), known) in players.iter().zip(known).zip(&known_now) {
        player.check_files(known, &truth.guarded)?;
        player.check_unattached(known, &ground.store)?;
        player.check_ended(known, before.ended.len())?;
    }
    let mut repeats = 0;
    for (player, known) in players.iter().zip(&known_now) {
        repeats += usize::from(player.ask_again(known, random).await?);
    }
    let damaged = truth.guarded.len();
    Ok((told, Seen { volumes: seen.volumes, damaged, open, repeats, cut_again: false }))
}

/// What must be there by what all senders know. A volume that its own user may have left damaged may be guarded.
fn together(players: &[Player], known: &[Knowledge], ground: &Ground) -> Result<Truth> {
    let mut truth = Truth { answers_may_be_out: true, ..Truth::default() };
    for (player, known) in players.iter().zip(known) {
        for (place, volume) in &known.volumes {
            let place = &player.places[*place];
            let thick = volume.more.contains(&("provision", "thick"));
            let there = Known::unmarked(volume.size, thick, place.name.clone());
            match (&place.at, &place.name) {
                (Some(at), _) => drop(truth.attached.insert(at.clone(), there)),
                (None, Some(name)) => drop(truth.unattached.insert(name.clone(), there)),
                (None, None) => {}
            }
        }
        if let Some(at) = known.fragile().and_then(|place| player.places[place].at.as_ref())
            && machine::mounts_below(&ground.mounts, None)?
                .iter()
                .any(|mount| mount.point == *at && truth::is_guard(mount))
        {
            truth.guarded.insert(at.clone());
        }
    }
    Ok(truth)
}
