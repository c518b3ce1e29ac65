//! The URL of a store.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use dvs_domain::failure::FailureCode;
use dvs_domain::ports::VolumeStore;
use dvs_store_nfs::NfsStore;
use support::{node, open, store_name};
use url::Url;

#[tokio::test]
async fn owner_and_mode_are_read_and_may_be_left_out() {
    for (url, expected) in [
        ("nfs://files.example/srv/vols", (1000, 1000, 0o755)),
        ("nfs://[fd00::1]:12049/a%20b/?uid=7&gid=8&mode=0700&ro=1&timeout=5&mountport=12050", (7, 8, 0o700)),
        ("nfs://h/v?uid=7", (7, 7, 0o755)),
        ("nfs://10.0.0.1/", (1000, 1000, 0o755)),
    ] {
        let described = open(url, 1).describe();
        assert_eq!((described.uid, described.gid, described.mode.bits()), expected, "{url}");
    }
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
        let refused = NfsStore::open(store_name(), &url, node(1)).map(drop).unwrap_err();
        assert_eq!(refused.code(), FailureCode::BadRequest, "{bad}");
        assert!(refused.hint().is_some(), "{bad}");
    }
}
