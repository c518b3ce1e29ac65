//! A list that nodes share: whoever has read many records posts what it found on the export, and whoever knows little
//! takes from it what is still so. It is a hint. Whatever is odd about it costs only that the records are read, and
//! nobody waits for its being written.

use super::encoding::{self, LIST_BYTES_MAX};
use super::known::{Edition, Listing};
use super::{STEP, Seen};
use crate::layout::{self, LIST};
use crate::problem::{At, Problem};
use crate::shared::{Folders, Shared, Work};
use crate::target::{Fault, Found, Handle, Name, TargetError};
use dvs_domain::failure::Failure;
use dvs_domain::names::VolumeName;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// So many records cost more than a list.
const MANY: usize = 64;
/// So much of a list is read or written by one call.
const PART_BYTES: u32 = 64 * 1024;
/// The calls by which a list is written, besides those for its parts.
const OTHER_CALLS: usize = 3;
/// A process posts nothing for so long after it has.
const PAUSE_SECONDS: u64 = 60;

/// A posted list that is being read. Whatever comes of it, it is not tried once more, also where whoever asked has given
/// up: it may be what takes so long.
struct Heeding<'a> {
    listing: &'a Listing,
    edition: Edition,
}

impl Drop for Heeding<'_> {
    fn drop(&mut self) {
        self.listing.heeded(self.edition);
    }
}

/// Takes from the list that is `there` what it says of volumes that are not known, where those are many.
pub(super) async fn heed(
    work: &Work,
    there: Option<&Found>,
    seen: &BTreeMap<VolumeName, Seen>,
) -> Result<(), Problem> {
    let Some(there) = there else { return Ok(()) };
    let (listing, edition) = (&work.shared.listing, Edition::of(&there.attributes));
    if there.attributes.is_folder || listing.has_heeded(edition) {
        return Ok(());
    }
    let unknown: HashMap<VolumeName, Edition> = seen
        .iter()
        .filter_map(|(name, seen)| Some((name, seen.edition()?)))
        .filter(|(name, edition)| !listing.is_believed(name, *edition))
        .map(|(name, edition)| (name.clone(), edition))
        .collect();
    if unknown.len() < MANY || (LIST_BYTES_MAX as u64) < there.attributes.length_bytes {
        return Ok(());
    }
    let heeding = Heeding { listing, edition };
    let read = read(work, &there.handle, unknown.len()).await;
    drop(heeding);
    match read {
        Ok(Some(bytes)) => take(work, bytes, unknown).await,
        Ok(None) => tell(&work.shared, "comes in too many pieces"),
        // Others would only wait as this one did.
        Err(error) if matches!(error.fault, Fault::Late | Fault::Unreachable(_)) => {
            return Err(error).at(STEP);
        }
        Err(error) => tell(&work.shared, &format!("cannot be read: {error}")),
    }
    Ok(())
}

/// A whole list, by no more calls than it can save.
async fn read(work: &Work, list: &Handle, calls_max: usize) -> Result<Option<Vec<u8>>, TargetError> {
    let mut bytes = Vec::new();
    for _ in 0..calls_max {
        let (part, is_end) = work.anew().read_part(list, bytes.len() as u64, PART_BYTES).await?;
        let is_end = is_end || part.is_empty();
        bytes.extend(part);
        if LIST_BYTES_MAX < bytes.len() {
            break;
        }
        if is_end {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// It may take a moment of computing.
async fn take(work: &Work, bytes: Vec<u8>, unknown: HashMap<VolumeName, Edition>) {
    let store = work.shared.name.clone();
    let decoded = tokio::task::spawn_blocking(move || encoding::decode(&bytes, &store, &unknown)).await;
    match decoded {
        Ok(Ok(posted)) => work.shared.listing.hear(posted),
        Ok(Err(wrong)) => tell(&work.shared, &wrong),
        Err(cut) => tell(&work.shared, &format!("cannot be decoded: {cut}")),
    }
}

/// Says why the list is of no use, to whoever looks for that.
fn tell(shared: &Shared, wrong: &str) {
    tracing::debug!(store = %shared.name, "the list that nodes share is not used: it {wrong}");
}

/// Posts what this process knows, beside everything else, after a list for which `read` records had to be read, and
/// before which the posted list was the one that is `there`. Not where that would cost more than it saves, and not
/// often.
pub(super) fn post(work: &Work, folders: &Folders, there: Option<Edition>, read: usize) {
    let shared = Arc::clone(&work.shared);
    if read < MANY || shared.settings.read_only {
        return;
    }
    let Some(mut turn) = shared.listing.turn_to_post() else { return };
    if turn.is_some_and(|last| last.elapsed() < Duration::from_secs(PAUSE_SECONDS)) {
        return;
    }
    *turn = Some(Instant::now());
    let (work, folders) = (work.anew(), folders.clone());
    tokio::spawn(async move {
        let posted = tokio::time::timeout(shared.long(), write(&work, &folders, there, read)).await;
        match posted {
            Ok(Ok(())) => {}
            Ok(Err(problem)) => {
                let failure = problem.told(&shared.name, &shared.settings);
                tracing::debug!(store = %shared.name, "the list is not shared: {}", failure.chain());
            }
            Err(_) => tracing::debug!(store = %shared.name, "the list is not shared: it took too long"),
        }
        drop(turn);
    });
}

async fn write(work: &Work, folders: &Folders, there: Option<Edition>, read: usize) -> Result<(), Problem> {
    let step = "share the list";
    let shared = Arc::clone(&work.shared);
    let encoded = tokio::task::spawn_blocking(move || encoding::encode(&shared.listing.to_post())).await;
    let encoded = encoded.map_err(|cut| Failure::internal("the list was cut off", cut))?;
    let (bytes, count) =
        encoded.map_err(|error| Failure::internal("cannot write the list as JSON", error))?;
    if count < MANY || read < bytes.len().div_ceil(PART_BYTES as usize) + OTHER_CALLS {
        return Ok(());
    }
    let list = layout::name(LIST).at(step)?;
    let now = work.anew().look_up(&folders.metadata, &list).await.at(step)?;
    // Another node has been faster, or it is none of ours.
    if now.as_ref().is_some_and(|now| now.attributes.is_folder)
        || now.map(|now| Edition::of(&now.attributes)) != there
    {
        return Ok(());
    }
    let staged = layout::staged_list(&work.shared.node.id).at(step)?;
    let put = put_in_place(work, folders, &bytes, &staged, &list).await;
    if put.is_err() {
        // Where this fails too, the next list that is shared takes its place.
        let _left = work.anew().remove_file(&folders.metadata, &staged).await;
    }
    put.at(step)
}

async fn put_in_place(
    work: &Work,
    folders: &Folders,
    bytes: &[u8],
    staged: &Name,
    list: &Name,
) -> Result<(), TargetError> {
    let file = work.anew().make_file(&folders.metadata, staged).await?;
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        let part = &rest[..rest.len().min(PART_BYTES as usize)];
        written += work.anew().write_part(&file, written as u64, part).await?;
    }
    work.anew().rename((&folders.metadata, staged), (&folders.metadata, list)).await
}
