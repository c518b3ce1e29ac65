//! Start: every volume of this node that should be attached is attached, or its mount point is guarded and the
//! trouble reported. Waits for no broker and no container engine.

use super::work::report;
use super::{StoreRegistry, Worker};
use dvs_domain::attachment::Attachment;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::names::StoreName;
use dvs_domain::ports::{Mounted, Source, Survey};
use dvs_domain::recovery::{CutOff, Rule, Situation, UnresolvedJobs, VolumeHealth, rule};
use dvs_domain::volume::Entry;
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;

/// Volumes that are attached side by side: mostly they wait for a disk, or share what a store finds out for all.
const ATTACHING_AT_ONCE: usize = 32;

/// How long each of the two steps may take by which a volume is attached: longer than a store's own limit for
/// checking a large file system, and only so that nothing hangs for ever.
const STEP_SECONDS_MAX: u64 = 7 * 60 * 60;

/// What a start came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Started {
    /// Volumes that are attached.
    pub attached: usize,
    /// Volumes that should be and are not.
    pub troubled: usize,
}

impl Worker {
    /// Attaches what should be attached. What a cut-off job is about (`unresolved`) is left to that job, except
    /// that a volume whose delete was not decided is attached until the job is decided afresh.
    pub(crate) async fn reattach(&self, unresolved: &UnresolvedJobs) -> Started {
        let attachments: Vec<Attachment> = self.attachments.book(|book| book.iter().cloned().collect());
        let mut results = futures::stream::iter(attachments)
            .map(|attachment| async move { self.start_one(&attachment, unresolved).await })
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

    /// Whether the volume is attached; `None` when it need not be, or that is its job's business.
    async fn start_one(&self, attachment: &Attachment, unresolved: &UnresolvedJobs) -> Option<bool> {
        let cut_off = unresolved.about(attachment);
        let source = match cut_off {
            CutOff::Create => None,
            CutOff::Nothing | CutOff::Delete => Some(self.source_of(attachment).await),
        };
        let standing =
            |source: &Result<Source, Failure>| VolumeHealth::of(source.as_ref().err().map(Failure::code));
        let is_void = self.is_void(attachment).await;
        let situation = Situation { cut_off, volume: source.as_ref().map(standing), is_void };
        let shown = match (rule(situation), source) {
            (Rule::LeaveToJob, _) | (_, None) => return None,
            (Rule::Forget, _) => {
                report(self.clear_away(attachment).await);
                return None;
            }
            (Rule::Attach, Some(Ok(source))) => self.show_at_start(&source, attachment).await,
            (Rule::Attach | Rule::Guard, Some(source)) => source.map(drop),
        };
        match shown {
            Ok(()) => self.attachments.note(&attachment.mount_point, None),
            Err(failure) => {
                self.guard_and_note(attachment, failure).await;
                return Some(false);
            }
        }
        Some(true)
    }

    /// Includes checking the file system where that is due.
    async fn source_of(&self, attachment: &Attachment) -> Result<Source, Failure> {
        let id = &attachment.volume;
        in_time(async { self.stores.get(&id.store)?.source(&id.name).await }).await
    }

    async fn show_at_start(&self, source: &Source, attachment: &Attachment) -> Result<(), Failure> {
        in_time(async {
            let survey = self.mounter.survey(&attachment.mount_point).await?;
            self.mounter.attach(source, &attachment.mount_point, &survey.missing).await
        })
        .await
    }

    /// Whether only ids of Docker hold it, which were void with the reboot that has unmounted it.
    async fn is_void(&self, attachment: &Attachment) -> bool {
        let is_mounted = |survey: Survey| matches!(survey.mounted, Some(Mounted::Something(_)));
        attachment.is_held_by_docker_only()
            && self.mounter.survey(&attachment.mount_point).await.is_ok_and(|survey| !is_mounted(survey))
    }

    /// A volume that should be attached is not, because of `failure`.
    pub(crate) async fn guard_and_note(&self, attachment: &Attachment, failure: Failure) -> Failure {
        let (failure, guarded) = match self.guard(&attachment.mount_point).await {
            Ok(()) => (failure, "its mount point is guarded"),
            Err(unguarded) => {
                (failure.undo_failed(unguarded.at_step("guard")), "its mount point cannot be guarded")
            }
        };
        self.attachments.note(&attachment.mount_point, Some(failure.report()));
        tracing::error!(
            volume = %attachment.volume, mount_point = %attachment.mount_point, code = %failure.code(),
            "not attached, and {guarded}: {}", failure.chain()
        );
        failure
    }

    async fn guard(&self, mount_point: &MountPoint) -> Result<(), Failure> {
        let survey = self.mounter.survey(mount_point).await?;
        self.mounter.guard(mount_point, &survey.missing).await
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

async fn report_damaged_of(name: &StoreName, stores: &StoreRegistry) {
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

/// What takes longer goes on by itself; the start does not wait for it any more.
async fn in_time<T>(step: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = |_| {
        Err(Failure::new(FailureCode::Timeout, format!("it did not end within {STEP_SECONDS_MAX} s"))
            .at_step("attach"))
    };
    tokio::time::timeout(Duration::from_secs(STEP_SECONDS_MAX), step).await.unwrap_or_else(late)
}
