//! Which store a folder holds. Where the disk of a store is not mounted, an empty store would be made in its place, or
//! an old one found there: its volumes would be taken for destroyed, and new ones would hide them. So each store has
//! an id in its folder, and the agent remembers in its state folder which it has opened.

use crate::random_id;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::StoreName;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// What each store that is in a folder keeps in there from its first opening on.
const VOLUMES: &str = "volumes";
/// The id of a store, in its folder.
const ID: &str = "id";
/// The ids that were seen last, in the state folder: a file for each store, with its name. Beside this folder the stores
/// themselves may lie.
const SEEN: &str = "store-ids";
/// So long at most another process may have the folder of a store locked that has no id yet.
const LOCKED_MILLISECONDS_MAX: u64 = 1000;
/// How long one wait between tries is.
const TRY_AGAIN_AFTER_MILLISECONDS: u64 = 2;

/// How to know that a store in a folder is still the same.
pub(crate) struct Identity {
    name: StoreName,
    folder: PathBuf,
    seen: PathBuf,
}

impl Identity {
    /// That of the store `name` in `folder`, as remembered in the folder `state`.
    pub(crate) fn new(name: &StoreName, folder: PathBuf, state: &Path) -> Self {
        Self { name: name.clone(), folder, seen: state.join(SEEN).join(name.as_str()) }
    }

    /// Refuses a folder that holds no store.
    ///
    /// # Errors
    /// `store-unavailable`.
    pub(crate) fn refuse_absent(&self) -> Result<(), Failure> {
        let volumes = self.folder.join(VOLUMES);
        if volumes.is_dir() {
            return Ok(());
        }
        let detail = format!(
            "volumes of store `{}` are attached on this node, and `{}` is not there",
            self.name,
            volumes.display()
        );
        Err(Failure::new(FailureCode::StoreUnavailable, detail).with_hint(format!(
            "mount the store's file system, or, if its volumes are lost, make that folder and remove `{}`; \
             then restart the agent",
            self.seen.display()
        )))
    }

    /// Refuses a folder that holds another store than the one seen last.
    ///
    /// # Errors
    /// `store-unavailable`, also when that cannot be read.
    pub(crate) fn refuse_another(&self) -> Result<(), Failure> {
        let Some(seen) = read(&self.seen)? else { return Ok(()) };
        let found = read(&self.folder.join(ID))?;
        if found.as_ref() == Some(&seen) {
            return Ok(());
        }
        let detail = format!(
            "volumes of store `{}` are attached on this node, and `{}` holds another store (id {}, not {})",
            self.name,
            self.folder.display(),
            found.as_deref().unwrap_or("missing").escape_debug(),
            seen.escape_debug(),
        );
        Err(Failure::new(FailureCode::StoreUnavailable, detail).with_hint(format!(
            "mount the store's file system, or, if this is the right one or its volumes are lost, remove `{}`; \
             then restart the agent",
            self.seen.display()
        )))
    }

    /// Remembers the store that was just opened. One whose id cannot be kept is used all the same; then none is
    /// remembered, so that it is not refused later for the sake of an earlier one. Where its id cannot be read, what is
    /// remembered stays.
    pub(crate) fn keep(&self) {
        if let Err(error) = self.try_to_keep() {
            tracing::warn!(store = %self.name, "cannot keep the store's id: {error}");
        }
    }

    fn try_to_keep(&self) -> io::Result<()> {
        let found = random_id::read(&self.folder.join(ID))?;
        // Whatever is remembered and cannot be read is not this one either.
        if found.is_some() && random_id::read(&self.seen).is_ok_and(|seen| seen == found) {
            return Ok(());
        }
        match fs::remove_file(&self.seen) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let id = found.map_or_else(|| self.begin(), Ok)?;
        if let Some(folder) = self.seen.parent() {
            fs::create_dir_all(folder)?;
        }
        random_id::write(&self.seen, &id)
    }

    /// Gives the store an id, unless another agent that has the same folder, with a state of its own, has just done so.
    fn begin(&self) -> io::Result<String> {
        let path = self.folder.join(ID);
        let folder = File::open(&self.folder)?;
        let until = Instant::now() + Duration::from_millis(LOCKED_MILLISECONDS_MAX);
        while let Err(error) = folder.try_lock() {
            // Whoever draws an id holds it for a moment, and a backup perhaps for hours.
            if until <= Instant::now() {
                return Err(io::Error::other(format!("cannot lock `{}`: {error}", self.folder.display())));
            }
            thread::sleep(Duration::from_millis(TRY_AGAIN_AFTER_MILLISECONDS));
        }
        if let Some(id) = random_id::read(&path)? {
            return Ok(id);
        }
        let id = random_id::draw()?;
        random_id::write(&path, &id)?;
        Ok(id)
    }
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    random_id::read(path).map_err(|error| {
        let detail = format!("cannot read `{}`", path.display());
        let hint = format!("make it readable, or remove `{}`, and restart the agent", path.display());
        Failure::new(FailureCode::StoreUnavailable, detail).caused_by(error).with_hint(hint)
    })
}
