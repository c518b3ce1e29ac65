//! What one types, and what that prints.

use super::check;
use crate::fill::fill;
use crate::world::{Step, World};
use anyhow::{Context, Result};
use cucumber::{then, when};
use dvs_trials::agent::without_settings;
use dvs_trials::process::{Printed, run};
use std::process::Command;
use std::time::Duration;

const ENDS_WITHIN: Duration = Duration::from_secs(130);

#[when(expr = "one types {string}")]
async fn one_types(world: &mut World, line: String) -> Step {
    let line = fill(world, &line);
    let mut words = line.split_whitespace();
    check(words.next() == Some("dvs"), || format!("`{line}` is not for this command"))?;
    let mut command = Command::new(&world.launch.program);
    without_settings(&mut command);
    command.args(words).current_dir(&world.folder);
    world.printed = Some(run(&mut command, ENDS_WITHIN).await?);
    Ok(())
}

#[then(expr = "it ends with {int}")]
async fn it_ends_with(world: &mut World, code: i32) -> Step {
    let printed = printed(world)?;
    Ok(check(printed.code == Some(code), || {
        format!("it ended with {:?}: {}{}", printed.code, printed.out, printed.err)
    })?)
}

#[then(expr = "it prints {string}")]
async fn it_prints(world: &mut World, what: String) -> Step {
    let (what, printed) = (fill(world, &what), printed(world)?);
    Ok(check(printed.out.contains(&what), || format!("`{what}` is not in {:?}", printed.out))?)
}

#[then("it prints nothing on standard output")]
async fn it_prints_nothing(world: &mut World) -> Step {
    let printed = printed(world)?;
    Ok(check(printed.out.is_empty(), || format!("it printed {:?}", printed.out))?)
}

#[then(expr = "it prints JSON with {string}")]
async fn it_prints_json(world: &mut World, what: String) -> Step {
    let (what, printed) = (fill(world, &what), printed(world)?);
    let values: Result<Vec<serde_json::Value>, _> =
        serde_json::Deserializer::from_str(&printed.out).into_iter().collect();
    let values = values.with_context(|| format!("no JSON: {:?}", printed.out))?;
    let has = values.iter().any(|value| value.to_string().contains(&what));
    Ok(check(has, || format!("`{what}` is not in {:?}", printed.out))?)
}

#[then(expr = "it complains with {string}")]
async fn it_complains(world: &mut World, what: String) -> Step {
    let (what, printed) = (fill(world, &what), printed(world)?);
    Ok(check(printed.err.contains(&what), || format!("`{what}` is not in {:?}", printed.err))?)
}

fn printed(world: &World) -> Result<&Printed> {
    world.printed.as_ref().context("nothing was typed")
}
