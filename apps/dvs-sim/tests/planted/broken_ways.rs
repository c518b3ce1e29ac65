//! A broken way in, a broken way out, a clock and an engine that are none.

use async_trait::async_trait;
use dvs_domain::failure::Failure;
use dvs_domain::job::{Answer, Status};
use dvs_domain::ledger::AnswerId;
use dvs_domain::mount_point::MountPoint;
use dvs_domain::ports::{Answers, Arrival, Clock, JobIntake, NotQueued, Recorded, VolumeReferences};
use dvs_domain::time::{BootId, Moment, Timestamp, Uptime};
use dvs_domain::user::User;
use dvs_domain::volume::VolumeId;
use dvs_job_json::{Topics, encode_answer};
use std::sync::Arc;

struct HastyIntake(Arc<dyn JobIntake>);

pub(crate) fn hasty(intake: Arc<dyn JobIntake>) -> Arc<dyn JobIntake> {
    Arc::new(HastyIntake(intake))
}

impl JobIntake for HastyIntake {
    fn offer(&self, arrival: Arrival, recorded: Recorded) -> Result<(), NotQueued> {
        recorded();
        self.0.offer(arrival, Box::new(|| {}))
    }

    fn acknowledged(&self, id: AnswerId) {
        self.0.acknowledged(id);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    SendsPendingAgain,
    SwallowsPending,
    DropsFinal,
}

struct BrokenAnswers {
    answers: Arc<dyn Answers>,
    intake: Arc<dyn JobIntake>,
    fault: Fault,
}

pub(crate) fn sends_pending_again(answers: Arc<dyn Answers>, intake: Arc<dyn JobIntake>) -> Arc<dyn Answers> {
    Arc::new(BrokenAnswers { answers, intake, fault: Fault::SendsPendingAgain })
}

pub(crate) fn swallows_pending(answers: Arc<dyn Answers>, intake: Arc<dyn JobIntake>) -> Arc<dyn Answers> {
    Arc::new(BrokenAnswers { answers, intake, fault: Fault::SwallowsPending })
}

pub(crate) fn drops_final(answers: Arc<dyn Answers>, intake: Arc<dyn JobIntake>) -> Arc<dyn Answers> {
    Arc::new(BrokenAnswers { answers, intake, fault: Fault::DropsFinal })
}

#[async_trait]
impl Answers for BrokenAnswers {
    async fn send(&self, id: AnswerId, answer: &Answer) {
        let is_final = answer.status != Status::Pending;
        match self.fault {
            Fault::SwallowsPending if !is_final => return self.intake.acknowledged(id),
            Fault::DropsFinal if is_final => return,
            _ => self.answers.send(id.clone(), answer).await,
        }
        if self.fault == Fault::SendsPendingAgain && is_final {
            self.answers.send(id, &Answer { status: Status::Pending, ..answer.clone() }).await;
        }
    }
}

/// Failures go where `DONE` goes.
pub(crate) fn failures_among_answers(topics: &Topics, answer: &Answer) -> (String, Vec<u8>) {
    let (_, payload) = encode_answer(topics, answer);
    (topics.answers(&answer.sender), payload)
}

struct StoppedClock;

pub(crate) fn stopped_clock() -> Arc<dyn Clock> {
    Arc::new(StoppedClock)
}

impl Clock for StoppedClock {
    fn now(&self) -> Moment {
        Moment { wall: Timestamp(1_700_000_000_000), boot: Some(BootId(1)), uptime: Uptime(1) }
    }
}

/// Its uptime is set with the wall clock.
struct SettableClock(Arc<dyn Clock>);

pub(crate) fn settable_clock(clock: Arc<dyn Clock>) -> Arc<dyn Clock> {
    Arc::new(SettableClock(clock))
}

impl Clock for SettableClock {
    fn now(&self) -> Moment {
        let now = self.0.now();
        Moment { uptime: Uptime(now.wall.0), boot: Some(BootId(1)), ..now }
    }
}

struct UnaskedEngine;

pub(crate) fn unasked_engine() -> Arc<dyn VolumeReferences> {
    Arc::new(UnaskedEngine)
}

#[async_trait]
impl VolumeReferences for UnaskedEngine {
    async fn users_of(&self, _: &VolumeId, _: Option<&MountPoint>) -> Result<Vec<User>, Failure> {
        Ok(Vec::new())
    }

    async fn bound_at(&self, _: &MountPoint) -> Result<Vec<User>, Failure> {
        Ok(Vec::new())
    }
}
