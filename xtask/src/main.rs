//! What developers run: `cargo xtask demo`, `ci`, `e2e`, `crash`, `powercut`, `flood`, `bench`, `tidy`. It uses no crate of the workspace, so
//! that it can also judge one that does not compile.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is for the person who typed it")]

mod bench;
mod ci;
mod counts;
mod crash;
mod demo;
mod e2e;
mod failpoints;
mod flood;
mod fuzz;
mod image;
mod kernel;
mod machine;
mod mutants;
mod new_store;
mod powercut;
mod report;
mod run;
mod scene;
mod sim;
mod sweep;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// What developers run in this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows a volume made, used and deleted by jobs that go through a broker
    Demo,
    /// The gate: format, clippy, tidy, tests, docs, simulation, features, crash
    Ci,
    /// Runs the features against a real broker and the real agent
    E2e(e2e::Options),
    /// Measures jobs against the same work done in a shell and by bare system calls, and the NFS store
    Bench {
        /// Handed to the measuring program as they are; `--nfs` measures the NFS store alone
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Kills the real agent at each of its steps and at random moments, and looks whether anything is lost or left
    Crash {
        /// Handed to the program as they are: `--rounds N`, `--seed N`, `--quick`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Lets the power fail while the real agent works, and looks whether what was answered is true
    Powercut(powercut::Options),
    /// Sends the real agent jobs without end, with one that hangs beside them
    Flood(flood::Options),
    /// Runs the whole core through seeds, in a made-up world where everything goes wrong
    Sim {
        /// Handed to the simulation as they are: `--seeds COUNT`, `--seed N`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Feeds decoders with bytes that are changed in every way
    Fuzz(fuzz::Options),
    /// Changes the domain and the core in small ways, and lists the changes that no test notices
    Mutants {
        /// Handed to `cargo mutants` as they are: `--file GLOB`, `--jobs N`, `--shard K/N`, `--in-place`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Follows the README's list of how to add a store, in a copy, and tries the store
    NewStore,
    /// Checks the house rules that no compiler knows
    Tidy,
}

fn main() -> ExitCode {
    match perform(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            tell(&error);
            ExitCode::FAILURE
        }
    }
}

fn perform(command: Command) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    match command {
        Command::Demo => demo::run(&workspace).map(|()| ExitCode::SUCCESS),
        Command::Ci => ci::run(&workspace),
        Command::E2e(options) => e2e::command(&workspace, &options),
        Command::Bench { arguments } => bench::run(&workspace, &arguments),
        Command::Crash { arguments } => crash::command(&workspace, &arguments),
        Command::Powercut(options) => powercut::command(&workspace, &options),
        Command::Flood(options) => flood::command(&workspace, &options),
        Command::Sim { arguments } => sim::command(&workspace, &arguments),
        Command::Fuzz(options) => fuzz::run(&workspace, &options),
        Command::Mutants { arguments } => mutants::command(&workspace, &arguments),
        Command::NewStore => new_store::run(&workspace).map(|()| ExitCode::SUCCESS),
        Command::Tidy => tidy::command(&workspace),
    }
}

/// Prints what broke, from the outermost step to the cause, and then what can be done about it.
fn tell(error: &anyhow::Error) {
    let (hints, causes): (Vec<_>, Vec<_>) =
        error.chain().map(ToString::to_string).partition(|text| text.starts_with(run::HINT));
    eprintln!("error: {}", causes.join(": "));
    for hint in hints {
        eprintln!("{hint}");
    }
}
