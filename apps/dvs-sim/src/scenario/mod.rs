//! A scenario: the messages and faults of a run with their times, generated from the seed. Any subset of its steps is a
//! scenario too, so that a failing one can be shrunk.

mod faults;
mod flood;

use crate::random::Random;
use crate::world::faults::Armed;
use dvs_domain::job::{CreateRequest, DeleteRequest, Job, JobKind, JobRequest, Target};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::names::{JobId, SenderId, StoreName, VolumeName};
use dvs_domain::size::VolumeSize;
use dvs_domain::volume::{FileSystem, VolumeId};

/// Mount points: siblings, nested ones, some that share a parent, a root itself.
const PATHS: [&str; 9] =
    ["/mnt/a", "/mnt/b", "/mnt/a/in", "/mnt/d/e", "/mnt/d/f", "/srv/x/y/z", "/srv/s", "/media", "/media/m"];
const NAMES: [&str; 3] = ["v", "w", "x"];
const SENDERS: [&str; 3] = ["ann", "bob", "cyd"];
/// Names of the stores, the default first.
pub(crate) const STORES: [&str; 2] = ["one", "two"];

/// Whether other nodes can reach the volume: that is so in the second store.
pub(crate) fn is_shared(volume: &VolumeId) -> bool {
    volume.store.as_str() == STORES[1]
}

/// Bounds of the time in which the steps happen, in milliseconds.
const SPAN_MILLISECONDS: (u64, u64) = (4_000, 60_000);
/// How many of 100 seeds are a flood of jobs.
const FLOOD_PERCENT: u64 = 1;
/// Upper bounds of the usual delay of a call; each seed has one of them.
const DELAYS_MILLISECONDS: [u64; 5] = [0, 3, 20, 150, 900];

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    /// Upper bound of the usual delay of a call.
    pub(crate) delay_milliseconds: u64,
    /// Lower bound of the time that a commit takes.
    pub(crate) commit_milliseconds: u64,
    /// Random faults at any point, beside the faults of the steps.
    pub(crate) rates: Rates,
    /// Number of doors that hand in messages.
    pub(crate) doors: usize,
    pub(crate) messages: Vec<Planned>,
    pub(crate) steps: Vec<Step>,
    /// Whether the final restart is a reboot.
    pub(crate) ends_with_reboot: bool,
}

/// Probabilities per point, in 1/10,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rates {
    pub(crate) failures: u64,
    pub(crate) hangs: u64,
    pub(crate) crashes: u64,
}

/// A message that a sender will publish.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) body: Body,
    /// How long its sender waits for an answer before it publishes again; `None`: never again.
    pub(crate) patience_milliseconds: Option<u64>,
}

impl Planned {
    fn kind(&self) -> Option<JobKind> {
        match &self.body {
            Body::Job(job) => Some(job.request.kind()),
            Body::Noise { .. } => None,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Job(Box<Job>),
    /// Not a valid job.
    Noise {
        topic: &'static str,
        payload: String,
        retained: bool,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) at: u64,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Publish {
        message: usize,
    },
    /// A container that refers to a path, and maybe to a volume.
    ContainerMade {
        name: usize,
        path: MountPoint,
        volume: Option<VolumeName>,
        running: bool,
    },
    ContainerGone {
        name: usize,
    },
    /// A process opens a file in the volume mounted there.
    FileOpened {
        path: MountPoint,
    },
    FileClosed {
        path: MountPoint,
    },
    /// Another mount namespace copies what is mounted there.
    NamespaceMade {
        path: MountPoint,
    },
    NamespaceGone {
        path: MountPoint,
    },
    ForeignMounted {
        path: MountPoint,
    },
    ForeignUnmounted {
        path: MountPoint,
    },
    BrokerAway {
        milliseconds: u64,
        forgets: bool,
    },
    Reconnect,
    EngineSilent {
        milliseconds: u64,
    },
    StoreAway {
        store: usize,
        milliseconds: u64,
    },
    StoreFull {
        store: usize,
        milliseconds: u64,
    },
    VolumeDamaged {
        store: usize,
        which: usize,
    },
    JournalFull {
        milliseconds: u64,
    },
    JournalBroken {
        milliseconds: u64,
    },
    Crash {
        power: bool,
        down_milliseconds: u64,
    },
    Stop {
        down_milliseconds: u64,
    },
    /// The wall clock is set, by less than nothing backward.
    ClockStepped {
        milliseconds: i64,
    },
    /// The agent's process is paused.
    Paused {
        milliseconds: u64,
    },
    Arm(Armed),
}

impl Scenario {
    /// The scenario of `seed`.
    pub(crate) fn of(seed: u64) -> Self {
        let mut maker = Maker::new(seed);
        if maker.random.chance(FLOOD_PERCENT) {
            return maker.flood(seed);
        }
        maker.jobs();
        maker.faults();
        let Maker { mut random, messages, mut steps, .. } = maker;
        steps.sort_by_key(|step: &Step| step.at);
        Self {
            seed,
            delay_milliseconds: random.pick(&DELAYS_MILLISECONDS),
            commit_milliseconds: 0,
            rates: Rates {
                failures: random.pick(&[0, 0, 0, 20, 100, 400]),
                hangs: random.pick(&[0, 0, 0, 0, 20, 100]),
                crashes: random.pick(&[0, 0, 0, 0, 10, 40]),
            },
            doors: if random.chance(70) { 1 } else { 3 },
            messages,
            steps,
            ends_with_reboot: random.chance(50),
        }
    }
}

/// Generates a scenario. Each seed favours some kinds of faults, so that seeds differ in kind (swarm testing).
struct Maker {
    random: Random,
    span: u64,
    paths: Vec<&'static str>,
    /// Whether a create and a delete may share an id, as in the specification's examples.
    shares_ids: bool,
    messages: Vec<Planned>,
    steps: Vec<Step>,
}

impl Maker {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let span = random.between(SPAN_MILLISECONDS.0, SPAN_MILLISECONDS.1);
        let count = random.between(1, 4);
        let paths = (0..count).map(|_| random.pick(&PATHS)).collect();
        let shares_ids = random.chance(15);
        Self { random, span, paths, shares_ids, messages: Vec::new(), steps: Vec::new() }
    }

    fn jobs(&mut self) {
        let count = self.random.pick(&[3, 6, 12, 24, 40]);
        let at_once = self.random.chance(20);
        let mut at = 0;
        for number in 0..count {
            at = if at_once { self.random.between(0, 300) } else { self.random.between(0, self.span) };
            let what = self.message(number);
            self.step(at, what);
        }
        // A sender repeats a job long after.
        if self.random.chance(40) && !self.messages.is_empty() {
            let message = self.random.index(self.messages.len());
            let later = at + self.random.between(1, self.span);
            self.step(later, What::Publish { message });
        }
    }

    fn message(&mut self, number: u64) -> What {
        let roll = self.random.between(0, 99);
        if roll < 8 && !self.messages.is_empty() {
            return What::Publish { message: self.random.index(self.messages.len()) };
        }
        let body = match roll {
            8..=10 => self.noise(number),
            11..=14 => self.other_content().unwrap_or_else(|| self.job(number)),
            _ => self.job(number),
        };
        let patience = self.random.chance(75).then(|| self.random.between(1_500, 9_000));
        self.messages.push(Planned { body, patience_milliseconds: patience });
        What::Publish { message: self.messages.len() - 1 }
    }

    fn job(&mut self, number: u64) -> Body {
        let kind = if self.random.chance(60) { JobKind::Create } else { JobKind::Delete };
        let sender = self.random.pick(&SENDERS);
        let target = self.target();
        let request = match kind {
            JobKind::Create => JobRequest::Create(self.create(target)),
            JobKind::Delete => JobRequest::Delete(DeleteRequest { target }),
        };
        let id = match (self.shares_ids, kind) {
            (true, _) => {
                self.messages.iter().filter(|earlier| earlier.kind() == Some(kind)).count().to_string()
            }
            (false, JobKind::Create) => format!("c{number}"),
            (false, JobKind::Delete) => format!("d{number}"),
        };
        Body::Job(Box::new(job(sender, &id, request)))
    }

    fn target(&mut self) -> Target {
        let mount_point =
            (!self.random.chance(15)).then(|| path(self.paths[self.random.index(self.paths.len())]));
        let named = mount_point.is_none() || self.random.chance(20);
        let name = named.then(|| volume_name(self.random.pick(&NAMES)));
        let store = self.random.chance(20).then(|| store_name(self.random.pick(&STORES)));
        Target::new(store, name, mount_point).expect("there is a name or a path")
    }

    fn create(&mut self, target: Target) -> CreateRequest {
        let size = VolumeSize::from_mebibytes(self.random.pick(&[8, 8, 8, 16])).expect("a small size");
        let file_system = self.random.chance(5).then_some(FileSystem::Ext2);
        CreateRequest { target, file_system, ..CreateRequest::at(path(PATHS[0]), size) }
    }

    /// A job with the id of an earlier one and other content.
    fn other_content(&mut self) -> Option<Body> {
        let which = self.random.index(self.messages.len());
        let Body::Job(earlier) = self.messages.get(which)?.body.clone() else { return None };
        let target = self.target();
        let request = match earlier.request.kind() {
            JobKind::Create => JobRequest::Create(self.create(target)),
            JobKind::Delete => JobRequest::Delete(DeleteRequest { target }),
        };
        Some(Body::Job(Box::new(Job { request, ..*earlier })))
    }

    fn noise(&mut self, number: u64) -> Body {
        let (topic, payload, retained) = match self.random.between(0, 4) {
            0 => ("docker/node/volumes/create", "{job:1,sipId:ann}".to_owned(), false),
            1 => ("docker/node/volumes", format!(r#"{{"job":"n{number}","sipId":"ann"}}"#), false),
            2 => (
                "docker/node/volumes/create",
                format!(r#"{{"job":"n{number}","sipId":"bob","mountPount":"/etc","volumeSize":"8"}}"#),
                false,
            ),
            3 => (
                "docker/node/volumes/delete",
                format!(r#"{{"job":"n{number}","mountPount":"/mnt/a"}}"#),
                false,
            ),
            _ => (
                "docker/node/volumes/delete",
                format!(r#"{{"job":"n{number}","sipId":"cyd","mountPount":"/mnt/a"}}"#),
                true,
            ),
        };
        Body::Noise { topic, payload, retained }
    }

    fn step(&mut self, at: u64, what: What) {
        self.steps.push(Step { at, what });
    }
}

pub(crate) fn job(sender: &str, id: &str, request: JobRequest) -> Job {
    let sender = SenderId::new(sender).expect("a plain word is a sender");
    Job { sender, id: JobId::new(id).expect("a plain word is an id"), request }
}

pub(crate) fn path(text: &str) -> MountPoint {
    MountPoint::new(text).expect("a normal path")
}

pub(crate) fn store_name(text: &str) -> StoreName {
    StoreName::new(text).expect("a plain name")
}

fn volume_name(text: &str) -> VolumeName {
    VolumeName::new(text).expect("a plain name")
}
