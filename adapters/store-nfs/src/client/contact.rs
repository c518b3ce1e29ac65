//! The first contact with a server: its addresses, the ports of its services, and the handle of the export.

use super::dial;
use super::error::{ClientError, Fault};
use super::framed::Framed;
use super::types::Handle;
use crate::settings::Settings;
use nfs3_client::nfs3_types::mount::{self, dirpath, mountstat3};
use nfs3_client::nfs3_types::rpc::{auth_unix, opaque_auth};
use nfs3_client::nfs3_types::xdr_codec::Opaque;
use nfs3_client::nfs3_types::{nfs3, portmap};
use nfs3_client::{MountClient, MountError, PortmapError, PortmapperClient};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

const PORTMAPPER: u16 = 111;
/// The shortest time that one of several addresses gets.
const ADDRESS_MILLISECONDS_MIN: u64 = 100;

#[derive(Debug)]
pub(crate) struct Contact {
    pub(crate) nfs: SocketAddr,
    /// The export's root directory.
    pub(crate) root: Handle,
}

impl Contact {
    /// Contacts the server at the first of its addresses that answers.
    pub(crate) async fn make(settings: &Settings, deadline: Instant) -> Result<Self, ClientError> {
        let failed = |fault| ClientError { call: "find the server's address", fault };
        let addresses = match timeout_at(deadline, dial::addresses(&settings.host)).await {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => {
                return Err(failed(Fault::Unreachable(format!("`{}`: {error}", settings.host))));
            }
            Err(_) => return Err(failed(Fault::Timeout)),
        };
        let mut last = failed(Fault::Timeout);
        for (index, address) in addresses.iter().enumerate() {
            // An address that drops packets must not take the time of the others.
            let left = deadline.saturating_duration_since(Instant::now());
            let others = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
            let share = (left / others).max(Duration::from_millis(ADDRESS_MILLISECONDS_MIN));
            let share = deadline.min(Instant::now() + share);
            match Self::at(settings, *address, share).await {
                // An answer about the export is final: the other addresses lead to the same server.
                Err(error) if matches!(error.fault, Fault::Unreachable(_) | Fault::Timeout) => last = error,
                made => return made,
            }
        }
        Err(last)
    }

    async fn at(settings: &Settings, address: IpAddr, deadline: Instant) -> Result<Self, ClientError> {
        let port = |known, program, version| async move {
            match known {
                Some(port) => Ok(port),
                None => ask_for_port(address, program, version, deadline).await,
            }
        };
        let nfs_port = port(settings.port, nfs3::PROGRAM, nfs3::VERSION).await?;
        let mount_port = port(settings.mount_port, mount::PROGRAM, mount::VERSION).await?;
        let root = mount_export(settings, SocketAddr::new(address, mount_port), deadline).await?;
        Ok(Self { nfs: SocketAddr::new(address, nfs_port), root })
    }
}

async fn ask_for_port(
    address: IpAddr,
    program: u32,
    version: u32,
    deadline: Instant,
) -> Result<u16, ClientError> {
    let call = "ask the portmapper";
    let stream = dial::connect(SocketAddr::new(address, PORTMAPPER), call, deadline).await?;
    let mut portmapper = PortmapperClient::new(Framed::new(stream));
    let asked = timeout_at(deadline, portmapper.getport(program, version, portmap::IPPROTO_TCP)).await;
    let fault = match asked {
        Ok(Ok(port)) => return Ok(port),
        Ok(Err(PortmapError::ProgramUnavailable)) => {
            let service = if program == nfs3::PROGRAM { "NFSv3" } else { "the mount service" };
            Fault::Unreachable(format!("the server does not offer {service} over TCP"))
        }
        Ok(Err(PortmapError::InvalidPortValue(port))) => Fault::Protocol(format!("{port} is not a port")),
        Ok(Err(PortmapError::Rpc(error))) => Fault::of_rpc(&error),
        Err(_) => Fault::Timeout,
    };
    Err(ClientError { call, fault })
}

async fn mount_export(
    settings: &Settings,
    service: SocketAddr,
    deadline: Instant,
) -> Result<Handle, ClientError> {
    let call = "ask for the export";
    let stream = dial::connect(service, call, deadline).await?;
    let root =
        opaque_auth::auth_unix(&auth_unix { machinename: Opaque::borrowed(b"dvs"), ..auth_unix::default() });
    let mut client = MountClient::new_with_auth(Framed::new(stream), root, opaque_auth::default());
    let path = dirpath(Opaque::borrowed(settings.path.as_bytes()));
    let fault = match timeout_at(deadline, client.mnt(path)).await {
        Ok(Ok(mounted)) if mounted.fhandle.0.is_empty() => Fault::Protocol("an empty handle".to_owned()),
        Ok(Ok(mounted)) => return Ok(Handle(mounted.fhandle.0.as_ref().into())),
        Ok(Err(MountError::Denied(why))) => Fault::Unreachable(denied(why, &settings.path)),
        Ok(Err(MountError::Rpc(error))) => Fault::of_rpc(&error),
        Err(_) => Fault::Timeout,
    };
    Err(ClientError { call, fault })
}

fn denied(why: mountstat3, path: &str) -> String {
    match why {
        mountstat3::MNT3ERR_NOENT | mountstat3::MNT3ERR_NOTDIR => {
            format!("the server has no directory `{path}` to export")
        }
        mountstat3::MNT3ERR_ACCES | mountstat3::MNT3ERR_PERM => {
            format!("the server does not export `{path}` to this node")
        }
        other => format!("the server does not export `{path}`: {other}"),
    }
}
