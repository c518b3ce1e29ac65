//! The URL that configures a store: `nfs://host/export/path?uid=1000&gid=1000`.

use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::volume::Mode;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;
use url::{Host, Url};

const SUPPORTED: &str = "write nfs://host[:port]/export/path?uid=1000&gid=1000&mode=0755&ro=1&timeout=3&mountport=N; \
                         each option may be left out, and gid is then uid";
/// Owner of new volumes, and the identity of calls, unless the URL gives another.
const UID_DEFAULT: u32 = 1000;
/// How long an operation may take, all its round trips included.
const TIMEOUT_SECONDS_DEFAULT: u64 = 3;
/// Jobs have an answer within 110 s, and an operation is only part of one.
const TIMEOUT_SECONDS_MAX: u32 = 60;
/// The id above means "no change" to a server.
const ID_MAX: u32 = u32::MAX - 1;
/// The longest path that the mount protocol takes.
const PATH_BYTES_MAX: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// A name, or an address without brackets.
    pub(crate) host: String,
    /// Where the NFS service is, if the portmapper need not be asked.
    pub(crate) port: Option<u16>,
    /// Where the mount service is, if the portmapper need not be asked.
    pub(crate) mount_port: Option<u16>,
    pub(crate) path: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: Mode,
    pub(crate) read_only: bool,
    pub(crate) timeout: Duration,
}

impl Settings {
    pub(crate) fn parse(url: &Url) -> Result<Self, Failure> {
        let mut settings = Self {
            host: host(url)?,
            port: url.port(),
            mount_port: None,
            path: path(url)?,
            uid: UID_DEFAULT,
            gid: UID_DEFAULT,
            mode: Mode::DEFAULT,
            read_only: false,
            timeout: Duration::from_secs(TIMEOUT_SECONDS_DEFAULT),
        };
        if settings.port == Some(0) {
            return Err(refused(url, "has the port 0"));
        }
        let mut seen = BTreeSet::new();
        for (key, value) in url.query_pairs() {
            if !seen.insert(key.clone()) {
                return Err(refused(url, &format!("has the option `{key}` twice")));
            }
            let number = |range| number(url, &key, &value, range);
            match key.as_ref() {
                "uid" => settings.uid = number(0..=ID_MAX)?,
                "gid" => settings.gid = number(0..=ID_MAX)?,
                "mode" => settings.mode = Mode::parse(&value)?,
                "ro" => settings.read_only = number(0..=1)? == 1,
                "timeout" => {
                    settings.timeout = Duration::from_secs(number(1..=TIMEOUT_SECONDS_MAX)?.into());
                }
                "mountport" => settings.mount_port = u16::try_from(number(1..=u16::MAX.into())?).ok(),
                _ => return Err(refused(url, &format!("has an option `{key}`, which is unknown"))),
            }
        }
        if !seen.contains("gid") {
            settings.gid = settings.uid;
        }
        Ok(settings)
    }
}

pub(crate) fn check_owner(uid: u32, gid: u32) -> Result<(), Failure> {
    if ID_MAX < uid || ID_MAX < gid {
        let detail = format!("{} cannot be a uid or gid", u32::MAX);
        return Err(Failure::new(FailureCode::BadRequest, detail));
    }
    Ok(())
}

fn host(url: &Url) -> Result<String, Failure> {
    if url.scheme() != "nfs" {
        return Err(refused(url, "does not begin with `nfs://`"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(refused(url, "has more than a host, a path and options"));
    }
    match url.host() {
        Some(Host::Domain(name)) if is_host_name(name) => Ok(name.to_owned()),
        Some(Host::Ipv4(address)) => Ok(address.to_string()),
        Some(Host::Ipv6(address)) => Ok(address.to_string()),
        _ => Err(refused(url, "names no host")),
    }
}

fn is_host_name(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

fn path(url: &Url) -> Result<String, Failure> {
    // Only a URL without a host gives its path away decoded.
    let decoded = Url::parse("file:///").ok().and_then(|mut local| {
        local.set_path(url.path());
        local.to_file_path().ok()?.into_os_string().into_string().ok()
    });
    let path = decoded.unwrap_or_default();
    let trimmed = path.trim_end_matches('/');
    if !url.path().starts_with('/')
        || !path.starts_with('/')
        || PATH_BYTES_MAX < path.len()
        || path.chars().any(char::is_control)
    {
        return Err(refused(url, "has no path of an export"));
    }
    Ok(if trimmed.is_empty() { "/" } else { trimmed }.to_owned())
}

fn number(url: &Url, key: &str, value: &str, range: RangeInclusive<u32>) -> Result<u32, Failure> {
    let is_whole = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|number| is_whole && range.contains(number));
    let (first, last) = range.into_inner();
    let refuse =
        || refused(url, &format!("has an option `{key}` that is not a number from {first} to {last}"));
    number.ok_or_else(refuse)
}

fn refused(url: &Url, what: &str) -> Failure {
    Failure::new(FailureCode::BadRequest, format!("store URL `{url}` {what}")).with_hint(SUPPORTED)
}
