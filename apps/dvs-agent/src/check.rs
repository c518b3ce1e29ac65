//! `dvs check`: what would not work on this host, and what to do about it. Looks, and changes nothing: a store
//! that an agent has open is not opened a second time.

use crate::config::{BrokerChoice, DockerChoice, Settings};
use crate::engines::EnginesOfHost;
use crate::privileges::is_root;
use crate::room::Room;
use crate::socket::{self, Status, VolumeView};
use dvs_docker_engine::Engine;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::StoreName;
use dvs_domain::volume::FileSystem;
use rustix::fs::{Access, access};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpStream;
use url::Url;

/// How long the broker may take to accept a connection, in seconds.
const BROKER_SECONDS_MAX: u64 = 3;
/// Where programs are that an ordinary user's `PATH` often lacks.
const PROGRAM_FOLDERS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub subject: String,
    /// Whether it will work.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Whether it is the configuration that is wrong, and not the host: they end with different exit codes.
    #[serde(skip)]
    pub is_configuration: bool,
}

/// Whether something will work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It will.
    Good,
    /// The agent runs, but some jobs would fail.
    Limited,
    /// The agent, or its default store, would not work.
    Bad,
}

/// Looks at everything that `settings` need.
pub async fn check(settings: &Settings) -> Vec<Finding> {
    let mut findings = vec![agent(settings).await, broker(settings).await, rights(settings)];
    findings.extend(engines(settings).await);
    let formats = settings.stores.iter().any(|(_, url)| url.scheme() == "loop");
    if formats {
        findings.push(loop_devices());
        findings.extend(FileSystem::ALL.into_iter().map(formatting));
        findings.push(program("e2fsck", "e2fsprogs"));
    }
    for (name, url) in &settings.stores {
        findings.push(store(name, url).await);
    }
    findings.extend(volumes(settings).await);
    findings.extend(settings.roots.roots().iter().map(|root| mount_root(Path::new(root.path.as_str()))));
    findings
}

fn finding(subject: impl Into<String>, verdict: Verdict, seen: impl Into<String>, hint: &str) -> Finding {
    let hint = (verdict != Verdict::Good && !hint.is_empty()).then(|| hint.to_owned());
    Finding { subject: subject.into(), verdict, seen: seen.into(), hint, is_configuration: false }
}

async fn agent(settings: &Settings) -> Finding {
    match socket::get::<Status>(&settings.socket, "/v1/status").await {
        Ok(status) => {
            let seen = format!(
                "process {} runs on node `{}`; broker: {}",
                status.process, status.node, status.broker
            );
            let verdict = if status.is_connected() { Verdict::Good } else { Verdict::Limited };
            let hint = "jobs and answers wait until the broker is connected; an agent whose id another client uses \
                        needs one of its own: `client_id` in `[mqtt]`";
            finding("agent", verdict, seen, hint)
        }
        Err(_) => finding(
            "agent",
            Verdict::Limited,
            "none runs with this state folder",
            "start it with `dvs -b BROKER`",
        ),
    }
}

async fn broker(settings: &Settings) -> Finding {
    let url = match &settings.broker {
        None => {
            let hint = "the agent needs one: `-b BROKER`, MQTT_BROKER or `broker` in the file";
            return finding("broker", Verdict::Limited, "none is named", hint);
        }
        Some(BrokerChoice::Embedded(address)) => {
            return finding("broker", Verdict::Good, format!("inside the agent, at {address}"), "");
        }
        Some(BrokerChoice::At(url)) => url,
    };
    let connect = TcpStream::connect((url.host(), url.port()));
    let (verdict, seen) = match tokio::time::timeout(Duration::from_secs(BROKER_SECONDS_MAX), connect).await {
        Ok(Ok(_)) => (Verdict::Good, format!("{url} accepts connections")),
        Ok(Err(error)) => (Verdict::Limited, format!("{url}: {error}")),
        Err(_) => (Verdict::Limited, format!("{url} did not answer within {BROKER_SECONDS_MAX} s")),
    };
    finding("broker", verdict, seen, "the agent waits for the broker; jobs come once it is there")
}

fn rights(settings: &Settings) -> Finding {
    let needs_root = settings.stores.iter().any(|(_, url)| url.scheme() == "loop");
    match (is_root(), needs_root) {
        (true, _) => finding("rights", Verdict::Good, "root: volumes can be mounted", ""),
        (false, false) => finding(
            "rights",
            Verdict::Good,
            "no root: volumes are shown by links, sizes are not enforced",
            "",
        ),
        (false, true) => finding(
            "rights",
            Verdict::Bad,
            "no root: nothing can be mounted",
            "run as root, or try it out with `--store try=fake:///tmp/dvs`",
        ),
    }
}

/// Which container engines are asked, and whether they answer.
async fn engines(settings: &Settings) -> Vec<Finding> {
    let engines = EnginesOfHost::new(&settings.engines);
    let probed = engines.now().probe().await;
    if probed.is_empty() {
        let seen = match settings.engines.docker {
            DockerChoice::Usual => {
                format!("none is asked: `{}` is not there for this user", Engine::DOCKER_SOCKET)
            }
            DockerChoice::At(_) | DockerChoice::Nowhere => "none is asked".to_owned(),
        };
        return vec![finding("container engines", Verdict::Good, seen, "")];
    }
    let found = probed.into_iter().map(|(engine, answer)| {
        let subject = format!("container engine {}", engine.name());
        match answer {
            Ok(count) => {
                let seen = format!("`{}` answers: {count} containers", engine.socket().display());
                finding(subject, Verdict::Good, seen, "")
            }
            Err(failure) => finding(
                subject,
                Verdict::Limited,
                failure.chain(),
                &format!("start it, or say `--{} none`: deletes are refused until it answers", engine.name()),
            ),
        }
    });
    found.collect()
}

fn loop_devices() -> Finding {
    let hint = "load the module with `modprobe loop`, or give the container access to /dev";
    match access("/dev/loop-control", Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => finding("loop devices", Verdict::Good, "/dev/loop-control is there", ""),
        Err(error) => finding("loop devices", Verdict::Bad, format!("/dev/loop-control: {error}"), hint),
    }
}

fn formatting(file_system: FileSystem) -> Finding {
    let package = match file_system {
        FileSystem::Ext2 | FileSystem::Ext3 | FileSystem::Ext4 => "e2fsprogs",
        FileSystem::Xfs => "xfsprogs",
        FileSystem::Btrfs => "btrfs-progs",
    };
    program(&format!("mkfs.{file_system}"), package)
}

fn program(name: &str, package: &str) -> Finding {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders)
        .chain(PROGRAM_FOLDERS.map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| access(path, Access::EXEC_OK).is_ok());
    match found {
        Some(path) => finding(name, Verdict::Good, path.display().to_string(), ""),
        None => finding(name, Verdict::Limited, "not found", &format!("apt-get install {package}")),
    }
}

/// What is wrong with volumes, by the word of the agent: only it knows what should be attached.
async fn volumes(settings: &Settings) -> Vec<Finding> {
    let Ok(volumes) = socket::get::<Vec<VolumeView>>(&settings.socket, "/v1/volumes").await else {
        return Vec::new(); // No agent runs, which is told already.
    };
    let wrong = volumes.into_iter().filter_map(|volume| {
        let place = volume.mount_point.map(|there| format!(", at `{there}`")).unwrap_or_default();
        let seen = format!("{}{place}: {}", volume.state, volume.reason?);
        let hint = "mend or restore it, then restart the agent; nothing is repaired by force";
        Some(finding(format!("volume {}/{}", volume.store, volume.name), Verdict::Limited, seen, hint))
    });
    wrong.collect()
}

async fn store(name: &StoreName, url: &Url) -> Finding {
    let subject = format!("store {name}");
    if let Err(failure) = check_url(url) {
        let hint = failure.hint().unwrap_or_default();
        return Finding { is_configuration: true, ..finding(subject, Verdict::Bad, failure.chain(), hint) };
    }
    if url.scheme() == "nfs" {
        return export(subject, name, url).await;
    }
    let folder = url.to_file_path().unwrap_or_default();
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    if access(there, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let seen = format!("`{}` cannot be written to", there.display());
        return finding(
            subject,
            Verdict::Bad,
            seen,
            "run as a user that may write there, or choose another folder",
        );
    }
    match Room::of(there) {
        Ok(room) => {
            let seen =
                format!("{url} ({} MiB free of {} MiB)", room.free_mebibytes(), room.total_mebibytes());
            let verdict = if room.is_short() { Verdict::Limited } else { Verdict::Good };
            let hint = "free space there: with nothing free, nothing can be written to its volumes";
            finding(subject, verdict, seen, hint)
        }
        Err(error) => finding(subject, Verdict::Bad, format!("`{}`: {error}", there.display()), ""),
    }
}

/// A server may be away: the agent starts, and uses it when it is back.
async fn export(subject: String, name: &StoreName, url: &Url) -> Finding {
    match dvs_store_nfs::room(name, url).await {
        Ok((all, free)) => {
            let seen = format!("{url} answers ({} MiB free of {} MiB)", free >> 20, all >> 20);
            finding(subject, Verdict::Good, seen, "")
        }
        Err(failure) => {
            let hint = failure.hint().unwrap_or_default();
            finding(subject, Verdict::Limited, failure.chain(), hint)
        }
    }
}

/// Whether `url` describes a store, by the word of its adapter. Opens none.
fn check_url(url: &Url) -> Result<(), Failure> {
    match url.scheme() {
        "loop" => dvs_store_loop::check_url(url),
        "nfs" => dvs_store_nfs::check_url(url),
        "fake" => dvs_store_fake::check_url(url),
        other => Err(Failure::new(FailureCode::BadRequest, format!("there is no kind `{other}`"))
            .with_hint("a store's URL starts with `loop://`, `nfs://` or `fake://`")),
    }
}

fn mount_root(path: &Path) -> Finding {
    let subject = format!("mount root {}", path.display());
    if path.is_dir() {
        return finding(subject, Verdict::Good, "is there", "");
    }
    finding(
        subject,
        Verdict::Limited,
        "is no directory",
        "jobs below it are refused until it is made and the agent restarted",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_store_url_that_its_adapter_refuses_is_a_wrong_configuration() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let (path, name) = (folder.path().display(), StoreName::new("a").unwrap());
        for bad in [format!("nope:/{path}"), format!("loop://{path}?bad=1"), format!("fake://{path}?mode=9")]
        {
            let found = store(&name, &Url::parse(&bad).unwrap()).await;
            assert_eq!((found.verdict, found.is_configuration), (Verdict::Bad, true), "{bad}: {found:?}");
        }
        for good in [format!("loop://{path}/new"), format!("fake://{path}")] {
            let found = store(&name, &Url::parse(&good).unwrap()).await;
            assert_eq!((found.verdict, found.is_configuration), (Verdict::Good, false), "{good}: {found:?}");
        }
        assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "looking makes nothing");
    }
}
