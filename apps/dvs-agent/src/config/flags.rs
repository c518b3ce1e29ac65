//! The flags of the agent. Every one may be absent; flags win over the environment, the environment over the
//! file.

use super::ENGINE_SECONDS;
use std::net::SocketAddr;
use std::path::PathBuf;

/// How the agent is started.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct AgentFlags {
    /// The MQTT broker: HOST, HOST:PORT or a URL (mqtt:// tcp:// mqtts:// ssl://)
    #[arg(short, long, env = "MQTT_BROKER", value_name = "BROKER")]
    pub broker: Option<String>,
    /// Run as a daemon, in the background
    #[arg(short, long)]
    pub daemon: bool,
    /// The configuration file [default: /etc/dvs/dvs.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// This node's name in topics [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Where the agent keeps its journal and its socket [default: /var/lib/dvs, the socket in /run/dvs]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// A volume store, such as loop=loop:///var/lib/dvs/volumes; the first is the default
    #[arg(long, value_name = "NAME=URL")]
    pub store: Vec<String>,
    /// One more place below which volumes may be mounted
    #[arg(long, value_name = "DIR")]
    pub mount_root: Vec<String>,
    /// Docker's socket, which then has to answer, or `none` [default: /var/run/docker.sock, once it is there]
    #[arg(long, env = "DOCKER_HOST", value_name = "SOCKET")]
    pub docker: Option<String>,
    /// The socket of Podman's API, such as /run/podman/podman.sock, or `none` [default: none]
    #[arg(long, env = "CONTAINER_HOST", value_name = "SOCKET")]
    pub podman: Option<String>,
    /// How long a container engine may take to answer [default: 3]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(ENGINE_SECONDS))]
    pub engine_seconds: Option<u64>,
    /// The MQTT client
    #[arg(long, value_name = "CLIENT", value_parser = ["rumqttc", "paho"])]
    pub mqtt_client: Option<String>,
    /// Run a broker inside the agent, for trying out
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = "127.0.0.1:1883")]
    pub embedded_broker: Option<SocketAddr>,
    /// Set by `--daemon` for the process that stays
    #[arg(long, hide = true)]
    pub daemon_child: bool,
}
