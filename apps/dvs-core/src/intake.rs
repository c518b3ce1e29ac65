//! The way in: what front doors hand in, and what they tell of answers, waits here for the engine.

use dvs_domain::ledger::{AnswerId, Event};
use dvs_domain::names::{JobId, SenderId};
use dvs_domain::ports::{Arrival, JobIntake, NotQueued, Recorded};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Arrivals that wait to be recorded. One takes at most 6 KiB: the longest path, and names.
const ARRIVALS_MAX: usize = 2048;

/// Where front doors hand in what arrives.
#[derive(Clone)]
pub struct Intake {
    arrivals: mpsc::Sender<Delivery>,
    events: mpsc::UnboundedSender<Event>,
}

/// The other end of an [`Intake`], for the engine. Events come before arrivals, so they have a queue of their own; the
/// jobs that run and the answers that the broker does not have yet bound it.
pub(crate) struct Arrivals {
    pub(super) deliveries: mpsc::Receiver<Delivery>,
    pub(super) events: mpsc::UnboundedReceiver<Event>,
    /// For the work of jobs.
    pub(super) events_in: mpsc::UnboundedSender<Event>,
}

/// Arrivals wait until an engine runs on the other end.
#[must_use]
pub(crate) fn intake() -> (Intake, Arrivals) {
    let (arrivals, deliveries) = mpsc::channel(ARRIVALS_MAX);
    let (events_in, events) = mpsc::unbounded_channel();
    (Intake { arrivals, events: events_in.clone() }, Arrivals { deliveries, events, events_in })
}

/// What an answer shows of a job.
pub(super) type ShownId = (SenderId, Option<JobId>);

/// An arrival on its way.
pub(super) struct Delivery {
    pub(super) arrival: Arrival,
    pub(super) recorded: Recorded,
}

impl Delivery {
    /// What an answer to it would show.
    pub(super) fn shown_id(&self) -> Option<ShownId> {
        match &self.arrival {
            Arrival::Job(job) => Some((job.sender.clone(), Some(job.id.clone()))),
            Arrival::Refused(refusal) => Some((refusal.sender.clone()?, refusal.job.clone())),
        }
    }
}

impl JobIntake for Intake {
    fn offer(&self, arrival: Arrival, recorded: Recorded) -> Result<(), NotQueued> {
        self.arrivals.try_send(Delivery { arrival, recorded }).map_err(|refused| match refused {
            TrySendError::Full(_) => NotQueued::Full,
            TrySendError::Closed(_) => NotQueued::Stopping,
        })
    }

    fn acknowledged(&self, id: AnswerId) {
        let _stopped = self.events.send(Event::Acknowledged(id)); // Not told: it is sent again after the restart.
    }
}
