//! What one volume costs on a node with thousands of them: jobs, the list, a restart, memory. Volumes are the smallest
//! that there are. The number that the others are compared with is measured before and after them, so that a machine
//! whose speed drifts is not taken for a cost.

use super::boot::boot;
use super::job::Jobs;
use super::loop_control::{self, DevicesBefore};
use super::verdict::{BYTES_PER_MEBIBYTE, Bound, Verdict, milliseconds};
use super::{Plan, resident_bytes, start_agent};
use crate::agent::{self, Agent, Launch};
use crate::broker::Mosquitto;
use crate::machine;
use crate::scratch::Scratch;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// The size of the volumes, in MiB.
const SIZE: u64 = 1;
/// How often a volume is made and deleted before that is measured.
const WARM_UP: u32 = 5;
/// How often the list is asked for.
const LISTS: u32 = 10;
/// The number of the first loop device that is added. The kernel gives out the lowest that is free.
const FIRST_IDLE: u32 = 100_000;

/// How much more one volume may cost beside the most others than beside the first number of them.
const COST_MAX: f64 = 1.3;
/// Likewise with thousands of idle loop devices than without: nothing, but what a machine's speed varies.
const IDLE_DEVICES_MAX: f64 = 1.2;
/// How much longer a restart may take for each volume with the most than with the next fewer.
const RESTART_MAX: f64 = 1.2;
const MEBIBYTES_MAX: f64 = 8.0;
const KIBIBYTES_PER_VOLUME_MAX: f64 = 6.0;

/// What each number of attached volumes has shown, in the order of the run.
#[derive(Clone, Debug, Default)]
pub(super) struct Levels(Vec<Level>);

/// What was measured with this many volumes attached.
#[derive(Clone, Debug, Default)]
struct Level {
    attached: u32,
    idle_devices: u32,
    creates: Vec<Duration>,
    deletes: Vec<Duration>,
    lists: Vec<Duration>,
    /// From the start of the process until it is ready, with all volumes attached.
    restarts: Vec<Duration>,
    /// The same with none attached, as after a reboot.
    boots: Vec<Duration>,
    /// After jobs, and after a restart.
    resident_bytes: [u64; 2],
}

type Cost<'a> = &'a dyn Fn(&Level) -> f64;

/// A node whose number of volumes is changed.
struct Node {
    agent: Agent,
    launch: Launch,
    jobs: Jobs,
    folder: PathBuf,
    mounts: PathBuf,
    attached: u32,
    starts: u32,
    devices: DevicesBefore,
}

/// Measures.
pub(super) async fn measure(plan: &Plan, broker: &Mosquitto, scratch: &Scratch) -> Result<Levels> {
    let mut node = Node::start(plan, broker, scratch).await?;
    let most = plan.attached.iter().copied().max().unwrap_or(0);
    let mut levels = Levels::default();
    for &attached in &plan.attached {
        node.change(attached).await?;
        let mut level = node.level(plan).await?;
        for _ in 0..plan.restart_rounds {
            node = node.restart(&mut level.restarts).await?;
        }
        if attached == most {
            for _ in 0..plan.restart_rounds {
                node = node.boot(&mut level.boots).await?;
            }
        }
        level.resident_bytes[1] = resident_bytes(&node.agent)?;
        levels.0.push(level);
    }
    if 0 < plan.idle_devices {
        loop_control::add(FIRST_IDLE..FIRST_IDLE + plan.idle_devices)?;
        levels.0.push(Level { idle_devices: plan.idle_devices, ..node.level(plan).await? });
        node.devices.remove_added()?;
        levels.0.push(node.level(plan).await?);
    }
    node.agent.stop().await?;
    Ok(levels)
}

impl Node {
    async fn start(plan: &Plan, broker: &Mosquitto, scratch: &Scratch) -> Result<Self> {
        let (folder, mounts) = (scratch.folder.join("scale"), scratch.mounts.join("scale"));
        for folder in [&folder, &mounts] {
            fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let devices = DevicesBefore::now()?;
        let (agent, launch) = start_agent(agent::program()?, broker, &folder, "scale").await?;
        let plan = Plan { size: SIZE, lanes: 1, ..plan.clone() };
        let jobs = Jobs::connect(broker.address(), &launch.node, mounts.clone(), &plan).await?;
        Ok(Self { agent, launch, jobs, folder, mounts, attached: 0, starts: 0, devices })
    }

    /// Makes or deletes volumes until this many are attached, and leaves the host as few loop devices as it can.
    async fn change(&mut self, attached: u32) -> Result<()> {
        if attached < self.attached {
            self.jobs.delete_many(attached..self.attached).await?;
            self.devices.remove_added()?;
        } else {
            self.jobs.make_many(self.attached..attached, SIZE).await?;
        }
        self.attached = attached;
        Ok(())
    }

    async fn level(&self, plan: &Plan) -> Result<Level> {
        let mut level = Level { attached: self.attached, ..Level::default() };
        for round in 0..WARM_UP + plan.attached_rounds {
            let (create, delete) = self.jobs.alone(&format!("one-{round}")).await?;
            if WARM_UP <= round {
                level.creates.push(create);
                level.deletes.push(delete);
            }
        }
        for _ in 0..LISTS {
            let begun = Instant::now();
            let listed = list(&self.launch.state.join("agent.sock")).await?;
            level.lists.push(begun.elapsed());
            ensure!(listed == self.attached as usize, "the agent lists {listed} volumes");
        }
        level.resident_bytes[0] = resident_bytes(&self.agent)?;
        Ok(level)
    }

    async fn restart(self, took: &mut Vec<Duration>) -> Result<Self> {
        self.agent.stop().await?;
        let starts = self.starts + 1;
        let (start, agent) = boot(&self.launch, &self.folder.join(format!("notify-{starts}"))).await?;
        took.push(start);
        let restarted = Self { agent, starts, ..self };
        restarted.check().await?;
        Ok(restarted)
    }

    /// The agent must say that it has all volumes, and they must be there.
    async fn check(&self) -> Result<()> {
        let mounted = machine::mounts_below(&self.mounts, None)?.len();
        ensure!(mounted == self.attached as usize, "{mounted} volumes are mounted when the agent is ready");
        let listed = list(&self.launch.state.join("agent.sock")).await?;
        ensure!(listed == self.attached as usize, "the agent lists {listed} volumes as attached");
        Ok(())
    }

    async fn boot(self, took: &mut Vec<Duration>) -> Result<Self> {
        self.agent.ask_to_stop()?;
        let mut stopped = self;
        stopped.agent.wait().await?;
        machine::release_below(&stopped.mounts)?;
        machine::release_below(&stopped.folder)?;
        let starts = stopped.starts + 1;
        let (start, agent) = boot(&stopped.launch, &stopped.folder.join(format!("notify-{starts}"))).await?;
        took.push(start);
        let booted = Self { agent, starts, ..stopped };
        booted.check().await?;
        Ok(booted)
    }
}

/// Asks the agent at `socket` for its volumes, as `dvs ls` does, and counts them.
async fn list(socket: &Path) -> Result<usize> {
    const REQUEST: &[u8] = b"GET /v1/volumes HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n";
    let mut answer = Vec::new();
    let mut stream = UnixStream::connect(socket).await.context("cannot reach the agent's socket")?;
    stream.write_all(REQUEST).await.context("cannot ask for the list")?;
    stream.read_to_end(&mut answer).await.context("cannot read the list")?;
    if !answer.starts_with(b"HTTP/1.1 200") {
        bail!("the agent answered {}", String::from_utf8_lossy(&answer[..answer.len().min(200)]));
    }
    const ATTACHED: &[u8] = b"\"state\":\"attached\"";
    Ok(answer.windows(ATTACHED.len()).filter(|text| *text == ATTACHED).count())
}

impl Level {
    fn list_microseconds_per_volume(&self) -> f64 {
        milliseconds(&self.lists) * 1000.0 / f64::from(self.attached)
    }

    fn mebibytes(&self) -> [f64; 2] {
        self.resident_bytes.map(|bytes| bytes as f64 / BYTES_PER_MEBIBYTE)
    }

    fn json(&self) -> Value {
        json!({
            "attached": self.attached,
            "idle_devices": self.idle_devices,
            "create_milliseconds": milliseconds(&self.creates),
            "delete_milliseconds": milliseconds(&self.deletes),
            "list_microseconds_per_volume": self.list_microseconds_per_volume(),
            "restart_milliseconds": milliseconds(&self.restarts),
            "boot_milliseconds": milliseconds(&self.boots),
            "mebibytes": self.mebibytes(),
        })
    }
}

impl Levels {
    pub(super) fn json(&self) -> Value {
        self.0.iter().map(Level::json).collect()
    }

    pub(super) fn verdicts(&self) -> Vec<Verdict> {
        let Some((first, most)) = self.0.first().zip(self.0.iter().max_by_key(|level| level.attached)) else {
            return Vec::new();
        };
        let mut verdicts = Vec::new();
        let costs: [(&str, Cost<'_>); 3] = [
            ("create", &|level| milliseconds(&level.creates)),
            ("delete", &|level| milliseconds(&level.deletes)),
            ("list per volume", &|level| level.list_microseconds_per_volume()),
        ];
        let usual = |cost: Cost<'_>| {
            let same =
                self.0.iter().filter(|level| level.attached == first.attached && level.idle_devices == 0);
            mean(same.map(cost))
        };
        if first.attached < most.attached {
            for (name, cost) in costs {
                let what = format!("{name}, {} attached to {}", most.attached, first.attached);
                verdicts.push(Verdict::new(what, cost(most) / usual(cost), Bound::AtMost(COST_MAX)));
            }
        }
        let restart = |level: &Level| milliseconds(&level.restarts);
        let fewer = self.0.iter().filter(|level| level.attached < most.attached);
        if let Some(fewer) = fewer.max_by_key(|level| level.attached) {
            let what = format!("restart, {} attached to {}", most.attached, fewer.attached);
            let bound = RESTART_MAX * f64::from(most.attached) / f64::from(fewer.attached);
            verdicts.push(Verdict::new(what, restart(most) / restart(fewer), Bound::AtMost(bound)));
        }
        let what = format!("{} attached, restart to reboot", most.attached);
        verdicts.push(Verdict::new(what, restart(most) / milliseconds(&most.boots), Bound::AtMost(1.0)));
        if let Some(idle) = self.0.iter().find(|level| 0 < level.idle_devices) {
            let (what, cost) = (format!("delete, {} idle devices to none", idle.idle_devices), costs[1].1);
            verdicts.push(Verdict::new(what, cost(idle) / usual(cost), Bound::AtMost(IDLE_DEVICES_MAX)));
        }
        for level in &self.0 {
            let bound = MEBIBYTES_MAX + KIBIBYTES_PER_VOLUME_MAX * f64::from(level.attached) / 1024.0;
            let [after_jobs, after_restart] = level.mebibytes();
            let what = format!("agent's memory, {} attached", level.attached);
            verdicts.push(Verdict::new(what, after_jobs.max(after_restart), Bound::MebibytesBelow(bound)));
        }
        verdicts
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "one volume of {SIZE} MiB more, beside many; memory after jobs, and after a restart"
        )?;
        let head = ["attached", "create", "delete", "list each", "restart", "reboot", "memory", ""];
        head.iter().try_for_each(|title| write!(formatter, "{title:>12}"))?;
        writeln!(formatter)?;
        for level in &self.0 {
            let text = |took: &[Duration], unit: &str, figure: f64| {
                if took.is_empty() { String::new() } else { format!("{figure:.1} {unit}") }
            };
            let [after_jobs, after_restart] = level.mebibytes();
            let cells = [
                level.attached.to_string(),
                text(&level.creates, "ms", milliseconds(&level.creates)),
                text(&level.deletes, "ms", milliseconds(&level.deletes)),
                text(&level.lists, "µs", level.list_microseconds_per_volume()),
                text(&level.restarts, "ms", milliseconds(&level.restarts)),
                text(&level.boots, "ms", milliseconds(&level.boots)),
                format!("{after_jobs:.1} MiB"),
                if level.restarts.is_empty() { String::new() } else { format!("{after_restart:.1} MiB") },
            ];
            cells.iter().try_for_each(|cell| write!(formatter, "{cell:>12}"))?;
            if 0 < level.idle_devices {
                write!(formatter, "  {} idle loop devices", level.idle_devices)?;
            }
            writeln!(formatter)?;
        }
        Ok(())
    }
}

fn mean(figures: impl Iterator<Item = f64>) -> f64 {
    let figures: Vec<f64> = figures.collect();
    figures.iter().sum::<f64>() / figures.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(attached: u32, milliseconds: u64) -> Level {
        let took = vec![Duration::from_millis(milliseconds)];
        let lists = vec![Duration::from_millis(milliseconds * u64::from(attached))];
        Level {
            attached,
            creates: took.clone(),
            deletes: took.clone(),
            lists,
            restarts: took,
            resident_bytes: [1 << 20; 2],
            ..Level::default()
        }
    }

    #[test]
    fn the_first_number_is_the_mean_of_all_its_rows_without_idle_devices() {
        let idle = Level { idle_devices: 7, ..level(100, 30) };
        let levels = Levels(vec![level(100, 10), level(5000, 30), level(100, 20), idle]);
        let verdicts = levels.verdicts();
        for what in [
            "create, 5000 attached to 100",
            "list per volume, 5000 attached to 100",
            "delete, 7 idle devices to none",
        ] {
            let verdict = verdicts.iter().find(|verdict| verdict.what == what).unwrap();
            assert_eq!((verdict.figure, verdict.is_good()), (2.0, false), "{verdict}");
        }
    }

    #[test]
    fn a_restart_that_was_not_measured_is_missed() {
        let verdicts = Levels(vec![Level { restarts: Vec::new(), ..level(100, 10) }]).verdicts();
        let restart = verdicts.iter().find(|verdict| verdict.what.contains("restart")).unwrap();
        assert!(!restart.is_good(), "{restart}");
    }
}
