//! The folder of a store on this host. It is opened by the first operation that can, so that a store can be used as soon
//! as its disk is mounted. Where the disk is not mounted, an empty store would be made in its place, or an old one found
//! there: its volumes would be taken for destroyed, and new ones would hide them. So each store has an id in its folder,
//! and the agent remembers it in its state folder.

use crate::id_file;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::StoreName;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The id of a store, in its folder.
const ID: &str = "id";
/// The remembered ids, in the state folder: a file for each store, with its name. Stores may lie beside this folder.
const REMEMBERED: &str = "store-ids";
/// Upper bound of the wait for another process that gives the store an id at the same time.
const LOCKED_MILLISECONDS_MAX: u64 = 1000;
/// The wait between two tries.
const TRY_AGAIN_AFTER_MILLISECONDS: u64 = 2;

/// A store's folder, and what is open of it as a `T`.
pub struct LocalFolder<T> {
    store: StoreName,
    path: PathBuf,
    remembered: Option<PathBuf>,
    opened: Mutex<Opened<T>>,
}

struct Opened<T> {
    open: Option<Arc<T>>,
    /// The id of the folder that was opened last, whether or not it could be remembered on disk.
    id: Option<String>,
    was_open: bool,
}

impl<T> LocalFolder<T> {
    /// The folder `path` of `store`, known again by what the agent's folder `state` remembers, or within this process
    /// only. Touches nothing.
    #[must_use]
    pub fn new(store: &StoreName, path: PathBuf, state: Option<&Path>) -> Self {
        Self {
            store: store.clone(),
            path,
            remembered: state.map(|state| state.join(REMEMBERED).join(store.as_str())),
            opened: Mutex::new(Opened { open: None, id: None, was_open: false }),
        }
    }

    /// What is open of the folder and the outcome of `contact` with it. Where nothing is open, or the contact fails,
    /// `open` opens the folder, which it makes if it is missing. It is not called for a folder that was known before and
    /// is absent now, or is another.
    ///
    /// # Errors
    /// `store-unavailable`; those of `open` and `contact`.
    pub fn contact<C>(
        &self,
        contact: impl Fn(&T) -> Result<C, Failure>,
        open: impl FnOnce(&Path) -> Result<T, Failure>,
    ) -> Result<(Arc<T>, C), Failure> {
        let is_open = self.opened().open.clone();
        if let Some(open) = is_open
            && let Ok(contacted) = contact(&open)
        {
            return Ok((open, contacted));
        }
        let mut opened = self.opened();
        // Another operation may have opened it meanwhile.
        if let Some(open) = opened.open.clone()
            && let Ok(contacted) = contact(&open)
        {
            return Ok((open, contacted));
        }
        self.check_known(&opened)?;
        // What is open of a folder that was another goes first: it may hold a lock.
        opened.open = None;
        let open = Arc::new(open(&self.path)?);
        opened.id = self.remember();
        opened.was_open = true;
        let contacted = contact(&open)?;
        opened.open = Some(Arc::clone(&open));
        tracing::debug!(store = %self.store, folder = %self.path.display(), "the store is open");
        Ok((open, contacted))
    }

    /// Refuses a folder that is not the one that was known before. Changes nothing.
    ///
    /// # Errors
    /// `store-unavailable`.
    pub fn check(&self) -> Result<(), Failure> {
        self.check_known(&self.opened())
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, Opened<T>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_known(&self, opened: &Opened<T>) -> Result<(), Failure> {
        let remembered = match &self.remembered {
            Some(path) => read(path)?,
            None => None,
        };
        let remembered = match (remembered, &opened.id) {
            (Some(remembered), _) => remembered,
            // The operator has removed it, or it could not be written.
            (None, Some(id)) if self.remembered.is_none() => id.clone(),
            (None, None) if opened.was_open => return self.refuse_remade(),
            (None, _) => return Ok(()),
        };
        let found = read(&self.path.join(ID))?;
        if found.as_ref() == Some(&remembered) {
            return Ok(());
        }
        let folder = self.path.display();
        let detail = match found {
            _ if !self.path.exists() => format!("`{folder}` of store `{}` is not there", self.store),
            None => format!("`{folder}` holds another store than `{}`: its id is missing", self.store),
            Some(found) => {
                format!("`{folder}` holds another store than `{}`: id {}", self.store, found.escape_debug())
            }
        };
        let instead = match &self.remembered {
            Some(file) => format!(
                "; if this is the right one or its volumes are lost, remove `{}`: it is then used as it is",
                file.display()
            ),
            None => String::new(),
        };
        Err(Failure::new(FailureCode::StoreUnavailable, detail)
            .with_hint(format!("mount the store's file system{instead}")))
    }

    /// Without an id, nothing tells whether what is there now was there before.
    fn refuse_remade(&self) -> Result<(), Failure> {
        if self.path.is_dir() {
            return Ok(());
        }
        let detail = format!("`{}` of store `{}` is not there", self.path.display(), self.store);
        Err(Failure::new(FailureCode::StoreUnavailable, detail).with_hint("mount the store's file system"))
    }

    /// Remembers the store that was just opened. One whose id cannot be kept is used all the same; then none is
    /// remembered, so that it is not refused later for the sake of an earlier one. Where its id cannot be read, what is
    /// remembered stays.
    fn remember(&self) -> Option<String> {
        self.try_to_remember()
            .inspect_err(|error| tracing::warn!(store = %self.store, "cannot keep the store's id: {error}"))
            .ok()
    }

    fn try_to_remember(&self) -> io::Result<String> {
        let found = id_file::read(&self.path.join(ID))?;
        let Some(file) = &self.remembered else { return found.map_or_else(|| self.begin(), Ok) };
        // Whatever is remembered and cannot be read is not this one either.
        if let Some(found) = &found
            && id_file::read(file).is_ok_and(|remembered| remembered.as_ref() == Some(found))
        {
            return Ok(found.clone());
        }
        match fs::remove_file(file) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let id = found.map_or_else(|| self.begin(), Ok)?;
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        id_file::write(file, &id)?;
        Ok(id)
    }

    /// Gives the store an id, unless another agent that has the same folder, with a state of its own, has just done so.
    fn begin(&self) -> io::Result<String> {
        let path = self.path.join(ID);
        let folder = File::open(&self.path)?;
        let until = Instant::now() + Duration::from_millis(LOCKED_MILLISECONDS_MAX);
        while let Err(error) = folder.try_lock() {
            // An agent that writes an id holds it for a moment, and a backup perhaps for hours.
            if until <= Instant::now() {
                return Err(io::Error::other(format!("cannot lock `{}`: {error}", self.path.display())));
            }
            thread::sleep(Duration::from_millis(TRY_AGAIN_AFTER_MILLISECONDS));
        }
        if let Some(id) = id_file::read(&path)? {
            return Ok(id);
        }
        let id = id_file::random();
        id_file::write(&path, &id)?;
        Ok(id)
    }
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    id_file::read(path).map_err(|error| {
        let detail = format!("cannot read `{}`", path.display());
        let hint = format!("make it readable, or remove `{}`", path.display());
        Failure::new(FailureCode::StoreUnavailable, detail).caused_by(error).with_hint(hint)
    })
}
