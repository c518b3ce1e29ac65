//! What every operation needs, on whichever thread, and those that only look.

use crate::entry;
use crate::folders::{self, Folders, IMAGE, Root};
use crate::loop_index::LoopIndex;
use crate::reservations::Reservations;
use crate::settings::Settings;
use crate::sources::Sources;
use crate::stage;
use crate::template::Templates;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::{StoreName, VolumeName};
use dvs_domain::ports::Space;
use dvs_domain::volume::{Entry, Usage, VolumeId};
use dvs_volume_record::{LocalFolder, space_at};
use rustix::fs::{AtFlags, statat};
use std::path::Path;
use std::sync::Arc;

pub(crate) struct Shared {
    pub(crate) name: StoreName,
    pub(crate) settings: Settings,
    pub(crate) templates: Templates,
    pub(crate) loops: LoopIndex,
    pub(crate) sources: Sources,
    local: LocalFolder<OpenFolder>,
}

/// The store's folder since it was opened.
pub(crate) struct OpenFolder {
    pub(crate) root: Root,
    pub(crate) reservations: Arc<Reservations>,
}

impl Shared {
    pub(crate) fn new(name: StoreName, settings: Settings, state: Option<&Path>) -> Self {
        let local = LocalFolder::new(&name, settings.root.clone(), state);
        let (templates, loops, sources) = (Templates::default(), LoopIndex::default(), Sources::default());
        Self { name, settings, templates, loops, sources, local }
    }

    /// What is open of the store's folder, and its folders for one operation. The first that can opens it.
    pub(crate) fn open(&self) -> Result<(Arc<OpenFolder>, Folders), Failure> {
        let open = |path: &Path| {
            let root = Root::prepare(path)?;
            let folders = root.open()?;
            stage::sweep(&folders)?;
            let reservations = Arc::new(Reservations::new(self.settings.overcommit, &folders)?);
            Ok(OpenFolder { root, reservations })
        };
        self.local.contact(|open: &OpenFolder| open.root.open(), open)
    }

    /// The space where the store is, or is to be made.
    pub(crate) fn space(&self) -> Result<Space, Failure> {
        self.local.check()?;
        space_at(self.local.path())
    }

    pub(crate) fn id(&self, name: &VolumeName) -> VolumeId {
        VolumeId { store: self.name.clone(), name: name.clone() }
    }

    pub(crate) fn look_up(&self, name: &VolumeName) -> Result<Option<Entry>, Failure> {
        let ((_, folders), id) = (self.open()?, self.id(name));
        Ok(entry::find(&folders, &id).map(|found| found.into_entry(&id)))
    }

    pub(crate) fn list(&self) -> Result<Vec<Entry>, Failure> {
        let (_, folders) = self.open()?;
        let mut names = folders.names()?;
        names.sort();
        let entry = |name| {
            let id = self.id(name);
            entry::find(&folders, &id).map(|found| found.into_entry(&id))
        };
        Ok(names.iter().filter_map(entry).collect())
    }

    /// What the image takes, also of a volume that is damaged.
    pub(crate) fn usage(&self, name: &VolumeName) -> Result<Usage, Failure> {
        let (_, folders) = self.open()?;
        let image = statat(&folders.volumes, format!("{name}/{IMAGE}"), AtFlags::SYMLINK_NOFOLLOW);
        match image {
            Ok(stat) => Ok(Usage { allocated_bytes: folders::allocated_bytes(&stat) }),
            Err(_) if entry::find(&folders, &self.id(name)).is_some() => Ok(Usage { allocated_bytes: 0 }),
            Err(_) => {
                Err(Failure::new(FailureCode::NotFound, format!("volume `{}` is not there", self.id(name))))
            }
        }
    }
}
