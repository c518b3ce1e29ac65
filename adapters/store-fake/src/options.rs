//! What the store's URL says: `fake:///path?fs=ext4&provision=thin&overcommit=2&uid=0&gid=0&mode=0755`.

use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::StoreName;
use dvs_domain::overcommit::OvercommitRatio;
use dvs_domain::volume::{FileSystem, Mode, Provision, StoreDescription};
use std::collections::BTreeSet;
use std::path::PathBuf;
use url::Url;

/// What may stand after the `?`.
const SUPPORTED: &str = "`fs`, `provision`, `overcommit`, `uid`, `gid`, `mode`";

/// A store as its URL describes it.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) folder: PathBuf,
    pub(crate) description: StoreDescription,
    pub(crate) overcommit: OvercommitRatio,
}

impl Options {
    /// All defaults: an ordinary user's volumes belong to that user.
    pub(crate) fn at(name: StoreName, folder: PathBuf) -> Self {
        let description = StoreDescription {
            name,
            kind: "fake",
            file_system: Some(FileSystem::Ext4),
            provision: Some(Provision::Thin),
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            mode: Mode::DEFAULT,
            attachable: true,
            is_shared: false,
        };
        Self { folder, description, overcommit: OvercommitRatio::DEFAULT }
    }

    pub(crate) fn read(name: StoreName, url: &Url) -> Result<Self, Failure> {
        let refuse = |what: &str| {
            Failure::new(FailureCode::BadRequest, what)
                .with_hint(format!("write `fake:///absolute/path`, then `?` and any of {SUPPORTED}"))
        };
        let folder = match url.to_file_path() {
            Ok(folder) if url.scheme() == "fake" && url.host().is_none() && url.fragment().is_none() => {
                folder
            }
            _ => return Err(refuse(&format!("`{url}` is no URL of a folder of this host"))),
        };
        if folder.parent().is_none() {
            return Err(refuse("the root of the host is no folder for volumes"));
        }
        let mut options = Self::at(name, folder);
        let settled = &mut options.description;
        let mut seen = BTreeSet::new();
        for (key, value) in url.query_pairs() {
            if !seen.insert(key.clone()) {
                return Err(refuse(&format!("`{key}` is there twice")));
            }
            let number = || {
                value.parse::<u32>().map_err(|error| {
                    refuse(&format!("`{key}` is `{value}`, no number of a user or group")).caused_by(error)
                })
            };
            match &*key {
                "fs" => settled.file_system = Some(FileSystem::parse(&value)?),
                "provision" => settled.provision = Some(Provision::parse(&value)?),
                "overcommit" => options.overcommit = OvercommitRatio::parse(&value)?,
                "uid" => settled.uid = number()?,
                "gid" => settled.gid = number()?,
                "mode" => settled.mode = Mode::parse(&value)?,
                _ => return Err(refuse(&format!("`{key}` is no option; supported are {SUPPORTED}"))),
            }
        }
        Ok(options)
    }
}

/// Whether `url` describes a store, as [`FakeStore::open`](crate::FakeStore::open) would find. Touches nothing.
///
/// # Errors
/// `bad-request`, saying what is wrong with it.
pub fn check_url(url: &Url) -> Result<(), Failure> {
    Options::read(StoreName::new("any")?, url).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Options, Failure> {
        Options::read(StoreName::new("try").unwrap(), &Url::parse(url).unwrap())
    }

    #[test]
    fn urls_say_folder_and_defaults() {
        let plain = read("fake:///srv/with%20space").unwrap();
        assert_eq!(plain.folder, PathBuf::from("/srv/with space"));
        assert_eq!(plain.description.file_system, Some(FileSystem::Ext4));
        assert_eq!(plain.overcommit, OvercommitRatio::DEFAULT);

        let full = read("fake:///v?fs=xfs&provision=thick&overcommit=1.5&uid=5&gid=6&mode=0700").unwrap();
        assert_eq!(full.overcommit, OvercommitRatio::parse("1.5").unwrap());
        let described = StoreDescription {
            name: StoreName::new("try").unwrap(),
            kind: "fake",
            file_system: Some(FileSystem::Xfs),
            provision: Some(Provision::Thick),
            uid: 5,
            gid: 6,
            mode: Mode::parse("0700").unwrap(),
            attachable: true,
            is_shared: false,
        };
        assert_eq!(full.description, described);
    }

    #[test]
    fn what_is_no_option_is_refused_naming_the_supported_ones() {
        let refused = read("fake:///v?size=5").unwrap_err().to_string();
        assert!(refused.contains("`size`") && refused.contains("`overcommit`"), "{refused}");
        for bad in [
            "fake://host/v",
            "fake:///",
            "fake:relative",
            "loop:///v",
            "fake:///v#x",
            "fake:///v?uid=-1",
            "fake:///v?uid=1&uid=1",
            "fake:///v?mode=9",
            "fake:///v?fs=ntfs",
            "fake:///v?overcommit=0",
        ] {
            assert_eq!(read(bad).unwrap_err().code(), FailureCode::BadRequest, "{bad}");
        }
    }
}
