//! The way in: what front doors hand in waits here for the engine, which tells them once it is on disk.

use super::EngineLimits;
use async_trait::async_trait;
use dvs_domain::names::{JobId, SenderId};
use dvs_domain::ports::{Arrival, IntakeClosed, JobIntake};
use tokio::sync::{mpsc, oneshot};

/// Where front doors hand in what arrives.
#[derive(Clone)]
pub struct Intake {
    arrivals: mpsc::Sender<Delivery>,
}

/// The other end of an [`Intake`], for the engine.
pub(crate) struct Arrivals {
    pub(super) deliveries: mpsc::Receiver<Delivery>,
}

/// The way in: arrivals wait until an engine runs on the other end.
#[must_use]
pub(crate) fn intake() -> (Intake, Arrivals) {
    let (arrivals, deliveries) = mpsc::channel(EngineLimits::ARRIVALS);
    (Intake { arrivals }, Arrivals { deliveries })
}

/// What an answer shows of a job.
pub(super) type ShownId = (SenderId, Option<JobId>);

/// An arrival on its way.
pub(super) struct Delivery {
    pub(super) arrival: Arrival,
    /// Its door is told when it is taken.
    pub(super) taken: oneshot::Sender<()>,
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

#[async_trait]
impl JobIntake for Intake {
    async fn take(&self, arrival: Arrival) -> Result<(), IntakeClosed> {
        let (taken, is_taken) = oneshot::channel();
        self.arrivals.send(Delivery { arrival, taken }).await.map_err(|_| IntakeClosed)?;
        is_taken.await.map_err(|_| IntakeClosed)
    }
}
