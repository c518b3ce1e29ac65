//! `dvs check`.

use crate::{exit, show};
use clap::Args;
use dvs_agent::check::{Verdict, check as look};
use dvs_agent::config::{AgentFlags, Environment, Settings};
use std::process::ExitCode;

#[derive(Args)]
pub(crate) struct CheckLine {
    #[command(flatten)]
    agent: AgentFlags,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn check(line: &CheckLine) -> ExitCode {
    let settings = match Settings::gather(&line.agent, &Environment::of_process()) {
        Ok(settings) => settings,
        Err(problems) => {
            eprintln!("dvs: the configuration is wrong:");
            problems.0.iter().for_each(|problem| eprintln!("  {problem}"));
            return ExitCode::from(exit::CONFIGURATION);
        }
    };
    exit::block_on(async {
        let findings = look(&settings).await;
        let bad = findings.iter().any(|finding| finding.verdict == Verdict::Bad);
        if line.json {
            show::print_json(&findings);
        } else {
            for finding in &findings {
                let mark = match finding.verdict {
                    Verdict::Good => "ok     ",
                    Verdict::Limited => "limited",
                    Verdict::Bad => "BAD    ",
                };
                println!("{mark}  {}: {}", finding.subject, finding.seen);
                if let Some(hint) = &finding.hint {
                    println!("         hint: {hint}");
                }
            }
        }
        if bad { exit::UNAVAILABLE } else { exit::DONE }
    })
}
