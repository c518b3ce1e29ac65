//! Attaching by links.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use dvs_domain::failure::FailureCode;
use dvs_domain::mount_point::{AllowedRoots, MountPoint};
use dvs_domain::ports::{Detached, Mounted, Mounter, Source, SourceKind, Survey};
use dvs_domain::volume::FileSystem;
use dvs_store_fake::LinkMounter;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A root to attach below, and a volume's directory with a file in it.
struct Bench {
    around: TempDir,
    links: LinkMounter,
}

impl Bench {
    fn new() -> Self {
        let around = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        fs::create_dir(around.path().join("root")).unwrap();
        fs::create_dir(around.path().join("volume")).unwrap();
        fs::write(around.path().join("volume/file"), "inside").unwrap();
        let roots = ["root", "no-root"].map(|name| MountPoint::new(path(around.path(), name)).unwrap());
        Self { links: LinkMounter::new(AllowedRoots::with(roots)), around }
    }

    fn source(&self) -> Source {
        Source::new(SourceKind::Directory(self.around.path().join("volume")))
    }

    /// Another volume's source.
    fn other(&self) -> Source {
        Source::new(SourceKind::Directory(self.around.path().join("other")))
    }

    fn at(&self, below: &str) -> MountPoint {
        MountPoint::new(path(self.around.path(), below)).unwrap()
    }

    fn path(&self, below: &str) -> PathBuf {
        self.around.path().join(below)
    }

    async fn attach(&self, below: &str) -> Result<(), FailureCode> {
        let mount_point = self.at(below);
        let survey = self.links.survey(&mount_point).await.map_err(|failure| failure.code())?;
        let attached = self.links.attach(&self.source(), &mount_point, &survey.missing).await;
        attached.map_err(|failure| failure.code())
    }

    async fn detach(&self, below: &str) -> Result<Detached, FailureCode> {
        let detached = self.links.detach(&self.source(), &self.at(below)).await;
        detached.map_err(|failure| failure.code())
    }

    /// The names in the root, with `->` for links.
    fn names(&self, below: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path(below))
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let mark = if entry.file_type().unwrap().is_symlink() { " ->" } else { "" };
                format!("{}{mark}", entry.file_name().to_str().unwrap())
            })
            .collect();
        names.sort();
        names
    }
}

fn path(around: &Path, below: &str) -> String {
    around.join(below).to_str().unwrap().to_owned()
}

#[tokio::test]
async fn missing_directories_are_surveyed_made_and_removed() {
    let bench = Bench::new();
    let mount_point = bench.at("root/a/b/c");
    let survey = bench.links.survey(&mount_point).await.unwrap();
    let missing = vec![bench.at("root/a"), bench.at("root/a/b"), mount_point.clone()];
    assert_eq!(survey, Survey { missing: missing.clone(), mounted: None, hides_files: false });

    bench.links.attach(&bench.source(), &mount_point, &missing).await.unwrap();
    assert_eq!(fs::read_to_string(bench.path("root/a/b/c/file")).unwrap(), "inside");
    assert_eq!(fs::metadata(bench.path("root/a")).unwrap().mode() & 0o7777, 0o755);
    let survey = bench.links.survey(&mount_point).await.unwrap();
    let linked = matches!(survey.mounted, Some(Mounted::Something(what)) if what.starts_with("link to"));
    assert!(survey.missing.is_empty() && linked);

    assert_eq!(bench.detach("root/a/b/c").await, Ok(Detached::Gone));
    assert_eq!(bench.detach("root/a/b/c").await, Ok(Detached::NothingThere));
    assert_eq!(bench.names("root/a/b"), [""; 0]);
    bench.links.remove_directories(&missing).await.unwrap();
    bench.links.remove_directories(&missing).await.unwrap();
    assert_eq!(bench.names("root"), [""; 0]);
    assert_eq!(bench.detach("root/a/b/c").await, Ok(Detached::NothingThere));
    assert_eq!(fs::read_to_string(bench.path("volume/file")).unwrap(), "inside");
}

#[tokio::test]
async fn attaching_again_changes_nothing_and_another_volume_is_a_conflict() {
    let bench = Bench::new();
    bench.attach("root/a").await.unwrap();
    let before = fs::symlink_metadata(bench.path("root/a")).unwrap().ino();
    bench.attach("root/a").await.unwrap();
    assert_eq!(fs::symlink_metadata(bench.path("root/a")).unwrap().ino(), before);
    let other = bench.links.attach(&bench.other(), &bench.at("root/a"), &[]).await.unwrap_err();
    assert_eq!(other.code(), FailureCode::Conflict);
    let other = bench.links.detach(&bench.other(), &bench.at("root/a")).await.unwrap_err();
    assert_eq!(other.code(), FailureCode::Conflict);
    assert_eq!(fs::read_to_string(bench.path("root/a/file")).unwrap(), "inside");
}

#[tokio::test]
async fn an_empty_directory_comes_back_as_it_was() {
    let bench = Bench::new();
    fs::create_dir(bench.path("root/a")).unwrap();
    fs::set_permissions(bench.path("root/a"), Permissions::from_mode(0o751)).unwrap();
    let before = fs::metadata(bench.path("root/a")).unwrap();
    bench.attach("root/a").await.unwrap();
    assert!(fs::symlink_metadata(bench.path("root/a")).unwrap().is_symlink());
    bench.attach("root/a").await.unwrap();
    assert_eq!(bench.detach("root/a").await, Ok(Detached::Gone));
    let after = fs::symlink_metadata(bench.path("root/a")).unwrap();
    assert_eq!((after.ino(), after.mode()), (before.ino(), before.mode()));
    assert_eq!(bench.names("root"), ["a"], "nothing is left beside it");
}

#[tokio::test]
async fn an_exchange_that_was_cut_off_leaves_nothing_in_the_end() {
    let bench = Bench::new();
    fs::create_dir(bench.path("root/a")).unwrap();
    bench.attach("root/a").await.unwrap();
    // As if the detach had ended just after the exchange, or the attach just before it.
    let aside = bench.names("root").into_iter().find(|name| name.starts_with(".dvs-")).unwrap();
    let aside = bench.path("root").join(aside);
    fs::remove_file(bench.path("root/a")).unwrap();
    fs::rename(&aside, bench.path("root/a")).unwrap();
    symlink(bench.path("volume").join("."), &aside).unwrap();
    let cut_off = bench.names("root");
    assert_eq!(cut_off.len(), 2, "{cut_off:?}");

    bench.attach("root/a").await.unwrap();
    assert_eq!(bench.detach("root/a").await, Ok(Detached::Gone));
    assert_eq!(bench.names("root"), ["a"]);
    symlink(bench.path("volume").join("."), &aside).unwrap();
    assert_eq!(bench.detach("root/a").await, Ok(Detached::NothingThere));
    assert_eq!(bench.names("root"), ["a"]);
}

#[tokio::test]
async fn a_link_hides_no_files() {
    let bench = Bench::new();
    fs::create_dir(bench.path("root/a")).unwrap();
    fs::write(bench.path("root/a/precious"), "data").unwrap();
    let survey = bench.links.survey(&bench.at("root/a")).await.unwrap();
    assert_eq!(survey, Survey { missing: vec![], mounted: None, hides_files: true });
    let refused = bench.links.attach(&bench.source(), &bench.at("root/a"), &[]).await.unwrap_err();
    assert_eq!(refused.code(), FailureCode::Unsupported);
    assert!(refused.hint().unwrap().contains("root"), "{:?}", refused.hint());
    assert_eq!(bench.detach("root/a").await, Ok(Detached::NothingThere));
    assert_eq!(fs::read_to_string(bench.path("root/a/precious")).unwrap(), "data");
    assert_eq!(bench.names("root"), ["a"]);
}

#[tokio::test]
async fn links_and_files_on_the_way_or_at_the_end_are_refused_and_stay() {
    let bench = Bench::new();
    let outside = bench.path("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, bench.path("root/link")).unwrap();
    fs::write(bench.path("root/file"), "data").unwrap();
    for (below, code) in [
        ("root/link", FailureCode::ForbiddenPath),
        ("root/link/a", FailureCode::ForbiddenPath),
        ("root/link/a/b", FailureCode::ForbiddenPath),
        ("root/file", FailureCode::Conflict),
        ("root/file/a", FailureCode::Conflict),
        ("root", FailureCode::Unsupported),
        ("no-root/a", FailureCode::ForbiddenPath),
        ("elsewhere/a", FailureCode::ForbiddenPath),
    ] {
        let survey = bench.links.survey(&bench.at(below)).await.unwrap_err();
        assert_eq!(survey.code(), code, "survey of {below}: {}", survey.chain());
        let missing = [bench.at(below)];
        let attach = bench.links.attach(&bench.source(), &bench.at(below), &missing).await.unwrap_err();
        assert_eq!(attach.code(), code, "attach at {below}: {}", attach.chain());
    }
    assert_eq!(bench.detach("root/link").await, Err(FailureCode::Conflict));
    assert_eq!(bench.names("outside"), [""; 0], "no link was followed");
    assert_eq!(bench.names("root"), ["file", "link ->"]);
}

#[tokio::test]
async fn a_root_may_be_a_link() {
    let around = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
    let bench = Bench::new();
    symlink(bench.path("root"), around.path().join("link")).unwrap();
    let root = MountPoint::new(path(around.path(), "link")).unwrap();
    let links = LinkMounter::new(AllowedRoots::with([root]));
    let mount_point = MountPoint::new(path(around.path(), "link/a")).unwrap();
    links.attach(&bench.source(), &mount_point, &[]).await.unwrap();
    assert_eq!(bench.names("root"), ["a ->"]);
    assert_eq!(links.detach(&bench.source(), &mount_point).await.unwrap(), Detached::Gone);
    assert_eq!(bench.names("root"), [""; 0]);
}

#[tokio::test]
async fn a_device_is_refused_with_a_hint() {
    let bench = Bench::new();
    let kind = SourceKind::Device { path: PathBuf::from("/dev/loop0"), file_system: FileSystem::Ext4 };
    let refused = bench.links.attach(&Source::new(kind), &bench.at("root/a"), &[]).await.unwrap_err();
    assert_eq!(refused.code(), FailureCode::Unsupported);
    assert_eq!(refused.hint(), Some("run the agent as root"));
}

#[tokio::test]
async fn directories_that_are_not_empty_stay_with_those_above_them() {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("root/a/b/c")).unwrap();
    fs::write(bench.path("root/a/b/file"), "data").unwrap();
    let made = [bench.at("root/a"), bench.at("root/a/b"), bench.at("root/a/b/c")];
    bench.links.remove_directories(&made).await.unwrap();
    assert_eq!(bench.names("root/a/b"), ["file"]);
    // A link in place of a directory that was made is not what was made.
    fs::create_dir(bench.path("outside")).unwrap();
    symlink(bench.path("outside"), bench.path("root/link")).unwrap();
    let made = [bench.at("root/link"), bench.at("root/link/x")];
    fs::create_dir(bench.path("outside/x")).unwrap();
    bench.links.remove_directories(&made).await.unwrap();
    bench.links.remove_directories(&made[..1]).await.unwrap();
    assert_eq!(bench.names("outside"), ["x"]);
}
