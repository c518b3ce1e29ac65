//! The course of a run: troubles; then everything heals, and all must become quiet and true; a restart changes
//! nothing; then everything is deleted, and nothing must be left.

use crate::checks::Stage;
use crate::promise::Promise;
use crate::scenario::{Body, Planned, Scenario, job, path};
use crate::world::life::Cut;
use crate::world::{LIMITS, World};
use dvs_domain::job::{CreateRequest, DeleteRequest, JobKey, JobRequest, Target};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::size::VolumeSize;

/// How long after the last trouble everything heals, in milliseconds.
const HEALS_AFTER_MILLISECONDS: u64 = 500;
/// How long it may take until all is quiet, in milliseconds: the longest hang, and everything behind it.
const QUIET_MILLISECONDS_MAX: u64 = 240_000;
/// How long the sender of the last jobs waits before it asks again, in milliseconds.
const PATIENCE_MILLISECONDS: u64 = 4_000;
/// How long the agent is down at the very end, in milliseconds: after that it may forget what has ended.
const AGE_MILLISECONDS: u64 = 2 * LIMITS.remembered_milliseconds;
/// A mount point that no scenario uses.
const FRESH: &str = "/mnt/fresh/volume";

/// See the module.
pub(crate) struct Plot {
    chapter: Chapter,
    since: u64,
    ends_with_reboot: bool,
    /// The jobs of this chapter, which must all be done.
    jobs: Vec<JobKey>,
    jobs_so_far: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chapter {
    Troubles {
        until: u64,
    },
    Healing,
    Restarted,
    /// Deletes everything, as often as it takes: first what is attached, then what is left.
    Clearing,
    /// The same works afterwards.
    MakingAnew,
    DeletingAnew,
    /// Long after.
    Aged,
    Over,
}

impl Plot {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let last = scenario.steps.iter().map(|step| step.at).max().unwrap_or(0);
        Self {
            chapter: Chapter::Troubles { until: last + HEALS_AFTER_MILLISECONDS },
            since: 0,
            ends_with_reboot: scenario.ends_with_reboot,
            jobs: Vec::new(),
            jobs_so_far: 0,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.chapter == Chapter::Over
    }

    /// Goes on if it is time for that.
    pub(crate) fn look(&mut self, world: &mut World) {
        if let Chapter::Troubles { until } = self.chapter {
            if until <= world.now() {
                world.heal();
                self.enter(world, Chapter::Healing);
            }
            return;
        }
        match world.unrest() {
            None => self.turn_page(world),
            Some(unrest) if self.quiet_by() < world.now() => {
                world.violate(Promise::AllAcknowledgedJobsAnswered, format_args!("no quiet: {unrest}"));
            }
            Some(_) => {}
        }
    }

    fn quiet_by(&self) -> u64 {
        let age = if self.chapter == Chapter::Aged { AGE_MILLISECONDS } else { 0 };
        self.since + age + QUIET_MILLISECONDS_MAX
    }

    fn turn_page(&mut self, world: &mut World) {
        world.check_all_done(&self.jobs);
        match self.chapter {
            Chapter::Troubles { .. } | Chapter::Over => {}
            Chapter::Healing => {
                world.check_settled(Stage::Healed);
                world.cut(Cut { power: self.ends_with_reboot, down_milliseconds: 500 }, "the end");
                self.enter(world, Chapter::Restarted);
            }
            Chapter::Restarted => {
                world.check_settled(Stage::Restarted);
                self.enter(world, Chapter::Clearing);
                self.clear(world);
            }
            Chapter::Clearing => {
                self.enter(world, Chapter::Clearing);
                if !self.clear(world) {
                    world.check_empty();
                    self.enter(world, Chapter::MakingAnew);
                    let size = VolumeSize::from_mebibytes(8).expect("a small size");
                    self.publish(world, JobRequest::Create(CreateRequest::at(path(FRESH), size)));
                }
            }
            Chapter::MakingAnew => {
                self.enter(world, Chapter::DeletingAnew);
                self.delete_at(world, path(FRESH));
            }
            Chapter::DeletingAnew => {
                world.check_empty();
                world.cut(Cut { power: false, down_milliseconds: AGE_MILLISECONDS }, "the very end");
                self.enter(world, Chapter::Aged);
            }
            Chapter::Aged if self.since + AGE_MILLISECONDS + 2_000 < world.now() => {
                world.check_forgetting();
                self.enter(world, Chapter::Over);
            }
            Chapter::Aged => {}
        }
    }

    fn enter(&mut self, world: &World, chapter: Chapter) {
        self.chapter = chapter;
        self.since = world.now();
        self.jobs.clear();
    }

    /// Sends deletes for what is there; false when nothing is.
    fn clear(&mut self, world: &mut World) -> bool {
        let (attached, volumes) = world.what_is_there();
        for id in &volumes {
            let target = Target::new(Some(id.store.clone()), Some(id.name.clone()), None);
            let target = target.expect("there is a name");
            self.publish(world, JobRequest::Delete(DeleteRequest { target }));
        }
        let any = !attached.is_empty() || !volumes.is_empty();
        attached.into_iter().for_each(|there| self.delete_at(world, there));
        any
    }

    fn delete_at(&mut self, world: &mut World, there: MountPoint) {
        let target = Target::new(None, None, Some(there)).expect("there is a path");
        self.publish(world, JobRequest::Delete(DeleteRequest { target }));
    }

    fn publish(&mut self, world: &mut World, request: JobRequest) {
        self.jobs_so_far += 1;
        let job = job("end", &self.jobs_so_far.to_string(), request);
        self.jobs.push(job.key());
        let patience_milliseconds = Some(PATIENCE_MILLISECONDS);
        let planned = Planned { body: Body::Job(Box::new(job)), patience_milliseconds };
        let message = world.plan(&planned);
        world.publish(message);
    }
}
