//! Listing: both folders, and the records of the volumes that are not known yet. A folder with its record in it is
//! never changed but by nodes that attach, so a record that was read is not read again while its folder is the same,
//! but for a few each time. What is decided about a volume never rests on that: it is looked up.

mod encoding;
mod known;
mod posted;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod sample;

pub(crate) use known::Listing;

use crate::connection::CONNECTIONS_MAX;
use crate::entry::{self, Directory, Sound, State};
use crate::layout::{self, LIST};
use crate::problem::{At, Problem};
use crate::shared::{Folders, Work};
use crate::target::{Attributes, Fault, Found, Handle, Listed, TargetError};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::VolumeName;
use dvs_domain::volume::Entry;
use futures::{StreamExt, TryStreamExt};
use known::Edition;
use std::collections::BTreeMap;

const STEP: &str = "list";
/// A folder that changes while it is listed is listed anew so often.
const LISTINGS_MAX: usize = 3;
/// More entries than this are no store of volumes.
const ENTRIES_MAX: usize = 1_000_000;

/// Where a name was seen, with what the server cared to tell.
#[derive(Default)]
struct Seen {
    metadata: Option<Spot>,
    directory: Option<Spot>,
}

struct Spot {
    handle: Option<Handle>,
    attributes: Option<Attributes>,
}

impl Spot {
    fn found(&self) -> Option<Found> {
        Some(Found { handle: self.handle.clone()?, attributes: self.attributes? })
    }
}

impl Seen {
    /// By what a volume is known again, of which both folders are there.
    fn edition(&self) -> Option<Edition> {
        let metadata = self.metadata.as_ref()?.attributes.filter(|found| found.is_folder)?;
        let directory = self.directory.as_ref()?.attributes;
        directory.is_none_or(|found| found.is_folder).then(|| Edition::of(&metadata))
    }
}

/// The entries of a folder.
#[derive(Default)]
struct Entries {
    /// Those that are called as volumes can be.
    named: Vec<(VolumeName, Spot)>,
    /// The list that nodes share.
    posted: Option<Found>,
    /// The last of all changes that the server tells: its clock shows no less.
    now: (u32, u32),
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
    let (metadata, volumes) = (metadata?, volumes?);
    let now = metadata.now.max(volumes.now);
    let mut seen: BTreeMap<VolumeName, Seen> = BTreeMap::new();
    for (name, spot) in metadata.named {
        seen.entry(name).or_default().metadata = Some(spot);
    }
    for (name, spot) in volumes.named {
        seen.entry(name).or_default().directory = Some(spot);
    }
    let listing = &work.shared.listing;
    listing.keep_only(&seen);
    posted::heed(work, metadata.posted.as_ref(), &seen).await?;
    let due = &listing.due();
    let entries: Vec<(Option<Entry>, bool)> = futures::stream::iter(seen)
        .map(|(name, seen)| {
            let is_due = due.contains(&name);
            entry(work, &folders, name, seen, is_due, now)
        })
        .buffered(CONNECTIONS_MAX)
        .try_collect()
        .await?;
    let learnt = entries.iter().filter(|(_, is_learnt)| *is_learnt).count();
    posted::post(work, &folders, metadata.posted.map(|found| Edition::of(&found.attributes)), learnt);
    Ok(entries.into_iter().filter_map(|(entry, _)| entry).collect())
}

/// The entry that has `name`, and whether it was not known before.
async fn entry(
    work: &Work,
    folders: &Folders,
    name: VolumeName,
    seen: Seen,
    is_due: bool,
    now: (u32, u32),
) -> Result<(Option<Entry>, bool), Problem> {
    let listing = &work.shared.listing;
    let edition = seen.edition();
    let believed = edition.and_then(|edition| listing.believed(&name, edition));
    let is_new = believed.is_none();
    if let Some(volume) = believed
        && !is_due
    {
        return Ok((Some(Entry::Sound(Box::new(volume))), false));
    }
    let work = work.anew();
    let state = match read(&work, folders, &name, &seen).await? {
        Some(sound) => State::Sound(sound),
        None => find(&work, folders, &name).await?,
    };
    state.tidy_if_damaged(&work);
    listing.correct(&name, &state);
    if let (State::Sound(sound), Some(edition)) = (&state, edition) {
        listing.remember(&name, edition, &sound.volume, now);
        return Ok((state.into_entry(&name), is_new));
    }
    Ok((state.into_entry(&name), false))
}

/// The volume `name`, by what was told of it when both folders were listed, and only where it is plainly whole.
async fn read(
    work: &Work,
    folders: &Folders,
    name: &VolumeName,
    seen: &Seen,
) -> Result<Option<Box<Sound>>, Problem> {
    let found = |spot: &Option<Spot>| spot.as_ref().and_then(Spot::found);
    let (Some(metadata), Some(directory)) = (found(&seen.metadata), found(&seen.directory)) else {
        return Ok(None);
    };
    let file = layout::name(name.as_str()).at(STEP)?;
    match entry::read(work, folders, name, &file, &metadata, Some(&directory)).await {
        Ok(State::Sound(sound)) if sound.directory == Directory::There => Ok(Some(sound)),
        Err(problem) if problem.is_away() => Err(problem),
        // Whatever this is, it is looked up.
        _ => Ok(None),
    }
}

async fn find(work: &Work, folders: &Folders, name: &VolumeName) -> Result<State, Problem> {
    match entry::find_in(work, folders, name).await {
        // Whatever the server has against this one, the others are listed.
        Err(Problem::Call(_, error)) if is_of_one(work, folders, &error.fault).await => {
            Ok(State::Damaged(format!("it cannot be read: {error}")))
        }
        found => found,
    }
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

async fn entries(work: &Work, folder: &Handle) -> Result<Entries, Problem> {
    let mut tries = 0;
    loop {
        tries += 1;
        match entries_once(work, folder).await {
            Err(TargetError { fault: Fault::LostPlace, .. }) if tries < LISTINGS_MAX => {}
            listed => return listed.at(STEP),
        }
    }
}

async fn entries_once(work: &Work, folder: &Handle) -> Result<Entries, TargetError> {
    let mut entries = Entries::default();
    let mut from = None;
    loop {
        let page = work.anew().list(folder, from).await?;
        page.entries.into_iter().for_each(|entry| entries.add(entry));
        if ENTRIES_MAX < entries.named.len() {
            let fault = Fault::Nonsense(format!("more than {ENTRIES_MAX} entries"));
            return Err(TargetError { call: "list a folder", fault });
        }
        from = page.next;
        if from.is_none() {
            return Ok(entries);
        }
    }
}

impl Entries {
    fn add(&mut self, Listed { name, handle, attributes }: Listed) {
        self.now = attributes.map_or(self.now, |attributes| self.now.max(attributes.changed));
        let spot = Spot { handle, attributes };
        if name == LIST.as_bytes() {
            self.posted = spot.found();
        } else if let Some(name) = String::from_utf8(name).ok().and_then(|name| VolumeName::new(name).ok()) {
            self.named.push((name, spot));
        }
    }
}
