//! What a restart does with what the disk says: see the table in the ledger's documentation.

use super::admission::answer_to;
use super::lane::Lane;
use super::{AnswerId, AnswerState, Effect, Known, Ledger, Limits, Phase};
use crate::names::StoreName;
use crate::ports::Remembered;
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

impl Ledger {
    /// The ledger as of `remembered`, and what to do first. `default_store` is the store of create jobs that
    /// name none.
    #[must_use]
    pub fn restore(
        limits: Limits,
        default_store: StoreName,
        remembered: Remembered,
        now: Timestamp,
    ) -> (Self, Vec<Effect>) {
        let mut ledger = Self {
            limits,
            default_store,
            jobs: BTreeMap::new(),
            by_age: VecDeque::new(),
            waiting: VecDeque::new(),
            running: BTreeMap::new(),
            stuck: BTreeMap::new(),
            started: now,
            refusals: BTreeSet::new(),
            attached: BTreeMap::new(),
            last_change: BTreeMap::new(),
            next_number: 0,
            next_order: 0,
            next_refusal: 0,
        };
        let attached = remembered.attachments.into_iter().map(|found| (found.mount_point, found.volume));
        ledger.attached.extend(attached);
        let mut effects = Vec::new();
        for (number, refusal) in remembered.refusals {
            ledger.next_refusal = ledger.next_refusal.max(number.0 + 1);
            ledger.refusals.insert(number);
            effects
                .extend(answer_to(&refusal).map(|answer| Effect::Answer(AnswerId::Refusal(number), answer)));
        }
        let mut records = remembered.jobs;
        records.sort_by_key(|record| record.number);
        for record in records {
            ledger.next_number = ledger.next_number.max(record.number + 1);
            effects.extend(ledger.readmit(record));
        }
        effects.extend(ledger.schedule(now));
        (ledger, effects)
    }

    fn readmit(&mut self, record: super::JobRecord) -> Option<Effect> {
        let key = record.key();
        let pending = Effect::Answer(AnswerId::Pending(key.clone()), record.pending_answer());
        let (effect, pending_acknowledged) = match &record.phase {
            Phase::Accepted => {
                self.waiting.push_back(key.clone());
                (Some(pending), false)
            }
            Phase::Finished(finished) => {
                self.next_order = self.next_order.max(finished.order + 1);
                if finished.owes_undo {
                    self.waiting.push_back(key.clone());
                }
                match finished.answers {
                    AnswerState::PendingUnacknowledged => (Some(pending), false),
                    AnswerState::FinalUnacknowledged => {
                        let answer = record.final_answer(&finished.outcome);
                        (Some(Effect::Answer(AnswerId::Final(key.clone()), answer)), true)
                    }
                    AnswerState::Acknowledged => (None, true),
                }
            }
        };
        let may_have_run = match &record.phase {
            Phase::Accepted => true,
            Phase::Finished(finished) => finished.owes_undo,
        };
        let mut lane = Lane::default(); // Of what is finished it is never looked at.
        if may_have_run {
            lane = Lane::of(&record.decided(&self.default_store), &self.default_store, &self.attached);
            for earlier in self.waiting.iter().filter_map(|key| self.jobs.get(key)).map(|known| &known.lane) {
                if earlier.names_same(&lane) {
                    lane.absorb(earlier);
                }
            }
        }
        let change = match &record.phase {
            Phase::Finished(finished) if finished.changed => Some((finished.volume.clone(), finished.order)),
            _ => None,
        };
        self.jobs.insert(
            key.clone(),
            Known { record, lane, pending_acknowledged, may_have_run, abandon_at: None, undo_at: None },
        );
        if let Some((volume, order)) = change {
            for subject in self.subjects(&key, volume.as_ref()) {
                let last = self.last_change.entry(subject).or_insert(order);
                *last = order.max(*last);
            }
        }
        self.by_age.push_back(key);
        effect
    }
}
