//! What follows from what an engine says: with an engine that is no engine.

#![expect(clippy::unwrap_used, reason = "also the helpers of tests may stop a test")]

mod support;

use dvs_docker_engine::ContainerEngines;
use dvs_domain::ports::VolumeReferences;
use dvs_domain::user::User;
use serde_json::{Value, json};
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use support::{FakeEngine, LONG, Reply, at, bind, container, folder, running, sane, stopped, volume_a};

fn engines(fake: &FakeEngine) -> ContainerEngines {
    ContainerEngines::new(vec![fake.engine()], "dvs").within(LONG)
}

async fn users(fake: &FakeEngine) -> Vec<User> {
    engines(fake).users_of(&volume_a(), Some(&at("/mnt/a"))).await.unwrap()
}

/// `count` containers of others, each with three binds, and one that has `/mnt/a/sub` bound.
fn crowded(count: usize) -> FakeEngine {
    let filler = "x".repeat(200);
    let containers: Vec<Value> = (0..count)
        .map(|number| {
            let mounts: Vec<Value> = (0..3)
                .map(|mount| {
                    let source = format!("/srv/{filler}/{number}/{mount}");
                    json!({"Type": "bind", "Source": source, "Destination": "/x", "Propagation": "rprivate"})
                })
                .collect();
            json!({"Id": format!("{number:064}"), "Names": [format!("/c{number}")], "State": "running",
                "Labels": {"filler": filler}, "Mounts": mounts})
        })
        .chain([bind("the-one", "exited", "/mnt/a/sub")])
        .collect();
    FakeEngine::with(Value::Array(containers), json!([]))
}

#[tokio::test]
async fn one_user_among_ten_thousand_containers_is_found_with_one_list() {
    let crowded = crowded(10_000);
    assert_eq!(users(&crowded).await, [stopped("the-one")]);
    let asked = crowded.asked();
    assert_eq!(asked.len(), 2, "a version and a list, and nothing per container: {asked:?}");
}

#[tokio::test]
async fn all_containers_are_listed_in_a_version_that_both_know() {
    for (theirs, agreed) in [("1.41", "/v1.41"), ("1.24", "/v1.24"), ("1.99", "/v1.53"), ("2.0", "/v1.53")] {
        let fake = FakeEngine::that(move |path| match path {
            "/version" => Reply::Json(json!({"ApiVersion": theirs}).to_string()),
            _ => Reply::Json("[]".to_owned()),
        });
        assert_eq!(users(&fake).await, []);
        // Without a local volume nothing more is asked.
        assert_eq!(fake.asked(), ["/version", &format!("{agreed}/containers/json?all=true&size=false")]);
    }
}

#[tokio::test]
async fn a_version_is_agreed_on_once_and_again_when_the_engine_is_replaced_by_another() {
    let newest = Arc::new(Mutex::new("1.41"));
    let theirs = Arc::clone(&newest);
    let fake = FakeEngine::that_sees_versions(move |path| {
        let newest = *theirs.lock().unwrap();
        match path {
            "/version" => Reply::Json(json!({"ApiVersion": newest}).to_string()),
            path if path.starts_with(&format!("/v{newest}/")) => Reply::Json("[]".to_owned()),
            _ => Reply::Status(400, r#"{"message":"client version is too new"}"#.to_owned()),
        }
    });
    let engines = engines(&fake);
    let list = |version: &str| format!("/v{version}/containers/json?all=true&size=false");
    for _ in 0..2 {
        assert_eq!(engines.bound_at(&at("/mnt/a")).await.unwrap(), []);
    }
    assert_eq!(fake.asked(), ["/version", &list("1.41"), &list("1.41")]);
    *newest.lock().unwrap() = "1.30";
    for _ in 0..2 {
        assert_eq!(engines.bound_at(&at("/mnt/a")).await.unwrap(), []);
    }
    assert_eq!(fake.asked()[3..], [&list("1.41"), "/version", &list("1.30"), &list("1.30")]);
}

#[tokio::test]
async fn users_are_sorted_and_named_by_their_names() {
    let fake = FakeEngine::with(
        json!([
            bind("z", "paused", "/mnt/a"),
            bind("a", "created", "/mnt/a/b c/\u{fc}\"\\"),
            bind("m", "restarting", "/mnt/./a/"),
            bind("neighbour", "running", "/mnt/ab"),
            bind("above", "exited", "/mnt"),
        ]),
        json!([]),
    );
    assert_eq!(users(&fake).await, [stopped("a"), running("m"), running("z")]);
}

#[tokio::test]
async fn odd_paths_are_compared_as_they_are() {
    let odd = "/mnt/a b/\u{1f4e6} \"'\\%2e%00";
    let fake = FakeEngine::with(
        json!([bind("at", "exited", odd), bind("not", "exited", "/mnt/a b/\u{1f4e6} \"'\\%2e")]),
        json!([]),
    );
    assert_eq!(engines(&fake).users_of(&volume_a(), Some(&at(odd))).await.unwrap(), [stopped("at")]);
}

#[tokio::test]
async fn a_volume_of_the_driver_is_known_by_its_name_with_or_without_its_store() {
    let named = |container_name: &str, driver: &str, name: &str| {
        let mount =
            json!({"Type": "volume", "Driver": driver, "Name": name, "Source": "", "Destination": "/x"});
        container(container_name, "exited", &mount)
    };
    let fake = FakeEngine::with(
        json!([
            named("bare", "dvs", "a"),
            named("full", "dvs", "loop/a"),
            named("managed", "dvs:latest", "a"),
            named("other-store", "dvs", "nfs/a"),
            named("other-name", "dvs", "ab"),
            named("other-driver", "dvsx", "a"),
            named("local", "local", "a"),
        ]),
        json!([{"Name": "a", "Driver": "local", "Mountpoint": "/var/lib/docker/volumes/a/_data", "Labels": null,
            "Options": null, "Scope": "local"}]),
    );
    let expected = [stopped("bare"), stopped("full"), stopped("managed")];
    assert_eq!(users(&fake).await, expected);
    let detached = engines(&fake).users_of(&volume_a(), None).await.unwrap();
    assert_eq!(detached, expected, "also when it is not attached");
    assert_eq!(engines(&fake).bound_at(&at("/mnt/a")).await.unwrap(), []);
}

#[tokio::test]
async fn local_volumes_are_found_where_the_engine_keeps_them_or_mounts_them_from() {
    let local = |container_name: &str, name: &str| {
        let mount =
            json!({"Type": "volume", "Driver": "local", "Name": name, "Source": "", "Destination": "/x"});
        container(container_name, "exited", &mount)
    };
    let volume = |name: &str, options: Value| {
        json!({"Name": name, "Driver": "local", "Mountpoint": format!("/engine/{name}/_data"), "Labels": null,
            "Options": options, "Scope": "local"})
    };
    let fake = FakeEngine::with(
        json!([local("by-place", "0123"), local("by-device", "dev"), local("not", "other")]),
        json!([
            volume("0123", json!(null)),
            volume("dev", json!({"type": "none", "o": "bind", "device": "/mnt/a/sub"})),
            volume("other", json!({"type": "nfs", "device": ":/mnt/a"})),
        ]),
    );
    assert_eq!(users(&fake).await, [stopped("by-device")]);
    let at_place = engines(&fake).users_of(&volume_a(), Some(&at("/engine/0123/_data"))).await.unwrap();
    assert_eq!(at_place, [stopped("by-place")]);
    let asked = fake.asked().into_iter().find(|asked| asked.contains("/volumes")).unwrap();
    assert!(
        asked.ends_with("/v1.41/volumes?filters=%7B%22driver%22%3A%5B%22local%22%5D%7D"),
        "no plugin is asked: {asked}"
    );
}

#[tokio::test]
async fn within_a_plugin_call_only_containers_are_asked_for_and_one_that_has_gone_is_left_out() {
    let mount =
        json!({"Type": "volume", "Driver": "local", "Name": "0123", "Source": "", "Destination": "/x"});
    let plugin =
        json!({"Type": "volume", "Driver": "other", "Name": "0123", "Source": "", "Destination": "/x"});
    let listed = json!([
        container("here", "exited", &mount),
        container("gone", "exited", &mount),
        container("of-a-plugin", "exited", &plugin),
    ]);
    let fake = FakeEngine::that(move |path| match path {
        "/containers/json" => Reply::Json(listed.to_string()),
        "/containers/id-here/json" => Reply::Json(
            json!({"Id": "id-here", "State": {"Pid": 0}, "Mounts": [{"Type": "volume", "Driver": "local",
                "Name": "0123", "Source": "/mnt/a", "Destination": "/x"}]})
            .to_string(),
        ),
        path => sane(path),
    });
    let within = engines(&fake).within_plugin_calls();
    assert_eq!(within.users_of(&volume_a(), Some(&at("/mnt/a"))).await.unwrap(), [stopped("here")]);
    let asked = fake.asked().join(" ");
    assert!(
        !asked.contains("volumes") && asked.contains("id-gone") && !asked.contains("id-of-a-plugin"),
        "{asked}"
    );
}

#[tokio::test]
async fn links_are_followed_on_both_sides() {
    let folder = folder();
    let root = folder.path().canonicalize().unwrap();
    std::fs::create_dir_all(root.join("real/a/sub")).unwrap();
    symlink(root.join("real"), root.join("link")).unwrap();
    symlink("link/a/sub", root.join("to-sub")).unwrap();
    let path = |path: &str| root.join(path).to_str().unwrap().to_owned();
    let fake = FakeEngine::with(
        json!([
            bind("by-link", "exited", &path("to-sub")),
            bind("by-real", "exited", &path("real/a")),
            bind("not", "exited", &path("link/ab")),
        ]),
        json!([]),
    );
    for mount_point in ["real/a", "link/a"] {
        let users = engines(&fake).users_of(&volume_a(), Some(&at(path(mount_point)))).await.unwrap();
        assert_eq!(users, [stopped("by-link"), stopped("by-real")], "{mount_point}");
    }
}

#[tokio::test]
async fn a_state_that_passes_is_asked_for_again_until_it_has_passed() {
    let lists = AtomicUsize::new(0);
    let podman = FakeEngine::that(move |path| match path {
        "/containers/json" => {
            let state = if lists.fetch_add(1, Ordering::SeqCst) < 2 { "stopped" } else { "exited" };
            Reply::Json(json!([bind("ending", state, "/mnt/a")]).to_string())
        }
        path => sane(path),
    });
    assert_eq!(users(&podman).await, [stopped("ending")]);
}

#[tokio::test]
async fn only_running_containers_that_have_exactly_the_path_and_would_not_see_a_mount_are_bound_there() {
    let with = |name: &str, state: &str, source: &str, propagation: &str| {
        let mount =
            json!({"Type": "bind", "Source": source, "Destination": "/x", "Propagation": propagation});
        container(name, state, &mount)
    };
    let fake = FakeEngine::with(
        json!([
            with("at", "running", "/mnt/a", "rprivate"),
            with("paused", "paused", "/mnt/a", "private"),
            with("above", "running", "/mnt", "private"),
            with("monitoring", "running", "/", "rprivate"),
            with("below", "running", "/mnt/a/sub", "rprivate"),
            with("sees-at", "running", "/mnt/a", "rslave"),
            with("stopped", "exited", "/mnt/a", "rprivate"),
            with("neighbour", "running", "/mnt/ab", "rprivate"),
        ]),
        json!([]),
    );
    let bound = engines(&fake).bound_at(&at("/mnt/a")).await.unwrap();
    assert_eq!(bound, [running("at"), running("paused")]);
}

#[tokio::test]
async fn a_copy_of_a_folder_above_counts_when_it_cannot_be_seen_what_it_holds() {
    let following = json!({"Type": "bind", "Source": "/mnt", "Destination": "/x", "Propagation": "rslave"});
    let listed = json!([
        bind("unseen", "running", "/mnt"),
        bind("elsewhere", "running", "/mnt"),
        bind("ended", "running", "/mnt"),
        bind("gone", "running", "/mnt"),
        bind("off", "exited", "/mnt"),
        container("following", "running", &following),
    ]);
    // A process of this number never exists: it is above the kernel's limit.
    let unseen = r#"{"State":{"Pid":999999999}}"#;
    // Nothing is mounted at `/x` where this test runs.
    let elsewhere = json!({"State": {"Pid": std::process::id()}}).to_string();
    let fake = FakeEngine::that(move |path| match path {
        "/containers/json" => Reply::Json(listed.to_string()),
        "/containers/id-ended/json" => Reply::Json(r#"{"State":{"Pid":0}}"#.to_owned()),
        "/containers/id-unseen/json" | "/containers/id-following/json" => Reply::Json(unseen.to_owned()),
        "/containers/id-elsewhere/json" => Reply::Json(elsewhere.clone()),
        path => sane(path),
    });
    let with_process =
        |name: &str, process| User::Container { name: name.to_owned(), running: true, process };
    let expected =
        [with_process("elsewhere", Some(std::process::id())), with_process("unseen", Some(999_999_999))];
    assert_eq!(users(&fake).await, expected);
}

#[tokio::test]
async fn the_answer_of_podman_is_understood() {
    let listed = r#"[{"Id":"3f0c","Names":["/web"],"Image":"docker.io/library/nginx:latest","ImageID":"sha256:1",
        "Command":"nginx","Created":1700000000,"Ports":[{"PrivatePort":80,"PublicPort":8080,"Type":"tcp"}],
        "SizeRw":0,"SizeRootFs":0,"Labels":null,"State":"running","Status":"Up 2 hours",
        "HostConfig":{"NetworkMode":"host"},"NetworkSettings":{"Networks":{"podman":{"IPAMConfig":null,
        "Links":null,"Aliases":["3f0c"],"MacAddress":"","NetworkID":"podman","EndpointID":"","Gateway":"",
        "IPAddress":"","IPPrefixLen":0,"IPv6Gateway":"","GlobalIPv6Address":"","GlobalIPv6PrefixLen":0,
        "DriverOpts":null}}},"Mounts":[{"Type":"bind","Source":"/mnt/a","Destination":"/usr/share/nginx/html",
        "Mode":"","RW":true,"Propagation":"rprivate"}],"Name":"","Config":null,"NetworkingConfig":null,
        "Platform":null,"DefaultReadOnlyNonRecursive":false}]"#;
    let podman = FakeEngine::that(move |path| {
        match path {
        "/version" => Reply::Json(
            r#"{"Platform":{"Name":"linux/amd64/debian-12"},"Components":[{"Name":"Podman Engine","Version":"4.3.1",
            "Details":{"APIVersion":"4.3.1","MinAPIVersion":"4.0.0"}}],"Version":"4.3.1","ApiVersion":"1.41",
            "MinAPIVersion":"1.24","GitCommit":"","GoVersion":"go1.19.8","Os":"linux","Arch":"amd64",
            "KernelVersion":"6.1.0","BuildTime":"1970-01-01T00:00:00Z"}"#
                .to_owned(),
        ),
        "/containers/json" => Reply::Json(listed.to_owned()),
        path => sane(path),
    }
    });
    assert_eq!(users(&podman).await, [running("web")]);
}
