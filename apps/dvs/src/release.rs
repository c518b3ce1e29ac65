//! `dvs release`: removes the claims of a dead node on a volume that several nodes share. No agent does that by itself:
//! only an operator knows that a node is dead.

use crate::exit;
use crate::print::{data, note};
use crate::show::{Agent, complain, node, print_json};
use clap::Args;
use dvs_agent::socket::{ClaimView, post};
use dvs_domain::failure::Failure;
use dvs_domain::names::{NodeId, StoreName, VolumeName};
use std::process::ExitCode;

#[derive(Args)]
pub(crate) struct ReleaseLine {
    /// The volume
    #[arg(value_name = "STORE/NAME")]
    volume: String,
    /// The id of the dead node, as `dvs inspect` and messages show it
    #[arg(value_name = "NODE")]
    node: String,
    #[command(flatten)]
    agent: Agent,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn release(line: &ReleaseLine) -> ExitCode {
    let path = match path_of(&line.volume, &line.node) {
        Ok(path) => path,
        Err(failure) => {
            note!("dvs: {}", failure.chain());
            return ExitCode::from(exit::USAGE);
        }
    };
    line.agent.ask(|socket| async move {
        match post::<Vec<ClaimView>>(&socket, &path).await {
            Ok(released) if line.json => print_json(&released),
            Ok(released) if released.is_empty() => {
                note!("dvs: that node has no claim on `{}`", line.volume);
                exit::DONE
            }
            Ok(released) => {
                for claim in &released {
                    data!("released: {}, {}", claim.kind, node(claim));
                }
                exit::DONE
            }
            Err(error) => complain(&error, line.json),
        }
    })
}

/// Parsed before it becomes part of a path: names are safe in a URL as they are.
fn path_of(volume: &str, node: &str) -> Result<String, Failure> {
    let (store, name) = volume.split_once('/').unwrap_or(("", volume));
    let (store, name, node) = (StoreName::new(store)?, VolumeName::new(name)?, NodeId::new(node)?);
    Ok(format!("/v1/volumes/{store}/{name}/release/{node}"))
}
