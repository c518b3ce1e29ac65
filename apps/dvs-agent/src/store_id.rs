//! Which store a folder holds. Where the disk of a store is not mounted, an empty store would be made in its place, or
//! an old one found there: its volumes would be taken for destroyed, and new ones would hide them. So each store has
//! an id in its folder, and the agent remembers in its state folder which it has opened.

use crate::drawn_id;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::StoreName;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// What each store that is in a folder keeps in there from its first opening on.
const VOLUMES: &str = "volumes";
/// The id of a store, in its folder.
const ID: &str = "id";
/// The ids that were seen last, in the state folder: a file for each store, with its name. Beside this folder the stores
/// themselves may lie.
const SEEN: &str = "store-ids";

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
            "volumes of store `{}` are attached on this node, and `{}` holds another store (id {}, not {seen})",
            self.name,
            self.folder.display(),
            found.as_deref().unwrap_or("missing"),
        );
        Err(Failure::new(FailureCode::StoreUnavailable, detail).with_hint(format!(
            "mount the store's file system, or, if this is the right one or its volumes are lost, remove `{}`; \
             then restart the agent",
            self.seen.display()
        )))
    }

    /// Remembers the store that was just opened. One whose id cannot be kept is used all the same; then none is
    /// remembered, so that it is not refused later for the sake of an earlier one.
    pub(crate) fn keep(&self) {
        if let Err(error) = self.try_to_keep() {
            tracing::warn!(store = %self.name, "cannot keep the store's id: {error}");
            if let Err(error) = fs::remove_file(&self.seen)
                && error.kind() != ErrorKind::NotFound
            {
                tracing::warn!(store = %self.name, "cannot forget the earlier store's id: {error}");
            }
        }
    }

    fn try_to_keep(&self) -> io::Result<()> {
        // Other agents may have the same folder, each with a state of its own: they agree on one id.
        let folder = File::open(&self.folder)?;
        folder.lock()?;
        let path = self.folder.join(ID);
        let id = match drawn_id::read(&path)? {
            Some(id) => id,
            None => {
                let id = drawn_id::draw()?;
                drawn_id::write(&path, &id)?;
                id
            }
        };
        if drawn_id::read(&self.seen)?.as_ref() == Some(&id) {
            return Ok(());
        }
        if let Some(folder) = self.seen.parent() {
            fs::create_dir_all(folder)?;
        }
        drawn_id::write(&self.seen, &id)
    }
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    drawn_id::read(path).map_err(|error| {
        let detail = format!("cannot read `{}`", path.display());
        let hint = format!("make it readable, or remove `{}`, and restart the agent", path.display());
        Failure::new(FailureCode::StoreUnavailable, detail).caused_by(error).with_hint(hint)
    })
}
