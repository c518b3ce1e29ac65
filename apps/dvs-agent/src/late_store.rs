//! A store that could not be opened when the agent started: it is opened by the first call that can. Until then it
//! says that it is unavailable, and the other stores work.

use async_trait::async_trait;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::{StoreName, VolumeName};
use dvs_domain::ports::{Created, DestroyError, Destroyed, SharedStore, Source, VolumeStore};
use dvs_domain::volume::{Entry, FileSystem, Mode, Provision, StoreDescription, Usage, Volume};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use url::Url;

/// How long after an attempt to open a store the next one is made: many calls must not become as many attempts.
const ATTEMPT_MILLISECONDS_MIN: u64 = 1000;

/// The kinds of stores that can be late: those in a folder of this host, whose disk may not be mounted yet. One behind a
/// network is opened without asking for anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LocalKind {
    /// Images on loop devices.
    Loop,
    /// Plain directories.
    Fake,
}

impl LocalKind {
    /// The kind of the store at `url`, if it can be late.
    pub(crate) fn of(url: &Url) -> Option<Self> {
        match url.scheme() {
            "loop" => Some(Self::Loop),
            "fake" => Some(Self::Fake),
            _ => None,
        }
    }
}

type Opener = dyn Fn() -> Result<Arc<dyn VolumeStore>, Failure> + Send + Sync;

/// See the module.
pub(crate) struct LateStore {
    description: StoreDescription,
    open: Arc<Opener>,
    opened: OnceLock<Arc<dyn VolumeStore>>,
    last: Mutex<Attempt>,
    pause: Duration,
}

/// An attempt to open the store that failed.
struct Attempt {
    at: Instant,
    failure: Failure,
}

impl LateStore {
    /// The store `name` of this kind at `url`, which `open` opens, and could not open just now because of `failure`.
    pub(crate) fn new(
        name: &StoreName,
        (kind, url): (LocalKind, &Url),
        failure: Failure,
        open: impl Fn() -> Result<Arc<dyn VolumeStore>, Failure> + Send + Sync + 'static,
    ) -> Self {
        Self {
            description: described(name, kind, url),
            open: Arc::new(open),
            opened: OnceLock::new(),
            last: Mutex::new(Attempt { at: Instant::now(), failure }),
            pause: Duration::from_millis(ATTEMPT_MILLISECONDS_MIN),
        }
    }

    /// The store, if it is open or can be opened now.
    async fn store(&self) -> Result<&Arc<dyn VolumeStore>, Failure> {
        if let Some(store) = self.opened.get() {
            return Ok(store);
        }
        let mut last = self.last.lock().await;
        if let Some(store) = self.opened.get() {
            return Ok(store); // Opened by the call that had the lock before.
        }
        if last.at.elapsed() >= self.pause {
            last.at = Instant::now(); // Also for a caller that gives up waiting.
            let open = Arc::clone(&self.open);
            let opened = tokio::task::spawn_blocking(move || open()).await;
            match opened.unwrap_or_else(|cut| Err(Failure::internal("the opening was cut off", cut))) {
                Ok(store) => {
                    tracing::info!(store = %self.description.name, "the store is open now");
                    return Ok(self.opened.get_or_init(|| store));
                }
                Err(failure) => *last = Attempt { at: Instant::now(), failure },
            }
        }
        let what = format!("store `{}` is not usable", self.description.name);
        let failure = Failure::new(FailureCode::StoreUnavailable, what).caused_by(last.failure.chain());
        Err(match last.failure.hint() {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        })
    }
}

#[async_trait]
impl VolumeStore for LateStore {
    fn describe(&self) -> StoreDescription {
        self.opened.get().map_or_else(|| self.description.clone(), |store| store.describe())
    }

    async fn create(&self, volume: &Volume) -> Result<Created, Failure> {
        self.store().await?.create(volume).await
    }

    async fn destroy(&self, name: &VolumeName, source: Option<&Source>) -> Result<Destroyed, DestroyError> {
        self.store().await?.destroy(name, source).await
    }

    async fn look_up(&self, name: &VolumeName) -> Result<Option<Entry>, Failure> {
        self.store().await?.look_up(name).await
    }

    async fn list(&self) -> Result<Vec<Entry>, Failure> {
        self.store().await?.list().await
    }

    async fn usage(&self, name: &VolumeName) -> Result<Usage, Failure> {
        self.store().await?.usage(name).await
    }

    async fn source(&self, name: &VolumeName) -> Result<Source, Failure> {
        self.store().await?.source(name).await
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        None
    }
}

/// What the store `name` at `url` will say of itself. A volume is settled by this before the call that opens the
/// store, so it must be the same. What the URL says wrongly, the store has refused already.
fn described(name: &StoreName, kind: LocalKind, url: &Url) -> StoreDescription {
    let options: HashMap<_, _> = url.query_pairs().collect();
    let number = |key: &str| options.get(key).and_then(|value| value.parse().ok());
    let (kind, uid, gid) = match kind {
        LocalKind::Fake => {
            let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            ("fake", number("uid").unwrap_or(user), number("gid").unwrap_or(group))
        }
        LocalKind::Loop => {
            let uid = number("uid").unwrap_or(0);
            ("loop", uid, number("gid").unwrap_or(uid))
        }
    };
    StoreDescription {
        name: name.clone(),
        kind,
        file_system: options.get("fs").and_then(|fs| FileSystem::parse(fs).ok()).or(Some(FileSystem::Ext4)),
        provision: options
            .get("provision")
            .and_then(|provision| Provision::parse(provision).ok())
            .or(Some(Provision::Thin)),
        uid,
        gid,
        mode: options.get("mode").and_then(|mode| Mode::parse(mode).ok()).unwrap_or(Mode::DEFAULT),
        attachable: true,
        is_shared: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::open_store;
    use dvs_store_fake::FakeStore;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tempfile::TempDir;

    fn folder() -> TempDir {
        tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap()
    }

    fn named(name: &str) -> StoreName {
        StoreName::new(name).unwrap()
    }

    /// A store that opens at the attempt of that number, counted from 1, and the number of attempts so far.
    fn opening_at(attempt: usize, folder: &TempDir, pause: Duration) -> (LateStore, Arc<AtomicUsize>) {
        let (path, attempts) = (folder.path().to_owned(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&attempts);
        let failed =
            || Failure::new(FailureCode::Damaged, "the disk is on fire").with_hint("pour water on it");
        let url = Url::parse("fake:///nowhere?uid=7&gid=8").unwrap();
        let late = LateStore::new(&named("x"), (LocalKind::Fake, &url), failed(), move || {
            if counted.fetch_add(1, Ordering::SeqCst) + 1 < attempt {
                return Err(failed());
            }
            Ok(Arc::new(FakeStore::at(named("x"), &path)?))
        });
        (LateStore { pause, ..late }, attempts)
    }

    #[tokio::test]
    async fn a_call_opens_the_store_as_soon_as_it_can_be_opened() {
        let folder = folder();
        let (late, attempts) = opening_at(3, &folder, Duration::ZERO);
        assert_eq!((late.describe().kind, late.describe().uid, late.describe().gid), ("fake", 7, 8));
        for _ in 0..2 {
            let refused = late.list().await.unwrap_err();
            assert_eq!(refused.code(), FailureCode::StoreUnavailable);
            assert_eq!(refused.chain(), "store `x` is not usable: the disk is on fire");
            assert_eq!(refused.hint(), Some("pour water on it"));
        }
        assert_eq!(late.list().await.unwrap(), []);
        assert_eq!(late.look_up(&VolumeName::new("a").unwrap()).await.unwrap(), None);
        assert_eq!(attempts.load(Ordering::SeqCst), 3, "an open store is not opened again");
        assert_ne!(late.describe().uid, 7, "the store speaks for itself");
    }

    #[tokio::test]
    async fn between_two_attempts_there_is_a_pause() {
        let folder = folder();
        let (late, attempts) = opening_at(1, &folder, Duration::from_secs(3600));
        for _ in 0..3 {
            assert_eq!(late.list().await.unwrap_err().code(), FailureCode::StoreUnavailable);
        }
        assert_eq!(attempts.load(Ordering::SeqCst), 0, "it was tried just now");
    }

    #[test]
    fn what_it_says_of_itself_is_what_the_open_store_says() {
        for options in ["", "?fs=xfs&uid=5&mode=0700", "?fs=btrfs&provision=thick&uid=5&gid=6&overcommit=3"] {
            for kind in ["fake", "loop"] {
                let folder = folder();
                let url = Url::parse(&format!("{kind}://{}{options}", folder.path().display())).unwrap();
                let open = open_store(&named("x"), &url, None).unwrap().describe();
                let kind = LocalKind::of(&url).unwrap();
                assert_eq!(described(&named("x"), kind, &url), open, "{url}");
            }
        }
    }
}
