//! The way back to senders, through the agent's client.

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
        // The order of the calls is the order on the wire, so nothing may come between: no time passes here.
        let instant = |call| self.0.effect(move |world| world.instant(call));
        instant(Call::Publish).await;
        let sent = self.0.effect(|world| {
            let word = world.check_answer(answer)?;
            world.say(format_args!("agent sends {word}"));
            let (topic, payload) = (world.wiring.encode)(&world.topics, answer);
            Some(world.send(word, topic, payload))
        });
        // What must not be said has ended the run.
        let Some(acknowledged) = sent.await else { return pending().await };
        instant(Call::Publish).await;
        if acknowledged.await.is_err() {
            return pending().await; // The client is gone, and with it the agent.
        }
    }
}
