//! `dvs create` and `dvs delete`: send a job over MQTT, show its progress, and end when it ends.

use crate::exit;
use crate::print::{data, note};
use clap::Args;
use dvs_agent::config::{AgentFlags, BrokerChoice, Environment, Settings};
use dvs_agent::socket::FailureView;
use dvs_domain::failure::{Failure, FailureReport};
use dvs_domain::job::{CreateRequest, DeleteRequest, JobRequest, Status, Target};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::names::{JobId, StoreName, VolumeName};
use dvs_domain::size::VolumeSize;
use dvs_domain::volume::{FileSystem, Mode, Provision};
use dvs_mqtt_rumqttc::{Requester, RequesterError};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Period of the spinner, in milliseconds.
const SPIN_MILLISECONDS: u64 = 120;

#[derive(Args)]
struct Where {
    /// The MQTT broker: HOST, HOST:PORT or a URL
    #[arg(short, long, env = "MQTT_BROKER", value_name = "BROKER")]
    broker: Option<String>,
    /// The node whose agent is asked [default: this host]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// The configuration file, for the broker and the words of topics
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The mount point
    #[arg(long, value_name = "PATH")]
    mount: Option<String>,
    /// The store [default: the agent's first]
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    /// The volume's name [default: one that the mount point gives]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How long to wait for the end of the job, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Print JSON, one object per status
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct CreateLine {
    #[command(flatten)]
    place: Where,
    /// The size, such as 5000M or 5GiB
    #[arg(long, value_name = "SIZE")]
    size: String,
    /// The file system: ext4, ext3, ext2, xfs or btrfs
    #[arg(long, value_name = "FS")]
    fs: Option<String>,
    /// Allocate all room at once
    #[arg(long)]
    thick: bool,
    /// The owner of the volume's top directory
    #[arg(long, value_name = "ID")]
    uid: Option<u32>,
    /// The group of the volume's top directory
    #[arg(long, value_name = "ID")]
    gid: Option<u32>,
    /// The permissions of the volume's top directory, octal
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
}

#[derive(Args)]
pub(crate) struct DeleteLine {
    #[command(flatten)]
    place: Where,
}

pub(crate) fn create(line: &CreateLine) -> ExitCode {
    let request = line.place.target().and_then(|target| {
        Ok(JobRequest::Create(CreateRequest {
            target,
            size: VolumeSize::parse(&line.size)?,
            file_system: line.fs.as_deref().map(FileSystem::parse).transpose()?,
            uid: line.uid,
            gid: line.gid,
            mode: line.mode.as_deref().map(Mode::parse).transpose()?,
            provision: line.thick.then_some(Provision::Thick),
        }))
    });
    send(&line.place, request)
}

pub(crate) fn delete(line: &DeleteLine) -> ExitCode {
    send(&line.place, line.place.target().map(|target| JobRequest::Delete(DeleteRequest { target })))
}

impl Where {
    fn target(&self) -> Result<Target, Failure> {
        Target::new(
            self.store.as_deref().map(StoreName::new).transpose()?,
            self.name.as_deref().map(VolumeName::new).transpose()?,
            self.mount.as_deref().map(MountPoint::new).transpose()?,
        )
    }

    /// The agent's settings: a sender needs the same broker and topic words.
    fn flags(&self) -> AgentFlags {
        AgentFlags {
            broker: self.broker.clone(),
            node: self.node.clone(),
            config: self.config.clone(),
            ..AgentFlags::default()
        }
    }
}

fn send(place: &Where, request: Result<JobRequest, Failure>) -> ExitCode {
    let request = match request {
        Ok(request) => request,
        Err(failure) => {
            complain(&failure.report());
            return ExitCode::from(exit::USAGE);
        }
    };
    let gathered = Settings::gather_with_broker(&place.flags(), &Environment::of_process());
    let (settings, broker) = match gathered {
        Ok((settings, BrokerChoice::At(broker))) => (settings, broker),
        // No flag of this command chooses the embedded broker.
        Ok((_, BrokerChoice::Embedded(_))) => return ExitCode::from(exit::USAGE),
        Err(problems) => return exit::wrong_configuration(&problems),
    };
    exit::block_on(async {
        let access = settings.access(broker);
        let mut requester = match Requester::connect(access, settings.topics.clone()).await {
            Ok(requester) => requester,
            Err(error) => return unreachable_broker(&error),
        };
        let id = match requester.send(request).await {
            Ok(id) => id,
            Err(error) => return unreachable_broker(&error),
        };
        let show = Show::new(place.json, &id);
        let limit = Duration::from_secs(place.timeout);
        match tokio::time::timeout(limit, follow(&mut requester, &show)).await {
            Ok(code) => code,
            Err(_) => {
                show.end();
                note!("dvs: no answer within {} s; the job may still be done", place.timeout);
                note!(
                    "hint: is an agent running on node `{}`? run `dvs check` there",
                    settings.topics.node()
                );
                exit::NO_ANSWER
            }
        }
    })
}

/// Shows each status until the last one, and returns the exit code.
async fn follow(requester: &mut Requester, show: &Show) -> u8 {
    while let Some(status) = requester.next().await {
        show.say(&status);
        match status {
            Status::Pending => {}
            Status::Done => return exit::DONE,
            Status::Failed(report) => {
                complain(&report);
                return report.code.exit_code();
            }
        }
    }
    exit::DEFECT
}

/// The progress of a job: a spinner on a terminal, a line per status otherwise.
struct Show {
    json: bool,
    job: String,
    spinner: Option<ProgressBar>,
}

#[derive(Serialize)]
struct StatusJson<'a> {
    job: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    failure: Option<FailureView>,
}

impl Show {
    fn new(json: bool, job: &JobId) -> Self {
        let spinner = (!json && std::io::stderr().is_terminal()).then(|| {
            let spinner = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
            spinner.set_message("sent");
            spinner.enable_steady_tick(Duration::from_millis(SPIN_MILLISECONDS));
            spinner
        });
        Self { json, job: job.to_string(), spinner }
    }

    fn say(&self, status: &Status) {
        let (word, failure) = match status {
            Status::Pending => ("PENDING", None),
            Status::Done => ("DONE", None),
            Status::Failed(report) => ("FAILED", Some(FailureView::from(report.clone()))),
        };
        match &self.spinner {
            Some(spinner) if *status == Status::Pending => spinner.set_message("PENDING"),
            Some(_) => {
                self.end();
                data!("{word}");
            }
            None if self.json => {
                let line = StatusJson { job: &self.job, status: word, failure };
                data!("{}", serde_json::to_string(&line).unwrap_or_default());
            }
            None => data!("{word}"),
        }
    }

    fn end(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

fn complain(report: &FailureReport) {
    note!("dvs: {}: {}", report.code, report.error);
    if let Some(hint) = &report.hint {
        note!("hint: {hint}");
    }
}

fn unreachable_broker(error: &RequesterError) -> u8 {
    note!("dvs: {error}");
    note!("hint: `-b BROKER` or MQTT_BROKER names the broker");
    exit::UNAVAILABLE
}
