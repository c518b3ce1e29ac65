//! What is installed beside the program: the units for systemd, and the sample of a configuration.

#![expect(clippy::unwrap_used, reason = "also the helpers of tests may stop a test")]

use dvs_agent::config::{AgentFlags, Environment, Settings};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const SERVICES: [&str; 2] = ["dvs-attach.service", "dvs.service"];
const DROP_INS: [&str; 2] = ["docker.service.d/dvs.conf", "podman-restart.service.d/dvs.conf"];

/// Each gives the unit a mount namespace, whose mounts Docker would not see (systemd.exec(5)), or restricts devices.
const NEVER: [&str; 35] = [
    "BindPaths",
    "BindReadOnlyPaths",
    "DeviceAllow",
    "DevicePolicy",
    "DynamicUser",
    "ExecPaths",
    "ExtensionDirectories",
    "ExtensionImages",
    "InaccessiblePaths",
    "LogNamespace",
    "MountAPIVFS",
    "MountFlags",
    "MountImages",
    "NoExecPaths",
    "PrivateDevices",
    "PrivateIPC",
    "PrivateMounts",
    "PrivateNetwork",
    "PrivateTmp",
    "PrivateUsers",
    "ProcSubset",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "RootDirectory",
    "RootImage",
    "TemporaryFileSystem",
    "User",
];

fn dist(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dist").join(file)
}

/// The settings of a unit, in order.
fn settings(file: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(dist(file)).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with(['#', '[']) && !line.is_empty());
    lines
        .map(|line| line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())).unwrap())
        .collect()
}

fn words(file: &str, key: &str) -> Vec<String> {
    let values = settings(file).into_iter().filter(|(found, _)| found == key);
    values.flat_map(|(_, value)| value.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap()
}

#[test]
fn volumes_are_attached_before_containers_start_and_nothing_else_is_tied_to_them() {
    for engine in DROP_INS {
        for key in ["Requires", "After"] {
            assert_eq!(words(engine, key), ["dvs-attach.service"], "{engine}");
        }
    }
    let before = words("dvs-attach.service", "Before");
    assert!(before.contains(&"docker.service".to_owned()), "{before:?}");
    assert_eq!(words("dvs-attach.service", "TimeoutStartSec"), ["infinity"]);
    assert_eq!(words("dvs-attach.service", "RemainAfterExit"), ["yes"]);
    assert_eq!(words("dvs.service", "After"), ["dvs-attach.service"], "it is ready without all others");
    assert_eq!(words("dvs.service", "Type"), ["notify"]);
    for service in SERVICES {
        for key in ["PartOf", "BindsTo", "Requires", "ExecStop", "ExecStopPost", "PropagatesStopTo"] {
            assert_eq!(words(service, key), [""; 0], "{service}: {key}");
        }
    }
}

#[test]
fn both_services_are_confined_alike_and_stay_in_the_mount_namespace_of_the_host() {
    const CONFINED: [&str; 6] = [
        "NoNewPrivileges",
        "CapabilityBoundingSet",
        "SystemCallFilter",
        "RestrictAddressFamilies",
        "RestrictNamespaces",
        "EnvironmentFile",
    ];
    for service in SERVICES {
        let tempting: Vec<_> =
            settings(service).into_iter().filter(|(key, _)| NEVER.contains(&key.as_str())).collect();
        assert_eq!(tempting, [], "{service}");
    }
    for key in CONFINED {
        let [attach, agent] = SERVICES.map(|service| words(service, key));
        assert_eq!(attach, agent, "{key}");
        assert!(!agent.is_empty(), "{key}");
    }
}

/// In a tree of its own, where the program and Docker are there whatever this machine has.
#[test]
fn real_systemd_finds_nothing_wrong_with_the_units() {
    const TEST: &str = "real_systemd_finds_nothing_wrong_with_the_units";
    const UNITS: &str = "usr/lib/systemd/system";
    let host = Path::new("/").join(UNITS);
    if Command::new("systemd-analyze").arg("--version").output().is_err() || !host.exists() {
        return eprintln!("NOT RUN: {TEST}: there is no systemd-analyze; install Debian's `systemd`");
    }
    let tree = folder();
    let units = tree.path().join(UNITS);
    fs::create_dir_all(&units).unwrap();
    fs::create_dir_all(tree.path().join("usr/bin")).unwrap();
    fs::copy("/bin/true", tree.path().join("usr/bin/dvs")).unwrap();
    for entry in fs::read_dir(host).unwrap().map(Result::unwrap) {
        if entry.path().extension().is_some_and(|ending| ending == "target") {
            fs::copy(entry.path(), units.join(entry.file_name())).unwrap();
        }
    }
    for engine in ["docker.service", "podman-restart.service"] {
        fs::write(units.join(engine), "[Service]\nExecStart=/usr/bin/dvs\n").unwrap();
    }
    for file in SERVICES.into_iter().chain(DROP_INS) {
        fs::create_dir_all(units.join(file).parent().unwrap()).unwrap();
        fs::copy(dist(file), units.join(file)).unwrap();
    }
    let verify = |unit: &str| {
        let mut root = std::ffi::OsString::from("--root=");
        root.push(tree.path());
        let output = Command::new("systemd-analyze").arg("verify").arg(root).arg(unit).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    for unit in ["dvs-attach.service", "dvs.service", "docker.service", "podman-restart.service"] {
        assert_eq!(verify(unit), (true, String::new()), "{unit}");
    }
    fs::write(units.join("docker.service.d/dvs.conf"), "[Unit]\nAfterwards=dvs-attach.service\n").unwrap();
    assert!(verify("docker.service").1.contains("Afterwards"), "what is wrong would be seen");
}

#[test]
fn the_sample_configuration_is_taken_as_it_is_and_shows_the_defaults() {
    let folder = folder();
    let (file, password) = (folder.path().join("dvs.toml"), folder.path().join("password"));
    fs::write(&password, "secret").unwrap();
    let gather = |text: &str| {
        fs::write(&file, text).unwrap();
        let flags = AgentFlags { config: Some(file.clone()), ..AgentFlags::default() };
        Settings::gather(&flags, &Environment { host_name: "node1".to_owned(), ..Environment::default() })
            .unwrap()
    };
    let sample = fs::read_to_string(dist("dvs.toml")).unwrap();
    let examples =
        |line: &str| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).map(str::to_owned);
    let shown: Vec<String> =
        sample.lines().map(|line| examples(line).unwrap_or_else(|| line.to_owned())).collect();
    let shown = shown.join("\n").replace("/etc/dvs/password", password.to_str().unwrap());
    let (plain, shown, usual) = (gather(&sample), gather(&shown), gather(""));
    for settled in [&plain, &shown] {
        assert_eq!((settled.limits, settled.engine_limits), (usual.limits, usual.engine_limits));
        assert_eq!((&settled.client_id, &settled.state), (&usual.client_id, &usual.state));
        assert_eq!(settled.keep_alive_seconds, usual.keep_alive_seconds);
        assert_eq!(settled.topics.subscription(), usual.topics.subscription());
        assert_eq!(settled.engines.seconds, usual.engines.seconds);
    }
    assert!(shown.broker.is_some() && shown.credentials.is_some() && shown.tls.identity.is_some());
    assert_eq!(shown.stores[0].1.path(), usual.stores[0].1.path());
}
