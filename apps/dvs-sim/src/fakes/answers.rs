//! The answers, over the agent's MQTT client.

use crate::world::Sim;
use crate::world::faults::Call;
use async_trait::async_trait;
use dvs_domain::job::Answer;
use dvs_domain::ports::Answers;
use std::future::pending;

pub(crate) struct FakeAnswers(pub(crate) Sim);

#[async_trait]
impl Answers for FakeAnswers {
    async fn publish(&self, answer: &Answer) {
        // No time passes before the client has it: the order of the calls is the order on the wire.
        let instant = |call| self.0.effect(move |world| world.instant(call));
        instant(Call::Publish).await;
        let sent = self.0.effect(|world| {
            let sent = world.check_answer(answer)?;
            world.log(format_args!("agent sends {sent}"));
            let (topic, payload) = (world.wiring.encode)(&world.topics, answer);
            Some(world.send(sent, topic, payload))
        });
        // A forbidden answer has ended the run.
        let Some(acknowledged) = sent.await else { return pending().await };
        instant(Call::Publish).await;
        if acknowledged.await.is_err() {
            return pending().await; // The client is gone, and with it the agent.
        }
    }
}
