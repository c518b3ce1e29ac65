//! What a restart does with what the disk says: see the table in the ledger's documentation.

use super::admission::answer_to;
use super::lane::{Lane, Lanes};
use super::{AnswerId, AnswerState, Effect, JobRecord, Ledger, Limits, Phase, Remembered};
use crate::attachment::AttachmentTable;
use crate::names::StoreName;
use crate::time::Moment;
use std::collections::{BTreeMap, BTreeSet};

impl Ledger {
    /// The ledger as of `remembered`, and what to do first. `default_store` is the store of create jobs that
    /// name none.
    #[must_use]
    pub fn restore(
        limits: Limits,
        default_store: StoreName,
        remembered: Remembered,
        now: Moment,
    ) -> (Self, Vec<Effect>) {
        let mut ledger = Self {
            limits,
            default_store,
            jobs: BTreeMap::new(),
            numbers: BTreeMap::new(),
            ended: BTreeMap::new(),
            lanes: Lanes::default(),
            waiting: BTreeSet::new(),
            to_undo: BTreeSet::new(),
            ready: BTreeSet::new(),
            running: BTreeSet::new(),
            hanging: BTreeSet::new(),
            started: now.uptime,
            refusals: BTreeSet::new(),
            last_change: BTreeMap::new(),
            next_number: 0,
            next_order: 0,
            next_refusal: 0,
        };
        let mut effects = Vec::new();
        for (number, refusal) in remembered.refusals {
            ledger.next_refusal = ledger.next_refusal.max(number.0 + 1);
            ledger.refusals.insert(number);
            effects
                .extend(answer_to(&refusal).map(|answer| Effect::Answer(AnswerId::Refusal(number), answer)));
        }
        let attached = AttachmentTable::from_iter(remembered.attachments);
        let mut records = remembered.jobs;
        records.sort_by_key(|record| record.number);
        for record in records {
            effects.extend(ledger.readmit(record, &attached, now));
        }
        effects.extend(ledger.schedule(now));
        (ledger, effects)
    }

    fn readmit(&mut self, record: JobRecord, attached: &AttachmentTable, now: Moment) -> Option<Effect> {
        let key = record.key();
        let effect = match &record.phase {
            Phase::Finished(finished) if finished.answers == AnswerState::FinalUnacknowledged => {
                Some(Effect::Answer(AnswerId::Final(key), record.final_answer(&finished.outcome)))
            }
            Phase::Finished(finished) if finished.answers == AnswerState::Acknowledged => None,
            Phase::Accepted | Phase::Finished(_) => {
                Some(Effect::Answer(AnswerId::Pending(key), record.pending_answer()))
            }
        };
        let decided = record.decided(&self.default_store);
        let is_unresolved = record.is_unresolved();
        let finished = match &record.phase {
            Phase::Accepted => None,
            Phase::Finished(finished) => Some((finished.changed, finished.volume.clone(), finished.order)),
        };
        let number = self.remember(record, is_unresolved, now);
        if is_unresolved {
            let mut lane = Lane::of(&decided, &self.default_store, attached);
            self.lanes.absorb_into(&mut lane);
            self.lanes.insert(number, lane);
            if finished.is_none() {
                self.waiting.insert(number)
            } else {
                self.to_undo.insert(number)
            };
            self.queue(number);
        }
        if let Some((changed, volume, order)) = finished {
            self.next_order = self.next_order.max(order + 1);
            self.ended.insert(order, number);
            if changed {
                self.note_change(number, volume.as_ref(), order);
            }
        }
        effect
    }
}
