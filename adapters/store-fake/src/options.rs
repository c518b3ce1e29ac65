//! What the store's URL says: `fake:///path?fs=ext4&provision=thin&overcommit=2&uid=0&gid=0&mode=0755`.

use dvs_domain::failure::Failure;
use dvs_domain::names::StoreName;
use dvs_domain::overcommit::OvercommitRatio;
use dvs_domain::volume::{FileSystem, Mode, Provision, StoreDescription};
use dvs_volume_record::{UrlOptions, folder_of};
use std::path::PathBuf;
use url::Url;

const SUPPORTED: &str = "write `fake:///absolute/path`, then `?` and any of `fs`, `provision`, `overcommit`, `uid`, `gid`, `mode`";

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
        let Self { folder, description: default, .. } = Self::at(name, folder_of(url, "fake", SUPPORTED)?);
        let mut options = UrlOptions::of(url, SUPPORTED)?;
        let overcommit = options.take("overcommit", OvercommitRatio::parse)?;
        let description = StoreDescription {
            file_system: options.take("fs", FileSystem::parse)?.or(default.file_system),
            provision: options.take("provision", Provision::parse)?.or(default.provision),
            uid: options.take_id("uid")?.unwrap_or(default.uid),
            gid: options.take_id("gid")?.unwrap_or(default.gid),
            mode: options.take("mode", Mode::parse)?.unwrap_or(default.mode),
            ..default
        };
        options.end()?;
        Ok(Self { folder, description, overcommit: overcommit.unwrap_or(OvercommitRatio::DEFAULT) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dvs_domain::failure::FailureCode;

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
        let refused = read("fake:///v?size=5").unwrap_err();
        assert!(refused.to_string().contains("`size`"), "{refused}");
        assert!(refused.hint().is_some_and(|hint| hint.contains("`overcommit`")), "{refused:?}");
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
