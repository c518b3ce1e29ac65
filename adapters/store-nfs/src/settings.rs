//! The URL that configures a store: `nfs://host/export/path?uid=1000&gid=1000`.

use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::volume::Mode;
use std::collections::BTreeSet;
use std::time::Duration;
use url::{Host, Url};

const SUPPORTED: &str = "write nfs://host[:port]/export/path?uid=1000&gid=1000&mode=0755&ro=1&timeout=3&mountport=N; \
                         each option may be left out, and gid is then uid";
/// Who owns new volumes, and whom the server sees, unless the URL says it.
const UID_DEFAULT: u32 = 1000;
/// How long an operation may take, all its round trips included.
const TIMEOUT_SECONDS_DEFAULT: u64 = 3;
/// Jobs have an answer within 110 s, and an operation is only part of one.
const TIMEOUT_SECONDS_MAX: u64 = 60;
/// The longest path that the mount protocol takes.
const PATH_BYTES_MAX: usize = 1024;

/// What is configured of a store: where it is, who it works as, and what it fills in.
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
            match key.as_ref() {
                "uid" => settings.uid = id(url, &key, &value)?,
                "gid" => settings.gid = id(url, &key, &value)?,
                "mode" => settings.mode = Mode::parse(&value)?,
                "ro" => settings.read_only = flag(url, &key, &value)?,
                "timeout" => settings.timeout = timeout(url, &value)?,
                "mountport" => settings.mount_port = Some(port(url, &key, &value)?),
                _ => return Err(refused(url, &format!("has an option `{key}`, which is unknown"))),
            }
        }
        if !seen.contains("gid") {
            settings.gid = settings.uid;
        }
        Ok(settings)
    }
}

/// Refuses the id that means "no change" to a server, and so is nobody's.
pub(crate) fn check_owner(uid: u32, gid: u32) -> Result<(), Failure> {
    if uid == u32::MAX || gid == u32::MAX {
        return Err(Failure::new(FailureCode::BadRequest, format!("{} is nobody's uid or gid", u32::MAX)));
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

fn id(url: &Url, key: &str, value: &str) -> Result<u32, Failure> {
    let number = whole(value).filter(|number| *number != u32::MAX);
    number.ok_or_else(|| refused(url, &format!("has an option `{key}` that is no number of a user or group")))
}

fn flag(url: &Url, key: &str, value: &str) -> Result<bool, Failure> {
    match value {
        "1" => Ok(true),
        "0" => Ok(false),
        _ => Err(refused(url, &format!("has an option `{key}` that is neither 0 nor 1"))),
    }
}

fn timeout(url: &Url, value: &str) -> Result<Duration, Failure> {
    let seconds = whole(value).filter(|seconds| (1..=TIMEOUT_SECONDS_MAX).contains(seconds));
    let refuse = || refused(url, &format!("has a `timeout` that is not 1 to {TIMEOUT_SECONDS_MAX} seconds"));
    seconds.map(Duration::from_secs).ok_or_else(refuse)
}

fn port(url: &Url, key: &str, value: &str) -> Result<u16, Failure> {
    let port = whole(value).filter(|port| *port != 0);
    port.ok_or_else(|| refused(url, &format!("has an option `{key}` that is no port")))
}

/// A number in digits only.
fn whole<T: std::str::FromStr>(value: &str) -> Option<T> {
    value.parse().ok().filter(|_| value.bytes().all(|byte| byte.is_ascii_digit()))
}

fn refused(url: &Url, what: &str) -> Failure {
    Failure::new(FailureCode::BadRequest, format!("store URL `{url}` {what}")).with_hint(SUPPORTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Result<Settings, Failure> {
        Settings::parse(&Url::parse(url).unwrap())
    }

    #[test]
    fn every_option_is_read_and_may_be_left_out() {
        let bare = parsed("nfs://files.example/srv/vols").unwrap();
        let expected = Settings {
            host: "files.example".to_owned(),
            port: None,
            mount_port: None,
            path: "/srv/vols".to_owned(),
            uid: 1000,
            gid: 1000,
            mode: Mode::DEFAULT,
            read_only: false,
            timeout: Duration::from_secs(3),
        };
        assert_eq!(bare, expected);
        let full =
            parsed("nfs://[fd00::1]:12049/a%20b/?uid=7&gid=8&mode=0700&ro=1&timeout=5&mountport=12050")
                .unwrap();
        assert_eq!((full.host.as_str(), full.port, full.mount_port), ("fd00::1", Some(12049), Some(12050)));
        assert_eq!((full.path.as_str(), full.uid, full.gid, full.mode.bits()), ("/a b", 7, 8, 0o700));
        assert_eq!((full.read_only, full.timeout), (true, Duration::from_secs(5)));
        assert_eq!(parsed("nfs://h/v?uid=7").unwrap().gid, 7, "gid is uid unless it is given");
        assert_eq!(parsed("nfs://10.0.0.1/").unwrap().path, "/");
        assert_eq!(parsed("nfs://h/a/../b").unwrap().path, "/b");
    }

    #[test]
    fn what_is_not_supported_is_refused_naming_what_is() {
        for bad in [
            "loop:///v",
            "nfs:///v",
            "nfs://user@h/v",
            "nfs://h%00/v",
            "nfs://h:0/v",
            "nfs://h",
            "nfs://h/v#x",
            "nfs://h/v%00",
            "nfs://h/v%0a",
            "nfs://h/v?colour=red",
            "nfs://h/v?uid=1&uid=2",
            "nfs://h/v?uid=-1",
            "nfs://h/v?gid=4294967295",
            "nfs://h/v?mode=rwx",
            "nfs://h/v?ro=yes",
            "nfs://h/v?timeout=0",
            "nfs://h/v?timeout=61",
            "nfs://h/v?mountport=65536",
            "nfs://h/v?vers=4",
        ] {
            let Ok(url) = Url::parse(bad) else { continue };
            let refused = Settings::parse(&url).unwrap_err();
            assert_eq!(refused.code(), FailureCode::BadRequest, "{bad}");
            assert!(refused.hint().is_some(), "{bad}");
        }
    }
}
