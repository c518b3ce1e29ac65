//! From a host's name to a connection: all its addresses, and a source port below 1024 where this process may have
//! one, which many servers ask for.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use tokio::net::{TcpSocket, TcpStream};

/// The source ports that only root may have, without those of well-known services.
const PRIVILEGED_FIRST: u16 = 665;
const PRIVILEGED_LAST: u16 = 1023;
/// So many may be taken before an ordinary one is used.
const PRIVILEGED_TRIES: u16 = 64;

/// Begins at another port each time: one that was just used may not be free yet.
static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

/// Every address of `host`.
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

/// A connection to `address`.
pub(crate) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
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

/// A socket with this source port, if it is free.
fn bound(address: SocketAddr, port: u16) -> io::Result<Option<TcpSocket>> {
    let (socket, any) = match address {
        SocketAddr::V4(_) => (TcpSocket::new_v4()?, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        SocketAddr::V6(_) => (TcpSocket::new_v6()?, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    };
    socket.set_reuseaddr(true)?;
    match socket.bind(SocketAddr::new(any, port)) {
        Ok(()) => Ok(Some(socket)),
        // Root in a container need not have the right.
        Err(error) if is_taken(&error) || error.kind() == ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable)
}

fn ready(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?; // Calls are small, and each waits for its answer.
    // What was not sent when a connection is dropped, or this process dies, is thrown away with it: a call that was
    // given up must not be done later, when its names are somebody else's.
    stream.set_zero_linger()?;
    Ok(stream)
}
