//! Real containers of the Docker engine of this machine, in every state that matters.

#![expect(clippy::unwrap_used, reason = "also the helpers of tests may stop a test")]

mod support;

use dvs_domain::mount_point::MountPoint;
use dvs_domain::ports::VolumeReferences;
use std::fs::create_dir_all;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;
use support::docker::{RealDocker, Tmpfs};
use support::{at, folder, volume_a};
use tempfile::TempDir;

/// A folder with a name that needs care, and its real path.
fn odd_folder() -> (TempDir, PathBuf) {
    let folder = folder();
    let root = folder.path().canonicalize().unwrap().join("wei rd ü'$(x)");
    create_dir_all(&root).unwrap();
    (folder, root)
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

async fn users(docker: &RealDocker, mount_point: &MountPoint) -> Vec<String> {
    docker.ours(docker.engines().users_of(&volume_a(), Some(mount_point)).await.unwrap())
}

async fn bound(docker: &RealDocker, mount_point: &MountPoint) -> Vec<String> {
    docker.ours(docker.engines().bound_at(mount_point).await.unwrap())
}

#[tokio::test]
async fn real_each_container_that_has_the_path_bound_is_a_user_in_whatever_state() {
    const TEST: &str = "real_each_container_that_has_the_path_bound_is_a_user_in_whatever_state";
    let docker = match RealDocker::for_test("path") {
        Ok(docker) => docker,
        Err(why) => return eprintln!("NOT RUN: {TEST}: {why}"),
    };
    let (_folder, root) = odd_folder();
    create_dir_all(root.join("a/sub")).unwrap();
    create_dir_all(root.join("ab")).unwrap();
    symlink(root.join("a"), root.join("link")).unwrap();
    let bind = |path: &str| format!("{}:/x", text(&root.join(path)));
    let (a, sub, ab, link, above) = (bind("a"), bind("a/sub"), bind("ab"), bind("link"), bind(""));
    let spelt = format!("{}/../a/", text(&root.join("ab")));
    let spelt = format!("type=bind,source={spelt},target=/x,readonly");
    let mount_point = at(root.join("a"));
    assert!(users(&docker, &mount_point).await.is_empty());

    let first = docker.running("running", ["-v", &a]);
    let paused = docker.running("paused", ["-v", &a]);
    paused.pause();
    let containers = vec![
        docker.ended("ended", ["-v", &a]),
        docker.created("created", ["-v", &a]),
        docker.created("below", ["-v", &sub]),
        docker.created("by-link", ["-v", &link]),
        docker.created("by-mount", ["--mount", &spelt]),
        docker.created("by-volumes-from", ["--volumes-from", &first.name]),
        docker.restarting("restarting", ["-v", &a]),
        docker.created("neighbour", ["-v", &ab]),
        docker.running("running-neighbour", ["-v", &ab]),
        docker.ended("above", ["-v", &above]),
        docker.running("running-below", ["-v", &sub]),
        docker.running("running-above", ["-v", &above]),
    ];
    let expected = [
        "below does not run",
        "by-link does not run",
        "by-mount does not run",
        "by-volumes-from does not run",
        "created does not run",
        "ended does not run",
        "paused runs",
        "restarting runs",
        "running runs",
        "running-below runs",
    ];
    let begun = Instant::now();
    assert_eq!(users(&docker, &mount_point).await, expected);
    eprintln!("users of a volume among {} containers: {:?}", containers.len() + 2, begun.elapsed());
    assert_eq!(users(&docker, &at(root.join("link"))).await, expected, "by a link on our side");
    assert_eq!(users(&docker, &at(root.join("a/sub"))).await, ["below does not run", "running-below runs"]);
    assert_eq!(users(&docker, &at(root.join("a/s"))).await, [""; 0]);
    assert_eq!(bound(&docker, &mount_point).await, ["paused runs", "restarting runs", "running runs"]);

    drop((first, paused, containers));
    assert!(users(&docker, &mount_point).await.is_empty());
    assert!(bound(&docker, &mount_point).await.is_empty());
}

#[tokio::test]
async fn real_volumes_of_the_engine_lead_to_their_containers() {
    const TEST: &str = "real_volumes_of_the_engine_lead_to_their_containers";
    let docker = match RealDocker::for_test("volumes") {
        Ok(docker) => docker,
        Err(why) => return eprintln!("NOT RUN: {TEST}: {why}"),
    };
    let (_folder, root) = odd_folder();
    create_dir_all(root.join("a/sub")).unwrap();
    let device = format!("device={}", text(&root.join("a/sub")));
    let named = docker.volume([]);
    let mounted_from = docker.volume(["-o", "type=none", "-o", "o=bind", "-o", &device]);
    let bind = |volume: &str| format!("{volume}:/x");
    let by_name = docker.created("by-name", ["-v", &bind(&named.name)]);
    let by_device = docker.created("by-device", ["-v", &bind(&mounted_from.name)]);
    // What deployed senders make: a volume without a name, and its place as the mount point.
    let without_name = docker.created("without-name", ["-v", "/x"]);
    let from_it = docker.running("from-it", ["--volumes-from", &without_name.name]);

    assert_eq!(users(&docker, &at(named.place())).await, ["by-name does not run"]);
    assert_eq!(users(&docker, &at(root.join("a"))).await, ["by-device does not run"]);
    let place = at(without_name.source());
    assert_eq!(users(&docker, &place).await, ["from-it runs", "without-name does not run"]);
    assert_eq!(bound(&docker, &place).await, ["from-it runs"]);
    let within = docker.engines().within_plugin_calls();
    let users_within = within.users_of(&volume_a(), Some(&place)).await.unwrap();
    assert_eq!(docker.ours(users_within), ["from-it runs", "without-name does not run"]);
    drop((by_name, by_device, without_name, from_it));
}

#[tokio::test]
async fn real_a_copy_of_a_folder_above_is_a_user_only_while_it_holds_the_volume() {
    const TEST: &str = "real_a_copy_of_a_folder_above_is_a_user_only_while_it_holds_the_volume";
    let docker = match RealDocker::for_test("copies") {
        Ok(docker) => docker,
        Err(why) => return eprintln!("NOT RUN: {TEST}: {why}"),
    };
    let (_folder, root) = odd_folder();
    let _above = match Tmpfs::shared(&root) {
        Ok(above) => above,
        Err(error) => return eprintln!("NOT RUN: {TEST}: nothing can be mounted: {error}"),
    };
    let place = root.join("a");
    create_dir_all(&place).unwrap();
    let mount_point = at(&place);
    let copying = format!("{}:/up", text(&root));
    let following = format!("{}:/up:rslave", text(&root));
    let at_itself = format!("{}:/x:rslave", text(&place));

    let early = docker.running("early", ["-v", &copying]);
    let follows = docker.running("follows", ["-v", &following]);
    let sees = docker.running("sees", ["-v", &at_itself]);
    assert_eq!(
        bound(&docker, &mount_point).await,
        [""; 0],
        "a folder above is not the path; who follows would see"
    );
    drop(sees);

    let volume = Tmpfs::shared(&place).unwrap();
    assert_eq!(users(&docker, &mount_point).await, [""; 0], "one has no copy of it, one follows");
    let late = docker.running("late", ["-v", &copying]);
    let stopped = docker.created("stopped", ["-v", &copying]);
    assert_eq!(users(&docker, &mount_point).await, ["late runs"]);
    drop(volume);
    assert_eq!(users(&docker, &mount_point).await, ["late runs"], "it still holds what the host has let go");
    drop((early, follows, late, stopped));
    assert_eq!(users(&docker, &mount_point).await, [""; 0]);
}
