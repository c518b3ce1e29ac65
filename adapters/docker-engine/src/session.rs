//! One session with one engine: few requests, one time limit for all of them, and failures that name the engine, its
//! socket and the step.

use crate::connection::{BYTES_MAX, client};
use crate::container::{self, Container, ContainerMount, NamedVolume, shown};
use crate::engine::Engine;
use crate::listing::Listing;
use bollard::errors::Error;
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptions, ListVolumesOptions};
use bollard::{ClientVersion, Docker};
use dvs_domain::failure::{Failure, FailureCode};
use std::collections::HashMap;
use std::error::Error as _;
use std::future::Future;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// How much of an engine's own error message is kept.
const REASON_CHARACTERS_MAX: usize = 300;
/// The pause before a container's transient state is queried again.
const PAUSE: Duration = Duration::from_millis(100);
/// Which part of its time a session waits for a list that is shared: an engine that takes longer is asked for several at
/// once.
const PATIENCE_SHARE: u32 = 10;
/// Bollard's error for a container state that is none of Docker's.
const NO_STATE_OF_DOCKERS: &str = "unknown variant";

/// What is kept of an engine from one session to the next.
#[derive(Debug, Default)]
pub(crate) struct EngineState {
    /// The version of the API that was agreed on. To agree on one takes an engine longer than all other requests
    /// together: Docker starts programs of its own for that.
    version: Mutex<Option<ClientVersion>>,
    listing: Listing,
}

impl EngineState {
    fn version(&self) -> MutexGuard<'_, Option<ClientVersion>> {
        self.version.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session with an engine that answers.
pub(crate) struct Session<'a> {
    engine: &'a Engine,
    state: &'a EngineState,
    limit: Duration,
    until: Instant,
    /// How much may still be read from the engine.
    bytes_left: Arc<AtomicUsize>,
    /// `None` until a version is agreed on.
    version: Option<ClientVersion>,
    /// Whether the version was agreed on in an earlier session.
    remembered: bool,
}

/// Where a volume that the engine keeps itself is.
pub(crate) struct LocalVolume {
    /// Where the engine binds it from.
    pub(crate) source: Option<String>,
    /// What the engine mounts there first, if its options say so (`-o o=bind -o device=…`).
    pub(crate) device: Option<String>,
}

/// What is known of a container by inspecting it only.
pub(crate) struct Inspected {
    /// The container's first process, if it runs.
    pub(crate) process: Option<i64>,
    pub(crate) mounts: Vec<ContainerMount>,
}

impl<'a> Session<'a> {
    /// Agrees with `engine` on a version of its API, unless one is known. From now on it has `limit` for all requests.
    pub(crate) async fn begin(
        engine: &'a Engine,
        state: &'a EngineState,
        limit: Duration,
    ) -> Result<Self, Failure> {
        let version = *state.version();
        let mut session = Self {
            engine,
            state,
            limit,
            until: Instant::now() + limit,
            bytes_left: Arc::new(AtomicUsize::new(BYTES_MAX)),
            version,
            remembered: version.is_some(),
        };
        if !session.remembered {
            session.agree().await?;
        }
        Ok(session)
    }

    async fn agree(&mut self) -> Result<(), Failure> {
        self.version = None;
        self.remembered = false;
        *self.state.version() = None;
        let agree = |docker: Docker| async { Ok(docker.negotiate_version().await?.client_version()) };
        self.version = Some(self.ask("agree on an API version", agree).await?);
        *self.state.version() = self.version;
        Ok(())
    }

    /// Every container, in whatever state. This is the first request, and its result is shared with all who make it at
    /// the same time.
    pub(crate) async fn containers(&mut self) -> Result<Vec<Container>, Failure> {
        let (state, patience) = (self.state, self.limit / PATIENCE_SHARE);
        let listed = state.listing.fresh(self.list(), patience).await?;
        // The caller that has listed may have agreed on another version.
        let agreed = *state.version();
        self.version = agreed.or(self.version);
        Ok(listed)
    }

    /// If the engine was replaced by one that does not know the version that was agreed on before, this request fails.
    async fn list(&mut self) -> Result<Vec<Container>, Failure> {
        let options = &ListContainersOptions { all: true, ..Default::default() };
        let remembered = self.remembered;
        let list = |docker: Docker| async move {
            match docker.list_containers(Some(options.clone())).await {
                Err(Error::DockerResponseServerError { status_code: 400, .. }) if remembered => Ok(None),
                listed => listed.map(Some),
            }
        };
        if let Some(listed) = self.ask("list containers", list).await? {
            return Ok(listed.into_iter().map(Container::listed).collect());
        }
        self.agree().await?;
        Box::pin(self.list()).await
    }

    /// The volumes that the engine keeps itself, by their names. Volumes of plugins are not asked for: a plugin
    /// that hangs, or this agent's own, has no part in it.
    pub(crate) async fn local_volumes(&self) -> Result<HashMap<String, LocalVolume>, Failure> {
        let filters = HashMap::from([("driver".to_owned(), vec![NamedVolume::LOCAL.to_owned()])]);
        let options = &ListVolumesOptions { filters: Some(filters) };
        let list = |docker: Docker| async move { docker.list_volumes(Some(options.clone())).await };
        let listed = self.ask("list volumes", list).await?;
        let volumes = listed.volumes.unwrap_or_default().into_iter().map(|mut volume| {
            let device = volume.options.remove("device");
            let normal = |path: String| crate::path::normal(&path);
            let local = LocalVolume { source: normal(volume.mountpoint), device: device.and_then(normal) };
            (volume.name, local)
        });
        Ok(volumes.collect())
    }

    /// More about the container `id`; `None` when it was removed since it was listed.
    pub(crate) async fn inspect(&self, id: &str) -> Result<Option<Inspected>, Failure> {
        let inspect = |docker: Docker| async move {
            match docker.inspect_container(id, None::<InspectContainerOptions>).await {
                Ok(response) => Ok(Some(response)),
                Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        let response = self.ask("inspect a container", inspect).await?;
        Ok(response.map(|response| {
            let process = response.state.as_ref().and_then(|state| state.pid).filter(|process| *process > 0);
            Inspected { process, mounts: container::inspected(response) }
        }))
    }

    /// The result of this host's own `work` on the engine's answers, if it comes in time.
    pub(crate) async fn wait<T>(
        &self,
        step: &'static str,
        work: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        timeout_at(self.until, work).await.map_err(|_| self.too_late(step))
    }

    /// The failure of `step` of this host's own work on the engine's answers.
    pub(crate) fn unfinished(&self, step: &'static str, error: std::io::Error) -> Failure {
        self.failure(step, "could not be asked about everything").caused_by(error)
    }

    /// The answer to `request`, which changes nothing: it is sent again as long as the answer names a transient state.
    async fn ask<T, Answer>(
        &self,
        step: &'static str,
        request: impl Fn(Docker) -> Answer,
    ) -> Result<T, Failure>
    where
        Answer: Future<Output = Result<T, Error>>,
    {
        let client = || client(self.engine.socket(), &self.bytes_left, self.version);
        loop {
            match timeout_at(self.until, async { request(client()?).await }).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) if is_transient(&error) && Instant::now() + PAUSE < self.until => {
                    sleep(PAUSE).await;
                }
                Ok(Err(error)) => return Err(self.failed(step, &error)),
                Err(_) => return Err(self.too_late(step)),
            }
        }
    }

    fn failed(&self, step: &'static str, error: &Error) -> Failure {
        let (what, reason) = match error {
            Error::IOError { err } => {
                return self.failure("connect", "cannot be reached").caused_by(err.to_string());
            }
            Error::DockerResponseServerError { status_code, message } => {
                ("refuses to answer", format!("status {status_code}: {message}"))
            }
            error => ("gives no usable answer", chain(error)),
        };
        self.failure(step, what).caused_by(short(&reason))
    }

    fn too_late(&self, step: &'static str) -> Failure {
        self.failure(step, &format!("does not answer within {} s", self.limit.as_secs_f64()))
    }

    fn failure(&self, step: &'static str, what: &str) -> Failure {
        let (name, socket) = (self.engine.name(), self.engine.socket().display());
        let detail = format!("container engine `{name}` at `{socket}` {what}");
        let hint = format!(
            "start `{name}`, or take its socket out of the configuration; then send the job again with a new id"
        );
        Failure::new(FailureCode::StoreUnavailable, detail).at_step(step).with_hint(hint)
    }
}

/// Whether the answer may be understood when the request is sent again: before version 6 Podman lists a container that is
/// just ending as `stopped`, and bollard rejects a list with a state that Docker does not have.
fn is_transient(error: &Error) -> bool {
    matches!(error, Error::JsonDataError { message, .. } if message.starts_with(NO_STATE_OF_DOCKERS))
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// `text` on one line, cut to [`REASON_CHARACTERS_MAX`].
fn short(text: &str) -> String {
    let mut short: String = text.trim().chars().take(REASON_CHARACTERS_MAX).flat_map(shown).collect();
    if text.trim().chars().count() > REASON_CHARACTERS_MAX {
        short.push('…');
    }
    short
}
