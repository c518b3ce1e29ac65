//! The command `dvs`: without a subcommand it runs the agent; the subcommands send jobs over MQTT, and list volumes
//! through the agent's socket.

mod check;
mod exit;
mod job;
mod print;
mod release;
mod show;

use clap::{Parser, Subcommand};
use dvs_agent::config::AgentFlags;
use std::process::ExitCode;

/// Docker Volume Service: storage for containers, limited in size, on request.
///
/// Without a command, `dvs -b BROKER` runs the agent in the foreground.
#[derive(Parser)]
#[command(name = "dvs", version, args_conflicts_with_subcommands = true)]
struct Line {
    #[command(flatten)]
    agent: AgentFlags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Ask an agent for a volume at a mount point, and wait until it is there
    Create(job::CreateLine),
    /// Ask an agent to delete the volume at a mount point, and wait until it is gone
    Delete(job::DeleteLine),
    /// List the volumes of this node
    Ls(show::ListLine),
    /// Show one volume of this node
    Inspect(show::InspectLine),
    /// Remove the claims of a dead node on a volume that several nodes share
    Release(release::ReleaseLine),
    /// Attach every volume that should be attached, then end: the step at boot before Docker starts
    Attach(AgentFlags),
    /// Check configuration, rights, programs and stores, with a hint for each problem
    Check(check::CheckLine),
}

fn main() -> ExitCode {
    let line = match Line::try_parse() {
        Ok(line) => line,
        Err(error) => {
            let printed = error.print();
            if error.use_stderr() {
                return ExitCode::from(exit::USAGE);
            }
            print::keep(printed);
            return ExitCode::from(exit::exit_code(exit::DONE));
        }
    };
    match line.command {
        None => dvs_agent::run(&line.agent),
        Some(Command::Create(create)) => job::create(&create),
        Some(Command::Delete(delete)) => job::delete(&delete),
        Some(Command::Ls(list)) => show::list(&list),
        Some(Command::Inspect(inspect)) => show::inspect(&inspect),
        Some(Command::Release(release)) => release::release(&release),
        Some(Command::Attach(flags)) => dvs_agent::attach(&flags),
        Some(Command::Check(check)) => check::check(&check),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_arguments_the_agent_runs() {
        // Its broker may be named by the environment or by the file alone: so the unit for systemd starts it.
        let line = Line::try_parse_from(["dvs"]).map_err(|error| error.to_string()).unwrap();
        assert!(line.command.is_none());
    }
}
