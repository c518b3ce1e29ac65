//! Start: every volume of this node that should be attached is attached, or its mount point is guarded and the
//! trouble reported. Waits for no broker and no container engine.

use super::Worker;
use dvs_domain::attachment::Attachment;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::JobKind;
use dvs_domain::ledger::{JobRecord, Phase};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::volume::Entry;
use futures::StreamExt;
use std::collections::BTreeMap;

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

/// The mount points of jobs that a restart has cut off, and what those jobs want.
#[must_use]
pub fn in_doubt<'a>(jobs: impl IntoIterator<Item = &'a JobRecord>) -> BTreeMap<MountPoint, JobKind> {
    jobs.into_iter()
        .filter(|record| record.phase == Phase::Accepted)
        .filter_map(|record| {
            Some((record.job.request.target().mount_point()?.clone(), record.job.request.kind()))
        })
        .collect()
}

impl Worker {
    /// Attaches what should be attached. What a cut-off job is about (`in_doubt`) is left to that job, except
    /// that a volume whose delete was not decided is attached until the job is decided afresh.
    pub async fn start(&self, in_doubt: &BTreeMap<MountPoint, JobKind>) -> Started {
        let attachments: Vec<Attachment> = self.node.book(|book| book.iter().cloned().collect());
        let mut results = futures::stream::iter(attachments)
            .map(|attachment| async move {
                let doubt = in_doubt.get(&attachment.mount_point).copied();
                self.start_one(&attachment, doubt).await
            })
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
    async fn start_one(&self, attachment: &Attachment, doubt: Option<JobKind>) -> Option<bool> {
        if doubt == Some(JobKind::Create) {
            return None;
        }
        let Err(failure) = self.attach_again(attachment).await else {
            self.node.note(&attachment.mount_point, None);
            return Some(true);
        };
        if doubt == Some(JobKind::Delete) && failure.code() == FailureCode::NotFound {
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
            match store.list().await {
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
    }
}
