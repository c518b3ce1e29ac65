//! What is left when the process is ended at any step.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use dvs_domain::job::CreateRequest;
use dvs_domain::mount_point::MountPoint;
use dvs_domain::names::{StoreName, VolumeName};
use dvs_domain::ports::{Destroyed, VolumeStore};
use dvs_domain::size::VolumeSize;
use dvs_domain::time::Timestamp;
use dvs_domain::volume::Volume;
use dvs_store_fake::FakeStore;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tells the process that is to be ended where to work. The step comes by `FAILPOINTS`.
const FOLDER: &str = "DVS_TEST_FOLDER";
const SIGKILL: i32 = 9;

fn store(folder: &Path) -> FakeStore {
    FakeStore::at(StoreName::new("try").unwrap(), folder)
}

fn volume(store: &FakeStore, name: &VolumeName) -> Volume {
    let size = VolumeSize::from_mebibytes(1).unwrap();
    let request = CreateRequest::at(MountPoint::new("/mnt/a").unwrap(), size);
    let spec = request.complete(&store.describe(), name.clone()).unwrap();
    Volume { spec, made_by: None, made_at: Timestamp(1) }
}

#[tokio::test]
async fn a_volume_is_whole_or_gone_whichever_step_the_process_ends_at() {
    const TEST: &str = "a_volume_is_whole_or_gone_whichever_step_the_process_ends_at";
    let name = VolumeName::new("a").unwrap();
    if let Some(folder) = std::env::var_os(FOLDER) {
        let scenario = fail::FailScenario::setup();
        let store = store(&PathBuf::from(folder));
        store.create(&volume(&store, &name)).await.unwrap();
        store.destroy(&name, None).await.unwrap();
        scenario.teardown();
        return;
    }
    for (step, is_there) in [
        ("fake.directory", false),
        ("fake.owner", false),
        ("fake.record", false),
        ("fake.publish", false),
        ("fake.decide", true),
        ("fake.remove", false),
    ] {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let ended = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", TEST])
            .env(FOLDER, folder.path())
            .env("FAILPOINTS", format!("{step}=return(kill)"))
            .output()
            .unwrap();
        assert_eq!(ended.status.signal(), Some(SIGKILL), "{step}: {ended:?}");

        let store = store(folder.path());
        let found = store.look_up(&name).await.unwrap();
        let staging = fs::read_dir(folder.path().join("staging")).unwrap();
        assert_eq!(staging.count(), 0, "{step}: something is left in staging");
        assert_eq!(found.is_some(), is_there, "{step}");
        assert_eq!(store.list().await.unwrap(), found.into_iter().collect::<Vec<_>>(), "{step}");
        let created = store.create(&volume(&store, &name)).await.unwrap();
        assert_eq!(created.is_new(), !is_there, "{step}");
        assert_eq!(store.destroy(&name, None).await.unwrap(), Destroyed::Gone, "{step}");
    }
}
