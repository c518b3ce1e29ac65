//! The state of the connection for whoever asks, and each change of it said once in the log.

use crate::backoff::is_success;
use crate::broker_url::BrokerUrl;
use crate::reason::{Reason, ReasonKind};
use std::collections::HashSet;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// How often in a row a broker must close a connection soon after it was made until that is taken for being
/// thrown out.
const THROWN_OUT_TIMES: u32 = 3;

/// How the connection to the broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// The first attempt is under way.
    Connecting,
    Connected {
        since: SystemTime,
    },
    /// There is no connection; it is tried again and again.
    Away {
        since: SystemTime,
        /// Why, as of the last attempt.
        reason: String,
    },
    Stopped,
}

/// Tells the state, and logs what has changed.
pub(crate) struct Report {
    broker: BrokerUrl,
    client_id: String,
    state: watch::Sender<ConnectionState>,
    /// What was logged since the last success: not said again, however often it changes back and forth.
    said: HashSet<String>,
    /// How often in a row the broker closed a connection soon after it was made.
    closed: u32,
}

impl Report {
    pub(crate) fn new(broker: BrokerUrl, client_id: String) -> Self {
        let (state, _) = watch::channel(ConnectionState::Connecting);
        Self { broker, client_id, state, said: HashSet::new(), closed: 0 }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<ConnectionState> {
        self.state.subscribe()
    }

    pub(crate) fn connected(&mut self) {
        self.state.send_replace(ConnectionState::Connected { since: SystemTime::now() });
        if self.said.insert("connected".to_owned()) {
            tracing::info!("connected to the broker {} as `{}`", self.broker, self.client_id);
        }
    }

    /// The connection was lost after it `held` for a while, or was not made.
    pub(crate) fn away(&mut self, reason: &Reason, held: Option<Duration>) {
        if is_success(held) {
            self.said.clear();
            self.closed = 0;
        }
        self.closed = match (reason.kind, held) {
            (ReasonKind::Closed, Some(held)) if !is_success(Some(held)) => self.closed + 1,
            // An attempt that did not get in says nothing about another client.
            (_, None) => self.closed,
            _ => 0,
        };
        let text = if reason.kind == ReasonKind::Closed && self.closed >= THROWN_OUT_TIMES {
            format!(
                "it closed several connections soon after they were made: another client probably uses the id \
                 `{}` too, unless the broker was restarted as often",
                self.client_id
            )
        } else {
            reason.text.clone()
        };
        if self.said.insert(text.clone()) {
            tracing::warn!("no connection to the broker {}: {text}; trying again", self.broker);
        }
        self.state.send_modify(|state| {
            let since = match state {
                ConnectionState::Away { since, .. } => *since,
                _ => SystemTime::now(),
            };
            *state = ConnectionState::Away { since, reason: text };
        });
    }

    pub(crate) fn stopped(&mut self) {
        self.state.send_replace(ConnectionState::Stopped);
        tracing::info!("left the broker {}", self.broker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report::new(BrokerUrl::parse("h").unwrap(), "dvs-n1".to_owned())
    }

    fn reason_of(report: &Report) -> String {
        match &*report.watch().borrow() {
            ConnectionState::Away { reason, .. } => reason.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn closed() -> Reason {
        Reason { text: "closed".to_owned(), kind: ReasonKind::Closed }
    }

    #[test]
    fn being_closed_soon_and_again_is_taken_for_being_thrown_out() {
        let mut report = report();
        let soon = Some(Duration::from_millis(5));
        report.away(&closed(), soon);
        report.away(&Reason::trouble("refused"), None);
        report.away(&closed(), soon);
        assert_eq!(reason_of(&report), "closed");
        report.away(&closed(), soon);
        assert!(reason_of(&report).contains("another client probably uses the id `dvs-n1`"));
        report.away(&closed(), Some(Duration::from_secs(3600)));
        assert_eq!(reason_of(&report), "closed");
    }

    #[test]
    fn away_counts_from_the_first_loss() {
        let mut report = report();
        report.away(&Reason::trouble("a"), None);
        let first = report.watch().borrow().clone();
        report.away(&Reason::trouble("b"), None);
        let second = report.watch().borrow().clone();
        let since = |state: &ConnectionState| match state {
            ConnectionState::Away { since, .. } => *since,
            other => panic!("{other:?}"),
        };
        assert_eq!(since(&first), since(&second));
        assert_eq!(reason_of(&report), "b");
    }
}
