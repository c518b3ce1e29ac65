//! The life of an agent: configure, open, recover, attach, report ready, connect, work, stop.

use crate::compose::{self, Composed};
use crate::config::{AgentFlags, BrokerChoice, Environment, Problems, Settings};
use crate::daemon;
use crate::socket::{self, Status};
use crate::space;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_job_json::Presence;
use dvs_mqtt_rumqttc::{BrokerUrl, ConnectionState, MqttConfig, MqttDoor};
use rustix::fs::Mode;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Threads of the async runtime; blocking work has its own. More threads only add wake-ups at each step.
const WORKER_THREADS: usize = 1;
/// Threads for blocking work: more than jobs run at once, because work that hangs keeps its thread.
const BLOCKING_THREADS_MAX: usize = 128;

/// What is logged unless `DVS_LOG` says something else.
const LOG_DEFAULT: &str = "info,rumqttd=warn,bollard=info";

/// Why an agent did not start, or ended.
#[derive(Debug, thiserror::Error)]
enum Ending {
    #[error("the configuration is wrong:\n{0}")]
    Configuration(#[from] Problems),
    #[error("{}", .0.chain())]
    Failed(#[from] Failure),
    #[error("cannot {0}: {1}")]
    System(&'static str, #[source] io::Error),
}

impl Ending {
    /// See contract.md section 9.
    fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration(_) => 78,
            Self::Failed(failure) => match failure.code() {
                FailureCode::BadRequest => 78,
                FailureCode::Internal => 70,
                _ => 69,
            },
            Self::System(..) => 69,
        }
    }
}

/// Runs an agent until it is told to stop, and gives the exit code of the process.
pub fn run(flags: &AgentFlags) -> ExitCode {
    if flags.daemon && !flags.daemon_child {
        return daemon::start().unwrap_or_else(|error| end(&Ending::System("start the daemon", error)));
    }
    match live(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(ending) => end(&ending),
    }
}

/// Attaches or guards what should be attached, and ends: the step at boot that comes before Docker. Ends well
/// despite damaged volumes: they are guarded, and reported in the log.
pub fn attach(flags: &AgentFlags) -> ExitCode {
    match attach_once(flags) {
        Ok(()) => ExitCode::SUCCESS,
        // The agent has attached everything, and must not be disturbed.
        Err(Ending::Failed(failure)) if failure.code() == FailureCode::Busy => {
            let _unwritable = writeln!(io::stderr(), "dvs: nothing to do: {}", failure.chain());
            ExitCode::SUCCESS
        }
        Err(ending) => end(&ending),
    }
}

fn attach_once(flags: &AgentFlags) -> Result<(), Ending> {
    let settings = Settings::gather(flags, &Environment::of_process())?;
    start_log();
    let runtime = start_runtime()?;
    let attached = runtime.block_on(async {
        let composed = compose::build(&settings).await?;
        let started = composed.core.reattach().await;
        tracing::info!(attached = started.attached, troubled = started.troubled, "attached");
        Ok(())
    });
    runtime.shutdown_background(); // Docker waits for this: it must not wait for a remote store, or for its name.
    attached
}

fn end(ending: &Ending) -> ExitCode {
    let mut output = io::stderr();
    let _unwritable = writeln!(output, "dvs: {ending}");
    if let Ending::Failed(failure) = ending
        && let Some(hint) = hint_at_start(failure)
    {
        let _unwritable = writeln!(output, "hint: {hint}");
    }
    ExitCode::from(ending.exit_code())
}

/// A failure's own hint. The general hints of codes are for senders of jobs, and no job has been sent.
fn hint_at_start(failure: &Failure) -> Option<&str> {
    let code = failure.code();
    match failure.hint() {
        hint if hint != code.hint() => hint,
        _ => match code {
            FailureCode::StoreUnavailable => {
                Some("make it reachable, or take the store out of the configuration")
            }
            FailureCode::BadRequest => Some("mend the configuration; `dvs check` looks at all of it"),
            _ => None,
        },
    }
}

fn live(flags: &AgentFlags) -> Result<(), Ending> {
    let (settings, broker) = Settings::gather_with_broker(flags, &Environment::of_process())?;
    #[cfg(feature = "failpoints")]
    let _steps_to_fail = fail::FailScenario::setup();
    if flags.daemon_child {
        daemon::detach().map_err(|error| Ending::System("leave the terminal", error))?;
    }
    start_log();
    let runtime = start_runtime()?;
    let ended = runtime.block_on(work(&settings, &broker, flags.daemon_child));
    runtime.shutdown_background(); // A system call that hangs must not keep the process.
    ended
}

fn start_runtime() -> Result<Runtime, Ending> {
    // Directories that are made for mount points must be open to the containers that use them.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .enable_all()
        .build()
        .map_err(|error| Ending::System("start the runtime", error))
}

fn start_log() {
    let asked = std::env::var("DVS_LOG").ok();
    let filter = log_filter(asked.as_deref());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // Else a log that cannot be written, such as one on a full disk, makes whoever logs panic.
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    let _already = log.try_init();
}

/// What is logged, as `asked`. Below `info`, `bollard` tells what the container engine answers: environments of
/// containers, and the secrets in them. No wish for more of the log includes that.
fn log_filter(asked: Option<&str>) -> EnvFilter {
    let wishes = asked.unwrap_or_default().split(',').map(str::trim);
    let wishes: Vec<&str> = wishes.filter(|wish| !wish.is_empty() && !wish.starts_with("bollard")).collect();
    let wished = if wishes.is_empty() { None } else { EnvFilter::try_new(wishes.join(",")).ok() };
    let filter = wished.unwrap_or_else(|| EnvFilter::new(LOG_DEFAULT));
    let level = filter.max_level_hint().map_or(LevelFilter::INFO, |level| level.min(LevelFilter::INFO));
    match format!("bollard={level}").parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => EnvFilter::new(LOG_DEFAULT),
    }
}

async fn work(settings: &Settings, broker: &BrokerChoice, is_daemon: bool) -> Result<(), Ending> {
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| Ending::System("watch for signals", error))?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|error| Ending::System("watch for signals", error))?;
    let Composed { core, lock: _lock } = compose::build(settings).await?;
    let started = tokio::select! {
        started = core.reattach() => Some(started),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    };
    // A check of a large file system may take hours.
    let Some(started) = started else {
        tracing::info!("told to stop while volumes are attached: the next start attaches the rest");
        return Ok(());
    };
    tokio::spawn(space::watch(core.stores().iter().map(|(_, store)| Arc::clone(store)).collect()));

    let broker = open_broker(broker).await?;
    let stores: Vec<_> = core.stores().iter().map(|(name, _)| name.clone()).collect();
    let presence = Presence::Online { version: VERSION.to_owned(), stores: stores.clone() };
    let config = MqttConfig {
        client_id: settings.client_id.clone(),
        keep_alive_seconds: settings.keep_alive_seconds,
        ..MqttConfig::new(settings.access(broker), settings.topics.clone(), presence)
    };
    let (answers, door) = MqttDoor::start(config, Arc::new(core.intake()))?;
    let state = door.state();
    let status = Status {
        version: VERSION.to_owned(),
        process: std::process::id(),
        node: settings.topics.node().to_string(),
        stores: stores.iter().map(ToString::to_string).collect(),
        broker: String::new(),
    };
    let show = Arc::new(move || Status { broker: describe(&state.borrow()), ..status.clone() });
    socket::serve(&settings.socket, Arc::clone(core.stores()), Arc::clone(core.attachments()), show)?;

    let (stop, stopped) = watch::channel(false);
    let engine = tokio::spawn(core.run(Arc::new(answers), stopped));
    tracing::info!(
        node = %settings.topics.node(), process = std::process::id(),
        attached = started.attached, troubled = started.troubled, "ready"
    );
    // Without systemd there is nobody to tell.
    let _untold = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    if is_daemon {
        daemon::ready(&settings.state).map_err(|error| Ending::System("open the log", error))?;
    }
    tokio::select! {
        _ = terminate.recv() => tracing::info!("told to stop: finishing what runs"),
        _ = interrupt.recv() => tracing::info!("interrupted: finishing what runs"),
    }
    let _untold = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    let _ended = stop.send(true);
    let ended = engine.await;
    door.stop().await;
    let _gone = std::fs::remove_file(&settings.socket);
    match ended {
        Ok(()) => Ok(()),
        Err(defect) => Err(Failure::internal("a defect stopped the engine", defect).into()),
    }
}

fn describe(state: &ConnectionState) -> String {
    match state {
        ConnectionState::Connecting => "connecting".to_owned(),
        ConnectionState::Connected { .. } => Status::CONNECTED.to_owned(),
        ConnectionState::Away { reason, .. } => format!("away: {reason}"),
        ConnectionState::Stopped => "stopped".to_owned(),
    }
}

#[cfg(feature = "embedded-broker")]
async fn open_broker(choice: &BrokerChoice) -> Result<BrokerUrl, Failure> {
    match choice {
        BrokerChoice::At(url) => Ok(url.clone()),
        BrokerChoice::Embedded(address) => {
            use dvs_mqtt_embedded::{EmbeddedBroker, Reach};
            let broker = EmbeddedBroker::start(*address, Reach::Loopback).await?;
            tracing::info!(address = %broker.addr(), "the broker inside the agent listens; it is for trying out");
            BrokerUrl::parse(&broker.addr().to_string())
        }
    }
}

#[cfg(not(feature = "embedded-broker"))]
async fn open_broker(choice: &BrokerChoice) -> Result<BrokerUrl, Failure> {
    match choice {
        BrokerChoice::At(url) => Ok(url.clone()),
        BrokerChoice::Embedded(address) => Err(Failure::new(
            FailureCode::BadRequest,
            format!("this build has no broker to run at {address}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_container_engine_answers_is_never_logged() {
        for asked in
            [None, Some("debug"), Some("trace,bollard::docker=trace"), Some("bollard=debug"), Some("!!")]
        {
            let filter = log_filter(asked).to_string();
            let of_bollard: Vec<_> = filter.split(',').filter(|part| part.starts_with("bollard")).collect();
            assert_eq!(of_bollard.len(), 1, "{asked:?}: {filter}");
            assert!(["bollard=info", "bollard=error"].contains(&of_bollard[0]), "{asked:?}: {filter}");
        }
        assert!(log_filter(Some("error")).to_string().contains("bollard=error"));
        assert!(log_filter(Some("debug")).to_string().contains("debug"));
    }

    #[test]
    fn the_hint_at_start_is_for_who_starts_an_agent() {
        let general = Failure::new(FailureCode::StoreUnavailable, "x");
        assert!(hint_at_start(&general).is_some_and(|hint| !hint.contains("job")));
        assert_eq!(hint_at_start(&general.with_hint("own")), Some("own"));
        assert_eq!(hint_at_start(&Failure::new(FailureCode::Busy, "x")), None);
    }
}
