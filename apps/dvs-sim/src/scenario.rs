//! A scenario: the messages and faults of a run with their times, generated from the seed. Any subset of its steps is a
//! scenario too, so that a failing one can be shrunk.

use crate::random::Random;
use crate::world::faults::{Armed, Call, Fault};
use dvs_domain::failure::FailureCode;
use dvs_domain::job::{CreateRequest, DeleteRequest, Job, JobKind, JobRequest, Target};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::names::{JobId, SenderId, StoreName, VolumeName};
use dvs_domain::size::VolumeSize;
use dvs_domain::volume::FileSystem;

/// Mount points: siblings, nested ones, some that share a parent, a root itself.
const PATHS: [&str; 9] =
    ["/mnt/a", "/mnt/b", "/mnt/a/in", "/mnt/d/e", "/mnt/d/f", "/srv/x/y/z", "/srv/s", "/media", "/media/m"];
const NAMES: [&str; 3] = ["v", "w", "x"];
const SENDERS: [&str; 3] = ["ann", "bob", "cyd"];
/// Names of the stores, the default first.
pub(crate) const STORES: [&str; 2] = ["one", "two"];
/// Bounds of the time in which the steps happen, in milliseconds.
const SPAN_MILLISECONDS: (u64, u64) = (4_000, 60_000);
/// How far the wall clock is set: by years where it had no battery, by less where it ran wrong.
const CLOCK_STEPS_MILLISECONDS: [i64; 6] =
    [-100_000_000_000, -3_600_000, -15_000, 15_000, 3_600_000, 100_000_000_000];
/// The last kind of fault.
const KIND_MAX: u64 = 19;
/// Upper bounds of the usual delay of a call; each seed has one of them.
const DELAYS_MILLISECONDS: [u64; 5] = [0, 3, 20, 150, 900];

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    /// Upper bound of the usual delay of a call.
    pub(crate) delay_milliseconds: u64,
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
    /// The agent's process stands still.
    Paused {
        milliseconds: u64,
    },
    Arm(Armed),
}

impl Scenario {
    /// The scenario of `seed`.
    pub(crate) fn of(seed: u64) -> Self {
        let mut maker = Maker::new(seed);
        maker.jobs();
        maker.troubles();
        let Maker { mut random, messages, mut steps, .. } = maker;
        steps.sort_by_key(|step: &Step| step.at);
        Self {
            seed,
            delay_milliseconds: random.pick(&DELAYS_MILLISECONDS),
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

    fn troubles(&mut self) {
        let favourites: Vec<u64> =
            (0..self.random.between(1, 5)).map(|_| self.random.between(0, KIND_MAX)).collect();
        let count = if self.random.chance(6) { 0 } else { self.random.between(1, 14) };
        for _ in 0..count {
            let at = self.random.between(0, self.span);
            let kind = favourites[self.random.index(favourites.len())];
            self.trouble(kind, at);
        }
    }

    fn trouble(&mut self, kind: u64, at: u64) {
        let milliseconds = self.random.pick(&[50, 600, 2_000, 9_000, 26_000]);
        let end = at + milliseconds;
        let store = self.random.index(STORES.len());
        let there = path(self.paths[self.random.index(self.paths.len())]);
        match kind {
            0 | 1 => {
                self.armed_crash(at, kind == 1);
            }
            2 => {
                let (power, down_milliseconds) = (self.random.chance(30), milliseconds);
                self.step(at, What::Crash { power, down_milliseconds });
            }
            3 => self.step(at, What::Stop { down_milliseconds: milliseconds }),
            4 | 5 => self.armed_failure(at),
            6 => self.armed_hang(at),
            7 => {
                let name = self.random.index(4);
                let volume = self.random.chance(30).then(|| volume_name(self.random.pick(&NAMES)));
                let running = self.random.chance(50);
                self.step(at, What::ContainerMade { name, path: there, volume, running });
                self.step(end, What::ContainerGone { name });
            }
            8 => {
                self.step(at, What::FileOpened { path: there.clone() });
                self.step(end, What::FileClosed { path: there });
            }
            9 => {
                self.step(at, What::NamespaceMade { path: there.clone() });
                self.step(end, What::NamespaceGone { path: there });
            }
            10 => {
                let forgets = self.random.chance(40);
                self.step(at, What::BrokerAway { milliseconds, forgets });
            }
            11 => self.step(at, What::Reconnect),
            12 => self.step(at, What::EngineSilent { milliseconds }),
            13 => {
                let what = match self.random.between(0, 2) {
                    0 => What::StoreAway { store, milliseconds },
                    1 => What::StoreFull { store, milliseconds },
                    _ => What::VolumeDamaged { store, which: self.random.index(4) },
                };
                self.step(at, what);
            }
            14 => {
                let what = if self.random.chance(50) {
                    What::JournalFull { milliseconds }
                } else {
                    What::JournalBroken { milliseconds: milliseconds.min(2_000) }
                };
                self.step(at, what);
            }
            // A fault during the start that follows a crash.
            15 => {
                let power = self.random.chance(30);
                let down = self.armed_crash(at, power);
                let again = at + down + self.random.between(0, 400);
                match self.random.between(0, 2) {
                    0 => self.armed_failure(again),
                    1 => self.armed_hang(again),
                    _ => {
                        self.armed_crash(again, power);
                    }
                }
            }
            16 | 17 => {
                let milliseconds = self.random.pick(&CLOCK_STEPS_MILLISECONDS);
                self.step(at, What::ClockStepped { milliseconds });
            }
            18 => self.step(at, What::Paused { milliseconds }),
            KIND_MAX.. => {
                self.step(at, What::ForeignMounted { path: there.clone() });
                self.step(end, What::ForeignUnmounted { path: there });
            }
        }
    }

    /// Arms a crash. Returns the downtime after it, in milliseconds.
    fn armed_crash(&mut self, at: u64, power: bool) -> u64 {
        let down_milliseconds = self.random.pick(&[20, 400, 3_000, 15_000, 30_000]);
        self.arm(at, Fault::Crash { power, down_milliseconds });
        down_milliseconds
    }

    fn armed_failure(&mut self, at: u64) {
        let codes = [FailureCode::Internal, FailureCode::NoSpace, FailureCode::StoreUnavailable];
        let fault = if self.random.chance(20) { Fault::Panic } else { Fault::Fail(self.random.pick(&codes)) };
        self.arm(at, fault);
    }

    fn armed_hang(&mut self, at: u64) {
        let milliseconds = self.random.pick(&[700, 5_000, 19_000, 24_000, 45_000]);
        self.arm(at, Fault::Hang { milliseconds });
    }

    fn arm(&mut self, at: u64, fault: Fault) {
        let on = match self.random.between(0, 9) {
            0..=2 => None,
            3 | 4 => Some(self.random.pick(&Call::ALL)),
            _ => Some(self.random.pick(&Call::CHANGING)),
        };
        let most = if on.is_some() { 4 } else { 60 };
        let countdown = self.random.between(0, most);
        self.step(at, What::Arm(Armed { fault, on, countdown }));
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
