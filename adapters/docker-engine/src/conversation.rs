//! One conversation with one engine: few questions, one limit of time for all of them, and failures that name the
//! engine, its socket and the step.

use crate::connection::{BYTES_MAX, Connection};
use crate::container::{self, Bound, Container, NamedVolume, shown};
use crate::engine::Engine;
use crate::line::{Line, client};
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

/// How much of what an engine says of its own failure is kept.
const REASON_CHARACTERS_MAX: usize = 300;
/// How long a state that passes is given to pass.
const PAUSE: Duration = Duration::from_millis(100);
/// Which part of its time a conversation waits for a list that others share: an engine that takes longer is asked for
/// several at once.
const PATIENCE_SHARE: u32 = 10;
/// What bollard says of a container whose state is none of Docker's.
const NO_STATE_OF_DOCKERS: &str = "unknown variant";

/// What is kept of an engine from one conversation to the next.
#[derive(Debug, Default)]
pub(crate) struct Acquaintance {
    /// The version of the API that was agreed on. To agree on one takes an engine longer than all other answers
    /// together: Docker starts programs of its own for that.
    version: Mutex<Option<ClientVersion>>,
    line: Line,
    listing: Listing,
}

impl Acquaintance {
    fn version(&self) -> MutexGuard<'_, Option<ClientVersion>> {
        self.version.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A conversation with an engine that answers.
pub(crate) struct Conversation<'a> {
    talk: Talk<'a>,
    version: ClientVersion,
    /// Whether the version was agreed on in an earlier conversation.
    remembered: bool,
}

/// Where a volume that the engine keeps itself is.
pub(crate) struct LocalVolume {
    /// Where the engine binds it from.
    pub(crate) source: Option<String>,
    /// What the engine mounts there first, if its options say so (`-o o=bind -o device=…`).
    pub(crate) device: Option<String>,
}

/// What only inspecting tells.
pub(crate) struct Inspected {
    /// The container's first process, if it runs.
    pub(crate) process: Option<i64>,
    /// What it has bound.
    pub(crate) bound: Vec<Bound>,
}

impl<'a> Conversation<'a> {
    /// Agrees with `engine` on a version of its API, unless one is known. From now on it has `limit` for all answers.
    pub(crate) async fn begin(
        engine: &'a Engine,
        known: &'a Acquaintance,
        limit: Duration,
    ) -> Result<Self, Failure> {
        let talk = Talk {
            engine,
            known,
            limit,
            until: Instant::now() + limit,
            bytes_left: Arc::new(AtomicUsize::new(BYTES_MAX)),
        };
        let version = *known.version();
        Ok(match version {
            Some(version) => Self { talk, version, remembered: true },
            None => Self { version: talk.agree().await?, talk, remembered: false },
        })
    }

    /// Every container, in whatever state. It is the first question, and who asks it at the same time shares its
    /// answer.
    pub(crate) async fn containers(&mut self) -> Result<Vec<Container>, Failure> {
        let (known, patience) = (self.talk.known, self.talk.limit / PATIENCE_SHARE);
        let listed = known.listing.fresh(self.list(), patience).await?;
        // Whoever has listed may have agreed on another version.
        let agreed = *known.version();
        self.version = agreed.unwrap_or(self.version);
        Ok(listed)
    }

    /// Here it shows when the engine was replaced by one that does not know the version that was agreed on before.
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
        self.version = self.talk.agree().await?;
        self.remembered = false;
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
            let place = LocalVolume { source: normal(volume.mountpoint), device: device.and_then(normal) };
            (volume.name, place)
        });
        Ok(volumes.collect())
    }

    /// More about the container `id`; `None` when it has gone since it was listed.
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
            Inspected { process, bound: container::inspected(response) }
        }))
    }

    /// The result of `work` of this host on what the engine said, if it comes in time.
    pub(crate) async fn wait<T>(
        &self,
        step: &'static str,
        work: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        timeout_at(self.talk.until, work).await.map_err(|_| self.talk.too_late(step))
    }

    /// The failure of `step` of this host's own work on what the engine said.
    pub(crate) fn broken(&self, step: &'static str, error: std::io::Error) -> Failure {
        self.talk.failure(step, "cannot be asked to the end").caused_by(error)
    }

    async fn ask<T, Answer>(
        &self,
        step: &'static str,
        request: impl Fn(Docker) -> Answer,
    ) -> Result<T, Failure>
    where
        Answer: Future<Output = Result<T, Error>>,
    {
        self.talk.ask(step, Some(self.version), request).await
    }
}

/// Whom is talked to, and within which limits.
struct Talk<'a> {
    engine: &'a Engine,
    known: &'a Acquaintance,
    limit: Duration,
    until: Instant,
    bytes_left: Arc<AtomicUsize>,
}

impl Talk<'_> {
    /// The version of the API that both know, from now on known to be agreed on.
    async fn agree(&self) -> Result<ClientVersion, Failure> {
        *self.known.version() = None;
        let agree = |docker: Docker| async { Ok(docker.negotiate_version().await?.client_version()) };
        let version = self.ask("agree on an API version", None, agree).await?;
        *self.known.version() = Some(version);
        Ok(version)
    }

    /// The answer to `request`, which only asks: it is asked again as long as the answer names a state that passes,
    /// and once where the connection of an earlier question turns out to be dead.
    async fn ask<T, Answer>(
        &self,
        step: &'static str,
        version: Option<ClientVersion>,
        request: impl Fn(Docker) -> Answer,
    ) -> Result<T, Failure>
    where
        Answer: Future<Output = Result<T, Error>>,
    {
        let mut left = self.known.line.take(self.engine.socket(), &self.bytes_left);
        loop {
            let connection = match left.take() {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let answer = async { request(client(&connection, version)?).await };
            match timeout_at(self.until, answer).await {
                Ok(Ok(answer)) => {
                    // What cannot be kept in time is closed: the answer has come all the same.
                    let _ = timeout_at(self.until, self.known.line.keep(connection)).await;
                    return Ok(answer);
                }
                Ok(Err(_)) if connection.was_stale() => {}
                Ok(Err(error)) if passes(&error) && Instant::now() + PAUSE < self.until => sleep(PAUSE).await,
                Ok(Err(error)) => return Err(self.failed(step, &error)),
                Err(_) => return Err(self.too_late(step)),
            }
        }
    }

    async fn connect(&self) -> Result<Arc<Connection>, Failure> {
        const STEP: &str = "connect";
        let connecting = Connection::open(self.engine.socket(), Arc::clone(&self.bytes_left));
        match timeout_at(self.until, connecting).await {
            Ok(Ok(connection)) => Ok(Arc::new(connection)),
            Ok(Err(error)) => Err(self.failure(STEP, "cannot be reached").caused_by(error)),
            Err(_) => Err(self.too_late(STEP)),
        }
    }

    fn failed(&self, step: &'static str, error: &Error) -> Failure {
        let (what, reason) = match error {
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

/// Whether the answer may be understood when it is asked for again: before version 6 Podman lists a container
/// that is just ending as `stopped`, and bollard takes a list with a state that Docker does not have for no list.
fn passes(error: &Error) -> bool {
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

/// `text` on one line, and not longer than anybody reads.
fn short(text: &str) -> String {
    let mut short: String = text.trim().chars().take(REASON_CHARACTERS_MAX).flat_map(shown).collect();
    if text.trim().chars().count() > REASON_CHARACTERS_MAX {
        short.push('…');
    }
    short
}
