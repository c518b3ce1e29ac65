//! What it takes to connect to a broker, and how rumqttc is set up with it.

use crate::broker_url::BrokerUrl;
use crate::tls_files::TlsFiles;
use dvs_domain::failure::Failure;
use rumqttc::{EventLoop, MqttOptions, NetworkOptions};
use std::fmt;
use std::time::Duration;

/// How long one step of connecting may take: reaching the broker, its answer, its answer to a subscription.
pub const CONNECT_SECONDS_MAX: u64 = 10;
/// How often an idle connection is tried. A broker that stays silent for twice as long is taken for gone.
pub const KEEP_ALIVE_SECONDS: u16 = 15;

/// The largest packet of MQTT. A lower limit would end the connection at a larger message, which the broker
/// would then deliver again at every return, for ever; so everything is read, and refused by its payload.
const INCOMING_BYTES_MAX: usize = 268_435_455;
/// Answers are far smaller (see `dvs_job_json::ANSWER_TEXT_CHARACTERS_MAX`).
const OUTGOING_BYTES_MAX: usize = 1024 * 1024;

/// A broker, and what it wants to know before it lets somebody in.
#[derive(Clone, Debug)]
pub struct BrokerAccess {
    pub broker: BrokerUrl,
    /// User and password, if it wants them.
    pub credentials: Option<Credentials>,
    pub tls: TlsFiles,
}

impl BrokerAccess {
    /// A broker that lets everybody in.
    #[must_use]
    pub fn anonymous(broker: BrokerUrl) -> Self {
        Self { broker, credentials: None, tls: TlsFiles::default() }
    }

    /// Reads the certificates, if the connection is encrypted: they may have been renewed since last time.
    pub(crate) fn options(&self, client_id: &str, keep_alive_seconds: u16) -> Result<MqttOptions, Failure> {
        let mut options = MqttOptions::new(client_id, self.broker.host(), self.broker.port());
        options.set_keep_alive(Duration::from_secs(u64::from(keep_alive_seconds)));
        options.set_max_packet_size(INCOMING_BYTES_MAX, OUTGOING_BYTES_MAX);
        if let Some(Credentials { user, password }) = &self.credentials {
            options.set_credentials(user, password);
        }
        #[cfg(feature = "tls")]
        if self.broker.is_tls() {
            options.set_transport(crate::tls::transport(&self.tls)?);
        }
        Ok(options)
    }
}

/// Sets what rumqttc keeps beside its options.
pub(crate) fn set_network(events: &mut EventLoop) {
    let mut network = NetworkOptions::new();
    // A broker's delayed acknowledgement would otherwise cost 40 ms per answer.
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(CONNECT_SECONDS_MAX);
    events.set_network_options(network);
}

/// A user and a password. Neither goes into a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    user: String,
    password: String,
}

impl Credentials {
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), password: password.into() }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credentials(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_ever_shown() {
        let mut access = BrokerAccess::anonymous(BrokerUrl::parse("h").unwrap());
        access.credentials = Some(Credentials::new("me", "secret"));
        let shown = format!("{access:?}");
        assert!(!shown.contains("secret") && !shown.contains("me\""), "{shown}");
    }
}
