//! Why there is no connection, in words for an operator, and what follows for coming back.

use dvs_domain::failure::Failure;
use rumqttc::{ConnectReturnCode, ConnectionError, StateError, mqttbytes};
use std::error::Error;
use std::io;

/// Why a connection was lost or not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reason {
    /// For an operator; the same text for the same reason, so that it is said once.
    pub(crate) text: String,
    pub(crate) kind: ReasonKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReasonKind {
    Trouble,
    /// The broker closed a connection without a word, as it does when another client has the same id.
    Closed,
    /// The broker, or what is configured here, does not let this client in. Trying fast does not help.
    Refused,
}

impl Reason {
    pub(crate) fn trouble(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: ReasonKind::Trouble }
    }

    pub(crate) fn refused(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: ReasonKind::Refused }
    }

    /// What is configured here cannot be used.
    pub(crate) fn unusable(failure: &Failure) -> Self {
        Self::refused(failure.chain())
    }
}

impl From<&ConnectionError> for Reason {
    fn from(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::ConnectionRefused(code) => of_code(*code),
            ConnectionError::NetworkTimeout => Self::trouble("it does not answer"),
            ConnectionError::FlushTimeout => Self::trouble("it takes no more data"),
            ConnectionError::NotConnAck(_) => Self::trouble("it does not speak MQTT"),
            ConnectionError::MqttState(StateError::AwaitPingResp) => Self::trouble("it has fallen silent"),
            _ if is_closed(error) => {
                Self { text: "it closed the connection".to_owned(), kind: ReasonKind::Closed }
            }
            _ => Self::trouble(innermost(error)),
        }
    }
}

fn of_code(code: ConnectReturnCode) -> Reason {
    match code {
        ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
            Reason::refused("it does not accept this user and password, or none")
        }
        ConnectReturnCode::BadClientId => Reason::refused("it does not accept this client id"),
        ConnectReturnCode::RefusedProtocolVersion => Reason::refused("it does not speak MQTT 3.1.1"),
        ConnectReturnCode::ServiceUnavailable | ConnectReturnCode::Success => {
            Reason::trouble("it says that it is not available")
        }
    }
}

/// Whether the other side ended the connection.
fn is_closed(error: &ConnectionError) -> bool {
    let io = match error {
        ConnectionError::MqttState(StateError::ConnectionAborted) => return true,
        ConnectionError::MqttState(
            StateError::Io(io) | StateError::Deserialization(mqttbytes::Error::Io(io)),
        ) => io,
        _ => return false,
    };
    matches!(
        io.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
    )
}

/// What the system said: the layers above it only repeat it in other words.
fn innermost(error: &ConnectionError) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_in_words() {
        for (error, kind, words) in [
            (
                ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized),
                ReasonKind::Refused,
                "user and password",
            ),
            (
                ConnectionError::ConnectionRefused(ConnectReturnCode::ServiceUnavailable),
                ReasonKind::Trouble,
                "not available",
            ),
            (StateError::ConnectionAborted.into(), ReasonKind::Closed, "closed the connection"),
            (
                StateError::Io(io::ErrorKind::ConnectionReset.into()).into(),
                ReasonKind::Closed,
                "closed the connection",
            ),
            (StateError::AwaitPingResp.into(), ReasonKind::Trouble, "silent"),
            (io::Error::other("no route").into(), ReasonKind::Trouble, "no route"),
            (io::Error::from(io::ErrorKind::ConnectionRefused).into(), ReasonKind::Trouble, "refused"),
        ] {
            let reason = Reason::from(&error);
            assert_eq!(reason.kind, kind, "{reason:?}");
            assert!(reason.text.contains(words), "{reason:?}");
        }
    }
}
