//! Start: every volume of this node that should be attached is attached, or its mount point is guarded and the
//! trouble reported. Waits for no broker and no container engine.

use super::{Stores, Worker};
use dvs_domain::attachment::{Attachment, Holder};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::{JobKey, JobRequest, Target};
use dvs_domain::ledger::{JobRecord, Phase};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::names::StoreName;
use dvs_domain::volume::Entry;
use futures::StreamExt;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Volumes that are attached side by side.
const ATTACHING_AT_ONCE: usize = 8;

/// What a start came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Started {
    /// Volumes that are attached.
    pub attached: usize,
    /// Volumes that should be and are not.
    pub troubled: usize,
}

/// What jobs are about that a restart has cut off: done again, or undone, by those jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InDoubt {
    creates: BTreeSet<JobKey>,
    deletes: Vec<Target>,
}

impl InDoubt {
    /// What `jobs` are about, as far as a restart has cut them off.
    #[must_use]
    pub fn of<'a>(jobs: impl IntoIterator<Item = &'a JobRecord>) -> Self {
        let mut in_doubt = Self::default();
        for record in jobs {
            let cut_off = match &record.phase {
                Phase::Accepted => true,
                Phase::Finished(finished) => finished.owes_undo,
            };
            match &record.job.request {
                JobRequest::Create(_) if cut_off => {
                    in_doubt.creates.insert(record.key());
                }
                JobRequest::Delete(delete) if cut_off => {
                    in_doubt.deletes.push(delete.target.clone());
                }
                JobRequest::Create(_) | JobRequest::Delete(_) => {}
            }
        }
        in_doubt
    }

    /// Whether a create has meant this attachment that has not ended.
    #[must_use]
    pub fn is_being_made(&self, attachment: &Attachment) -> bool {
        attachment.holders.iter().any(|holder| match holder {
            Holder::Job(key) => self.creates.contains(key),
            Holder::Docker(_) => false,
        })
    }

    /// Whether a delete may have been decided of what is attached there.
    #[must_use]
    pub fn is_being_deleted(&self, attachment: &Attachment) -> bool {
        self.deletes.iter().any(|target| match target.mount_point() {
            Some(mount_point) => *mount_point == attachment.mount_point,
            None => target.given_name() == Some(&attachment.volume.name),
        })
    }
}

impl Worker {
    /// Attaches what should be attached. What a cut-off job is about (`in_doubt`) is left to that job, except
    /// that a volume whose delete was not decided is attached until the job is decided afresh.
    pub async fn start(&self, in_doubt: &InDoubt) -> Started {
        let attachments: Vec<Attachment> = self.node.book(|book| book.iter().cloned().collect());
        let mut results = futures::stream::iter(attachments)
            .map(|attachment| async move { self.start_one(&attachment, in_doubt).await })
            .buffer_unordered(ATTACHING_AT_ONCE);
        let mut started = Started::default();
        while let Some(attached) = results.next().await {
            match attached {
                Some(true) => started.attached += 1,
                Some(false) => started.troubled += 1,
                None => {}
            }
        }
        self.report_damaged().await;
        started
    }

    /// Whether the volume is attached; `None` when that is its job's business.
    async fn start_one(&self, attachment: &Attachment, in_doubt: &InDoubt) -> Option<bool> {
        if in_doubt.is_being_made(attachment) {
            return None;
        }
        let Err(failure) = self.attach_again(attachment).await else {
            self.node.note(&attachment.mount_point, None);
            return Some(true);
        };
        if in_doubt.is_being_deleted(attachment) && failure.code() == FailureCode::NotFound {
            return None; // Its delete was decided: the job clears away.
        }
        self.guard_and_note(attachment, failure).await;
        Some(false)
    }

    /// A volume that should be attached is not, because of `failure`.
    pub(in crate::core) async fn guard_and_note(&self, attachment: &Attachment, failure: Failure) -> Failure {
        let failure = match self.guard(&attachment.mount_point).await {
            Ok(()) => failure,
            Err(unguarded) => failure.undo_failed(unguarded.at_step("guard")),
        };
        self.node.note(&attachment.mount_point, Some(failure.report()));
        tracing::error!(
            volume = %attachment.volume, mount_point = %attachment.mount_point, code = %failure.code(),
            "not attached, and its mount point is guarded: {}", failure.chain()
        );
        failure
    }

    async fn guard(&self, mount_point: &MountPoint) -> Result<(), Failure> {
        let survey = self.attachments.survey(mount_point).await?;
        self.attachments.guard(mount_point, &survey.missing).await
    }

    /// What is broken and attached nowhere is told too.
    async fn report_damaged(&self) {
        for (name, store) in self.stores.iter() {
            let (name, stores) = (name.clone(), Arc::clone(&self.stores));
            let report = async move { report_damaged_of(&name, &stores).await };
            if store.shared().is_some() {
                tokio::spawn(report); // Being ready waits for no remote store.
            } else {
                report.await;
            }
        }
    }
}

async fn report_damaged_of(name: &StoreName, stores: &Stores) {
    match stores.list(name).await {
        Ok(entries) => {
            for entry in entries {
                if let Entry::Damaged { name: volume, reason } = entry {
                    tracing::error!(volume = %format!("{name}/{volume}"), "damaged: {reason}");
                }
            }
        }
        Err(failure) => tracing::error!(store = %name, code = %failure.code(), "{}", failure.chain()),
    }
}
