//! The composition root: the only place that knows which adapters there are. A fork that adds a store adds one
//! line to [`open_store`].

use crate::config::Settings;
use crate::core::{NoEngines, Node, Stores, Worker, in_doubt};
use crate::lock::InstanceLock;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::JobKind;
use dvs_domain::ledger::{Effect, Ledger};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::names::StoreName;
use dvs_domain::ports::{Attachments, Clock, Journal, VolumeStore, VolumeUsers};
use dvs_domain::time::Timestamp;
use dvs_journal_redb::RedbJournal;
use dvs_mount_linux::LinuxAttachments;
use dvs_store_fake::{FakeStore, LinkAttachments};
use dvs_store_loop::LoopStore;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use url::Url;

/// The agent's parts, put together and recovered, before any door is open.
pub struct House {
    /// Makes jobs true.
    pub worker: Arc<Worker>,
    /// Remembers.
    pub journal: Arc<dyn Journal>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Decides.
    pub ledger: Ledger,
    /// What the ledger wants done first.
    pub first: Vec<Effect>,
    /// Mount points of jobs that a restart has cut off.
    pub in_doubt: BTreeMap<MountPoint, JobKind>,
    /// Keeps other agents away from the state folder.
    pub lock: InstanceLock,
}

/// Opens journal and stores, and puts the agent together. Nothing is attached yet.
///
/// # Errors
/// What is missing or wrong, naming it.
pub async fn build(settings: &Settings) -> Result<House, Failure> {
    std::fs::create_dir_all(&settings.state).map_err(|error| {
        Failure::new(FailureCode::StoreUnavailable, format!("cannot make `{}`", settings.state.display()))
            .caused_by(error)
            .with_hint("run as root, or name another folder with `--state DIR`")
    })?;
    let lock = InstanceLock::take(&settings.state)?;
    let journal: Arc<dyn Journal> = Arc::new(RedbJournal::open(&settings.state.join("journal"))?);
    let stores: Result<Vec<_>, _> = settings.stores.iter().map(|(name, url)| open_store(name, url)).collect();
    let stores = Arc::new(Stores::new(stores?)?);
    let remembered = journal.load().await?;
    let node = Arc::new(Node::new(Arc::clone(&journal), remembered.attachments.clone()));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let attachments: Arc<dyn Attachments> = if is_root() {
        Arc::new(LinuxAttachments::new(settings.roots.clone()))
    } else {
        Arc::new(LinkAttachments::new(settings.roots.clone()))
    };
    let in_doubt = in_doubt(&remembered.jobs);
    let default_store = stores.default_name().clone();
    let (ledger, first) = Ledger::restore(settings.limits, default_store, remembered, clock.now());
    let users: Arc<dyn VolumeUsers> = Arc::new(NoEngines);
    let worker = Arc::new(Worker { stores, node, attachments, users, clock: Arc::clone(&clock) });
    Ok(House { worker, journal, clock, ledger, first, in_doubt, lock })
}

/// The store that `url` describes.
///
/// # Errors
/// `bad-request` for a URL that describes none, and what the store's own opening says.
pub fn open_store(name: &StoreName, url: &Url) -> Result<Arc<dyn VolumeStore>, Failure> {
    let named = |failure: Failure| failure.while_doing(format!("cannot open store `{name}`"));
    Ok(match url.scheme() {
        "loop" => Arc::new(LoopStore::open(name.clone(), url).map_err(named)?),
        "fake" => Arc::new(FakeStore::open(name.clone(), url).map_err(named)?),
        other => {
            return Err(Failure::new(
                FailureCode::BadRequest,
                format!("store `{name}`: there is no kind `{other}`"),
            )
            .with_hint("a store's URL starts with `loop://` or `fake://`"));
        }
    })
}

/// Whether this process may mount.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }
}
