//! The agent's settings: flags over environment over file over defaults. All problems are reported at once, before
//! anything is changed.

mod file;
mod flags;
mod resolve;

pub use flags::AgentFlags;

use dvs_core::EngineLimits;
use dvs_domain::ledger::Limits;
use dvs_domain::mount_point::AllowedRoots;
use dvs_domain::names::StoreName;
use dvs_job_json::Topics;
use dvs_mqtt_rumqttc::{BrokerAccess, BrokerUrl, Credentials, TlsFiles};
use file::FileSettings;
use resolve::{names_broker, resolve};
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use url::Url;

/// The configuration file, unless a flag names another.
pub const CONFIG_FILE: &str = "/etc/dvs/dvs.toml";
/// The state folder, unless `--state` names another.
pub const STATE_FOLDER: &str = "/var/lib/dvs";
/// The agent's socket, unless `--state` moves it.
pub const SOCKET: &str = "/run/dvs/agent.sock";

/// Maximum time-out for container engines, in seconds: a sender waits for them.
const ENGINE_SECONDS: RangeInclusive<u64> = 1..=30;

/// The longest path of a Unix socket, in bytes: `sun_path` has 108, and ends with a zero.
const SOCKET_BYTES_MAX: usize = 107;

/// Everything that is configured about a run of the agent.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Optional: only commands that take or send jobs need it.
    pub broker: Option<BrokerChoice>,
    pub client_id: String,
    /// User and password for the broker.
    pub credentials: Option<Credentials>,
    pub tls: TlsFiles,
    /// MQTT keep-alive, in seconds.
    pub keep_alive_seconds: u16,
    pub topics: Topics,
    pub state: PathBuf,
    /// The agent's socket.
    pub socket: PathBuf,
    /// The stores, the default one first.
    pub stores: Vec<(StoreName, Url)>,
    pub roots: AllowedRoots,
    pub engines: EngineSettings,
    pub limits: Limits,
    pub engine_limits: EngineLimits,
}

#[derive(Clone, Debug)]
pub enum BrokerChoice {
    At(BrokerUrl),
    /// The embedded broker, listening there.
    Embedded(SocketAddr),
}

/// Container engines that are asked for the users of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineSettings {
    pub docker: DockerChoice,
    /// The socket of Podman's API, if it is asked.
    pub podman: Option<PathBuf>,
    /// Time-out of an engine for all queries of one job, in seconds.
    pub seconds: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerChoice {
    /// At its default socket, once it is there.
    Usual,
    /// At this socket; it has to answer.
    At(PathBuf),
    Nowhere,
}

/// What is wrong with the settings: each line is one problem.
#[derive(Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Problems {}

#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `MQTT_USER`.
    pub user: Option<String>,
    /// `MQTT_PASSWORD`.
    pub password: Option<String>,
    pub host_name: String,
}

impl Environment {
    #[must_use]
    pub fn of_process() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { user: variable("MQTT_USER"), password: variable("MQTT_PASSWORD"), host_name }
    }
}

impl Settings {
    /// Address, credentials and certificates for the broker at `url`.
    #[must_use]
    pub fn access(&self, url: BrokerUrl) -> BrokerAccess {
        BrokerAccess { broker: url, credentials: self.credentials.clone(), tls: self.tls.clone() }
    }

    /// Resolves all settings. A broker may be absent.
    ///
    /// # Errors
    /// All problems at once.
    pub fn gather(flags: &AgentFlags, environment: &Environment) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let file = read_file(flags.config.as_deref(), &mut problems);
        let settings = resolve(flags, environment, file, &mut problems);
        settings.filter(|_| problems.is_empty()).ok_or(Problems(problems))
    }

    /// Resolves all settings, for commands that take or send jobs.
    ///
    /// # Errors
    /// All problems at once: also that no broker is named.
    pub fn gather_with_broker(
        flags: &AgentFlags,
        environment: &Environment,
    ) -> Result<(Self, BrokerChoice), Problems> {
        let mut problems = Vec::new();
        let file = read_file(flags.config.as_deref(), &mut problems);
        if !names_broker(flags, &file) {
            let missing = "no broker is named: `-b BROKER`, MQTT_BROKER or `broker` in the file; \
                           `dvs --help` tells more";
            problems.push(missing.to_owned());
        }
        let settings = resolve(flags, environment, file, &mut problems);
        let with_broker =
            settings.and_then(|settings| settings.broker.clone().map(|broker| (settings, broker)));
        with_broker.filter(|_| problems.is_empty()).ok_or(Problems(problems))
    }
}

/// The socket of the agent that is configured by the file `config` (by default the usual one, if it is there), unless
/// `state` names its state folder.
///
/// # Errors
/// All that is wrong with the file.
pub fn socket_for(config: Option<&Path>, state: Option<&Path>) -> Result<PathBuf, Problems> {
    if state.is_some() {
        return Ok(socket_of(state));
    }
    let mut problems = Vec::new();
    let file = read_file(config, &mut problems);
    if problems.is_empty() { Ok(socket_of(file.state.as_deref())) } else { Err(Problems(problems)) }
}

fn socket_of(state: Option<&Path>) -> PathBuf {
    state.map_or_else(|| PathBuf::from(SOCKET), |state| state.join("agent.sock"))
}

fn read_file(config: Option<&Path>, problems: &mut Vec<String>) -> FileSettings {
    FileSettings::read(config.unwrap_or(Path::new(CONFIG_FILE)), config.is_some(), problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment { host_name: "host".to_owned(), ..Environment::default() }
    }

    fn gather(flags: &AgentFlags, text: &str) -> Result<Settings, Problems> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dvs.toml");
        std::fs::write(&path, text).unwrap();
        Settings::gather(&AgentFlags { config: Some(path), ..flags.clone() }, &environment())
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let flags = AgentFlags {
            broker: Some("flag.example".to_owned()),
            store: vec!["a=fake:///x".to_owned()],
            ..AgentFlags::default()
        };
        let settings = gather(
            &flags,
            "broker = 'file.example'\nnode = 'n1'\nstores = ['b=fake:///y']\n[limits]\nworkers = 2\n",
        )
        .unwrap();
        assert!(
            matches!(&settings.broker, Some(BrokerChoice::At(url)) if url.to_string().contains("flag.example"))
        );
        assert_eq!(settings.topics.subscription(), "docker/n1/volumes/#");
        assert_eq!(settings.stores[0].0.as_str(), "a");
        assert_eq!((settings.limits.workers, settings.limits.queue), (2, Limits::default().queue));
        assert_eq!(settings.client_id, "dvs-n1");
        assert_eq!(settings.socket, PathBuf::from(SOCKET));
    }

    #[test]
    fn engines_are_named_by_flag_environment_or_file_and_nothing_is_taken_for_a_socket() {
        let usual = gather(&AgentFlags::default(), "").unwrap().engines;
        let expected = EngineSettings { docker: DockerChoice::Usual, podman: None, seconds: 3 };
        assert_eq!(usual, expected);
        let file = "[engines]\ndocker = 'unix:///run/d.sock'\npodman = '/run/p.sock'\nseconds = 7\n";
        let at = |path: &str| DockerChoice::At(PathBuf::from(path));
        let podman = Some(PathBuf::from("/run/p.sock"));
        let expected = EngineSettings { docker: at("/run/d.sock"), podman: podman.clone(), seconds: 7 };
        let named = |docker: &str| AgentFlags { docker: Some(docker.to_owned()), ..AgentFlags::default() };
        assert_eq!(gather(&named(""), file).unwrap().engines, expected, "an empty variable counts as absent");
        let flags =
            AgentFlags { podman: Some("none".to_owned()), engine_seconds: Some(9), ..named("/f.sock") };
        let expected = EngineSettings { docker: at("/f.sock"), podman: None, seconds: 9 };
        assert_eq!(gather(&flags, file).unwrap().engines, expected);
        assert_eq!(gather(&named("none"), file).unwrap().engines.docker, DockerChoice::Nowhere);
        for elsewhere in ["tcp://127.0.0.1:2375", "ssh://host", "docker.sock", "None"] {
            let Problems(problems) = gather(&named(elsewhere), "").unwrap_err();
            assert!(problems[0].contains(elsewhere) && problems[0].contains("--docker none"), "{problems:?}");
        }
    }

    #[test]
    fn the_state_folder_moves_the_socket_and_the_default_store() {
        let flags = AgentFlags {
            broker: Some("b".to_owned()),
            state: Some(PathBuf::from("/s")),
            ..AgentFlags::default()
        };
        let settings = gather(&flags, "").unwrap();
        assert_eq!(settings.socket, PathBuf::from("/s/agent.sock"));
        assert_eq!(settings.stores[0].1.as_str(), "loop:///s/volumes");
        assert_eq!(settings.topics.node().as_str(), "host");
    }

    #[test]
    fn all_problems_of_flags_and_file_are_told_at_once() {
        let flags = AgentFlags {
            node: Some("sip".to_owned()),
            store: vec!["nothing".to_owned(), "a b=fake:///x".to_owned()],
            mount_root: vec!["data".to_owned()],
            ..AgentFlags::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dvs.toml");
        let file = "brokr = 'x'\n[mqtt]\npassword_file = '/nowhere'\n\
                    [limits]\nremembered_jobs = 20000\nremembered_jobs_max = 10000\n";
        std::fs::write(&path, file).unwrap();
        let flags = AgentFlags { config: Some(path), ..flags };
        let Problems(problems) = Settings::gather_with_broker(&flags, &environment()).unwrap_err();
        for part in [
            "brokr",
            "no broker is named",
            "/nowhere",
            "node name `sip`",
            "`nothing`",
            "`a b`",
            "`data`",
            "`limits.remembered_jobs_max` is 10000",
        ] {
            assert!(
                problems.iter().any(|problem| problem.contains(part)),
                "{part} is missing in {problems:#?}"
            );
        }
    }

    #[test]
    fn an_empty_broker_variable_counts_as_absent() {
        let flags = AgentFlags { broker: Some(String::new()), ..AgentFlags::default() };
        assert!(gather(&flags, "broker = 'b'").is_ok());
    }

    #[test]
    fn only_who_takes_or_sends_jobs_needs_a_broker() {
        assert!(gather(&AgentFlags::default(), "").unwrap().broker.is_none());

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dvs.toml");
        std::fs::write(&path, "").unwrap();
        let flags = AgentFlags { config: Some(path), ..AgentFlags::default() };
        let Problems(problems) = Settings::gather_with_broker(&flags, &environment()).unwrap_err();
        assert_eq!(problems.len(), 1);
        let flags = AgentFlags { broker: Some("b".to_owned()), ..flags };
        assert!(Settings::gather_with_broker(&flags, &environment()).is_ok());
    }

    #[test]
    fn the_socket_is_where_the_state_folder_of_flag_or_file_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dvs.toml");
        std::fs::write(&path, "state = '/in/file'\n").unwrap();
        let flag = Some(Path::new("/in/flag"));
        assert_eq!(socket_for(Some(&path), None).unwrap(), PathBuf::from("/in/file/agent.sock"));
        assert_eq!(socket_for(Some(&path), flag).unwrap(), PathBuf::from("/in/flag/agent.sock"));
        assert!(socket_for(Some(Path::new("/nowhere/dvs.toml")), None).is_err());
    }

    #[test]
    fn a_state_folder_whose_socket_cannot_be_opened_is_a_problem() {
        let with_state = |length: usize| {
            let state = format!("/{}", "s".repeat(length - "//agent.sock".len()));
            gather(&AgentFlags { state: Some(PathBuf::from(state)), ..AgentFlags::default() }, "")
        };
        assert!(with_state(107).is_ok());
        let Problems(problems) = with_state(108).unwrap_err();
        assert!(problems[0].contains("s/agent.sock`") && problems[0].contains("--state"), "{problems:?}");
    }
}
