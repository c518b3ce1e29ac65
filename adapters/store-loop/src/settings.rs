//! The URL that configures a loop store: `loop:///var/lib/dvs/volumes?fs=ext4&provision=thin&overcommit=2`.

use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::overcommit::OvercommitRatio;
use dvs_domain::volume::{FileSystem, Mode, Provision};
use dvs_volume_record::{UrlOptions, folder_of};
use std::path::PathBuf;
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
        let root = folder_of(url, "loop", SUPPORTED)?;
        let mut options = UrlOptions::of(url, SUPPORTED)?;
        let uid = options.take_id("uid")?.unwrap_or(0);
        let settings = Self {
            root,
            file_system: options.take("fs", FileSystem::parse)?.unwrap_or(FileSystem::Ext4),
            provision: options.take("provision", Provision::parse)?.unwrap_or(Provision::Thin),
            overcommit: options
                .take("overcommit", OvercommitRatio::parse)?
                .unwrap_or(OvercommitRatio::DEFAULT),
            uid,
            gid: options.take_id("gid")?.unwrap_or(uid),
            mode: options.take("mode", Mode::parse)?.unwrap_or(Mode::DEFAULT),
        };
        options.end()?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

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
