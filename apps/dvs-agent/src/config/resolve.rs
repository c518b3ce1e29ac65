//! Resolves flags, environment and file into settings. Every problem is collected.

use super::file::FileSettings;
use super::{
    AgentFlags, BrokerChoice, DockerChoice, EngineSettings, Environment, SOCKET_BYTES_MAX, STATE_FOLDER,
    Settings, socket_of,
};
use dvs_core::EngineLimits;
use dvs_docker_engine::ContainerEngines;
use dvs_domain::failure::Failure;
use dvs_domain::ledger::Limits;
use dvs_domain::mount_point::{AllowedRoots, MountPoint};
use dvs_domain::names::{NodeName, StoreName};
use dvs_job_json::{TopicWords, Topics};
use dvs_mqtt_rumqttc::{BrokerUrl, Credentials, KEEP_ALIVE_SECONDS, TlsFiles};
use std::path::{Path, PathBuf};
use url::Url;

/// The value that turns an engine off.
const NO_ENGINE: &str = "none";

pub(super) fn resolve(
    flags: &AgentFlags,
    environment: &Environment,
    file: FileSettings,
    problems: &mut Vec<String>,
) -> Option<Settings> {
    if flags.mqtt_client.as_deref() == Some("paho") {
        problems.push("`--mqtt-client paho`: this build has only rumqttc".to_owned());
    }
    let broker = resolve_broker(flags, file.broker.as_ref(), problems);
    let credentials = resolve_credentials(environment, &file, problems);
    let tls = resolve_tls(&file, problems);
    let limits = resolve_limits(&file, problems);
    let topics = resolve_topics(flags, environment, &file, problems);
    let moved = flags.state.clone().or(file.state);
    let stores = resolve_stores(flags, file.stores, moved.as_deref(), problems);
    let mount_roots = if flags.mount_root.is_empty() {
        file.mount_roots.unwrap_or_default()
    } else {
        flags.mount_root.clone()
    };
    let mount_roots: Vec<MountPoint> = mount_roots
        .into_iter()
        .filter_map(|root| note(MountPoint::new(root), "mount root", problems))
        .collect();
    let engines = resolve_engines(flags, file.docker, file.podman, file.engine_seconds, problems);
    let socket = resolve_socket(moved.as_deref(), problems);
    let topics = topics?;
    Some(Settings {
        broker,
        client_id: file.client_id.unwrap_or_else(|| format!("dvs-{}", topics.node())),
        credentials,
        tls,
        keep_alive_seconds: file
            .keep_alive_seconds
            .and_then(|seconds| u16::try_from(seconds).ok())
            .unwrap_or(KEEP_ALIVE_SECONDS),
        topics,
        socket,
        state: moved.unwrap_or_else(|| PathBuf::from(STATE_FOLDER)),
        stores,
        roots: AllowedRoots::with(mount_roots),
        engines,
        limits,
        engine_limits: EngineLimits { stop_seconds: file.stop_seconds.unwrap_or(60) },
    })
}

fn resolve_limits(file: &FileSettings, problems: &mut Vec<String>) -> Limits {
    let mut limits = Limits::default();
    let usize_of = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    limits.workers = file.workers.map_or(limits.workers, usize_of);
    limits.queue = file.queue.map_or(limits.queue, usize_of);
    limits.job_milliseconds = file.job_seconds.map_or(limits.job_milliseconds, |seconds| seconds * 1000);
    limits.remembered_min = file.remembered_jobs.map_or(limits.remembered_min, usize_of);
    limits.remembered_milliseconds =
        file.remembered_days.map_or(limits.remembered_milliseconds, |days| days * 24 * 60 * 60 * 1000);
    limits.remembered_max =
        file.remembered_jobs_max.map_or(limits.remembered_max.max(limits.remembered_min), usize_of);
    if limits.remembered_max < limits.remembered_min {
        problems.push(format!(
            "`limits.remembered_jobs_max` is {}, and `limits.remembered_jobs` {}: at most must not be less than at least",
            limits.remembered_max, limits.remembered_min
        ));
    }
    limits
}

fn resolve_broker(
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
    let text = flags.broker.as_ref().filter(|text| !text.is_empty()).or(in_file)?;
    note(BrokerUrl::parse(text), "broker", problems).map(BrokerChoice::At)
}

/// A socket path that is too long would otherwise fail only after everything else has started.
fn resolve_socket(state: Option<&Path>, problems: &mut Vec<String>) -> PathBuf {
    let socket = socket_of(state);
    let bytes = socket.as_os_str().len();
    if bytes > SOCKET_BYTES_MAX {
        problems.push(format!(
            "the path of the agent's socket `{}` has {bytes} bytes, and the system takes {SOCKET_BYTES_MAX}: name a \
             state folder with a shorter path, `--state DIR`",
            socket.display()
        ));
    }
    socket
}

fn resolve_engines(
    flags: &AgentFlags,
    docker_in_file: Option<String>,
    podman_in_file: Option<String>,
    seconds_in_file: Option<u64>,
    problems: &mut Vec<String>,
) -> EngineSettings {
    let mut resolved = |name: &str, flag: &Option<String>, in_file: Option<String>| {
        let text = flag.clone().filter(|text| !text.is_empty()).or(in_file)?;
        Some(resolve_engine(name, &text, problems))
    };
    let docker = resolved("docker", &flags.docker, docker_in_file);
    let podman = resolved("podman", &flags.podman, podman_in_file);
    EngineSettings {
        docker: match docker {
            None => DockerChoice::Usual,
            Some(Some(socket)) => DockerChoice::At(socket),
            Some(None) => DockerChoice::Nowhere,
        },
        podman: podman.flatten(),
        seconds: flags.engine_seconds.or(seconds_in_file).unwrap_or(ContainerEngines::ENGINE_SECONDS_MAX),
    }
}

/// The socket that `text` names, as a path or a `unix://` URL. An engine that is reached otherwise is refused: ignoring
/// it would mean to assume that its containers use nothing.
fn resolve_engine(name: &str, text: &str, problems: &mut Vec<String>) -> Option<PathBuf> {
    if text == NO_ENGINE {
        return None;
    }
    let socket = Path::new(text.strip_prefix("unix://").unwrap_or(text));
    if !socket.is_absolute() {
        problems.push(format!(
            "`{text}` is no Unix socket of this host at which `{name}` could be asked: name one, \
             `--{name} /path/to.sock`, or ask none, `--{name} {NO_ENGINE}`"
        ));
    }
    Some(socket.to_owned())
}

/// Whether a broker is configured, correctly or not.
pub(super) fn names_broker(flags: &AgentFlags, file: &FileSettings) -> bool {
    let in_flags = flags.broker.as_ref().is_some_and(|text| !text.is_empty());
    in_flags || flags.embedded_broker.is_some() || file.broker.is_some()
}

fn resolve_credentials(
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

fn resolve_tls(file: &FileSettings, problems: &mut Vec<String>) -> TlsFiles {
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

fn resolve_topics(
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

fn resolve_stores(
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

fn note<T>(result: Result<T, Failure>, what: &str, problems: &mut Vec<String>) -> Option<T> {
    result.map_err(|failure| problems.push(format!("{what}: {}", failure.chain()))).ok()
}
