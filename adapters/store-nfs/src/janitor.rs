//! The janitor: a task that recovers this node's leftovers while operations run, whenever the server answers.

use crate::recovery;
use crate::session::Session;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Stops the task when it is dropped.
pub(crate) struct Janitor(JoinHandle<()>);

impl Janitor {
    pub(crate) fn start(session: &Arc<Session>) -> Self {
        Self(tokio::spawn(run(Arc::clone(session))))
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn run(session: Arc<Session>) {
    loop {
        session.recovery_due.notified().await;
        while is_needed(&session) {
            let recovered = recovery::recover_all(&session).await;
            let mut leftovers = session.leftovers();
            leftovers.is_recovering = false;
            if let Err(failure) = recovered {
                leftovers.may_exist = true;
                tracing::warn!(store = %session.name, "recovery is incomplete: {}", failure.chain());
                break; // It continues with the next answer of the server.
            }
        }
    }
}

fn is_needed(session: &Session) -> bool {
    let mut leftovers = session.leftovers();
    let is_any = leftovers.is_any();
    leftovers.is_recovering = is_any;
    leftovers.may_exist = false;
    is_any
}
