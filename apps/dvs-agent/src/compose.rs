//! The composition root: the only place that knows which adapters there are. A fork that adds a store adds one row to
//! `KINDS`.

use crate::clock::SystemClock;
use crate::config::Settings;
use crate::engines::EnginesOfHost;
use crate::lock::InstanceLock;
use crate::node_id;
use crate::privileges::is_root;
use crate::reserved_paths;
use dvs_core::{Core, CoreParts};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::StoreName;
use dvs_domain::ports::{Journal, Mounter, VolumeStore};
use dvs_journal_redb::RedbJournal;
use dvs_mount_linux::LinuxMounter;
use dvs_store_fake::{FakeStore, LinkMounter};
use dvs_store_loop::LoopStore;
use dvs_store_nfs::{NfsStore, ThisNode};
use std::path::Path;
use std::sync::Arc;
use url::Url;

/// The kinds of stores: the scheme of their URLs, and what makes one of a URL. That contacts nothing yet.
const KINDS: &[(&str, OpenStore)] = &[
    ("loop", |name, url, host| Ok(Arc::new(LoopStore::open(name, url, Some(host.state))?))),
    ("nfs", |name, url, host| Ok(Arc::new(NfsStore::open(name, url, host.node()?)?))),
    ("fake", |name, url, host| Ok(Arc::new(FakeStore::open(name, url, Some(host.state))?))),
];

type OpenStore = fn(StoreName, &Url, &Host<'_>) -> Result<Arc<dyn VolumeStore>, Failure>;

/// What a store may need to know of this node.
pub(crate) struct Host<'a> {
    pub(crate) state: &'a Path,
    pub(crate) node_name: String,
    /// Whether an id of this node that is not there is kept from now on.
    pub(crate) may_write: bool,
}

impl<'a> Host<'a> {
    pub(crate) fn of(settings: &'a Settings, may_write: bool) -> Self {
        Self { state: &settings.state, node_name: settings.topics.node().to_string(), may_write }
    }

    /// This node, as the others know it that share a store.
    fn node(&self) -> Result<ThisNode, Failure> {
        Ok(ThisNode { id: node_id::of(self.state, self.may_write)?, name: self.node_name.clone() })
    }
}

/// The agent before any door is open.
pub struct Composed {
    /// The core over the adapters that the settings name.
    pub core: Core,
    /// Keeps other agents away from the state folder.
    pub lock: InstanceLock,
}

/// Opens journal and stores, and puts the agent together. Nothing is attached yet.
///
/// # Errors
/// What is missing or wrong, naming it. A store that cannot be used now is neither: it is opened later.
pub async fn build(settings: &Settings) -> Result<Composed, Failure> {
    std::fs::create_dir_all(&settings.state).map_err(|error| {
        Failure::new(FailureCode::StoreUnavailable, format!("cannot make `{}`", settings.state.display()))
            .caused_by(error)
            .with_hint("run as root, or name another folder with `--state DIR`")
    })?;
    let lock = InstanceLock::take(&settings.state)?;
    let journal: Arc<dyn Journal> = Arc::new(RedbJournal::open(&settings.state.join("journal"))?);
    let host = Host::of(settings, true);
    let stores: Result<Vec<_>, _> =
        settings.stores.iter().map(|(name, url)| open_store(name, url, &host)).collect();
    let stores = stores?;
    let remembered = journal.load().await?;
    // What jobs may use is decided when they are admitted.
    let reachable = reserved_paths::reachable(&settings.roots, &remembered.attachments);
    let mounter: Arc<dyn Mounter> = if is_root() {
        Arc::new(LinuxMounter::new(reachable))
    } else {
        Arc::new(LinkMounter::new(reachable))
    };
    let core = Core::open(CoreParts {
        stores,
        journal,
        remembered,
        mounter,
        references: Arc::new(EnginesOfHost::new(&settings.engines)),
        clock: Arc::new(SystemClock::new()),
        roots: settings.roots.clone(),
        reserved: reserved_paths::reserved(&settings.state, &settings.stores, &settings.roots),
        limits: settings.limits,
        engine_limits: settings.engine_limits,
    })?;
    Ok(Composed { core, lock })
}

/// The store that `url` describes. That contacts nothing yet.
///
/// # Errors
/// `bad-request` for a URL that describes none.
pub(crate) fn open_store(
    name: &StoreName,
    url: &Url,
    host: &Host<'_>,
) -> Result<Arc<dyn VolumeStore>, Failure> {
    let subject = format!("cannot open store `{name}`");
    let Some((_, open)) = KINDS.iter().find(|(scheme, _)| *scheme == url.scheme()) else {
        let schemes: Vec<String> = KINDS.iter().map(|(scheme, _)| format!("`{scheme}://`")).collect();
        let detail = format!("there is no kind `{}`", url.scheme());
        return Err(Failure::new(FailureCode::BadRequest, detail)
            .while_doing(subject)
            .with_hint(format!("a store's URL starts with {}", schemes.join(", "))));
    };
    open(name.clone(), url, host).map_err(|failure| failure.while_doing(subject))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_not_contacted_before_it_is_used_and_a_wrong_url_is_refused() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let name = StoreName::new("x").unwrap();
        let host = Host { state: folder.path(), node_name: "n".to_owned(), may_write: false };
        let open = |url: String| open_store(&name, &Url::parse(&url).unwrap(), &host);
        for kind in ["fake", "loop"] {
            let store = open(format!("{kind}://{}/below", folder.path().display())).unwrap();
            assert_eq!((store.describe().name, store.describe().kind), (name.clone(), kind));
        }
        let remote = open("nfs://nowhere.invalid/v".to_owned()).unwrap();
        assert_eq!((remote.describe().kind, remote.describe().attachable), ("nfs", false));
        assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "nothing is made");
        for url in [
            "nfs:///v".to_owned(),
            "floppy:///a".to_owned(),
            format!("loop://{}?fs=fat", folder.path().display()),
        ] {
            assert_eq!(open(url).err().map(|failure| failure.code()), Some(FailureCode::BadRequest));
        }
    }
}
