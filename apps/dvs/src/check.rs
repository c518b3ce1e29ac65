//! `dvs check`.

use crate::print::data;
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
        Err(problems) => return exit::wrong_configuration(&problems),
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
                data!("{mark}  {}: {}", finding.subject, finding.seen);
                if let Some(hint) = &finding.hint {
                    data!("         hint: {hint}");
                }
            }
        }
        let wrong = findings.iter().any(|finding| finding.is_configuration);
        match (wrong, bad) {
            (true, _) => exit::CONFIGURATION,
            (false, true) => exit::UNAVAILABLE,
            (false, false) => exit::DONE,
        }
    })
}
