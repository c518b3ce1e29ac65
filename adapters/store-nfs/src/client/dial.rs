//! Resolves names and connects, from a source port below 1024 where this process may use one: many servers require it.

use super::error::{ClientError, Fault};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};

/// The privileged source ports, without those of well-known services.
const PRIVILEGED_FIRST: u16 = 665;
const PRIVILEGED_LAST: u16 = 1023;
/// After so many occupied ports an ordinary one is used.
const PRIVILEGED_TRIES: u16 = 64;

/// Starts at another port each time: a port that was just used may still be occupied.
static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

pub(crate) async fn addresses(host: &str) -> io::Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for address in tokio::net::lookup_host((host, 0)).await? {
        if !addresses.contains(&address.ip()) {
            addresses.push(address.ip());
        }
    }
    if addresses.is_empty() {
        return Err(io::Error::new(ErrorKind::NotFound, "the name has no address"));
    }
    Ok(addresses)
}

pub(crate) async fn connect(
    address: SocketAddr,
    call: &'static str,
    deadline: Instant,
) -> Result<TcpStream, ClientError> {
    let fault = match timeout_at(deadline, dial(address)).await {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(error)) => Fault::Unreachable(format!("{address}: {error}")),
        Err(_) => Fault::Timeout,
    };
    Err(ClientError { call, fault })
}

async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    if rustix::process::geteuid().is_root() {
        let first = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        for offset in 0..PRIVILEGED_TRIES {
            let ports = PRIVILEGED_LAST - PRIVILEGED_FIRST + 1;
            let port = PRIVILEGED_FIRST + first.wrapping_mul(7).wrapping_add(offset) % ports;
            let Some(socket) = bound(address, port)? else { continue };
            match socket.connect(address).await {
                Err(error) if is_taken(&error) => {}
                connected => return ready(connected?),
            }
        }
    }
    ready(TcpStream::connect(address).await?)
}

/// A socket bound to the source port; `None` if the port is occupied or not permitted.
fn bound(address: SocketAddr, port: u16) -> io::Result<Option<TcpSocket>> {
    let (socket, any) = match address {
        SocketAddr::V4(_) => (TcpSocket::new_v4()?, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        SocketAddr::V6(_) => (TcpSocket::new_v6()?, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    };
    socket.set_reuseaddr(true)?;
    match socket.bind(SocketAddr::new(any, port)) {
        Ok(()) => Ok(Some(socket)),
        // Root in a container may lack the capability.
        Err(error) if is_taken(&error) || error.kind() == ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable)
}

fn ready(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    // Unsent data is discarded when the connection is closed or this process dies: a cancelled call must not be executed
    // later, when its names may belong to another volume.
    stream.set_zero_linger()?;
    Ok(stream)
}
