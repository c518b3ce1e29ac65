//! What the promises share: volumes to make, ways to look, and waiting for a condition.

use crate::{Bench, Place};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::{CreateRequest, JobKey, JobKind, Maker};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::names::{AttemptId, JobId, SenderId, VolumeName};
use dvs_domain::ports::{Created, VolumeStore};
use dvs_domain::time::Timestamp;
use dvs_domain::volume::{Entry, Volume};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How long something may take that ends by itself soon, such as a loop device that the kernel gives back.
const SETTLED_WITHIN_SECONDS: u64 = 10;

pub(crate) fn named(name: &str) -> VolumeName {
    VolumeName::new(name).unwrap()
}

/// A volume as the agent would have it made: the store's own defaults, a job that asked for it.
pub(crate) fn volume(bench: &dyn Bench, store: &dyn VolumeStore, name: &str) -> Volume {
    let mount_point = MountPoint::new(format!("/mnt/{name}")).unwrap();
    volume_as(store, name, &CreateRequest::at(mount_point, bench.volume_size()))
}

pub(crate) fn volume_as(store: &dyn VolumeStore, name: &str, request: &CreateRequest) -> Volume {
    let made_by = JobKey {
        sender: SenderId::new("host.example").unwrap(),
        kind: JobKind::Create,
        id: JobId::new("1234567890").unwrap(),
    };
    Volume {
        spec: request.complete(&store.describe(), named(name)).unwrap(),
        made_by: Some(Maker { job: made_by, attempt: Some(AttemptId::new("a1-b2-3").unwrap()) }),
        made_at: Timestamp(1_700_000_000_123),
    }
}

/// Makes a volume that must be new.
pub(crate) async fn made(bench: &dyn Bench, store: &dyn VolumeStore, name: &str) -> Volume {
    let volume = volume(bench, store, name);
    assert!(store.create(&volume).await.unwrap().is_new(), "{name} is not there yet");
    volume
}

pub(crate) fn sound(volume: &Volume) -> Entry {
    Entry::Sound(Box::new(volume.clone()))
}

/// Whether a create has found `volume`.
pub(crate) fn is_there(created: &Created, volume: &Volume) -> bool {
    matches!(created, Created::AlreadyThere(there) if **there == *volume)
}

pub(crate) fn assert_there(created: &Created, volume: &Volume) {
    assert!(is_there(created, volume), "{created:?} is not {volume:?}");
}

/// Asserts that `result` failed with `code`, with a message that says something.
pub(crate) fn assert_fails<T: Debug, E: AsRef<Failure>>(result: Result<T, E>, code: FailureCode, what: &str) {
    match result {
        Err(error) => {
            let failure = error.as_ref();
            assert_eq!(failure.code(), code, "{what}: {}", failure.chain());
            assert!(!failure.to_string().is_empty(), "{what}: the failure says nothing");
        }
        Ok(value) => panic!("{what}: {code} was expected, and it gave {value:?}"),
    }
}

/// Asserts that nothing of `store`'s place is there but what was `before`, as soon as that is settled.
pub(crate) async fn assert_traces(place: &dyn Place, before: &BTreeSet<String>, what: &str) {
    let until = Instant::now() + Duration::from_secs(SETTLED_WITHIN_SECONDS);
    loop {
        let after = place.traces().await;
        if after == *before {
            return;
        }
        assert!(
            Instant::now() < until,
            "{what}: left behind: {:?}, missing: {:?}",
            after.difference(before).collect::<Vec<_>>(),
            before.difference(&after).collect::<Vec<_>>(),
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asserts that nothing is called `name`, whichever way it is asked.
pub(crate) async fn assert_absent(store: &dyn VolumeStore, name: &str) {
    let name = named(name);
    assert_eq!(store.look_up(&name).await.unwrap(), None);
    assert!(store.list().await.unwrap().iter().all(|entry| *entry.name() != name), "{name} is listed");
    assert_fails(store.usage(&name).await, FailureCode::NotFound, "use of what is not there");
    assert_fails(store.source(&name).await, FailureCode::NotFound, "source of what is not there");
}
