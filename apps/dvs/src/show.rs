//! `dvs ls` and `dvs inspect`: the volumes of this node.

use crate::exit;
use crate::print::{data, note};
use bytesize::ByteSize;
use clap::Args;
use dvs_agent::config::socket_for;
use dvs_agent::socket::{ClaimView, Figures, SocketError, VolumeView, get};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::{StoreName, VolumeName};
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args)]
pub(crate) struct Agent {
    /// The agent's state folder [default: as configured]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The agent's configuration file [default: /etc/dvs/dvs.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct ListLine {
    #[command(flatten)]
    agent: Agent,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct InspectLine {
    /// The volume
    #[arg(value_name = "[STORE/]NAME")]
    volume: String,
    #[command(flatten)]
    agent: Agent,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn list(line: &ListLine) -> ExitCode {
    line.agent.ask(|socket| async move {
        match get::<Vec<VolumeView>>(&socket, "/v1/volumes").await {
            Ok(volumes) if line.json => print_json(&volumes),
            Ok(volumes) => {
                print_table(&volumes);
                exit::DONE
            }
            Err(error) => complain(&error, line.json),
        }
    })
}

pub(crate) fn inspect(line: &InspectLine) -> ExitCode {
    let path = match path_of(&line.volume) {
        Ok(path) => path,
        Err(failure) => {
            note!("dvs: {}", failure.chain());
            return ExitCode::from(exit::USAGE);
        }
    };
    line.agent.ask(|socket| async move {
        match get::<VolumeView>(&socket, &path).await {
            Ok(volume) if line.json => print_json(&volume),
            Ok(volume) => {
                print_volume(&volume);
                exit::DONE
            }
            Err(error) => complain(&error, line.json),
        }
    })
}

/// The path of `volume` on the agent's socket. The name is parsed first: a valid name needs no escaping in a URL.
fn path_of(volume: &str) -> Result<String, Failure> {
    Ok(match volume.split_once('/') {
        Some((store, name)) => format!("/v1/volumes/{}/{}", StoreName::new(store)?, VolumeName::new(name)?),
        None => format!("/v1/volumes/{}", VolumeName::new(volume)?),
    })
}

impl Agent {
    /// Runs `ask` with the agent's socket.
    pub(crate) fn ask<Asked: Future<Output = u8>>(&self, ask: impl FnOnce(PathBuf) -> Asked) -> ExitCode {
        match socket_for(self.config.as_deref(), self.state.as_deref()) {
            Ok(socket) => exit::block_on(ask(socket)),
            Err(problems) => exit::wrong_configuration(&problems),
        }
    }
}

pub(crate) fn print_json(value: &impl serde::Serialize) -> u8 {
    match serde_json::to_string_pretty(value) {
        Ok(text) => {
            data!("{text}");
            exit::DONE
        }
        Err(error) => {
            note!("dvs: cannot print: {error}");
            exit::DEFECT
        }
    }
}

pub(crate) fn complain(error: &SocketError, json: bool) -> u8 {
    match error {
        SocketError::Failed(failure) => {
            if json {
                print_json(failure);
            }
            note!("dvs: {}: {}", failure.code, failure.error);
            if let Some(hint) = &failure.hint {
                note!("hint: {hint}");
            }
            FailureCode::from_word(&failure.code).map_or(1, FailureCode::exit_code)
        }
        SocketError::Unreachable { source, .. } => {
            note!("dvs: {error}: {source}");
            note!("hint: start the agent with `dvs -b BROKER`, or name its state folder with `--state`");
            exit::UNAVAILABLE
        }
        SocketError::TooSlow => {
            note!("dvs: {error}");
            exit::NO_ANSWER
        }
        SocketError::Garbled(_) => {
            note!("dvs: {error}");
            exit::DEFECT
        }
    }
}

fn print_table(volumes: &[VolumeView]) {
    let header = ["VOLUME", "SIZE", "ALLOCATED", "FS", "STATE", "MOUNT POINT"].map(str::to_owned);
    let rows = volumes.iter().map(|volume| {
        let figures = volume.figures.as_ref();
        let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), size);
        [
            format!("{}/{}", volume.store, volume.name),
            bytes(figures.map(|figures| figures.size_bytes)),
            bytes(figures.and_then(|figures| figures.allocated_bytes)),
            figures.and_then(|figures| figures.file_system.clone()).unwrap_or_else(|| "-".to_owned()),
            volume.state.clone(),
            volume.mount_point.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    });
    let table: Vec<[String; 6]> = std::iter::once(header).chain(rows).collect();
    let widths: Vec<usize> =
        (0..6).map(|column| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    for row in &table {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        data!("{}", cells.join("  ").trim_end());
    }
}

fn print_volume(volume: &VolumeView) {
    data!("volume:      {}/{}", volume.store, volume.name);
    data!("state:       {}", volume.state);
    let lines = [("reason", &volume.reason), ("mount point", &volume.mount_point)];
    for (label, value) in lines {
        if let Some(value) = value {
            data!("{:12} {value}", format!("{label}:"));
        }
    }
    for holder in &volume.holders {
        data!("held by:     {holder}");
    }
    for claim in &volume.claims {
        data!("{:12} {}", format!("{}:", claim.kind), node(claim));
    }
    let Some(figures) = &volume.figures else { return };
    let Figures { size_bytes, allocated_bytes, file_system, provision, uid, gid, mode, made_by, .. } =
        figures;
    data!("size:        {}", size(*size_bytes));
    if let Some(bytes) = allocated_bytes {
        data!("allocated:   {}", size(*bytes));
    }
    let labelled = [("file system", file_system), ("provision", provision), ("made by", made_by)];
    for (label, value) in labelled {
        if let Some(value) = value {
            data!("{:12} {value}", format!("{label}:"));
        }
    }
    data!("owner:       {uid}:{gid}, mode {mode}");
}

/// A node that shares a store, as people know it, with the id by which it can be released.
pub(crate) fn node(claim: &ClaimView) -> String {
    match &claim.node_name {
        Some(name) => format!("node {name} ({})", claim.node),
        None => format!("node {}", claim.node),
    }
}

fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}
