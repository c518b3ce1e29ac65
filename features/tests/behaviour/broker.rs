//! The broker of the run: Mosquitto in a container, or as a program.

use anyhow::{Context, Result};
use dvs_trials::broker::Mosquitto;
use dvs_trials::wait::until;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;
use testcontainers::bollard::models::PortBinding;
use testcontainers::core::IntoContainerPort;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};

const IMAGE_VARIABLE: &str = "DVS_MOSQUITTO_IMAGE";
/// By this label `cargo xtask` finds what a run that was cut off has left.
const LABEL: (&str, &str) = ("dvs.test", "1");
/// Both the published image and the one that `cargo xtask` makes have it: everybody may come in.
const START: [&str; 3] = ["/usr/sbin/mosquitto", "-c", "/mosquitto-no-auth.conf"];
const PORT: u16 = 1883;
const LISTENS_WITHIN: Duration = Duration::from_secs(30);

pub(crate) enum Broker {
    /// In a container, with its address on this machine.
    Container(Box<ContainerAsync<GenericImage>>, SocketAddr, String),
    Program(Mosquitto),
}

impl Broker {
    /// Starts one. A program has its files in `folder`.
    pub(crate) async fn start(folder: &Path) -> Result<Self> {
        match std::env::var(IMAGE_VARIABLE).ok().filter(|image| !image.is_empty()) {
            Some(image) => container(image).await,
            None => Ok(Self::Program(Mosquitto::start(folder).await?)),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Container(_, address, _) => *address,
            Self::Program(broker) => broker.address(),
        }
    }

    /// Ends it, and removes its container.
    pub(crate) async fn end(self) -> Result<()> {
        match self {
            Self::Container(container, ..) => {
                container.rm().await.context("cannot remove the broker's container")
            }
            Self::Program(mut broker) => {
                broker.end();
                Ok(())
            }
        }
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(_, address, image) => write!(formatter, "{image} in a container, at {address}"),
            Self::Program(broker) => write!(formatter, "mosquitto as a program, at {}", broker.address()),
        }
    }
}

async fn container(image: String) -> Result<Broker> {
    let (name, tag) = match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image.as_str(), "latest"),
    };
    let container = GenericImage::new(name, tag)
        .with_exposed_port(PORT.tcp())
        .with_cmd(START)
        .with_labels([LABEL])
        .with_host_config_modifier(|host| {
            // Otherwise the port would be open to the network.
            host.publish_all_ports = Some(false);
            let loopback = PortBinding { host_ip: Some(Ipv4Addr::LOCALHOST.to_string()), host_port: None };
            host.port_bindings = Some([(format!("{PORT}/tcp"), Some(vec![loopback]))].into());
        })
        .start()
        .await
        .with_context(|| format!("cannot run {image}; {IMAGE_VARIABLE} names it"))?;
    let port = container.get_host_port_ipv4(PORT).await.context("the broker's container has no port")?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    until("the broker in the container listens", LISTENS_WITHIN, || {
        Ok(TcpStream::connect(address).ok().map(drop))
    })
    .await?;
    Ok(Broker::Container(Box::new(container), address, image))
}
