//! The answers, over the agent's MQTT client.

use crate::world::Sim;
use crate::world::faults::Call;
use async_trait::async_trait;
use dvs_domain::job::Answer;
use dvs_domain::ledger::AnswerId;
use dvs_domain::ports::{Answers, JobIntake};
use std::sync::Arc;

pub(crate) struct FakeAnswers {
    pub(crate) sim: Sim,
    pub(crate) intake: Arc<dyn JobIntake>,
}

#[async_trait]
impl Answers for FakeAnswers {
    async fn send(&self, id: AnswerId, answer: &Answer) {
        // No time passes before the client has it: the order of the calls is the order on the wire.
        let instant = |call| self.sim.effect(move |world| world.instant(call));
        instant(Call::Publish).await;
        let intake = Arc::clone(&self.intake);
        let sent = self.sim.effect(|world| {
            let Some(sent) = world.check_answer(answer) else { return }; // A forbidden answer has ended the run.
            world.log(format_args!("agent sends {sent}"));
            let (topic, payload) = (world.wiring.encode)(&world.topics, answer);
            world.send(sent, topic, payload, Box::new(move || intake.acknowledged(id)));
        });
        sent.await;
        instant(Call::Publish).await;
    }
}
