//! Jobs that are sent.

use super::brokers::OTHERS;
use super::{check, table_below, text_below};
use crate::fill::fill;
use crate::sender::{Sender, Sent};
use crate::world::{Step, World};
use anyhow::{Context, Result};
use cucumber::gherkin::Table;
use cucumber::{gherkin, given, when};
use dvs_trials::client::{Client, Retain};
use serde_json::Value;

const CREATE: &str = "volumes/create";
const DELETE: &str = "volumes/delete";
/// The size of volumes whose size does not matter.
const SMALL_MEBIBYTES: u64 = 16;

#[given(expr = "the sender {string}")]
async fn the_sender(world: &mut World, id: String) -> Step {
    let sender = Sender::connect(world.launch.broker, id, Vec::new()).await?;
    let key = world.current.clone();
    world.senders.insert(key, sender);
    Ok(())
}

#[given("two senders")]
async fn two_senders(world: &mut World) -> Step {
    for key in ["first", "second"] {
        world.sender(key).await?;
    }
    Ok(())
}

#[given(regex = "^it publishes to (create|delete):$")]
#[when(regex = "^it publishes to (create|delete):$")]
async fn it_publishes(world: &mut World, kind: String, step: &gherkin::Step) -> Step {
    let payload = fill(world, text_below(step)?);
    Ok(world.publish(&format!("volumes/{kind}"), payload.into_bytes(), Retain::No).await?)
}

#[when(expr = "this is published to {string}:")]
async fn this_is_published(world: &mut World, topic: String, step: &gherkin::Step) -> Step {
    let payload = fill(world, text_below(step)?);
    Ok(world.publish(&topic, payload.into_bytes(), Retain::No).await?)
}

#[when(expr = "it publishes to create these bytes: {string}")]
async fn it_publishes_bytes(world: &mut World, bytes: String) -> Step {
    Ok(world.publish(CREATE, read_bytes(&bytes)?, Retain::No).await?)
}

#[when(expr = "it publishes to create a good job with the bytes {string} in its place")]
async fn it_publishes_bytes_within(world: &mut World, bytes: String) -> Step {
    let job = world.job("MARK", Some(SMALL_MEBIBYTES)).to_string();
    let (before, after) = job.split_once("MARK").context("the job has its place")?;
    let payload = [before.as_bytes(), &read_bytes(&bytes)?, after.as_bytes()].concat();
    Ok(world.publish(CREATE, payload, Retain::No).await?)
}

#[when(expr = "a good create job is published to {string}")]
async fn a_good_job_elsewhere(world: &mut World, topic: String) -> Step {
    let job = world.job("elsewhere", Some(SMALL_MEBIBYTES));
    Ok(world.publish(&topic, job.to_string().into_bytes(), Retain::No).await?)
}

#[when(expr = "a good create job is published to {string}, retained")]
async fn a_good_job_retained(world: &mut World, topic: String) -> Step {
    let job = world.job("elsewhere", Some(SMALL_MEBIBYTES));
    Ok(world.publish(&topic, job.to_string().into_bytes(), Retain::Yes).await?)
}

#[given(expr = "a create job of {int} MiB for {string} is sent")]
#[when(expr = "a create job of {int} MiB for {string} is sent")]
async fn a_create_job(world: &mut World, size: u64, name: String) -> Step {
    let job = world.job(&name, Some(size));
    Ok(send(world, CREATE, &job).await?)
}

#[when(expr = "a create job of {int} MiB for {string} is sent with:")]
async fn a_create_job_with(world: &mut World, size: u64, name: String, step: &gherkin::Step) -> Step {
    let job = with(world.job(&name, Some(size)), table_below(step)?);
    Ok(send(world, CREATE, &job).await?)
}

#[when(expr = "a create job of {int} MiB for {string} is sent with id {string}")]
async fn a_create_job_with_id(world: &mut World, size: u64, name: String, id: String) -> Step {
    let job = with_id(world.job(&name, Some(size)), &id);
    Ok(send(world, CREATE, &job).await?)
}

#[when(expr = "a create job of {int} MiB for {string} is sent twice")]
async fn a_create_job_twice(world: &mut World, size: u64, name: String) -> Step {
    let job = world.job(&name, Some(size));
    world.publish_all(vec![(CREATE, job.clone()), (CREATE, job)]).await?;
    world.jobs.pop(); // One job, although it was sent twice.
    Ok(())
}

#[when(expr = "a delete job for {string} is sent")]
async fn a_delete_job(world: &mut World, name: String) -> Step {
    let job = world.job(&name, None);
    Ok(send(world, DELETE, &job).await?)
}

#[when(expr = "a delete job for {string} is sent with:")]
async fn a_delete_job_with(world: &mut World, name: String, step: &gherkin::Step) -> Step {
    let job = with(world.job(&name, None), table_below(step)?);
    Ok(send(world, DELETE, &job).await?)
}

#[when(expr = "a delete job for {string} is sent with id {string}")]
async fn a_delete_job_with_id(world: &mut World, name: String, id: String) -> Step {
    let job = with_id(world.job(&name, None), &id);
    Ok(send(world, DELETE, &job).await?)
}

#[when(regex = r#"^the (first|second) sends a create job with id "(.*)" of (\d+) MiB for "(.*)"$"#)]
async fn one_of_two_sends(world: &mut World, key: String, id: String, size: u64, name: String) -> Step {
    world.current = key;
    let job = with_id(world.job(&name, Some(size)), &id);
    Ok(send(world, CREATE, &job).await?)
}

#[given(expr = "a volume of {int} MiB at {string}")]
async fn a_volume(world: &mut World, size: u64, name: String) -> Step {
    let job = world.job(&name, Some(size));
    Ok(make(world, &job).await?)
}

#[given(expr = "a volume of {int} MiB at {string} named {string}")]
async fn a_volume_named(world: &mut World, size: u64, name: String, given: String) -> Step {
    let mut job = world.job(&name, Some(size));
    job["name"] = Value::from(given);
    Ok(make(world, &job).await?)
}

#[given(expr = "{int} volumes of {int} MiB at different mount points")]
async fn volumes(world: &mut World, count: usize, size: u64) -> Step {
    many_places(world, count, size).await?;
    world.settle().await?;
    let attached = world.count_attached()?;
    Ok(check(attached == count, || format!("{attached} were made"))?)
}

#[given(
    expr = "{int} senders send {int} jobs at once, to delete these and to create as many others of {int} MiB"
)]
async fn deletes_and_creates(world: &mut World, senders: usize, count: usize, size: u64) -> Step {
    for sender in 0..senders {
        world.current = format!("sender-{sender}");
        let numbers = (0..count / 2).filter(|number| number % senders == sender);
        let jobs = numbers.flat_map(|number| {
            let delete = with_id(world.job(&format!("many/{number}"), None), &format!("delete-{number}"));
            let other =
                with_id(world.job(&format!("{OTHERS}/{number}"), Some(size)), &format!("other-{number}"));
            [(DELETE, delete), (CREATE, other)]
        });
        let jobs = jobs.collect();
        world.publish_all(jobs).await?;
    }
    Ok(())
}

#[when("the same job is sent again")]
async fn the_same_again(world: &mut World) -> Step {
    let last = world.last()?;
    Ok(send_again(world, last).await?)
}

#[when("the create job is sent again")]
async fn the_create_again(world: &mut World) -> Step {
    let create = world.jobs.iter().find(|job| job.topic == CREATE).cloned();
    Ok(send_again(world, create.context("no create job was sent")?).await?)
}

#[when("the same job is sent with a new id")]
async fn the_same_with_a_new_id(world: &mut World) -> Step {
    let last = world.last()?;
    let payload = serde_json::from_slice(&last.payload).context("the job is JSON")?;
    let id = format!("anew-{}", world.jobs.len());
    Ok(world.publish(&last.topic, with_id(payload, &id).to_string().into_bytes(), Retain::No).await?)
}

#[when(expr = "a job with the same id but for {string} is sent")]
async fn the_same_id_for_another(world: &mut World, name: String) -> Step {
    let last = world.last()?;
    let mut payload: Value = serde_json::from_slice(&last.payload).context("the job is JSON")?;
    payload["mountPount"] = Value::from(world.at(&name).display().to_string());
    Ok(world.publish(&last.topic, payload.to_string().into_bytes(), Retain::No).await?)
}

#[when(expr = "a create job of {int} MiB for {string} is sent {int} times with new ids")]
async fn many_times(world: &mut World, size: u64, name: String, times: usize) -> Step {
    let jobs =
        (0..times).map(|number| (CREATE, with_id(world.job(&name, Some(size)), &format!("again-{number}"))));
    let jobs = jobs.collect();
    Ok(world.publish_all(jobs).await?)
}

#[when(expr = "{int} create jobs of {int} MiB for different mount points are sent at once")]
async fn many_places(world: &mut World, count: usize, size: u64) -> Step {
    let jobs = (0..count).map(|number| {
        let job = world.job(&format!("many/{number}"), Some(size));
        (CREATE, with_id(job, &format!("create-{number}")))
    });
    let jobs = jobs.collect();
    Ok(world.publish_all(jobs).await?)
}

#[when("delete jobs for all of them are sent at once")]
async fn delete_all(world: &mut World) -> Step {
    let mut jobs = Vec::new();
    for (number, sent) in world.jobs.iter().filter(|job| job.topic == CREATE).enumerate() {
        let mut job: Value = serde_json::from_slice(&sent.payload).context("the job is JSON")?;
        job["job"] = Value::from(format!("delete-{number}"));
        if let Some(object) = job.as_object_mut() {
            object.remove("volumeSize");
        }
        jobs.push((DELETE, job));
    }
    Ok(world.publish_all(jobs).await?)
}

#[when(expr = "{int} jobs for {string} are sent at once, create and delete in turn")]
async fn mixed(world: &mut World, count: usize, name: String) -> Step {
    let jobs = (0..count).map(|number| {
        let (topic, size) = if number % 2 == 0 { (CREATE, Some(SMALL_MEBIBYTES)) } else { (DELETE, None) };
        (topic, with_id(world.job(&name, size), &format!("mixed-{number:02}")))
    });
    let jobs = jobs.collect();
    Ok(world.publish_all(jobs).await?)
}

#[when(expr = "create jobs are sent until one fails with {string}")]
async fn until_one_fails(world: &mut World, code: String) -> Step {
    /// More than any journal of a test takes.
    const JOBS_MAX: usize = 2000;
    for number in 0..JOBS_MAX {
        let job = with_id(
            world.job(&format!("filling/{number}"), Some(SMALL_MEBIBYTES)),
            &format!("filling-{number}"),
        );
        send(world, CREATE, &job).await?;
        let sent = world.last()?;
        world.ended(&sent).await?;
        let answers = world.answers(&sent)?;
        if let Some(failed) = answers.iter().find(|answer| !answer.text("code").is_empty()) {
            check(failed.text("code") == code, || format!("not `{code}` but {failed}"))?;
            world.batch = world.jobs.len()..world.jobs.len();
            return Ok(());
        }
    }
    Ok(check(false, || format!("{JOBS_MAX} jobs, and none failed"))?)
}

#[given("everything that is published is listened to")]
async fn listen_to_everything(world: &mut World) -> Step {
    let name = format!("listener-{}", uuid::Uuid::new_v4().simple());
    let client = Client::connect(world.launch.broker, &name, &["docker/sip/#".to_owned()]).await?;
    let key = world.current.clone();
    world.sender(&key).await?;
    let heard = client.count();
    world.listener = Some((client, heard));
    Ok(())
}

async fn send(world: &mut World, topic: &str, job: &Value) -> Result<()> {
    world.publish(topic, job.to_string().into_bytes(), Retain::No).await
}

async fn send_again(world: &mut World, sent: Sent) -> Result<()> {
    world.current = sent.sender;
    world.publish(&sent.topic, sent.payload, Retain::No).await
}

async fn make(world: &mut World, job: &Value) -> Result<()> {
    send(world, CREATE, job).await?;
    let sent = world.last()?;
    world.settle().await?;
    let words: Vec<_> = world.answers(&sent)?.iter().map(ToString::to_string).collect();
    check(words.len() == 2 && words[1].contains("DONE"), || format!("the volume was not made: {words:?}"))
}

fn with_id(mut job: Value, id: &str) -> Value {
    job["job"] = Value::from(id);
    job
}

/// Adds what a table says: owners as numbers, all else as text.
fn with(mut job: Value, table: &Table) -> Value {
    for row in &table.rows {
        if let [key, value] = row.as_slice() {
            job[key] = match (key.as_str(), value.parse::<u32>()) {
                ("uid" | "gid", Ok(number)) => Value::from(number),
                _ => Value::from(value.as_str()),
            };
        }
    }
    job
}

fn read_bytes(text: &str) -> Result<Vec<u8>> {
    let byte = |digits| u8::from_str_radix(digits, 16).with_context(|| format!("`{digits}` is no byte"));
    text.split_whitespace().map(byte).collect()
}
