//! Checks of limits: every job ends in time, and queues are bounded.

use crate::promise::Promise;
use crate::scenario::{STORES, store_name};
use crate::world::{LIMITS, World};
use dvs_domain::job::JobKind;
use dvs_domain::ledger::{Finished, JobRecord, Phase};
use dvs_domain::volume::VolumeId;

/// How long after its deadline the end of a job may be recorded: a tick of the engine and what that waits for.
const SLACK_MILLISECONDS: u64 = 4_000;
/// How long after a store is back calls may still fail, in milliseconds: a call that waits, and the circuit breaker.
const AWAY_MILLISECONDS_MAX: u64 = 10_000;

impl World {
    pub(crate) fn check_limits(&mut self) {
        let accepted = self.disk.jobs.values().filter(|record| record.phase == Phase::Accepted).count();
        if LIMITS.queue + LIMITS.workers < accepted {
            self.violate(Promise::BoundedQueue, format_args!("{accepted} jobs are accepted and not ended"));
        }
        let Some(since) = self.life.working_since.filter(|_| !self.life.is_stopping) else { return };
        let now = self.now();
        let slack = SLACK_MILLISECONDS + 4 * self.scenario.delay_milliseconds;
        let trouble = self.faults.journal_trouble_at.max(self.life.resumed_at).map_or(0, |at| at + slack);
        if now < trouble {
            return; // No end could be recorded.
        }
        // Jobs from before a restart are undone first, a few at a time.
        let undoing = LIMITS.undo_milliseconds * (LIMITS.queue / LIMITS.workers + 2) as u64;
        let late = self.disk.jobs.values().find(|record| {
            let Some(accepted) = self.history.accepted.get(&record.key()) else { return false };
            let due = self.clock.measured_from(*accepted) + LIMITS.job_milliseconds;
            let from_before = accepted.true_time < since;
            let limit = if from_before { due.max(since) + undoing } else { due };
            record.phase == Phase::Accepted && limit.max(trouble) + slack < now
        });
        if let Some(key) = late.map(|record| record.key()) {
            self.violate(Promise::AnsweredInTime, format_args!("{key} is overdue and has no end"));
        }
    }

    /// Also after a pause of the process, in which the job's time has run out. A delete that a restart has cut off after its
    /// decision is done whenever that is.
    pub(super) fn check_done_in_time(&mut self, record: &JobRecord, finished: &Finished) {
        let took = finished.at.milliseconds_since(record.received);
        let accepted = self.history.accepted.get(&record.key()).map(|accepted| accepted.true_time);
        let is_of_this_life = accepted.is_some_and(|accepted| self.life.working_since <= Some(accepted));
        let may_be_late = record.job.request.kind() == JobKind::Delete && !is_of_this_life;
        // After a reboot its time limit is that of the clocks at the start.
        let is_measurable = finished.at.boot == record.received.boot;
        if is_measurable && !may_be_late && LIMITS.job_milliseconds <= took {
            let what = format!("{} is answered DONE {took} ms after it arrived", record.key());
            self.violate(Promise::AnsweredInTime, what);
        }
    }

    /// A job has failed with `store-unavailable`: some store that it is about was away.
    pub(crate) fn check_unavailable(&mut self, record: &JobRecord) {
        let Some(accepted) = self.history.accepted.get(&record.key()).map(|accepted| accepted.true_time)
        else {
            return;
        };
        let since = accepted.saturating_sub(AWAY_MILLISECONDS_MAX);
        let was_away = (0..STORES.len())
            .any(|store| since <= self.history.away_until[store] && self.concerns(record, STORES[store]));
        if !was_away && self.history.unavailable_until < since {
            let what = format!("{} fails, and no store that it is about was away", record.key());
            self.violate(Promise::OtherStoresWork, what);
        }
    }

    /// Whether a job can be about a volume of this store.
    fn concerns(&self, record: &JobRecord, store: &str) -> bool {
        let target = record.job.request.target();
        if let Some(named) = &target.store {
            return named.as_str() == store;
        }
        let id = VolumeId { store: store_name(store), name: target.name() };
        let attached = target.mount_point().and_then(|there| self.disk.attachments.get(there));
        record.job.request.kind() == JobKind::Delete
            || store == STORES[0]
            || self.history.made.contains(&id)
            || attached.is_some_and(|attached| attached.volume.store == id.store)
    }
}
