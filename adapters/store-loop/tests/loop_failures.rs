//! Every step fails on demand, or is where the process ends: nothing is left, and the same works afterwards.
//!
//! Failpoints belong to the whole process, so each test here holds the scenario while it runs.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use dvs_domain::failure::FailureCode;
use dvs_domain::ports::{Destroyed, VolumeStore};
use dvs_domain::volume::{Entry, FileSystem, Mode, Provision, Volume};
use fail::FailScenario;
use std::env;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use support::{Place, device_of, named, volume, volume_of};
use tokio::runtime::Runtime;

const CREATE_STEPS: [&str; 8] =
    ["reserve", "stage", "image", "format", "own", "record", "publish", "published"];
const DESTROY_STEPS: [&str; 3] = ["decide", "decided", "remove"];

/// What tells a child process of a test what to do: "create" or "destroy", and where.
const CHILD: &str = "DVS_TEST_LOOP_CHILD";

/// A volume that goes through every step with all its work: mounted to be owned.
fn demanding(name: &str) -> Volume {
    let mut volume = volume_of(name, 300, FileSystem::Xfs, Provision::Thick);
    volume.spec.mode = Mode::parse("0700").unwrap();
    volume
}

#[test]
fn loop_each_step_of_create_fails_and_leaves_nothing() {
    if !support::can_run("loop_each_step_of_create_fails_and_leaves_nothing") {
        return;
    }
    let scenario = FailScenario::setup();
    let place = Place::new();
    let store = place.open_with("overcommit=1");
    let runtime = Runtime::new().unwrap();
    let before = place.traces();
    for step in CREATE_STEPS.into_iter().chain(["attach"]) {
        for code in [FailureCode::NoSpace, FailureCode::Internal] {
            fail::cfg(format!("loop.{step}"), &format!("1*return({code})")).unwrap();
            let failed = runtime.block_on(store.create(&demanding("a"))).unwrap_err();
            assert_eq!(failed.code(), code, "{step}");
            assert!(failed.to_string().contains(&format!("step `{step}`")), "{failed}");
            assert!(!failed.chain().contains("undoing"), "{}", failed.chain());
            assert_eq!(place.traces(), before, "{step} leaves something");
            assert!(runtime.block_on(store.create(&demanding("a"))).unwrap().is_new(), "{step}");
            assert_eq!(runtime.block_on(store.destroy(&named("a"), None)).unwrap(), Destroyed::Gone);
        }
    }
    scenario.teardown();
}

#[test]
fn loop_what_a_failed_create_was_promised_is_free_again() {
    if !support::can_run("loop_what_a_failed_create_was_promised_is_free_again") {
        return;
    }
    let scenario = FailScenario::setup();
    let place = Place::new();
    let store = place.open_with("overcommit=1");
    let runtime = Runtime::new().unwrap();
    // More than half of what is free: two promises of it at once are refused.
    let room = rustix::fs::statvfs(place.folder.path()).unwrap();
    let mebibytes = room.f_bavail * room.f_frsize / (1 << 20) * 6 / 10;
    let large = |name| volume_of(name, mebibytes, FileSystem::Ext4, Provision::Thin);
    for step in CREATE_STEPS {
        fail::cfg(format!("loop.{step}"), "1*return(internal)").unwrap();
        runtime.block_on(store.create(&large("a"))).unwrap_err();
        assert!(runtime.block_on(store.create(&large("b"))).unwrap().is_new(), "{step}");
        let refused = runtime.block_on(store.create(&large("c"))).unwrap_err();
        assert_eq!(refused.code(), FailureCode::NoSpace);
        runtime.block_on(store.destroy(&named("b"), None)).unwrap();
    }
    scenario.teardown();
}

#[test]
fn loop_a_destroy_that_fails_before_it_is_decided_changes_nothing() {
    if !support::can_run("loop_a_destroy_that_fails_before_it_is_decided_changes_nothing") {
        return;
    }
    let scenario = FailScenario::setup();
    let place = Place::new();
    let store = place.open();
    let runtime = Runtime::new().unwrap();
    runtime.block_on(store.create(&volume("a"))).unwrap();
    let source = runtime.block_on(store.source(&named("a"))).unwrap();
    let traces = place.traces();
    for step in ["decide", "decided"] {
        fail::cfg(format!("loop.{step}"), "1*return(internal)").unwrap();
        let failed = runtime.block_on(store.destroy(&named("a"), None)).unwrap_err().into_failure();
        assert!(failed.to_string().contains(&format!("step `{step}`")), "{failed}");
        assert_eq!(place.traces(), traces, "{step} changed something");
        let again = runtime.block_on(store.source(&named("a"))).unwrap();
        assert_eq!(again.kind, source.kind);
    }
    assert_eq!(runtime.block_on(store.destroy(&named("a"), None)).unwrap(), Destroyed::Gone);
    scenario.teardown();
}

#[test]
fn loop_a_decided_destroy_is_done_whatever_fails_afterwards() {
    if !support::can_run("loop_a_decided_destroy_is_done_whatever_fails_afterwards") {
        return;
    }
    let scenario = FailScenario::setup();
    let place = Place::new();
    let store = place.open();
    let runtime = Runtime::new().unwrap();
    let before = place.traces();
    // The first removal fails; every removal fails; the device is not unbound, only closed.
    for (step, fails) in
        [("remove", "1*return(internal)"), ("remove", "return(internal)"), ("unbind", "return")]
    {
        runtime.block_on(store.create(&volume("a"))).unwrap();
        let source = runtime.block_on(store.source(&named("a"))).unwrap();
        fail::cfg(format!("loop.{step}"), fails).unwrap();
        let destroyed = runtime.block_on(store.destroy(&named("a"), None));
        fail::remove(format!("loop.{step}"));
        drop(source);
        assert_eq!(destroyed.unwrap(), Destroyed::Gone, "{step}={fails}");
        assert_eq!(runtime.block_on(store.look_up(&named("a"))).unwrap(), None, "{step}={fails}");
        assert_eq!(runtime.block_on(store.destroy(&named("a"), None)).unwrap(), Destroyed::NothingThere);
        assert_eq!(place.staged().len(), usize::from(fails == "return(internal)"), "{step}={fails}");
        runtime.block_on(place.open().list()).unwrap();
        assert_eq!(place.staged(), [""; 0], "{step}={fails}");
        support::wait_until(&format!("nothing is left of {step}={fails}"), || place.traces() == before);
    }
    scenario.teardown();
}

#[test]
fn loop_without_a_device_there_is_no_source_and_the_volume_stays() {
    if !support::can_run("loop_without_a_device_there_is_no_source_and_the_volume_stays") {
        return;
    }
    let scenario = FailScenario::setup();
    let place = Place::new();
    let store = place.open();
    let runtime = Runtime::new().unwrap();
    runtime.block_on(store.create(&volume("a"))).unwrap();
    let traces = place.traces();
    fail::cfg("loop.attach", "1*return(no-space)").unwrap();
    let failed = runtime.block_on(store.source(&named("a"))).unwrap_err();
    assert_eq!(failed.code(), FailureCode::NoSpace);
    assert!(failed.to_string().contains("step `attach`"), "{failed}");
    assert_eq!(place.traces(), traces);
    device_of(&runtime.block_on(store.source(&named("a"))).unwrap());
    scenario.teardown();
}

#[test]
fn loop_a_process_killed_at_any_step_leaves_a_whole_volume_or_none() {
    const TEST: &str = "loop_a_process_killed_at_any_step_leaves_a_whole_volume_or_none";
    if let Some(what) = env::var_os(CHILD) {
        return be_killed(&what.into_string().unwrap());
    }
    if !support::can_run(TEST) {
        return;
    }
    let scenario = FailScenario::setup();
    let runtime = Runtime::new().unwrap();
    let killed_at = |place: &Place, what: &str, step: &str| {
        let status = Command::new(env::current_exe().unwrap())
            .args(["--exact", TEST])
            .env(CHILD, format!("{what} {}", place.root().display()))
            .env("FAILPOINTS", format!("loop.{step}=return(kill)"))
            .stdout(Stdio::null()) // Its own count of tests is none of ours.
            .status()
            .unwrap();
        assert_eq!(status.signal(), Some(9), "{what}, {step}: {status}");
    };
    for step in CREATE_STEPS {
        let place = Place::new();
        let before = place.traces();
        killed_at(&place, "create", step);
        let store = place.open();
        let there = runtime.block_on(store.look_up(&named("a"))).unwrap();
        assert_eq!(place.staged(), [""; 0], "{step}");
        if step == "published" {
            assert_eq!(there, Some(Entry::Sound(Box::new(demanding("a")))));
        } else {
            assert_eq!(there, None, "{step}");
            support::wait_until(&format!("nothing is left of {step}"), || place.traces() == before);
            assert!(runtime.block_on(store.create(&demanding("a"))).unwrap().is_new(), "{step}");
        }
        runtime.block_on(store.source(&named("a"))).unwrap();
        assert_eq!(runtime.block_on(store.destroy(&named("a"), None)).unwrap(), Destroyed::Gone, "{step}");
    }
    for step in DESTROY_STEPS {
        let place = Place::new();
        let store = place.open();
        let before = place.traces();
        runtime.block_on(store.create(&volume("a"))).unwrap();
        drop(store);
        killed_at(&place, "destroy", step);
        let store = place.open();
        let there = runtime.block_on(store.look_up(&named("a"))).unwrap();
        assert_eq!(place.staged(), [""; 0], "{step}");
        if step == "decide" {
            assert_eq!(there, Some(Entry::Sound(Box::new(volume("a")))));
            runtime.block_on(store.destroy(&named("a"), None)).unwrap();
        } else {
            assert_eq!(there, None, "{step}");
        }
        support::wait_until(&format!("nothing is left of {step}"), || place.traces() == before);
    }
    scenario.teardown();
}

/// The child process: works with the failpoints of its environment, at one of which it is to end.
fn be_killed(what: &str) {
    let _scenario = FailScenario::setup();
    let (what, root) = what.split_once(' ').unwrap();
    let store = support::open(&PathBuf::from(root), "overcommit=100");
    let runtime = Runtime::new().unwrap();
    let name = named("a");
    if what == "create" {
        runtime.block_on(store.create(&demanding("a"))).unwrap();
    } else {
        let _source = runtime.block_on(store.source(&name)).unwrap();
        runtime.block_on(store.destroy(&name, None)).unwrap();
    }
}
