//! The agent by itself, for units and containers that need no other command: the same as `dvs -b BROKER`.
#![expect(clippy::print_stderr, reason = "the last word of a program that cannot start")]

use clap::Parser;
use dvs_agent::config::AgentFlags;
use std::process::ExitCode;

/// Docker Volume Service, the agent: takes jobs from an MQTT broker and makes them true.
#[derive(Parser)]
#[command(name = "dvs-agent", version)]
struct Line {
    #[command(flatten)]
    flags: AgentFlags,
}

fn main() -> ExitCode {
    match Line::try_parse() {
        Ok(line) => dvs_agent::run(&line.flags),
        Err(error) => {
            let usage = error.use_stderr();
            if error.print().is_err() {
                eprintln!("dvs-agent: the command line cannot be understood");
            }
            ExitCode::from(if usage { 64 } else { 0 })
        }
    }
}
