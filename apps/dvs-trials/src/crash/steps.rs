//! SIGKILL at every step. Which steps there are is not written here: a first run of each situation has every failpoint
//! of the sources note that it was passed, and each passing is then a place to be killed at.

use super::report::Steps;
use super::situation::{Deed, Meanwhile, SITUATIONS, Situation, THERE};
use crate::ground::{Ground, Stage};
use crate::machine;
use crate::process::{Process, text};
use crate::random::Random;
use crate::sender::{End, Job, Sender, Wish};
use crate::truth::Truth;
use crate::wait::until;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How many nodes are killed side by side.
const NODES: usize = 4;
/// How long an agent that is to die may live.
const DEATH_LIMIT: Duration = Duration::from_secs(60);
/// How long after its last answer an agent may still pass a failpoint: what follows is one commit.
const AFTERWARDS: Duration = Duration::from_millis(300);
/// What the `fail` library writes to the log of a failpoint that is to note its passing.
const NOTED: (&str, &str) = ("failpoint ", " executed.");

/// One agent to be killed.
#[derive(Clone, Debug)]
struct Case {
    situation: &'static Situation,
    /// At which failpoint, and at the how-manieth passing of it. None: nowhere, only noted.
    at: Option<(String, u64)>,
    repeats: bool,
}

/// What a case came to.
struct Played {
    died: bool,
    jobs: u64,
    repeats: u64,
    /// How often each failpoint was passed, where that was noted.
    passed: BTreeMap<String, u64>,
}

/// A node and its sender.
struct Player {
    ground: Ground,
    sender: Sender,
    points: Arc<Vec<String>>,
}

/// Plays all situations, and kills at the steps of each. With a `chance` each failpoint of a situation has its turn
/// once; without, it has one at each of its passings, with both kinds of senders.
pub(super) async fn run(stage: &Stage, points: &[String], chance: Option<Random>) -> Result<Steps> {
    ensure!(!points.is_empty(), "no failpoints were given; `cargo xtask crash` finds them in the sources");
    let points = Arc::new(points.to_vec());
    let mut players = Vec::new();
    for number in 0..NODES {
        players.push(Player::new(stage, &format!("steps-{number}"), Arc::clone(&points)).await?);
    }
    let scouts = SITUATIONS.iter().map(|situation| Case { situation, at: None, repeats: false });
    let scouted = play(&mut players, scouts.collect()).await?;
    let played = play(&mut players, cases(&scouted, chance)).await?;
    let mut steps = Steps { situations: SITUATIONS.len(), points: points.len(), ..Steps::default() };
    for (case, played) in &played {
        let Some((point, _)) = &case.at else { continue };
        steps.cases += 1;
        steps.jobs += played.jobs;
        steps.repeats += played.repeats;
        if played.died {
            steps.kills += 1;
            steps.reached.insert(point.clone());
        }
    }
    steps.unreached = points.iter().filter(|point| !steps.reached.contains(*point)).cloned().collect();
    Ok(steps)
}

/// Where to kill, as the first run of each situation has it.
fn cases(scouted: &[(Case, Played)], mut chance: Option<Random>) -> Vec<Case> {
    let mut cases = Vec::new();
    for (scout, played) in scouted {
        for (point, times) in &played.passed {
            let case = |time, repeats| {
                let at = Some((point.clone(), time));
                Case { situation: scout.situation, at, repeats }
            };
            match &mut chance {
                Some(random) => cases.push(case(1 + random.below(*times), random.once_in(2))),
                None => {
                    cases.extend((1..=*times).flat_map(|time| [case(time, false), case(time, true)]));
                }
            }
        }
    }
    cases
}

/// Plays `cases`, those that need the machine for themselves last.
async fn play(players: &mut [Player], cases: Vec<Case>) -> Result<Vec<(Case, Played)>> {
    let (alone, mut together): (Vec<_>, Vec<_>) =
        cases.into_iter().partition(|case| case.situation.is_alone());
    together.reverse();
    let waiting = Mutex::new(together);
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let playing = players.iter_mut().map(|player| async {
        let mut played = Vec::new();
        while let Some(case) = next() {
            let outcome = player.play_one(&case).await?;
            played.push((case, outcome));
        }
        anyhow::Ok(played)
    });
    let mut played: Vec<_> = futures::future::try_join_all(playing).await?.into_iter().flatten().collect();
    let first = players.first_mut().context("nobody plays")?;
    for case in alone {
        let outcome = first.play_one(&case).await?;
        played.push((case, outcome));
    }
    Ok(played)
}

impl Player {
    async fn new(stage: &Stage, name: &str, points: Arc<Vec<String>>) -> Result<Self> {
        let mut ground = Ground::lay(stage, name).await?;
        let there = ground.at(THERE);
        fs::create_dir(&there).with_context(|| format!("cannot make {}", there.display()))?;
        let sender = Sender::connect(stage.broker, &ground.launch.node, &format!("sender-{name}")).await?;
        // The broker knows it from here on, and keeps for it what is sent while it is dead.
        ground.start_plainly().await?;
        Ok(Self { ground, sender, points })
    }

    async fn play_one(&mut self, case: &Case) -> Result<Played> {
        let played = self.play_case(case).await;
        played.with_context(|| format!("{case}\nthe agent's log ends with:\n{}", self.ground.last_words()))
    }

    async fn play_case(&mut self, case: &Case) -> Result<Played> {
        let situation = case.situation;
        self.sender.forget();
        let mut truth = Truth::default();
        truth.own_directories.insert(self.ground.at(THERE));
        let mut open = self.prepare(situation, &mut truth).await?;
        let held = self.meanwhile(situation, &mut truth).await?;

        let log = self.ground.folder.join("armed.log");
        let usual = std::mem::replace(&mut self.ground.launch.log, log.clone());
        let started = self.ground.start(&self.failpoints(case));
        self.ground.launch.log = usual;
        started?;
        for deed in situation.asked {
            let job = self.sender.job(deed.wish(&self.ground));
            self.sender.send(&job).await?;
            open.push(job);
        }
        let died = self.has_died(&open).await?;
        let passed = passed(&log)?;
        self.ground.kill();
        fs::remove_file(&log).context("cannot remove a log")?;

        self.ground.start_plainly().await?;
        if case.repeats {
            for job in &open {
                self.sender.send(job).await?;
            }
        }
        let ends = self.ends(situation, &open, &mut truth).await?;
        truth.check(&self.ground).await.context("after the restart")?;
        let repeats = self.repeat(&open, &ends).await?;
        truth.check_again(&self.ground).await.context("after the repeats")?;
        drop(held);
        self.mend(situation, &mut truth).await?;
        let jobs = self.end_and_begin_anew(situation, &mut truth).await?;
        Ok(Played { died, passed, repeats, jobs: jobs + ends.len() as u64 })
    }

    /// What was before. Gives the jobs that were cut off.
    async fn prepare(&mut self, situation: &Situation, truth: &mut Truth) -> Result<Vec<Job>> {
        let (mut done, mut cut_off) = (situation.before, None);
        if let (Some(point), Some((last, before))) = (situation.cut_off_at, situation.before.split_last()) {
            (done, cut_off) = (before, Some((point, last)));
        }
        for deed in done {
            self.have_done(deed.wish(&self.ground), truth).await?;
        }
        let Some((point, last)) = cut_off else { return Ok(Vec::new()) };
        self.ground.start(&format!("{point}=1*return(kill)"))?;
        let job = self.sender.job(last.wish(&self.ground));
        self.sender.send(&job).await?;
        until("the agent is dead", DEATH_LIMIT, || Ok(self.ground.is_dead()?.then_some(()))).await?;
        Ok(vec![job])
    }

    async fn meanwhile(&mut self, situation: &Situation, truth: &mut Truth) -> Result<Held> {
        self.ground.kill();
        match situation.meanwhile {
            Meanwhile::Nothing => {}
            Meanwhile::Pristine => {
                for folder in [&self.ground.launch.state, &self.ground.store] {
                    fs::remove_dir_all(folder)
                        .with_context(|| format!("cannot remove {}", folder.display()))?;
                }
            }
            Meanwhile::Reboot => machine::release_below(&self.ground.mounts)?,
            Meanwhile::PowerLoss => {
                machine::release_below(&self.ground.mounts)?;
                // As the kernel leaves it that is not asked to unmount (ext4(5), `s_state`).
                let image = only_image(&self.ground.store)?;
                let request = "set_super_value state 0";
                text("debugfs", ["-w", "-R", request, &image.display().to_string()])?;
            }
            Meanwhile::Damaged(at) => {
                machine::release_below(&self.ground.mounts)?;
                resize_image(&self.ground.store, DAMAGE)?;
                truth.guarded.insert(self.ground.at(at));
            }
            Meanwhile::Mended(at) => {
                machine::release_below(&self.ground.mounts)?;
                resize_image(&self.ground.store, DAMAGE)?;
                self.ground.start_plainly().await?;
                self.ground.kill();
                resize_image(&self.ground.store, -DAMAGE)?;
                truth.mended.insert(self.ground.at(at));
            }
            Meanwhile::OpenFile(at) => {
                let folder = self.ground.at(at);
                let opened = File::open(&folder);
                return Ok(Held::File(opened.with_context(|| format!("cannot open {}", folder.display()))?));
            }
            Meanwhile::OtherNamespace => {
                return Ok(Held::Namespace(other_namespace(&self.ground.folder).await?));
            }
        }
        Ok(Held::Nothing)
    }

    /// Whether the agent dies; else it has done everything, and nothing more will happen.
    async fn has_died(&mut self, open: &[Job]) -> Result<bool> {
        let ended = until("the agent is dead, or has done its work", DEATH_LIMIT, || {
            let dead = self.ground.is_dead()?;
            let done = self.ground.was_online() && open.iter().all(|job| self.sender.has_end(job));
            Ok((dead || done).then_some(dead))
        });
        if ended.await? {
            return Ok(true);
        }
        let later = until("the agent is dead", AFTERWARDS, || Ok(self.ground.is_dead()?.then_some(())));
        Ok(later.await.is_ok())
    }

    /// Waits for what every open job comes to.
    async fn ends(&self, situation: &Situation, open: &[Job], truth: &mut Truth) -> Result<Vec<End>> {
        let mut ends = Vec::new();
        for job in open {
            let end = self.sender.end_of(job, 0).await?;
            ensure!(situation.allows(&end), "{job} came to {end}, which is none of {:?}", situation.ends);
            truth.apply(&job.wish, &end, &job.id)?;
            ends.push(end);
        }
        Ok(ends)
    }

    /// Sends every job once more: it must come to the same.
    async fn repeat(&self, jobs: &[Job], ends: &[End]) -> Result<u64> {
        for (job, end) in jobs.iter().zip(ends) {
            let again = self.sender.done(job).await.context("sent again")?;
            ensure!(again == *end, "{job}, sent again, came to {again}, before to {end}");
            self.sender.check_order(job)?;
        }
        Ok(jobs.len() as u64)
    }

    async fn mend(&mut self, situation: &Situation, truth: &mut Truth) -> Result<()> {
        let Meanwhile::Damaged(at) = situation.meanwhile else { return Ok(()) };
        self.ground.kill();
        resize_image(&self.ground.store, -DAMAGE)?;
        self.ground.start_plainly().await?;
        truth.mended.extend(truth.guarded.take(&self.ground.at(at)));
        truth.check(&self.ground).await.context("after mending")?;
        Ok(())
    }

    /// Deletes what is there, makes a volume at every mount point that was used, and deletes it: nothing is left.
    async fn end_and_begin_anew(&mut self, situation: &Situation, truth: &mut Truth) -> Result<u64> {
        let mut wishes: Vec<Wish> = Vec::new();
        let deleted_at = |at: &PathBuf| Wish::Delete { at: Some(at.clone()), name: None };
        wishes.extend(truth.attached.keys().map(deleted_at));
        wishes
            .extend(truth.unattached.keys().map(|name| Wish::Delete { at: None, name: Some(name.clone()) }));
        let used = situation.before.iter().chain(situation.asked);
        let mut used: Vec<_> = used.filter_map(|deed| deed.mount_point(&self.ground)).collect();
        used.sort();
        used.dedup();
        for at in used {
            wishes.push(Wish::Create { at: Some(at.clone()), name: None, size: 16, more: &[] });
            wishes.push(deleted_at(&at));
        }
        let jobs = wishes.len() as u64;
        for wish in wishes {
            self.have_done(wish, truth).await?;
        }
        ensure!(truth.attached.is_empty() && truth.unattached.is_empty(), "not all was deleted: {truth:?}");
        truth.check(&self.ground).await.context("after everything was deleted")?;
        Ok(jobs)
    }

    async fn have_done(&mut self, wish: Wish, truth: &mut Truth) -> Result<()> {
        let job = self.sender.job(wish);
        match self.sender.done(&job).await? {
            End::Done => truth.apply(&job.wish, &End::Done, &job.id),
            failed => bail!("{job} came to {failed}"),
        }
    }

    fn failpoints(&self, case: &Case) -> String {
        let mut points: Vec<String> = Vec::new();
        if !case.situation.failing.is_empty() {
            points.push(case.situation.failing.to_owned());
        }
        match &case.at {
            Some((point, 1)) => points.push(format!("{point}=1*return(kill)")),
            Some((point, time)) => points.push(format!("{point}={}*off->1*return(kill)", time - 1)),
            None => {
                let noted = self.points.iter().filter(|point| !case.situation.fails_at(point));
                points.extend(noted.map(|point| format!("{point}=print")));
            }
        }
        points.join(";")
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let who = if self.repeats { "a sender that repeats" } else { "a sender that waits" };
        match &self.at {
            Some((point, time)) => {
                write!(formatter, "{}, killed at {point} ({time}), with {who}", self.situation.name)
            }
            None => write!(formatter, "{}, not killed", self.situation.name),
        }
    }
}

impl Deed {
    /// Where a volume may be made, if this is about such a place.
    fn mount_point(self, ground: &Ground) -> Option<PathBuf> {
        let at = match self.wish(ground) {
            Wish::Create { at, .. } | Wish::Delete { at, .. } => at?,
        };
        at.starts_with(&ground.mounts).then_some(at)
    }
}

/// What keeps a volume in use, as long as it is there.
#[expect(dead_code, reason = "what it holds is only there to be dropped")]
enum Held {
    Nothing,
    File(File),
    Namespace(Process),
}

/// By how many bytes a damaged image is longer than its record says.
const DAMAGE: i64 = 4096;

/// Makes the only image of a store longer or shorter.
fn resize_image(store: &Path, bytes: i64) -> Result<()> {
    let file = File::options().write(true).open(only_image(store)?).context("cannot open the image")?;
    let length = file.metadata().context("cannot look at the image")?.len();
    file.set_len(length.saturating_add_signed(bytes)).context("cannot resize the image")
}

fn only_image(store: &Path) -> Result<PathBuf> {
    let mut images: Vec<_> =
        machine::paths_below(store)?.into_iter().filter(|path| path.ends_with("image")).collect();
    match (images.pop(), images.is_empty()) {
        (Some(image), true) => Ok(image),
        (last, _) => bail!("not one image but {images:?} and {last:?}"),
    }
}

/// A process that keeps every mount of now in a mount namespace of its own.
async fn other_namespace(folder: &Path) -> Result<Process> {
    const STARTED_WITHIN: Duration = Duration::from_secs(20);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--", "tail", "-f", "/dev/null"]);
    let process = Process::start(&mut command, &folder.join("namespace.log"))?;
    let namespace = |id: &str| fs::read_link(format!("/proc/{id}/ns/mnt")).ok();
    let id = process.id().to_string();
    let own = namespace("self");
    until("the process has its namespace", STARTED_WITHIN, || {
        Ok(namespace(&id).filter(|other| Some(other) != own.as_ref()).map(drop))
    })
    .await?;
    Ok(process)
}

/// How often each failpoint noted that it was passed.
fn passed(log: &Path) -> Result<BTreeMap<String, u64>> {
    let text = fs::read_to_string(log).with_context(|| format!("cannot read {}", log.display()))?;
    let mut passed = BTreeMap::new();
    for line in text.lines() {
        let point = line.split_once(NOTED.0).and_then(|(_, rest)| rest.strip_suffix(NOTED.1));
        if let Some(point) = point {
            *passed.entry(point.to_owned()).or_default() += 1;
        }
    }
    Ok(passed)
}
