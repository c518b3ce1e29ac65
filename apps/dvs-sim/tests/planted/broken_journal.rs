//! Journals that lose something.

use async_trait::async_trait;
use dvs_core::CoreParts;
use dvs_domain::failure::Failure;
use dvs_domain::ledger::{AnswerState, Change, Phase, Remembered};
use dvs_domain::ports::Journal;
use std::sync::Arc;

struct BrokenJournal {
    journal: Arc<dyn Journal>,
    /// What is written in the place of what is to be.
    writes: fn(&Change) -> Option<Change>,
}

pub(crate) fn broken(parts: CoreParts, writes: fn(&Change) -> Option<Change>) -> CoreParts {
    let journal = Arc::new(BrokenJournal { journal: parts.journal, writes });
    CoreParts { journal, ..parts }
}

#[async_trait]
impl Journal for BrokenJournal {
    async fn load(&self) -> Result<Remembered, Failure> {
        self.journal.load().await
    }

    async fn commit(&self, changes: &[Change]) -> Result<(), Failure> {
        let written: Vec<Change> = changes.iter().filter_map(self.writes).collect();
        self.journal.commit(&written).await
    }
}

pub(crate) fn forgets_accepted(change: &Change) -> Option<Change> {
    let is_accepted = matches!(change, Change::PutJob(record) if record.phase == Phase::Accepted);
    (!is_accepted).then(|| change.clone())
}

pub(crate) fn forgets_attachments(change: &Change) -> Option<Change> {
    (!matches!(change, Change::PutAttachment(_))).then(|| change.clone())
}

pub(crate) fn drops_ended(change: &Change) -> Option<Change> {
    match change {
        Change::PutJob(record) => match &record.phase {
            Phase::Finished(finished) if finished.answers == AnswerState::FinalUnacknowledged => {
                Some(Change::DropJob(record.key()))
            }
            _ => Some(change.clone()),
        },
        _ => Some(change.clone()),
    }
}

/// What was loaded does not say which volumes were changed.
pub(crate) fn lost_changes(mut parts: CoreParts) -> CoreParts {
    for record in &mut parts.remembered.jobs {
        if let Phase::Finished(finished) = &mut record.phase {
            finished.changed = false;
        }
    }
    parts
}
