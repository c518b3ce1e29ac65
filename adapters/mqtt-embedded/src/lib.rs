//! A broker inside the process, over rumqttd, for trying DVS out without installing one.
//!
//! It keeps everything in memory, asks nobody for a password, and cannot be stopped: it ends with the process.
//! So it listens on the loopback interface only, unless asked otherwise: whoever may publish to a node's
//! topics is root on that node in effect.

use dvs_domain::failure::{Failure, FailureCode};
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};
use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::thread::Builder;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// How many clients it serves at once.
pub const CONNECTIONS_MAX: usize = 1000;
/// The largest message that it takes.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// How many messages it sends to a client before that has acknowledged one.
pub const INFLIGHT_MAX: usize = 100;
/// How long a client may take to introduce itself.
pub const INTRODUCTION_MILLISECONDS_MAX: u16 = 10_000;
pub const START_SECONDS_MAX: u64 = 10;

/// Each topic keeps at most this much, in pieces of a tenth.
const TOPIC_BYTES_MAX: usize = 10 * 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Loopback,
    /// Whoever can reach the address, without a password.
    Anybody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddedBroker {
    address: SocketAddr,
}

impl EmbeddedBroker {
    /// Starts a broker, and returns when it answers. Port 0 stands for any free port: see
    /// [`EmbeddedBroker::addr`]. Needs a tokio runtime; the broker itself runs on threads of its own.
    ///
    /// # Errors
    /// [`FailureCode::NotAllowed`] for an address that others can reach, unless `reach` says so;
    /// [`FailureCode::Conflict`] when it cannot listen there; [`FailureCode::Timeout`].
    pub async fn start(address: SocketAddr, reach: Reach) -> Result<Self, Failure> {
        const ATTEMPTS: usize = 5;
        if reach == Reach::Loopback && !address.ip().is_loopback() {
            return Err(Failure::new(
                FailureCode::NotAllowed,
                format!("the embedded broker would let anybody in who can reach `{address}`"),
            )
            .with_hint(
                "let it listen on 127.0.0.1 or ::1, or run a broker with passwords and access lists",
            ));
        }
        let mut attempt = 1;
        loop {
            let chosen = choose(address)?;
            match serve(chosen).await {
                // Somebody else was faster: rumqttd cannot choose a free port itself.
                Err(failure) if address.port() == 0 && attempt < ATTEMPTS => {
                    attempt += 1;
                    drop(failure);
                }
                served => return served.map(|()| Self { address: chosen }),
            }
        }
    }

    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }
}

/// An address that is free at this moment.
fn choose(address: SocketAddr) -> Result<SocketAddr, Failure> {
    TcpListener::bind(address)
        .and_then(|listener| listener.local_addr())
        .map_err(|error| cannot_listen(address).caused_by(error))
}

async fn serve(address: SocketAddr) -> Result<(), Failure> {
    let thread = Builder::new()
        .name("embedded-broker".to_owned())
        .spawn(move || Broker::new(config(address)).start().map_err(Box::new))
        .map_err(|error| cannot_listen(address).caused_by(error))?;
    let by = Instant::now() + Duration::from_secs(START_SECONDS_MAX);
    // The thread ends only when the broker could not begin.
    while !thread.is_finished() {
        if TcpStream::connect(address).await.is_ok() && !thread.is_finished() {
            return Ok(());
        }
        if by < Instant::now() {
            return Err(Failure::new(
                FailureCode::Timeout,
                format!("the embedded broker does not answer on `{address}`"),
            )
            .at_step("start the embedded broker"));
        }
        sleep(Duration::from_millis(2)).await;
    }
    match thread.join() {
        Ok(Err(error)) => Err(cannot_listen(address).caused_by(error)),
        Ok(Ok(())) | Err(_) => Err(cannot_listen(address)),
    }
}

fn cannot_listen(address: SocketAddr) -> Failure {
    Failure::new(FailureCode::Conflict, format!("the embedded broker cannot listen on `{address}`"))
        .at_step("start the embedded broker")
        .with_hint("give it another address with `--embedded-broker ADDR`")
}

fn config(address: SocketAddr) -> Config {
    let connections = ConnectionSettings {
        connection_timeout_ms: INTRODUCTION_MILLISECONDS_MAX,
        max_payload_size: MESSAGE_BYTES_MAX,
        max_inflight_count: INFLIGHT_MAX,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server = ServerSettings {
        name: "embedded".to_owned(),
        listen: address,
        tls: None,
        next_connection_delay_ms: 1,
        connections,
    };
    const SEGMENTS: usize = 10;
    let router = RouterConfig {
        max_connections: CONNECTIONS_MAX,
        max_outgoing_packet_count: 200,
        max_segment_size: TOPIC_BYTES_MAX / SEGMENTS,
        max_segment_count: SEGMENTS,
        ..RouterConfig::default()
    };
    // No console, no metrics, no bridge, no cluster.
    Config { router, v4: Some(HashMap::from([("embedded".to_owned(), server)])), ..Config::default() }
}
