//! The one assembly of the core: the agent, the simulation and the tests put it together here, each with its own
//! adapters behind the ports.

use crate::engine::{Engine, EngineLimits, EngineParts};
use crate::intake::{Arrivals, Intake, intake};
use crate::{AttachmentRegistry, Started, StoreRegistry, Worker};
use dvs_domain::failure::Failure;
use dvs_domain::job::JobKind;
use dvs_domain::ledger::{Effect, Finished, Ledger, Limits, Outcome, Phase, Remembered};
use dvs_domain::mount_point::{AllowedRoots, MountPoint};
use dvs_domain::ports::{Answers, Clock, Journal, Mounter, VolumeReferences, VolumeStore};
use dvs_domain::recovery::UnresolvedJobs;
use dvs_domain::volume::VolumeId;
use std::sync::Arc;
use tokio::sync::watch;

/// The adapters and settings that a core is made of.
pub struct CoreParts {
    /// The stores in the order of the configuration; the first is the default.
    pub stores: Vec<Arc<dyn VolumeStore>>,
    /// Keeps jobs, answers and attachments on disk.
    pub journal: Arc<dyn Journal>,
    /// What `journal` held when it was loaded.
    pub remembered: Remembered,
    /// Attaches and detaches volumes.
    pub mounter: Arc<dyn Mounter>,
    /// Finds the containers that refer to a volume.
    pub references: Arc<dyn VolumeReferences>,
    /// The time of this host.
    pub clock: Arc<dyn Clock>,
    /// Where jobs may mount.
    pub roots: AllowedRoots,
    /// Paths below a root at which no volume may be attached, and what is there.
    pub reserved: Vec<(MountPoint, String)>,
    /// The limits of jobs.
    pub limits: Limits,
    /// The limits of the engine.
    pub engine_limits: EngineLimits,
}

/// The core after its state was restored, and before it runs.
pub struct Core {
    worker: Arc<Worker>,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    roots: AllowedRoots,
    reserved: Vec<(MountPoint, String)>,
    engine_limits: EngineLimits,
    ledger: Ledger,
    /// What the ledger decided when it was restored.
    first: Vec<Effect>,
    unresolved: UnresolvedJobs,
    intake: Intake,
    arrivals: Arrivals,
}

impl Core {
    /// Restores the core from what the journal held. Nothing is attached and no job runs yet.
    ///
    /// # Errors
    /// `bad-request` when there is no store, or two stores have the same name.
    pub fn open(parts: CoreParts) -> Result<Self, Failure> {
        let stores = Arc::new(StoreRegistry::new(parts.stores)?);
        let remembered = parts.remembered;
        let attachments =
            Arc::new(AttachmentRegistry::new(Arc::clone(&parts.journal), remembered.attachments.clone()));
        for (volume, is_there) in last_seen(&remembered) {
            stores.saw(volume, is_there);
        }
        let unresolved = UnresolvedJobs::of(&remembered.jobs);
        let default_store = stores.default_name().clone();
        let (ledger, first) = Ledger::restore(parts.limits, default_store, remembered, parts.clock.now());
        let worker = Arc::new(Worker {
            stores,
            attachments,
            mounter: parts.mounter,
            references: parts.references,
            clock: Arc::clone(&parts.clock),
        });
        let (intake, arrivals) = intake();
        Ok(Self {
            worker,
            journal: parts.journal,
            clock: parts.clock,
            roots: parts.roots,
            reserved: parts.reserved,
            engine_limits: parts.engine_limits,
            ledger,
            first,
            unresolved,
            intake,
            arrivals,
        })
    }

    /// Attaches what should be attached, and guards the mount points of what cannot be.
    pub async fn reattach(&self) -> Started {
        self.worker.reattach(&self.unresolved).await
    }

    /// Where doors hand in what arrives. It waits there until the core runs.
    #[must_use]
    pub fn intake(&self) -> Intake {
        self.intake.clone()
    }

    /// The stores of this node.
    #[must_use]
    pub fn stores(&self) -> &Arc<StoreRegistry> {
        &self.worker.stores
    }

    /// The attachments of this node.
    #[must_use]
    pub fn attachments(&self) -> &Arc<AttachmentRegistry> {
        &self.worker.attachments
    }

    /// The jobs that the last stop interrupted.
    #[must_use]
    pub fn unresolved(&self) -> &UnresolvedJobs {
        &self.unresolved
    }

    /// Performs jobs and sends `answers` until `stop` becomes true.
    pub async fn run(self, answers: Arc<dyn Answers>, stop: watch::Receiver<bool>) {
        let parts = EngineParts {
            worker: self.worker,
            journal: self.journal,
            answers,
            clock: self.clock,
            roots: self.roots,
            reserved: self.reserved,
            limits: self.engine_limits,
        };
        Engine::new(parts, self.ledger, self.arrivals).run(self.first, stop).await;
    }
}

/// What the journal tells of the stores' volumes: what is attached, and what the last job about each has come to.
fn last_seen(remembered: &Remembered) -> Vec<(&VolumeId, bool)> {
    let mut ended: Vec<_> = remembered
        .jobs
        .iter()
        .filter_map(|record| match &record.phase {
            Phase::Finished(Finished { outcome: Outcome::Done, volume: Some(volume), order, .. }) => {
                Some((*order, volume, record.job.request.kind() == JobKind::Create))
            }
            Phase::Finished(_) | Phase::Accepted => None,
        })
        .collect();
    ended.sort_by_key(|(order, ..)| *order);
    let ended = ended.into_iter().map(|(_, volume, is_there)| (volume, is_there));
    ended.chain(remembered.attachments.iter().map(|attachment| (&attachment.volume, true))).collect()
}
