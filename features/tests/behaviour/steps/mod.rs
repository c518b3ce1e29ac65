//! What the features' sentences mean, by subject.

mod agents;
mod answers;
mod boot;
mod brokers;
mod commands;
mod containers;
mod jobs;
mod machinery;
mod nfs;
mod places;
mod reboots;
mod space;
mod volumes;

use anyhow::Result;
use cucumber::gherkin::{self, Table};

fn text_below(step: &gherkin::Step) -> Result<&str> {
    step.docstring.as_deref().map(str::trim).ok_or_else(|| anyhow::anyhow!("the step has no text below it"))
}

fn table_below(step: &gherkin::Step) -> Result<&Table> {
    step.table.as_ref().ok_or_else(|| anyhow::anyhow!("the step has no table below it"))
}

/// Fails with `what` unless it `holds`.
fn check(holds: bool, what: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(anyhow::anyhow!(what())) }
}
