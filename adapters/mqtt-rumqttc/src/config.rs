//! What the agent's connection is configured with.

use crate::access::{BrokerAccess, KEEP_ALIVE_SECONDS};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_job_json::{Presence, Topics};

/// Everything the door needs to know.
#[derive(Clone, Debug)]
pub struct MqttConfig {
    pub access: BrokerAccess,
    /// Under which id the broker keeps what arrives while the agent is away. One client per id.
    pub client_id: String,
    pub topics: Topics,
    /// What is told to everybody while the agent is connected.
    pub presence: Presence,
    /// How often an idle connection is tried; at least 1.
    pub keep_alive_seconds: u16,
}

impl MqttConfig {
    /// The usual settings: client id `dvs-<node>`, [`KEEP_ALIVE_SECONDS`].
    #[must_use]
    pub fn new(access: BrokerAccess, topics: Topics, presence: Presence) -> Self {
        let client_id = format!("dvs-{}", topics.node());
        Self { access, client_id, topics, presence, keep_alive_seconds: KEEP_ALIVE_SECONDS }
    }

    /// Refuses what no broker would take.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        // MQTT 3.1.1 allows longer ids, but a broker need not take them; none takes control characters.
        const CLIENT_ID_BYTES_MAX: usize = 1024;
        let id = &self.client_id;
        if id.is_empty() || id.len() > CLIENT_ID_BYTES_MAX || id.chars().any(char::is_control) {
            return Err(Failure::new(
                FailureCode::BadRequest,
                "the MQTT client id must be 1 to 1024 bytes without control characters",
            ));
        }
        if self.keep_alive_seconds == 0 {
            return Err(Failure::new(
                FailureCode::BadRequest,
                "the MQTT keep-alive must be at least 1 second",
            ));
        }
        self.access.options(id, self.keep_alive_seconds).map(drop)
    }
}
