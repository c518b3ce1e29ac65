//! A store's folder is opened when it can be, and never taken for another.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::StoreName;
use dvs_volume_record::LocalFolder;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

struct Host(TempDir);

impl Host {
    fn new() -> Self {
        Self(tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap())
    }

    fn disk(&self) -> PathBuf {
        self.0.path().join("disk")
    }

    fn id(&self) -> PathBuf {
        self.disk().join("id")
    }

    fn remembered(&self) -> PathBuf {
        self.0.path().join("store-ids/x")
    }

    /// A start of the agent, which uses the store.
    fn start(&self) -> Result<(), Failure> {
        contact(&LocalFolder::new(&StoreName::new("x").unwrap(), self.disk(), Some(self.0.path())))
    }
}

fn contact(folder: &LocalFolder<PathBuf>) -> Result<(), Failure> {
    let reach = |path: &PathBuf| {
        let gone = || Failure::new(FailureCode::StoreUnavailable, "it is gone");
        path.join("volumes").is_dir().then_some(()).ok_or_else(gone)
    };
    let open = |path: &Path| {
        fs::create_dir_all(path.join("volumes")).unwrap();
        Ok(path.to_owned())
    };
    folder.contact(reach, open).map(drop)
}

fn unavailable(started: Result<(), Failure>) -> String {
    let refused = started.unwrap_err();
    assert_eq!(refused.code(), FailureCode::StoreUnavailable, "{}", refused.chain());
    refused.hint().unwrap_or_default().to_owned()
}

#[test]
fn a_known_store_is_awaited_and_never_made_anew() {
    let host = Host::new();
    host.start().unwrap();
    let away = host.0.path().join("away");
    fs::rename(host.disk(), &away).unwrap();
    assert!(unavailable(host.start()).contains("mount"));
    assert!(!host.disk().exists());
    // What lies below where its disk is mounted is another, whatever it looks like.
    for id in [None, Some("0".repeat(32))] {
        fs::create_dir_all(host.disk().join("volumes")).unwrap();
        if let Some(id) = id {
            fs::write(host.id(), id).unwrap();
        }
        assert!(unavailable(host.start()).contains("mount"));
    }
    fs::remove_dir_all(host.disk()).unwrap();
    fs::rename(&away, host.disk()).unwrap();
    host.start().unwrap();
}

#[test]
fn a_store_that_nothing_remembers_is_known_to_the_process_that_opened_it() {
    let host = Host::new();
    let folder = LocalFolder::new(&StoreName::new("x").unwrap(), host.disk(), None);
    contact(&folder).unwrap();
    fs::remove_dir_all(host.disk()).unwrap();
    unavailable(contact(&folder));
    assert!(!host.disk().exists());
}

#[test]
fn an_operator_who_follows_the_hint_of_a_refusal_has_the_store_again() {
    for (what, to_remove) in [
        ("lost", vec![Host::remembered as fn(&Host) -> PathBuf]),
        ("restored without its id", vec![Host::remembered]),
        ("with an id that is none", vec![Host::id, Host::remembered]),
        ("remembered by an id that is none", vec![Host::remembered]),
    ] {
        let host = Host::new();
        host.start().unwrap();
        match what {
            "lost" => fs::remove_dir_all(host.disk()).unwrap(),
            "restored without its id" => fs::remove_file(host.id()).unwrap(),
            _ => fs::write(to_remove[0](&host), [0xff]).unwrap(),
        }
        for path in to_remove.iter().map(|path| path(&host)) {
            let hint = unavailable(host.start());
            assert!(hint.contains(&format!("remove `{}`", path.display())), "{what}: {hint}");
            fs::remove_file(path).unwrap();
        }
        host.start().unwrap();
        assert_eq!(fs::read(host.id()).unwrap(), fs::read(host.remembered()).unwrap(), "{what}");
    }
}

#[test]
fn a_store_whose_id_cannot_be_kept_is_not_taken_for_another_later() {
    for in_the_way in
        [|host: &Host| host.disk().join(".id.new"), |host: &Host| host.0.path().join("store-ids/.x.new")]
    {
        let host = Host::new();
        fs::create_dir_all(in_the_way(&host)).unwrap();
        host.start().unwrap();
        fs::remove_dir(in_the_way(&host)).unwrap();
        host.start().unwrap();
        host.start().unwrap();
    }
}

#[test]
fn a_folder_that_another_process_has_locked_is_used_all_the_same() {
    let host = Host::new();
    fs::create_dir(host.disk()).unwrap();
    let locked = File::open(host.disk()).unwrap();
    locked.lock().unwrap();
    host.start().unwrap();
    assert!(!host.remembered().exists());
    drop(locked);
    host.start().unwrap();
    assert!(host.remembered().exists(), "the next opening keeps it");
}

#[test]
fn agents_that_begin_a_store_at_once_agree_on_its_id() {
    let host = Host::new();
    let states: Vec<_> = (0..8).map(|number| host.0.path().join(number.to_string())).collect();
    let start = |state: &PathBuf| {
        contact(&LocalFolder::new(&StoreName::new("x").unwrap(), host.disk(), Some(state))).unwrap();
    };
    std::thread::scope(|scope| {
        for state in &states {
            scope.spawn(move || start(state));
        }
    });
    states.iter().for_each(start);
}
