//! What senders are told.

use super::check;
use crate::sender::{Answer, Sent, Word};
use crate::world::{Step, World};
use anyhow::{Context, Result};
use cucumber::{given, then, when};
use std::time::Duration;

#[given("it is answered PENDING and DONE, and nothing else")]
#[then("it is answered PENDING and DONE, and nothing else")]
#[then("both are answered PENDING and DONE, and nothing else")]
#[then("all of them are answered PENDING and DONE, and nothing else")]
async fn pending_and_done(world: &mut World) -> Step {
    for job in world.settle().await? {
        check_words(world, &job, &[Word::Pending, Word::Done])?;
    }
    Ok(())
}

#[then("it is answered PENDING once and DONE at least once, and nothing else")]
async fn pending_once_and_done(world: &mut World) -> Step {
    for job in world.settle().await? {
        let words: Vec<_> = world.answers(&job)?.iter().map(|answer| answer.word).collect();
        let good =
            matches!(words.as_slice(), [Word::Pending, Word::Done] | [Word::Pending, Word::Done, Word::Done]);
        check(good, || format!("answered {words:?}"))?;
    }
    Ok(())
}

#[then("it is answered DONE, and nothing else")]
async fn only_done(world: &mut World) -> Step {
    for job in world.settle().await? {
        check_words(world, &job, &[Word::Done])?;
    }
    Ok(())
}

#[then("it is answered FAILED, and nothing else")]
async fn only_failed(world: &mut World) -> Step {
    for job in world.settle().await? {
        check_words(world, &job, &[Word::Failed])?;
    }
    Ok(())
}

#[then("all of them are DONE")]
#[then("it is DONE in the end")]
async fn done_in_the_end(world: &mut World) -> Step {
    for job in world.settle().await? {
        check_done(world, &job)?;
    }
    Ok(())
}

#[then("the first is DONE")]
async fn the_first_is_done(world: &mut World) -> Step {
    let jobs = world.settle().await?;
    Ok(check_done(world, jobs.first().context("no job was sent")?)?)
}

#[given(expr = "it is refused with {string}")]
#[then(expr = "it is refused with {string}")]
async fn it_is_refused(world: &mut World, code: String) -> Step {
    let job = settled(world).await?;
    check_words(world, &job, &[Word::Failed])?;
    Ok(check_code(world, &job, &code)?)
}

#[given(expr = "it fails with {string}")]
#[then(expr = "it fails with {string}")]
#[then(expr = "the last fails with {string}")]
async fn it_fails(world: &mut World, code: String) -> Step {
    let job = settled(world).await?;
    Ok(check_failed(world, &job, &code)?)
}

#[then(expr = "the first fails with {string}")]
async fn the_first_fails(world: &mut World, code: String) -> Step {
    let jobs = world.settle().await?;
    Ok(check_failed(world, jobs.first().context("no job was sent")?, &code)?)
}

#[then(expr = "its reason names {string}")]
async fn its_reason_names(world: &mut World, what: String) -> Step {
    Ok(names(world, &what)?)
}

#[then(expr = "its reason names {string} and {string}")]
async fn its_reason_names_both(world: &mut World, one: String, other: String) -> Step {
    its_reason_names(world, one).await?;
    its_reason_names(world, other).await
}

#[then(expr = "its reason names the step {string}")]
async fn its_reason_names_the_step(world: &mut World, name: String) -> Step {
    its_reason_names(world, format!("step `{name}`")).await
}

#[then(expr = "it took less than {int} s")]
async fn it_took_less(world: &mut World, seconds: u64) -> Step {
    let took = world.last()?.at.elapsed();
    Ok(check(took < Duration::from_secs(seconds), || format!("it took {} ms", took.as_millis()))?)
}

#[then("its failure has a reason and a hint")]
async fn reason_and_hint(world: &mut World) -> Step {
    let failure = failure(world)?;
    let has = |key: &str| !failure.text(key).is_empty();
    Ok(check(has("error") && has("hint"), || format!("not in {failure}"))?)
}

#[then(expr = "each of its answers carries the id as {string} and as {string}")]
async fn both_ids(world: &mut World, one: String, other: String) -> Step {
    let job = world.last()?;
    let id = job.id.clone().context("the job has an id")?;
    for answer in world.answers(&job)? {
        let good = answer.text(&one) == id && answer.text(&other) == id;
        check(good, || format!("not in {answer}"))?;
    }
    Ok(())
}

#[then("their DONE came in the order in which they were sent")]
async fn in_order(world: &mut World) -> Step {
    let jobs = world.settle().await?;
    let first = jobs.first().context("no job was sent")?;
    let sender = world.senders.get(&first.sender).context("the job has a sender")?;
    let heard = sender.answers_since(first.mark)?.into_iter();
    let done: Vec<_> =
        heard.filter(|answer| answer.word == Word::Done).filter_map(|answer| answer.id).collect();
    let sent: Vec<_> = jobs.iter().filter_map(|job| job.id.clone()).collect();
    let done: Vec<_> = done.into_iter().filter(|id| sent.contains(id)).collect();
    Ok(check(done == sent, || format!("not {sent:?} but {done:?}"))?)
}

#[when("PENDING has come")]
async fn pending_has_come(world: &mut World) -> Step {
    let job = world.last()?;
    Ok(world.pending(&job).await?)
}

#[then("DONE comes, and never PENDING after it")]
async fn no_pending_after_done(world: &mut World) -> Step {
    let job = settled(world).await?;
    let words: Vec<_> = world.answers(&job)?.iter().map(|answer| answer.word).collect();
    let done = words.iter().position(|word| *word == Word::Done).context("there is no DONE")?;
    let (before, after) = words.split_at(done);
    let good =
        before.iter().all(|word| *word == Word::Pending) && after.iter().all(|word| *word == Word::Done);
    Ok(check(good && !before.is_empty(), || format!("answered {words:?}"))?)
}

#[then("nobody is told anything")]
async fn nobody_is_told(world: &mut World) -> Step {
    let current = world.current.clone();
    // Two jobs that change nothing: the agent reads in order, so it has read what came before the first.
    world.fence(&current).await?;
    world.fence(&current).await?;
    world.batch = world.jobs.len()..world.jobs.len();
    let own = format!("docker/sip/{}/", world.sender_id());
    let (client, mark) = world.listener.as_ref().context("nobody listens to everything")?;
    let heard = client.heard_since(*mark);
    let fences = |payload: &[u8]| String::from_utf8_lossy(payload).contains("\"fence-");
    let other: Vec<_> = heard
        .iter()
        .filter(|message| !(message.topic.starts_with(&own) && fences(&message.payload)))
        .map(ToString::to_string)
        .collect();
    Ok(check(other.is_empty(), || format!("somebody was told: {other:?}"))?)
}

/// Makes sure that the reason of the last job's failure names `what`.
pub(super) fn names(world: &World, what: &str) -> Result<()> {
    let reason = failure(world)?.text("error").to_owned();
    check(reason.contains(what), || format!("`{what}` is not in `{reason}`"))
}

async fn settled(world: &mut World) -> Result<Sent> {
    world.settle().await?.last().cloned().context("no job was sent")
}

fn check_words(world: &World, job: &Sent, expected: &[Word]) -> Result<()> {
    let words: Vec<_> = world.answers(job)?.iter().map(|answer| answer.word).collect();
    check(words == expected, || format!("answered {words:?}, not {expected:?}: {}", told(world, job)))
}

fn check_failed(world: &World, job: &Sent, code: &str) -> Result<()> {
    let words: Vec<_> = world.answers(job)?.iter().map(|answer| answer.word).collect();
    let good = matches!(words.as_slice(), [Word::Failed] | [Word::Pending, Word::Failed]);
    check(good, || format!("answered {words:?}: {}", told(world, job)))?;
    check_code(world, job, code)
}

/// A burst over a restart may be told PENDING twice, never after DONE.
fn check_done(world: &World, job: &Sent) -> Result<()> {
    let words: Vec<_> = world.answers(job)?.iter().map(|answer| answer.word).collect();
    let done = words.iter().position(|word| *word == Word::Done);
    let good = done.is_some_and(|done| {
        words[..done].iter().all(|word| *word == Word::Pending)
            && words[done..].iter().all(|word| *word == Word::Done)
    });
    check(good, || format!("answered {words:?}: {}", told(world, job)))
}

fn check_code(world: &World, job: &Sent, code: &str) -> Result<()> {
    let failed = world.answers(job)?.into_iter().rfind(|answer| answer.word == Word::Failed);
    let failed = failed.context("there is no failure")?;
    check(failed.text("code") == code, || format!("not `{code}` but {failed}"))?;
    check(job.id.is_none() || failed.id == job.id, || format!("not with id {:?}: {failed}", job.id))
}

fn failure(world: &World) -> Result<Answer> {
    let answers = world.answers(&world.last()?)?.into_iter();
    answers.rev().find(|answer| answer.word == Word::Failed).context("the last job has not failed")
}

fn told(world: &World, job: &Sent) -> String {
    let answers = world.answers(job).unwrap_or_default();
    answers.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
