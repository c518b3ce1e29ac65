//! The agent's settings: flags over environment over file over defaults. Every problem is told at once, before
//! anything is touched.

mod file;
mod flags;

pub use flags::AgentFlags;

use crate::core::EngineLimits;
use dvs_domain::ledger::Limits;
use dvs_domain::mount_point::{AllowedRoots, MountPoint};
use dvs_domain::names::{NodeName, StoreName};
use dvs_job_json::{TopicWords, Topics};
use dvs_mqtt_rumqttc::{BrokerAccess, BrokerUrl, Credentials, KEEP_ALIVE_SECONDS, TlsFiles};
use file::FileSettings;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use url::Url;

/// Where the configuration is looked for when no flag names it.
pub const CONFIG_FILE: &str = "/etc/dvs/dvs.toml";
/// Where the agent keeps what it must remember.
pub const STATE_FOLDER: &str = "/var/lib/dvs";
/// Where the agent answers the command line, unless `--state` moves it.
pub const SOCKET: &str = "/run/dvs/agent.sock";

/// Everything that is settled about a run of the agent.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where jobs come from.
    pub broker: BrokerChoice,
    /// The MQTT client id.
    pub client_id: String,
    /// User and password for the broker.
    pub credentials: Option<Credentials>,
    /// Certificates for encrypted connections.
    pub tls: TlsFiles,
    /// How often the broker hears of an idle agent, in seconds.
    pub keep_alive_seconds: u16,
    /// The topics of this node.
    pub topics: Topics,
    /// Where the journal is.
    pub state: PathBuf,
    /// Where the agent answers the command line.
    pub socket: PathBuf,
    /// The stores, the default one first.
    pub stores: Vec<(StoreName, Url)>,
    /// Where jobs may mount.
    pub roots: AllowedRoots,
    /// The ledger's limits.
    pub limits: Limits,
    /// The engine's limits.
    pub engine_limits: EngineLimits,
}

/// Where jobs come from.
#[derive(Clone, Debug)]
pub enum BrokerChoice {
    /// A broker somewhere.
    At(BrokerUrl),
    /// A broker inside the agent, listening there.
    Embedded(SocketAddr),
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

/// What of the environment counts.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `MQTT_USER`.
    pub user: Option<String>,
    /// `MQTT_PASSWORD`.
    pub password: Option<String>,
    /// The host's name.
    pub host_name: String,
}

impl Environment {
    /// The environment of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { user: variable("MQTT_USER"), password: variable("MQTT_PASSWORD"), host_name }
    }
}

impl Settings {
    /// What it takes to connect to the broker at `url`.
    #[must_use]
    pub fn access(&self, url: BrokerUrl) -> BrokerAccess {
        BrokerAccess { broker: url, credentials: self.credentials.clone(), tls: self.tls.clone() }
    }

    /// Settles everything.
    ///
    /// # Errors
    /// All problems at once.
    pub fn gather(flags: &AgentFlags, environment: &Environment) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let path = flags.config.clone().unwrap_or_else(|| PathBuf::from(CONFIG_FILE));
        let file = FileSettings::read(&path, flags.config.is_some(), &mut problems);
        let settled = settle(flags, environment, file, &mut problems);
        match settled {
            Some(settings) if problems.is_empty() => Ok(settings),
            _ => Err(Problems(problems)),
        }
    }
}

/// Where the agent of this state folder answers the command line.
#[must_use]
pub fn socket_of(state: Option<&Path>) -> PathBuf {
    state.map_or_else(|| PathBuf::from(SOCKET), |state| state.join("agent.sock"))
}

fn settle(
    flags: &AgentFlags,
    environment: &Environment,
    file: FileSettings,
    problems: &mut Vec<String>,
) -> Option<Settings> {
    if flags.mqtt_client.as_deref() == Some("paho") {
        problems.push("`--mqtt-client paho`: this build has only rumqttc".to_owned());
    }
    let broker = settle_broker(flags, file.broker.as_ref(), problems);
    let credentials = settle_credentials(environment, &file, problems);
    let tls = settle_tls(&file, problems);
    let topics = settle_topics(flags, environment, &file, problems);
    let moved = flags.state.clone().or(file.state);
    let stores = settle_stores(flags, file.stores, moved.as_deref(), problems);
    let mount_roots = if flags.mount_root.is_empty() {
        file.mount_roots.unwrap_or_default()
    } else {
        flags.mount_root.clone()
    };
    let mount_roots: Vec<MountPoint> = mount_roots
        .into_iter()
        .filter_map(|root| note(MountPoint::new(root), "mount root", problems))
        .collect();
    let mut limits = Limits::default();
    let usize_of = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    limits.workers = file.workers.map_or(limits.workers, usize_of);
    limits.queue = file.queue.map_or(limits.queue, usize_of);
    limits.job_milliseconds = file.job_seconds.map_or(limits.job_milliseconds, |seconds| seconds * 1000);
    limits.remembered_min = file.remembered_jobs.map_or(limits.remembered_min, usize_of);
    limits.remembered_milliseconds =
        file.remembered_days.map_or(limits.remembered_milliseconds, |days| days * 24 * 60 * 60 * 1000);
    let topics = topics?;
    Some(Settings {
        broker: broker?,
        client_id: file.client_id.unwrap_or_else(|| format!("dvs-{}", topics.node())),
        credentials,
        tls,
        keep_alive_seconds: file
            .keep_alive_seconds
            .and_then(|seconds| u16::try_from(seconds).ok())
            .unwrap_or(KEEP_ALIVE_SECONDS),
        topics,
        socket: socket_of(moved.as_deref()),
        state: moved.unwrap_or_else(|| PathBuf::from(STATE_FOLDER)),
        stores,
        roots: AllowedRoots::with(mount_roots),
        limits,
        engine_limits: EngineLimits { stop_seconds: file.stop_seconds.unwrap_or(60) },
    })
}

fn settle_broker(
    flags: &AgentFlags,
    in_file: Option<&String>,
    problems: &mut Vec<String>,
) -> Option<BrokerChoice> {
    if let Some(address) = flags.embedded_broker {
        if cfg!(feature = "embedded-broker") {
            return Some(BrokerChoice::Embedded(address));
        }
        problems.push(
            "`--embedded-broker`: this build has no broker inside (feature `embedded-broker`)".to_owned(),
        );
        return None;
    }
    let Some(text) = flags.broker.as_ref().filter(|text| !text.is_empty()).or(in_file) else {
        problems.push("no broker is named: `-b BROKER`, MQTT_BROKER or `broker` in the file".to_owned());
        return None;
    };
    note(BrokerUrl::parse(text), "broker", problems).map(BrokerChoice::At)
}

fn settle_credentials(
    environment: &Environment,
    file: &FileSettings,
    problems: &mut Vec<String>,
) -> Option<Credentials> {
    let from_file = file.password_file.as_ref().and_then(|path| match std::fs::read_to_string(path) {
        Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(error) => {
            problems.push(format!("cannot read `mqtt.password_file` `{}`: {error}", path.display()));
            None
        }
    });
    let user = environment.user.clone().or_else(|| file.user.clone());
    let password = environment.password.clone().or(from_file);
    match (user, password) {
        (Some(user), password) => Some(Credentials::new(user, password.unwrap_or_default())),
        (None, Some(_)) => {
            problems
                .push("there is a password for the broker and no user: `mqtt.user` or MQTT_USER".to_owned());
            None
        }
        (None, None) => None,
    }
}

fn settle_tls(file: &FileSettings, problems: &mut Vec<String>) -> TlsFiles {
    let identity = match (&file.certificate_file, &file.key_file) {
        (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
        (None, None) => None,
        _ => {
            problems.push("`mqtt.certificate_file` and `mqtt.key_file` go together".to_owned());
            None
        }
    };
    TlsFiles { authorities: file.authorities_file.clone(), identity }
}

fn settle_topics(
    flags: &AgentFlags,
    environment: &Environment,
    file: &FileSettings,
    problems: &mut Vec<String>,
) -> Option<Topics> {
    let mut words = TopicWords::default();
    for (word, spelling) in &file.topics {
        let place = match *word {
            "docker" => &mut words.docker,
            "volumes" => &mut words.volumes,
            "create" => &mut words.create,
            "delete" => &mut words.delete,
            "sip" => &mut words.sip,
            "jobs" => &mut words.jobs,
            "failed" => &mut words.failed,
            _ => &mut words.agent,
        };
        place.clone_from(spelling);
    }
    let name = flags.node.as_ref().or(file.node.as_ref()).unwrap_or(&environment.host_name);
    let node = note(NodeName::new(name.as_str()), "node", problems)?;
    note(Topics::new(words, node), "topics", problems)
}

fn settle_stores(
    flags: &AgentFlags,
    in_file: Option<Vec<String>>,
    state: Option<&Path>,
    problems: &mut Vec<String>,
) -> Vec<(StoreName, Url)> {
    let texts = if flags.store.is_empty() { in_file.unwrap_or_default() } else { flags.store.clone() };
    if texts.is_empty() {
        let folder = state.unwrap_or(Path::new(STATE_FOLDER)).join("volumes");
        let default =
            StoreName::new("loop").ok().zip(Url::parse(&format!("loop://{}", folder.display())).ok());
        return default.into_iter().collect();
    }
    let mut stores = Vec::new();
    for text in texts {
        let Some((name, url)) = text.split_once('=') else {
            problems
                .push(format!("store `{text}` is not NAME=URL, such as loop=loop:///var/lib/dvs/volumes"));
            continue;
        };
        let name = note(StoreName::new(name), "store", problems);
        let url = Url::parse(url).map_err(|error| problems.push(format!("store `{text}`: {error}"))).ok();
        stores.extend(name.zip(url));
    }
    stores
}

fn note<T>(
    result: Result<T, dvs_domain::failure::Failure>,
    what: &str,
    problems: &mut Vec<String>,
) -> Option<T> {
    result.map_err(|failure| problems.push(format!("{what}: {}", failure.chain()))).ok()
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
            matches!(&settings.broker, BrokerChoice::At(url) if url.to_string().contains("flag.example"))
        );
        assert_eq!(settings.topics.subscription(), "docker/n1/volumes/#");
        assert_eq!(settings.stores[0].0.as_str(), "a");
        assert_eq!((settings.limits.workers, settings.limits.queue), (2, Limits::default().queue));
        assert_eq!(settings.client_id, "dvs-n1");
        assert_eq!(settings.socket, PathBuf::from(SOCKET));
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
        let Problems(problems) =
            gather(&flags, "brokr = 'x'\n[mqtt]\npassword_file = '/nowhere'\n").unwrap_err();
        for part in
            ["brokr", "no broker is named", "/nowhere", "node name `sip`", "`nothing`", "`a b`", "`data`"]
        {
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
}
