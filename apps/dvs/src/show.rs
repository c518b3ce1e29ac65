//! `dvs ls` and `dvs inspect`: what the agent of this node has.

use crate::exit;
use bytesize::ByteSize;
use clap::Args;
use dvs_agent::config::socket_of;
use dvs_agent::socket::{Figures, SocketError, VolumeView, get};
use dvs_domain::failure::FailureCode;
use dvs_domain::names::{StoreName, VolumeName};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args)]
pub(crate) struct ListLine {
    /// The agent's state folder, if it is not the usual one
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct InspectLine {
    /// The volume
    #[arg(value_name = "[STORE/]NAME")]
    volume: String,
    /// The agent's state folder, if it is not the usual one
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn list(line: &ListLine) -> ExitCode {
    exit::block_on(async {
        match get::<Vec<VolumeView>>(&socket_of(line.state.as_deref()), "/v1/volumes").await {
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
    // Parsed before it becomes part of a path: a name is safe in a URL as it is.
    let (store, name) = match line.volume.split_once('/') {
        Some((store, name)) => (Some(StoreName::new(store)), VolumeName::new(name)),
        None => (None, VolumeName::new(line.volume.as_str())),
    };
    let path = match (store.transpose(), name) {
        (Ok(Some(store)), Ok(name)) => format!("/v1/volumes/{store}/{name}"),
        (Ok(None), Ok(name)) => format!("/v1/volumes/{name}"),
        (Err(failure), _) | (_, Err(failure)) => {
            eprintln!("dvs: {}", failure.chain());
            return ExitCode::from(exit::USAGE);
        }
    };
    exit::block_on(async {
        match get::<VolumeView>(&socket_of(line.state.as_deref()), &path).await {
            Ok(volume) if line.json => print_json(&volume),
            Ok(volume) => {
                print_volume(&volume);
                exit::DONE
            }
            Err(error) => complain(&error, line.json),
        }
    })
}

pub(crate) fn print_json(value: &impl serde::Serialize) -> u8 {
    match serde_json::to_string_pretty(value) {
        Ok(text) => {
            println!("{text}");
            exit::DONE
        }
        Err(error) => {
            eprintln!("dvs: cannot print: {error}");
            exit::DEFECT
        }
    }
}

fn complain(error: &SocketError, json: bool) -> u8 {
    match error {
        SocketError::Failed(failure) => {
            if json {
                print_json(failure);
            }
            eprintln!("dvs: {}: {}", failure.code, failure.error);
            if let Some(hint) = &failure.hint {
                eprintln!("hint: {hint}");
            }
            FailureCode::from_word(&failure.code).map_or(1, FailureCode::exit_code)
        }
        SocketError::Unreachable { source, .. } => {
            eprintln!("dvs: {error}: {source}");
            eprintln!("hint: start the agent with `dvs -b BROKER`, or name its state folder with `--state`");
            exit::UNAVAILABLE
        }
        SocketError::TooSlow => {
            eprintln!("dvs: {error}");
            exit::NO_ANSWER
        }
        SocketError::Garbled(_) => {
            eprintln!("dvs: {error}");
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
        println!("{}", cells.join("  ").trim_end());
    }
}

fn print_volume(volume: &VolumeView) {
    println!("volume:      {}/{}", volume.store, volume.name);
    println!("state:       {}", volume.state);
    let lines = [("reason", &volume.reason), ("mount point", &volume.mount_point)];
    for (label, value) in lines {
        if let Some(value) = value {
            println!("{:12} {value}", format!("{label}:"));
        }
    }
    for holder in &volume.holders {
        println!("held by:     {holder}");
    }
    let Some(figures) = &volume.figures else { return };
    let Figures { size_bytes, allocated_bytes, file_system, provision, uid, gid, mode, made_by, .. } =
        figures;
    println!("size:        {}", size(*size_bytes));
    if let Some(bytes) = allocated_bytes {
        println!("allocated:   {}", size(*bytes));
    }
    let labelled = [("file system", file_system), ("provision", provision), ("made by", made_by)];
    for (label, value) in labelled {
        if let Some(value) = value {
            println!("{:12} {value}", format!("{label}:"));
        }
    }
    println!("owner:       {uid}:{gid}, mode {mode}");
}

fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}
