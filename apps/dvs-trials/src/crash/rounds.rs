//! SIGKILL at random moments, while eight senders send. After each restart everything must agree with what was
//! answered; then the next round begins on what is there.

use super::report::Rounds;
use crate::ground::{Ground, Stage};
use crate::random::Random;
use crate::sender::{End, Job, Sender, Wish};
use crate::truth::Truth;
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::time::Duration;

/// How many send at once.
const SENDERS: usize = 8;
/// How many mount points each of them has.
const PLACES: usize = 3;
/// Directories that the mount points of several senders share.
const SHARED: usize = 3;
/// How long a round's senders send at most before the agent is killed.
const LOAD_LIMIT: Duration = Duration::from_millis(400);
/// How long an agent lives at most that is killed again while it recovers.
const RECOVERY_LIMIT: Duration = Duration::from_millis(250);
/// Once in so many rounds an agent is killed while it recovers.
const KILLED_AGAIN_ONCE_IN: u64 = 3;
/// How often an agent is killed in one recovery at most.
const KILLED_AGAIN_MAX: u32 = 3;

const SIZE: u64 = 16;
const OTHER_SIZE: u64 = 20;

/// A sender, what it knows of its volumes, and the job that is not answered yet.
struct Player {
    sender: Sender,
    random: Random,
    places: Vec<PathBuf>,
    truth: Truth,
    open: Option<Open>,
    /// What was done at each place, the last one last, with what it came to.
    history: Vec<Vec<Past>>,
    /// Whether it sends its job again after a restart, or trusts that it arrived.
    repeats: bool,
    answered: u64,
}

struct Open {
    job: Job,
    place: usize,
    is_sent: bool,
}

struct Past {
    job: Job,
    end: End,
    /// Whether a volume was made or deleted by it.
    changed: bool,
}

/// Plays `rounds` rounds.
pub(super) async fn run(stage: &Stage, rounds: u32, seed: u64) -> Result<Rounds> {
    let mut random = Random::new(seed);
    let mut ground = Ground::lay(stage, "rounds").await?;
    let mut players = Vec::new();
    for number in 0..SENDERS {
        players.push(Player::new(stage, &ground, number, random.fork()).await?);
    }
    let mut report = Rounds { seed, senders: SENDERS, ..Rounds::default() };
    ground.start_plainly().await?;
    for round in 0..rounds {
        let played = one(&mut ground, &mut players, &mut random, &mut report).await;
        played.with_context(|| {
            format!("round {round} of seed {seed}\nthe agent's log ends with:\n{}", ground.last_words())
        })?;
    }
    for player in &mut players {
        player.delete_all().await?;
    }
    together(&players).check(&ground).await.context("after everything was deleted")?;
    ground.stop().await?;
    report.jobs = players.iter().map(|player| player.answered).sum();
    Ok(report)
}

async fn one(
    ground: &mut Ground,
    players: &mut [Player],
    random: &mut Random,
    report: &mut Rounds,
) -> Result<()> {
    let load = futures::future::try_join_all(players.iter_mut().map(Player::send_for_ever));
    // Dropped in the middle of whatever it waits for: that is what the players are made for.
    if let Ok(ended) = tokio::time::timeout(random.within(LOAD_LIMIT), load).await {
        ended?;
    }
    report.cut_off += players.iter().filter(|player| player.open.is_some()).count() as u64;
    ground.start("")?;
    report.kills += 1;
    if random.once_in(KILLED_AGAIN_ONCE_IN) {
        for _ in 0..=random.below(u64::from(KILLED_AGAIN_MAX)) {
            let recovery = recover(ground, players);
            if let Ok(recovered) = tokio::time::timeout(random.within(RECOVERY_LIMIT), recovery).await {
                recovered?;
            }
            ground.start("")?;
            report.kills += 1;
        }
    }
    recover(ground, players).await?;
    let seen = together(players).check(ground).await?;
    report.rounds += 1;
    report.volumes += seen.volumes as u64;
    report.remembered = seen.jobs as u64;
    for player in players.iter_mut() {
        report.repeats += player.ask_again().await?;
    }
    together(players).check_again(ground).await.context("after repeats")?;
    players.iter().for_each(|player| player.sender.forget());
    Ok(())
}

/// Waits until the agent is there, and every job is answered.
async fn recover(ground: &mut Ground, players: &mut [Player]) -> Result<()> {
    ground.online().await?;
    futures::future::try_join_all(players.iter_mut().map(Player::recover)).await.map(drop)
}

/// What all players know, in one.
fn together(players: &[Player]) -> Truth {
    let mut all = Truth::default();
    for player in players {
        all.attached.extend(player.truth.attached.iter().map(|(at, known)| (at.clone(), known.clone())));
    }
    all
}

impl Player {
    async fn new(stage: &Stage, ground: &Ground, number: usize, random: Random) -> Result<Self> {
        let id = format!("rounds-sender-{number}");
        let sender = Sender::connect(stage.broker, &ground.launch.node, &id).await?;
        let place =
            |place: usize| ground.at(&format!("shared-{}/{number}/{place}", (number + place) % SHARED));
        Ok(Self {
            sender,
            random,
            places: (0..PLACES).map(place).collect(),
            truth: Truth::default(),
            open: None,
            history: (0..PLACES).map(|_| Vec::new()).collect(),
            repeats: number.is_multiple_of(2),
            answered: 0,
        })
    }

    async fn send_for_ever(&mut self) -> Result<()> {
        loop {
            let place = usize::try_from(self.random.below(PLACES as u64))?;
            let wish = self.next_wish(place);
            let job = self.sender.job(wish);
            self.open = Some(Open { job, place, is_sent: false });
            self.finish_open().await?;
        }
    }

    /// Mostly what changes something; sometimes what is so already, or what must be refused.
    fn next_wish(&mut self, place: usize) -> Wish {
        let at = Some(self.places[place].clone());
        let thick: &'static [_] = if self.random.once_in(4) { &[("provision", "thick")] } else { &[] };
        let otherwise = self.random.once_in(6);
        match self.truth.attached.get(&self.places[place]) {
            Some(_) if otherwise => Wish::Create { at, name: None, size: OTHER_SIZE, more: &[] },
            Some(known) if self.random.once_in(6) => {
                Wish::Create { at, name: None, size: known.size, more: &[] }
            }
            None if !otherwise => Wish::Create { at, name: None, size: SIZE, more: thick },
            Some(_) | None => Wish::Delete { at, name: None },
        }
    }

    async fn recover(&mut self) -> Result<()> {
        if let Some(open) = &mut self.open {
            // Whoever was interrupted before the broker had the job does not know whether it has.
            open.is_sent &= !self.repeats;
        }
        self.finish_open().await
    }

    /// Sends the open job, unless it is sent, and notes what it comes to.
    async fn finish_open(&mut self) -> Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        if !open.is_sent {
            self.sender.send(&open.job).await?;
            open.is_sent = true;
        }
        let end = self.sender.end_of(&open.job, 0).await?;
        let Some(Open { job, place, .. }) = self.open.take() else { return Ok(()) };
        self.sender.check_order(&job)?;
        let before = self.truth.attached.get(&self.places[place]).map(|known| known.size);
        let expected = match (&job.wish, before) {
            (Wish::Create { size, .. }, Some(before)) if *size != before => {
                End::Failed("conflict".to_owned())
            }
            _ => End::Done,
        };
        ensure!(end == expected, "{job} came to {end}, and not to {expected}");
        self.truth.apply(&job.wish, &end, &job.id)?;
        let changed = self.truth.attached.contains_key(&self.places[place]) != before.is_some();
        self.history[place].push(Past { job, end, changed });
        self.answered += 1;
        Ok(())
    }

    /// Sends a job again that was answered: the last at its place must come to the same, and one that a later job has
    /// overtaken must be refused.
    async fn ask_again(&mut self) -> Result<u64> {
        let place = usize::try_from(self.random.below(PLACES as u64))?;
        let past = &self.history[place];
        let Some((last, earlier)) = past.split_last() else { return Ok(0) };
        let again = self.sender.done(&last.job).await?;
        ensure!(again == last.end, "{}, sent again, came to {again}, before to {}", last.job, last.end);
        let Some(overtaken) = earlier.last().filter(|_| last.changed) else { return Ok(1) };
        let refused = self.sender.done(&overtaken.job).await?;
        let reused = End::Failed("job-id-reused".to_owned());
        ensure!(refused == reused, "{}, overtaken and sent again, came to {refused}", overtaken.job);
        Ok(2)
    }

    async fn delete_all(&mut self) -> Result<()> {
        let wishes: Vec<_> = self.truth.attached.keys().cloned().collect();
        for at in wishes {
            let job = self.sender.job(Wish::Delete { at: Some(at), name: None });
            let end = self.sender.done(&job).await?;
            ensure!(end == End::Done, "{job} came to {end}");
            self.truth.apply(&job.wish, &end, &job.id)?;
            self.answered += 1;
        }
        Ok(())
    }
}
