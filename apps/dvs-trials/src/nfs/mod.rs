//! A real NFS server, and what it is measured against.

pub mod bare;
pub mod ganesha;

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

/// A port to which no connection is made in this time drops packets.
const FULL_AFTER: Duration = Duration::from_millis(200);

/// A port on loopback that drops packets: nobody accepts, and its queue is full.
pub struct DroppingPort {
    /// On loopback.
    pub port: u16,
    _kept: (TcpListener, Vec<TcpStream>),
}

impl DroppingPort {
    /// # Errors
    /// When nothing can listen there.
    pub fn open() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        rustix::net::listen(&listener, 0)?;
        let address = listener.local_addr()?;
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, FULL_AFTER) {
            waiting.push(stream);
        }
        Ok(Self { port: address.port(), _kept: (listener, waiting) })
    }
}
