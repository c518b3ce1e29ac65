//! Listing: both folders, and the records of the volumes that are not known yet. A folder with its record in it is
//! never changed but by nodes that attach, so a record that was read lately is not read again while its folder is the
//! same. What is decided about a volume never rests on that: it is looked up.

use crate::connection::CONNECTIONS_MAX;
use crate::entry::{self, State};
use crate::problem::{At, Problem};
use crate::shared::{Folders, Work};
use crate::target::{Attributes, Fault, Handle, TargetError};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::VolumeName;
use dvs_domain::volume::{Entry, Volume};
use futures::{StreamExt, TryStreamExt};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const STEP: &str = "list";
/// For so long a record is believed that was read.
const BELIEVED_SECONDS: u64 = 60;
/// A folder that changes while it is listed is listed anew so often.
const LISTINGS_MAX: usize = 3;
/// More entries than this are no store of volumes.
const ENTRIES_MAX: usize = 1_000_000;

/// The records that were read lately.
#[derive(Default)]
pub(crate) struct Listing {
    known: Mutex<HashMap<VolumeName, Known>>,
}

struct Known {
    /// The folder of the volume, and when it was last changed.
    folder: (u64, (u32, u32)),
    read_at: Instant,
    volume: Volume,
}

impl Listing {
    fn believed(&self, name: &VolumeName, folder: Option<Attributes>) -> Option<Volume> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(name)?;
        let is_same = folder.is_some_and(|folder| known.folder == (folder.file, folder.changed));
        let is_fresh = known.read_at.elapsed() < Duration::from_secs(BELIEVED_SECONDS);
        (is_same && is_fresh).then(|| known.volume.clone())
    }

    fn remember(&self, name: &VolumeName, folder: Option<Attributes>, volume: &Volume) {
        let Some(folder) = folder else { return };
        let known =
            Known { folder: (folder.file, folder.changed), read_at: Instant::now(), volume: volume.clone() };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), known);
    }

    fn keep_only(&self, names: &BTreeMap<VolumeName, Seen>) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| names.contains_key(name));
    }
}

/// Where a name was seen.
#[derive(Default)]
struct Seen {
    in_volumes: bool,
    metadata: Option<Attributes>,
}

/// Every entry, in order of its name.
pub(crate) async fn list(work: &Work) -> Result<Vec<Entry>, Problem> {
    let long = work.shared.long();
    match tokio::time::timeout(long, list_all(work)).await {
        Ok(listed) => listed,
        Err(_) => {
            let detail = format!("store `{}` was not listed within {} s", work.shared.name, long.as_secs());
            Err(Failure::new(FailureCode::StoreUnavailable, detail).at_step(STEP).into())
        }
    }
}

async fn list_all(work: &Work) -> Result<Vec<Entry>, Problem> {
    let Some(folders) = work.folders_if_there().await? else { return Ok(Vec::new()) };
    let (metadata, volumes) =
        futures::join!(entries(work, &folders.metadata), entries(work, &folders.volumes));
    let mut seen: BTreeMap<VolumeName, Seen> = BTreeMap::new();
    for (name, attributes) in metadata? {
        seen.entry(name).or_default().metadata = attributes;
    }
    for (name, _) in volumes? {
        seen.entry(name).or_default().in_volumes = true;
    }
    work.shared.listing.keep_only(&seen);
    let entries: Vec<Option<Entry>> = futures::stream::iter(seen)
        .map(|(name, seen)| entry(work, &folders, name, seen))
        .buffered(CONNECTIONS_MAX)
        .try_collect()
        .await?;
    Ok(entries.into_iter().flatten().collect())
}

async fn entry(
    work: &Work,
    folders: &Folders,
    name: VolumeName,
    seen: Seen,
) -> Result<Option<Entry>, Problem> {
    let listing = &work.shared.listing;
    if seen.in_volumes
        && let Some(volume) = listing.believed(&name, seen.metadata)
    {
        return Ok(Some(Entry::Sound(Box::new(volume))));
    }
    let work = work.anew();
    let state = match entry::find_in(&work, folders, &name).await {
        // Whatever the server has against this one, the others are listed.
        Err(Problem::Call(_, error)) if is_of_one(&work, folders, &error.fault).await => {
            State::Damaged(format!("it cannot be read: {error}"))
        }
        found => found?,
    };
    state.tidy_if_damaged(&work);
    if let State::Sound(sound) = &state {
        listing.remember(&name, seen.metadata, &sound.volume);
    }
    Ok(state.into_entry(&name))
}

/// Whether a fault is about one entry, and not about all.
async fn is_of_one(work: &Work, folders: &Folders, fault: &Fault) -> bool {
    match fault {
        Fault::Other(_) | Fault::Unsupported | Fault::Refused => true,
        Fault::Stale => {
            work.room(&folders.metadata).await.is_ok() && work.room(&folders.volumes).await.is_ok()
        }
        _ => false,
    }
}

/// The entries of a folder that are called as volumes can be.
async fn entries(work: &Work, folder: &Handle) -> Result<Vec<(VolumeName, Option<Attributes>)>, Problem> {
    let mut tries = 0;
    loop {
        tries += 1;
        match entries_once(work, folder).await {
            Err(TargetError { fault: Fault::LostPlace, .. }) if tries < LISTINGS_MAX => {}
            listed => return listed.at(STEP),
        }
    }
}

async fn entries_once(
    work: &Work,
    folder: &Handle,
) -> Result<Vec<(VolumeName, Option<Attributes>)>, TargetError> {
    let mut entries = Vec::new();
    let mut from = None;
    loop {
        let page = work.anew().list(folder, from).await?;
        entries.extend(page.entries.into_iter().filter_map(|entry| {
            let name = VolumeName::new(String::from_utf8(entry.name).ok()?).ok()?;
            Some((name, entry.attributes))
        }));
        if ENTRIES_MAX < entries.len() {
            let fault = Fault::Nonsense(format!("more than {ENTRIES_MAX} entries"));
            return Err(TargetError { call: "list a folder", fault });
        }
        from = page.next;
        if from.is_none() {
            return Ok(entries);
        }
    }
}
