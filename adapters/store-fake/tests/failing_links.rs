//! Attaching by links that fails at each step. On its own: failing on demand holds for a whole process.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use dvs_domain::failure::FailureCode;
use dvs_domain::mount_point::{AllowedRoots, MountPoint};
use dvs_domain::ports::{Detached, Mounter, Source, SourceKind};
use dvs_store_fake::LinkMounter;
use std::fs;
use std::path::Path;

fn at(path: &Path) -> MountPoint {
    MountPoint::new(path.to_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_failing_step_leaves_what_was_there_before() {
    let around = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
    let links = LinkMounter::new(AllowedRoots::with([at(around.path())]));
    let source = Source::new(SourceKind::Directory(around.path().join("volume")));
    let there = around.path().join("there");
    fs::create_dir_all(there.join("empty")).unwrap();
    let (new, empty) = (at(&there.join("a/b")), at(&there.join("empty")));
    let missing = [at(&there.join("a")), new.clone()];
    let names = || {
        let names = fs::read_dir(&there).unwrap().map(|entry| entry.unwrap().file_name());
        names.collect::<Vec<_>>()
    };

    for step in ["link.place", "link.directories"] {
        fail::cfg(step, "1*return(no-space)").unwrap();
        let failed = links.attach(&source, &new, &missing).await.unwrap_err();
        assert_eq!(failed.code(), FailureCode::NoSpace, "{step}: {}", failed.chain());
        assert_eq!(names(), ["empty"], "{step}");
    }
    fail::cfg("link.place", "1*return(internal)").unwrap();
    links.attach(&source, &empty, &[]).await.unwrap_err();
    assert!(fs::symlink_metadata(there.join("empty")).unwrap().is_dir());
    assert_eq!(names(), ["empty"]);
    // A directory on the way that this call may not make.
    let failed = links.attach(&source, &new, &[]).await.unwrap_err();
    assert_eq!(failed.code(), FailureCode::Conflict);

    links.attach(&source, &new, &missing).await.unwrap();
    fail::cfg("link.remove", "1*return(internal)").unwrap();
    links.detach(&source, &new).await.unwrap_err();
    assert!(fs::symlink_metadata(there.join("a/b")).unwrap().is_symlink());
    // A removal counts once it is durable.
    fail::cfg("link.sync-directories", "1*return(internal)").unwrap();
    links.detach(&source, &new).await.unwrap_err();
    assert_eq!(links.detach(&source, &new).await.unwrap(), Detached::NothingThere);
    fail::cfg("link.sync-directories", "1*return(internal)").unwrap();
    links.remove_directories(&missing).await.unwrap_err();
    links.remove_directories(&missing).await.unwrap();
    assert_eq!(names(), ["empty"]);
}
