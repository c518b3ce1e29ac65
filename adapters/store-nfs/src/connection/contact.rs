//! The first contact with a server: its addresses, the ports of its services, and the handle of the export.

use super::dial;
use super::framed::Framed;
use super::{fault_of_rpc, is_closed};
use crate::settings::Settings;
use crate::target::{Fault, Handle, TargetError};
use nfs3_client::nfs3_types::mount::{self, dirpath, mountstat3};
use nfs3_client::nfs3_types::rpc::{auth_unix, opaque_auth};
use nfs3_client::nfs3_types::xdr_codec::Opaque;
use nfs3_client::nfs3_types::{nfs3, portmap};
use nfs3_client::{MountClient, MountError, PortmapError, PortmapperClient};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// Where every portmapper is.
const PORTMAPPER: u16 = 111;
/// The least time that one of several addresses gets, in milliseconds.
const ADDRESS_MILLISECONDS_MIN: u64 = 100;

/// What is known of a server.
#[derive(Debug)]
pub(crate) struct Contact {
    /// Its NFS service.
    pub(crate) nfs: SocketAddr,
    /// The export's own folder.
    pub(crate) root: Handle,
}

impl Contact {
    /// Finds out what must be known, at the first of the host's addresses where it can be found out.
    pub(crate) async fn make(settings: &Settings, until: Instant) -> Result<Self, TargetError> {
        let failed = |fault| TargetError { call: "find the server's address", fault };
        let addresses = match timeout_at(until, dial::addresses(&settings.host)).await {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => {
                return Err(failed(Fault::Unreachable(format!("`{}`: {error}", settings.host))));
            }
            Err(_) => return Err(failed(Fault::Late)),
        };
        let mut last = failed(Fault::Late);
        for (index, address) in addresses.iter().enumerate() {
            // One address that swallows everything must not take the time of all.
            let left = until.saturating_duration_since(Instant::now());
            let others = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
            let share = (left / others).max(Duration::from_millis(ADDRESS_MILLISECONDS_MIN));
            let share = until.min(Instant::now() + share);
            match Self::at(settings, *address, share).await {
                // What a server has said about the export, the same server says at its other addresses.
                Err(error) if matches!(error.fault, Fault::Unreachable(_) | Fault::Late) => last = error,
                made => return made,
            }
        }
        Err(last)
    }

    async fn at(settings: &Settings, address: IpAddr, until: Instant) -> Result<Self, TargetError> {
        let port = |known, program, version| async move {
            match known {
                Some(port) => Ok(port),
                None => ask_for_port(address, program, version, until).await,
            }
        };
        let nfs_port = port(settings.port, nfs3::PROGRAM, nfs3::VERSION).await?;
        let mount_port = port(settings.mount_port, mount::PROGRAM, mount::VERSION).await?;
        let root = mount_export(settings, SocketAddr::new(address, mount_port), until).await?;
        Ok(Self { nfs: SocketAddr::new(address, nfs_port), root })
    }
}

async fn ask_for_port(
    address: IpAddr,
    program: u32,
    version: u32,
    until: Instant,
) -> Result<u16, TargetError> {
    let call = "ask the portmapper";
    let stream = connect(SocketAddr::new(address, PORTMAPPER), call, until).await?;
    let mut portmapper = PortmapperClient::new(Framed::new(stream));
    let asked = timeout_at(until, portmapper.getport(program, version, portmap::IPPROTO_TCP)).await;
    let fault = match asked {
        Ok(Ok(port)) => return Ok(port),
        Ok(Err(PortmapError::ProgramUnavailable)) => {
            let service = if program == nfs3::PROGRAM { "NFSv3" } else { "the mount service" };
            Fault::Unreachable(format!("the server does not offer {service} over TCP"))
        }
        Ok(Err(PortmapError::InvalidPortValue(port))) => Fault::Nonsense(format!("{port} is no port")),
        Ok(Err(PortmapError::Rpc(error))) => fault_of_rpc(&error),
        Err(_) => Fault::Late,
    };
    Err(TargetError { call, fault })
}

async fn mount_export(
    settings: &Settings,
    service: SocketAddr,
    until: Instant,
) -> Result<Handle, TargetError> {
    let call = "ask for the export";
    let stream = connect(service, call, until).await?;
    let root =
        opaque_auth::auth_unix(&auth_unix { machinename: Opaque::borrowed(b"dvs"), ..auth_unix::default() });
    let mut client = MountClient::new_with_auth(Framed::new(stream), root, opaque_auth::default());
    let path = dirpath(Opaque::borrowed(settings.path.as_bytes()));
    let fault = match timeout_at(until, client.mnt(path)).await {
        Ok(Ok(mounted)) if mounted.fhandle.0.is_empty() => Fault::Nonsense("an empty handle".to_owned()),
        Ok(Ok(mounted)) => return Ok(Handle(mounted.fhandle.0.as_ref().into())),
        Ok(Err(MountError::Denied(why))) => Fault::Unreachable(denied(why, &settings.path)),
        Ok(Err(MountError::Rpc(error))) => fault_of_rpc(&error),
        Err(_) => Fault::Late,
    };
    Err(TargetError { call, fault })
}

fn denied(why: mountstat3, path: &str) -> String {
    match why {
        mountstat3::MNT3ERR_NOENT | mountstat3::MNT3ERR_NOTDIR => {
            format!("the server has no folder `{path}` to export")
        }
        mountstat3::MNT3ERR_ACCES | mountstat3::MNT3ERR_PERM => {
            format!("the server does not export `{path}` to this node")
        }
        other => format!("the server does not give `{path}` out: {other}"),
    }
}

async fn connect(service: SocketAddr, call: &'static str, until: Instant) -> Result<TcpStream, TargetError> {
    match timeout_at(until, dial::connect(service)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if is_closed(&error) => {
            Err(TargetError { call, fault: Fault::Unreachable(format!("{service} closed the connection")) })
        }
        Ok(Err(error)) => Err(TargetError { call, fault: Fault::Unreachable(format!("{service}: {error}")) }),
        Err(_) => Err(TargetError { call, fault: Fault::Late }),
    }
}
