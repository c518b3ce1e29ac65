//! The URL that configures a loop store: `loop:///var/lib/dvs/volumes?fs=ext4&provision=thin&overcommit=2`.

use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::overcommit::OvercommitRatio;
use dvs_domain::volume::{FileSystem, Mode, Provision};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use url::Url;

const SUPPORTED: &str = "write loop:///absolute/path?fs=ext4&provision=thin&overcommit=2&uid=0&gid=0&mode=0755; \
                         each option may be left out, and gid is then uid";

/// What is configured of a store: where it is, and what it fills in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) root: PathBuf,
    pub(crate) file_system: FileSystem,
    pub(crate) provision: Provision,
    pub(crate) overcommit: OvercommitRatio,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: Mode,
}

impl Settings {
    pub(crate) fn parse(url: &Url) -> Result<Self, Failure> {
        let mut settings = Self {
            root: root(url)?,
            file_system: FileSystem::Ext4,
            provision: Provision::Thin,
            overcommit: OvercommitRatio::DEFAULT,
            uid: 0,
            gid: 0,
            mode: Mode::DEFAULT,
        };
        let mut seen = BTreeSet::new();
        for (key, value) in url.query_pairs() {
            if !seen.insert(key.clone()) {
                return Err(refused(url, &format!("has the option `{key}` twice")));
            }
            match key.as_ref() {
                "fs" => settings.file_system = FileSystem::parse(&value)?,
                "provision" => settings.provision = Provision::parse(&value)?,
                "overcommit" => settings.overcommit = OvercommitRatio::parse(&value)?,
                "uid" => settings.uid = id(url, &key, &value)?,
                "gid" => settings.gid = id(url, &key, &value)?,
                "mode" => settings.mode = Mode::parse(&value)?,
                _ => return Err(refused(url, &format!("has an option `{key}`, which is unknown"))),
            }
        }
        if !seen.contains("gid") {
            settings.gid = settings.uid;
        }
        Ok(settings)
    }
}

/// Refuses the id that means "no change" to the kernel, and so is nobody's.
pub(crate) fn check_owner(uid: u32, gid: u32) -> Result<(), Failure> {
    if uid == u32::MAX || gid == u32::MAX {
        return Err(Failure::new(FailureCode::BadRequest, format!("{} is nobody's uid or gid", u32::MAX)));
    }
    Ok(())
}

fn root(url: &Url) -> Result<PathBuf, Failure> {
    if url.scheme() != "loop" {
        return Err(refused(url, "does not begin with `loop://`"));
    }
    if url.host_str().is_some_and(|host| !host.is_empty()) || url.port().is_some() {
        return Err(refused(url, "names a host, and a loop store is on this one"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(refused(url, "has more than a path and options"));
    }
    if url.cannot_be_a_base() || !url.path().starts_with('/') {
        return Err(refused(url, "has no absolute path"));
    }
    let root = url.to_file_path().map_err(|()| refused(url, "has no path of this host"))?;
    if root == Path::new("/") || root.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(refused(url, "names no folder for volumes"));
    }
    Ok(root)
}

fn id(url: &Url, key: &str, value: &str) -> Result<u32, Failure> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|number| digits && *number != u32::MAX);
    number.ok_or_else(|| refused(url, &format!("has an option `{key}` that is no number of a user or group")))
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
        let given =
            parsed("loop:///srv/a%20b/v?fs=xfs&provision=thick&overcommit=1.5&uid=1000&gid=100&mode=0700")
                .unwrap();
        assert_eq!(given.root, Path::new("/srv/a b/v"));
        assert_eq!((given.file_system, given.provision), (FileSystem::Xfs, Provision::Thick));
        assert_eq!((given.uid, given.gid, given.mode.bits()), (1000, 100, 0o700));
        assert_eq!(given.overcommit, OvercommitRatio::parse("1.5").unwrap());

        let bare = parsed("loop:///var/lib/dvs/volumes").unwrap();
        assert_eq!((bare.file_system, bare.provision), (FileSystem::Ext4, Provision::Thin));
        assert_eq!((bare.uid, bare.gid, bare.mode), (0, 0, Mode::DEFAULT));
        assert_eq!(parsed("loop:///v?uid=7").unwrap().gid, 7, "gid is uid unless it is given");
    }

    #[test]
    fn what_is_not_supported_is_refused_naming_what_is() {
        for bad in [
            "fake:///v",
            "loop://host/v",
            "loop://user@/v",
            "loop:v",
            "loop:",
            "loop:///",
            "loop:///..",
            "loop:///v#x",
            "loop:///v%00",
            "loop:///v?colour=red",
            "loop:///v?fs=ext4&fs=ext2",
            "loop:///v?fs=ntfs",
            "loop:///v?uid=-1",
            "loop:///v?uid=+1",
            "loop:///v?gid=4294967295",
            "loop:///v?mode=rwx",
            "loop:///v?overcommit=0.5",
            "loop:///v?provision=fat",
        ] {
            let Ok(url) = Url::parse(bad) else { continue };
            let refused = Settings::parse(&url).unwrap_err();
            assert_eq!(refused.code(), FailureCode::BadRequest, "{bad}");
            assert!(refused.hint().is_some(), "{bad}");
        }
    }
}
