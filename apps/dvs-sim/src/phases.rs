//! The phases of a run: faults; then all faults end, all work must end and every promise hold; a restart changes nothing;
//! then everything is deleted, and nothing may be left.

use crate::checks::Stage;
use crate::promise::Promise;
use crate::scenario::{Body, Planned, Scenario, job, path};
use crate::world::life::Cut;
use crate::world::{LIMITS, World};
use dvs_domain::job::{CreateRequest, DeleteRequest, JobKey, JobRequest, Target};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::size::VolumeSize;

/// Time from the last step until all faults end, in milliseconds.
const HEALS_AFTER_MILLISECONDS: u64 = 500;
/// Upper bound of the time until no work is left, in milliseconds: the longest hang, and everything behind it.
const QUIET_MILLISECONDS_MAX: u64 = 240_000;
/// How long the sender of the last jobs waits before it publishes again, in milliseconds.
const PATIENCE_MILLISECONDS: u64 = 4_000;
/// How long the agent is down in the end, in milliseconds: after that it may forget ended jobs.
const AGE_MILLISECONDS: u64 = 2 * LIMITS.remembered_milliseconds;
/// A mount point that no scenario uses.
const FRESH: &str = "/mnt/fresh/volume";

pub(crate) struct Phases {
    phase: RunPhase,
    since: u64,
    ends_with_reboot: bool,
    /// The jobs of this phase, which must all be done.
    jobs: Vec<JobKey>,
    jobs_so_far: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RunPhase {
    Faults {
        until: u64,
    },
    Healing,
    Restarted,
    /// Deletes what is attached, then what is left, until nothing is.
    Clearing,
    /// Creating and deleting work afterwards.
    CreatingAgain,
    DeletingAgain,
    /// Long after, when old jobs are forgotten.
    Aged,
    Over,
}

impl Phases {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let last = scenario.steps.iter().map(|step| step.at).max().unwrap_or(0);
        Self {
            phase: RunPhase::Faults { until: last + HEALS_AFTER_MILLISECONDS },
            since: 0,
            ends_with_reboot: scenario.ends_with_reboot,
            jobs: Vec::new(),
            jobs_so_far: 0,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.phase == RunPhase::Over
    }

    /// Enters the next phase if it is time for that.
    pub(crate) fn poll(&mut self, world: &mut World) {
        if let RunPhase::Faults { until } = self.phase {
            if until <= world.now() {
                world.heal();
                self.enter(world, RunPhase::Healing);
            }
            return;
        }
        match world.pending_work() {
            None => self.advance(world),
            Some(pending_work) if self.quiet_by() < world.now() => {
                world.violate(Promise::AllAcknowledgedJobsAnswered, format_args!("no quiet: {pending_work}"));
            }
            Some(_) => {}
        }
    }

    fn quiet_by(&self) -> u64 {
        let age = if self.phase == RunPhase::Aged { AGE_MILLISECONDS } else { 0 };
        self.since + age + QUIET_MILLISECONDS_MAX
    }

    fn advance(&mut self, world: &mut World) {
        world.check_all_done(&self.jobs);
        match self.phase {
            RunPhase::Faults { .. } | RunPhase::Over => {}
            RunPhase::Healing => {
                world.check_quiesced(Stage::Healed);
                world.cut(Cut { power: self.ends_with_reboot, down_milliseconds: 500 }, "the end");
                self.enter(world, RunPhase::Restarted);
            }
            RunPhase::Restarted => {
                world.check_quiesced(Stage::Restarted);
                self.enter(world, RunPhase::Clearing);
                self.clear(world);
            }
            RunPhase::Clearing => {
                self.enter(world, RunPhase::Clearing);
                if !self.clear(world) {
                    world.check_empty();
                    self.enter(world, RunPhase::CreatingAgain);
                    let size = VolumeSize::from_mebibytes(8).expect("a small size");
                    self.publish(world, JobRequest::Create(CreateRequest::at(path(FRESH), size)));
                }
            }
            RunPhase::CreatingAgain => {
                self.enter(world, RunPhase::DeletingAgain);
                self.delete_at(world, path(FRESH));
            }
            RunPhase::DeletingAgain => {
                world.check_empty();
                world.cut(Cut { power: false, down_milliseconds: AGE_MILLISECONDS }, "the very end");
                self.enter(world, RunPhase::Aged);
            }
            RunPhase::Aged if self.since + AGE_MILLISECONDS + 2_000 < world.now() => {
                world.check_forgetting();
                self.enter(world, RunPhase::Over);
            }
            RunPhase::Aged => {}
        }
    }

    fn enter(&mut self, world: &World, phase: RunPhase) {
        self.phase = phase;
        self.since = world.now();
        self.jobs.clear();
    }

    /// Publishes deletes for what is there; false when nothing is.
    fn clear(&mut self, world: &mut World) -> bool {
        let (attached, volumes) = world.remaining();
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
