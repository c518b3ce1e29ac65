//! `dvs check`: what would not work on this host, and what to do about it. Looks, and changes nothing: a store
//! that an agent has open is not opened a second time.

use crate::compose::{self, Host};
use crate::config::{BrokerChoice, DockerChoice, Settings};
use crate::engines::EnginesOfHost;
use crate::privileges::is_root;
use crate::socket::{self, Status, VolumeView};
use crate::space;
use dvs_docker_engine::Engine;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::StoreName;
use serde::Serialize;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpStream;
use url::Url;

/// How long the broker may take to accept a connection, in seconds.
const BROKER_SECONDS_MAX: u64 = 3;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub subject: String,
    pub verdict: Verdict,
    pub seen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Whether it is the configuration that is wrong, and not the host: they end with different exit codes.
    #[serde(skip)]
    pub is_configuration: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Good,
    /// The agent runs, but some jobs would fail.
    Limited,
    /// The agent, or its default store, would not work.
    Bad,
}

/// Looks at everything that `settings` need.
pub async fn check(settings: &Settings) -> Vec<Finding> {
    let mut findings = vec![agent(settings).await, broker(settings).await, rights()];
    findings.extend(engines(settings).await);
    for (name, url) in &settings.stores {
        for found in store(&Host::of(settings, false), name, url).await {
            // Several stores may need the same.
            if !findings.contains(&found) {
                findings.push(found);
            }
        }
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

fn rights() -> Finding {
    let seen = if is_root() {
        "root: volumes can be mounted"
    } else {
        "no root: volumes are shown by links, sizes are not enforced"
    };
    finding("rights", Verdict::Good, seen, "")
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

async fn store(host: &Host<'_>, name: &StoreName, url: &Url) -> Vec<Finding> {
    let subject = format!("store {name}");
    let store = match compose::open_store(name, url, host) {
        Ok(store) => store,
        Err(failure) => {
            let found = failed(subject, Verdict::Bad, &failure);
            let is_configuration = failure.code() == FailureCode::BadRequest;
            return vec![Finding { is_configuration, ..found }];
        }
    };
    let probe = store.probe().await;
    let needs = probe.needs.into_iter().map(|need| match need.found {
        Ok(seen) => finding(need.what, Verdict::Good, seen, ""),
        Err(failure) => {
            let verdict = if need.is_vital { Verdict::Bad } else { Verdict::Limited };
            failed(need.what.to_owned(), verdict, &failure)
        }
    });
    let space = match probe.space {
        Ok(space) => {
            let [free, total] = [space.free_bytes, space.total_bytes].map(space::mebibytes);
            let seen = format!("{url} ({free} MiB free of {total} MiB)");
            let verdict = if space::is_short(space) { Verdict::Limited } else { Verdict::Good };
            let hint = "free space there: with nothing free, nothing can be written to its volumes";
            finding(subject, verdict, seen, hint)
        }
        // A server may be away: the agent starts, and uses it when it is back.
        Err(failure) if store.describe().is_shared => failed(subject, Verdict::Limited, &failure),
        Err(failure) => failed(subject, Verdict::Bad, &failure),
    };
    needs.chain([space]).collect()
}

fn failed(subject: String, verdict: Verdict, failure: &Failure) -> Finding {
    finding(subject, verdict, failure.chain(), failure.hint().unwrap_or_default())
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
        let host = Host { state: folder.path(), node_name: "n".to_owned(), may_write: false };
        for bad in [format!("nope:/{path}"), format!("loop://{path}?bad=1"), format!("fake://{path}?mode=9")]
        {
            let found = store(&host, &name, &Url::parse(&bad).unwrap()).await.pop().unwrap();
            assert_eq!((found.verdict, found.is_configuration), (Verdict::Bad, true), "{bad}: {found:?}");
        }
        for good in [format!("loop://{path}/new"), format!("fake://{path}")] {
            let found = store(&host, &name, &Url::parse(&good).unwrap()).await.pop().unwrap();
            assert_eq!((found.verdict, found.is_configuration), (Verdict::Good, false), "{good}: {found:?}");
        }
        assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "looking makes nothing");
    }
}
