//! Listing: both folders, and the records that no earlier listing has read, in parallel.

use crate::client::{CONNECTIONS_MAX, ClientError, Fault, Found, Handle, Listed};
use crate::layout;
use crate::list_cache::{ListCache, Revision};
use crate::problem::{At, Problem};
use crate::session::Export;
use crate::volume_state::{self, DirectoryState, VolumeState};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::VolumeName;
use dvs_domain::volume::Entry;
use futures::{StreamExt, TryStreamExt};
use std::collections::BTreeMap;

const STEP: &str = "list";
/// How many records are read in parallel.
const RECORDS_AT_ONCE: usize = CONNECTIONS_MAX;
/// A folder that changes while it is listed is listed again so often.
const LISTINGS_MAX: usize = 3;
/// No store has more entries: the server's listing is wrong.
const ENTRIES_MAX: usize = 1_000_000;

/// What the two listings show of one name.
#[derive(Default)]
struct Seen {
    metadata: Option<Listed>,
    directory: Option<Listed>,
}

impl Seen {
    /// The state of the metadata folder, if the volume has a directory too.
    fn revision(&self) -> Option<Revision> {
        let metadata = self.metadata.as_ref()?.attributes.filter(|found| found.is_directory)?;
        let directory = self.directory.as_ref()?.attributes;
        directory.is_none_or(|found| found.is_directory).then(|| Revision::of(&metadata))
    }
}

fn found(listed: Option<&Listed>) -> Option<Found> {
    let listed = listed?;
    Some(Found { handle: listed.handle.clone()?, attributes: listed.attributes? })
}

/// Every entry, in order of its name.
pub(crate) async fn list(export: &Export, cache: &ListCache) -> Result<Vec<Entry>, Problem> {
    let limit = export.session.long_limit();
    match tokio::time::timeout(limit, list_all(export, cache)).await {
        Ok(listed) => listed,
        Err(_) => {
            let store = &export.session.name;
            let detail = format!("listing store `{store}` takes longer than {} s", limit.as_secs());
            Err(Failure::new(FailureCode::StoreUnavailable, detail).at_step(STEP).into())
        }
    }
}

async fn list_all(export: &Export, cache: &ListCache) -> Result<Vec<Entry>, Problem> {
    let (metadata, volumes) =
        futures::join!(entries(export, &export.metadata), entries(export, &export.volumes));
    let (metadata, volumes) = (metadata?, volumes?);
    // The latest time of the server's clock that an entry shows.
    let changed = |(_, listed): &(_, Listed)| Some(listed.attributes?.changed);
    let now = metadata.iter().chain(&volumes).filter_map(changed).max().unwrap_or_default();
    let mut seen: BTreeMap<VolumeName, Seen> = BTreeMap::new();
    for (name, listed) in metadata {
        seen.entry(name).or_default().metadata = Some(listed);
    }
    for (name, listed) in volumes {
        seen.entry(name).or_default().directory = Some(listed);
    }
    cache.prepare(&seen);
    futures::stream::iter(seen)
        .map(|(name, seen)| async move {
            let revision = seen.revision();
            if let Some(volume) = revision.and_then(|revision| cache.get(&name, revision)) {
                return Ok(Some(Entry::Sound(Box::new(volume))));
            }
            let state = read(&export.renewed(), &name, &seen).await?;
            if let (VolumeState::Sound(sound), Some(revision)) = (&state, revision) {
                cache.put(&name, revision, &sound.volume, now);
            }
            Ok(state.into_entry(&name))
        })
        .buffered(RECORDS_AT_ONCE)
        .try_filter_map(|entry| async { Ok(entry) })
        .try_collect()
        .await
}

async fn read(export: &Export, name: &VolumeName, seen: &Seen) -> Result<VolumeState, Problem> {
    if let (Some(metadata), Some(directory)) = (found(seen.metadata.as_ref()), found(seen.directory.as_ref()))
    {
        let file = layout::volume(name);
        match volume_state::read(export, name, &file, &metadata, Some(&directory)).await {
            Ok(VolumeState::Sound(sound)) if sound.directory == DirectoryState::InPlace => {
                return Ok(VolumeState::Sound(sound));
            }
            Err(problem) if problem.is_away() => return Err(problem),
            _ => {} // It may have changed since the listing.
        }
    }
    let state = match volume_state::state_of(export, name).await {
        Err(problem) if is_of_one_entry(export, problem.fault()).await => {
            let reason = export.session.failure(problem).to_string();
            VolumeState::Damaged(format!("it cannot be read: {reason}"))
        }
        found => found?,
    };
    state.request_recovery_if_damaged(export);
    Ok(state)
}

/// Whether a fault is about one entry only, so that the others can be listed.
async fn is_of_one_entry(export: &Export, fault: Option<&Fault>) -> bool {
    match fault {
        Some(Fault::Other(_) | Fault::Unsupported | Fault::AccessDenied) => true,
        Some(Fault::Stale) => {
            export.room(&export.metadata).await.is_ok() && export.room(&export.volumes).await.is_ok()
        }
        _ => false,
    }
}

/// The entries of a folder whose names can be those of volumes.
async fn entries(export: &Export, folder: &Handle) -> Result<Vec<(VolumeName, Listed)>, Problem> {
    let mut listings = 1;
    loop {
        match entries_once(export, folder).await {
            Err(ClientError { fault: Fault::BadCookie, .. }) if listings < LISTINGS_MAX => listings += 1,
            listed => return listed.at(STEP),
        }
    }
}

async fn entries_once(export: &Export, folder: &Handle) -> Result<Vec<(VolumeName, Listed)>, ClientError> {
    let (mut entries, mut from) = (Vec::new(), None);
    loop {
        let page = export.renewed().list(folder, from).await?;
        entries.extend(page.entries.into_iter().filter_map(|listed| {
            let name = std::str::from_utf8(&listed.name).ok()?;
            Some((VolumeName::new(name).ok()?, listed))
        }));
        if ENTRIES_MAX < entries.len() {
            return Err(Fault::protocol("list a directory", &format!("more than {ENTRIES_MAX} entries")));
        }
        from = page.next;
        if from.is_none() {
            return Ok(entries);
        }
    }
}
