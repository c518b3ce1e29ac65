//! The composition root: the only place that knows which adapters there are. A fork that adds a store adds one
//! line to [`open_store`].

use crate::clock::SystemClock;
use crate::config::Settings;
use crate::engines::EnginesOfHost;
use crate::late_store::{LateStore, LocalKind};
use crate::lock::InstanceLock;
use crate::node_id;
use crate::privileges::is_root;
use crate::reserved_paths;
use crate::room;
use crate::store_id::Identity;
use dvs_core::{Core, CoreParts};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::StoreName;
use dvs_domain::ports::{Journal, Mounter, VolumeStore};
use dvs_journal_redb::RedbJournal;
use dvs_mount_linux::LinuxMounter;
use dvs_store_fake::{FakeStore, LinkMounter};
use dvs_store_loop::LoopStore;
use dvs_store_nfs::{NfsStore, ThisNode};
use std::sync::Arc;
use url::Url;

/// The scheme of stores that several nodes share.
const NFS: &str = "nfs";

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
    let node = this_node(settings)?;
    let remembered = journal.load().await?;
    let has_volumes =
        |store: &StoreName| remembered.attachments.iter().any(|attachment| attachment.volume.store == *store);
    let stores: Result<Vec<_>, _> = settings
        .stores
        .iter()
        .map(|(name, url)| {
            let identity = room::folder_of(url).map(|folder| Identity::new(name, folder, &settings.state));
            open_now_or_later(name, url, node.as_ref(), identity, has_volumes(name))
        })
        .collect();
    // What jobs may use is decided when they are admitted.
    let reachable = reserved_paths::reachable(&settings.roots, &remembered.attachments);
    let mounter: Arc<dyn Mounter> = if is_root() {
        Arc::new(LinuxMounter::new(reachable))
    } else {
        Arc::new(LinkMounter::new(reachable))
    };
    let core = Core::open(CoreParts {
        stores: stores?,
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

/// This node as stores know it that several nodes share. Where there is none, nothing depends on its id.
fn this_node(settings: &Settings) -> Result<Option<ThisNode>, Failure> {
    if !settings.stores.iter().any(|(_, url)| url.scheme() == NFS) {
        return Ok(None);
    }
    let id = node_id::of(&settings.state)?;
    Ok(Some(ThisNode { id, name: settings.topics.node().to_string() }))
}

/// The store that `url` describes, as `node` has it; only a store that nodes share needs that.
///
/// # Errors
/// `bad-request` for a URL that describes none, and what the store's own opening says.
pub fn open_store(
    name: &StoreName,
    url: &Url,
    node: Option<&ThisNode>,
) -> Result<Arc<dyn VolumeStore>, Failure> {
    let named = |failure: Failure| failure.while_doing(format!("cannot open store `{name}`"));
    Ok(match url.scheme() {
        "loop" => Arc::new(LoopStore::open(name.clone(), url).map_err(named)?),
        NFS => {
            let nobody = || Failure::new(FailureCode::BadRequest, "it needs a node with an id");
            let node = node.cloned().ok_or_else(|| named(nobody()))?;
            Arc::new(NfsStore::open(name.clone(), url, node).map_err(named)?)
        }
        "fake" => Arc::new(FakeStore::open(name.clone(), url).map_err(named)?),
        other => {
            return Err(Failure::new(
                FailureCode::BadRequest,
                format!("store `{name}`: there is no kind `{other}`"),
            )
            .with_hint("a store's URL starts with `loop://`, `nfs://` or `fake://`"));
        }
    })
}

/// The store that `url` describes, also when it cannot be opened now: then it is opened by the first call that can.
/// One that `has_volumes` is the one that was there before, and never made.
///
/// # Errors
/// `bad-request` for a URL that describes none.
fn open_now_or_later(
    name: &StoreName,
    url: &Url,
    node: Option<&ThisNode>,
    identity: Option<Identity>,
    has_volumes: bool,
) -> Result<Arc<dyn VolumeStore>, Failure> {
    let open = move |name: &StoreName, url: &Url, node: Option<&ThisNode>| -> Result<_, Failure> {
        if let Some(identity) = identity.as_ref().filter(|_| has_volumes) {
            identity.refuse_absent()?;
            identity.refuse_another()?;
        }
        let opened = open_store(name, url, node)?;
        if let Some(identity) = &identity {
            identity.keep();
        }
        Ok(opened)
    };
    match (open(name, url, node), LocalKind::of(url)) {
        (Err(failure), Some(kind)) if failure.code() != FailureCode::BadRequest => {
            tracing::error!(store = %name, code = %failure.code(), "tried again when used: {}", failure.chain());
            let (again, at, node) = (name.clone(), url.clone(), node.cloned());
            let open = move || open(&again, &at, node.as_ref());
            Ok(Arc::new(LateStore::new(name, (kind, url), failure, open)))
        }
        (opened_or_refused, _) => opened_or_refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_store_that_cannot_be_opened_is_left_for_later_and_a_wrong_url_is_refused() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let name = StoreName::new("x").unwrap();
        let node = ThisNode { id: node_id::of(folder.path()).unwrap(), name: "n".to_owned() };
        let open =
            |url: String| open_now_or_later(&name, &Url::parse(&url).unwrap(), Some(&node), None, false);
        for kind in ["fake", "loop"] {
            let late = open(format!("{kind}://{}/below", file.display())).unwrap();
            assert_eq!((late.describe().name, late.describe().kind), (name.clone(), kind));
        }
        let remote = open("nfs://nowhere.invalid/v".to_owned()).unwrap();
        assert_eq!((remote.describe().kind, remote.describe().attachable), ("nfs", false));
        for url in [
            "nfs:///v".to_owned(),
            "floppy:///a".to_owned(),
            format!("loop://{}?fs=fat", folder.path().display()),
        ] {
            assert_eq!(open(url).err().map(|failure| failure.code()), Some(FailureCode::BadRequest));
        }
    }

    #[tokio::test]
    async fn a_store_that_has_volumes_is_awaited_and_never_made_anew() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let name = StoreName::new("x").unwrap();
        for kind in ["fake", "loop"] {
            let (disk, away) = (folder.path().join(kind), folder.path().join("away"));
            let url = Url::parse(&format!("{kind}://{}", disk.display())).unwrap();
            let open = |has_volumes| {
                let identity = Identity::new(&name, disk.clone(), folder.path());
                open_now_or_later(&name, &url, None, Some(identity), has_volumes).unwrap()
            };
            let absent = open(true);
            let refused = absent.list().await.unwrap_err();
            assert_eq!(refused.code(), FailureCode::StoreUnavailable, "{}", refused.chain());
            assert!(!disk.exists());
            open(false);
            assert_eq!(open(true).list().await.unwrap(), [], "it is there, and empty");

            // What lies below where its disk is mounted is another, whatever it looks like.
            std::fs::rename(&disk, &away).unwrap();
            for has_id in [false, true] {
                std::fs::create_dir_all(disk.join("volumes")).unwrap();
                if has_id {
                    std::fs::write(disk.join("id"), "0".repeat(32)).unwrap();
                }
                let refused = open(true).list().await.unwrap_err();
                assert_eq!(refused.code(), FailureCode::StoreUnavailable, "{}", refused.chain());
                assert!(refused.hint().is_some_and(|hint| hint.contains("mount")), "{}", refused.chain());
            }
            std::fs::remove_dir_all(&disk).unwrap();
            std::fs::rename(&away, &disk).unwrap();
            assert_eq!(open(true).list().await.unwrap(), [], "it is back");
            std::fs::remove_dir_all(&disk).unwrap();
            open(false);
            assert_eq!(open(true).list().await.unwrap(), [], "a new one, of which nothing was attached");
        }
    }

    /// A store in `disk`, of which this node has something attached or nothing.
    fn fake(state: &Path, disk: &Path, has_volumes: bool) -> Arc<dyn VolumeStore> {
        let (name, url) = (StoreName::new("x").unwrap(), format!("fake://{}", disk.display()));
        let identity = Identity::new(&name, disk.to_owned(), state);
        open_now_or_later(&name, &Url::parse(&url).unwrap(), None, Some(identity), has_volumes).unwrap()
    }

    #[tokio::test]
    async fn a_store_in_the_state_folder_is_known_again_whatever_its_folder_is_called() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let disk = folder.path().join("stores/x");
        for has_volumes in [false, true] {
            let store = fake(folder.path(), &disk, has_volumes);
            assert_eq!(store.list().await.unwrap(), [], "{has_volumes}");
        }
    }

    #[tokio::test]
    async fn a_store_whose_id_cannot_be_kept_is_not_taken_for_another_later() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let disk = folder.path().join("disk");
        for in_the_way in [disk.join(".id.new"), folder.path().join("store-ids/.x.new")] {
            fake(folder.path(), &disk, false);
            std::fs::remove_dir_all(&disk).unwrap();
            std::fs::create_dir_all(&in_the_way).unwrap();
            fake(folder.path(), &disk, false);
            std::fs::remove_dir(&in_the_way).unwrap();
            let store = fake(folder.path(), &disk, true);
            assert_eq!(store.list().await.unwrap(), [], "{}", in_the_way.display());
        }
    }

    #[tokio::test]
    async fn whoever_follows_the_hint_of_a_refusal_has_the_store_again() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let disk = folder.path().join("disk");
        let (seen, id) = (folder.path().join("store-ids/x"), disk.join("id"));
        for (what, to_remove) in [
            ("lost", vec![&seen]),
            ("restored without its id", vec![&seen]),
            ("with an id that is none", vec![&id, &seen]),
            ("remembered by an id that is none", vec![&seen]),
        ] {
            fake(folder.path(), &disk, false);
            match what {
                "lost" => std::fs::remove_dir_all(&disk).unwrap(),
                "restored without its id" => std::fs::remove_file(&id).unwrap(),
                _ => std::fs::write(to_remove[0], [0xff]).unwrap(),
            }
            for path in to_remove {
                let refused = fake(folder.path(), &disk, true).list().await.unwrap_err();
                let hint = refused.hint().unwrap_or_default();
                assert!(hint.contains(&format!("remove `{}`", path.display())), "{what}: {hint}");
                std::fs::create_dir_all(disk.join("volumes")).unwrap();
                std::fs::remove_file(path).unwrap();
            }
            assert_eq!(fake(folder.path(), &disk, true).list().await.unwrap(), [], "{what}");
        }
    }

    #[test]
    fn agents_that_begin_a_store_at_once_agree_on_its_id() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let disk = folder.path().join("disk");
        std::fs::create_dir(&disk).unwrap();
        let name = StoreName::new("x").unwrap();
        let states: Vec<_> = (0..8).map(|number| folder.path().join(number.to_string())).collect();
        let identities = || states.iter().map(|state| Identity::new(&name, disk.clone(), state));
        std::thread::scope(|scope| {
            for identity in identities() {
                scope.spawn(move || identity.keep());
            }
        });
        identities().for_each(|identity| identity.refuse_another().unwrap());
        assert_eq!(std::fs::read_dir(&disk).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_store_whose_folder_somebody_has_locked_is_opened_all_the_same() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let disk = folder.path().join("disk");
        std::fs::create_dir(&disk).unwrap();
        let locked = std::fs::File::open(&disk).unwrap();
        locked.lock().unwrap();
        assert_eq!(fake(folder.path(), &disk, false).list().await.unwrap(), []);
        drop(locked);
        fake(folder.path(), &disk, false);
        assert!(folder.path().join("store-ids/x").exists(), "the next opening keeps it");
    }

    #[test]
    fn a_store_whose_id_cannot_be_read_is_remembered_as_it_was() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let (disk, seen) = (folder.path().join("disk"), folder.path().join("store-ids/x"));
        fake(folder.path(), &disk, false);
        let before = std::fs::read(&seen).unwrap();
        std::fs::write(disk.join("id"), [0xff]).unwrap();
        fake(folder.path(), &disk, false);
        assert_eq!(std::fs::read(&seen).unwrap(), before);
    }
}
